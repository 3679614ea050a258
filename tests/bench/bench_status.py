"""How long `status` takes on a run of two stages of 100,000 units: one under way, one complete and folded.

    python tests/bench/bench_status.py [--units 100000] [--repeat 5]

The stage under way has 60 % of its units committed (loose sentinels), 500 claimed, 300 failed, and 200 tasks. The clock covers a
fresh process: start of Python, imports, reading, concluding, and printing the tables; CPU seconds tell what other load on the
machine added. What is asked of the filesystem is counted with strace where there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from hpc.fs.files import replace_json
from hpc.state.fold import write_archive
from hpc.state.plan import FP_CHARS, Plan, PlannedUnit, fingerprint, save_plan
from hpc.state.state import StageState
from hpc.watch.evidence import plan_costs

CLAIMED, FAILED, TASKS, HOSTS = 500, 300, 200, 40
PROCS = 16
RUNNING = -(-CLAIMED // PROCS)
"""Tasks of the stage under way that have not ended."""

SPAN_S = 55_000
LIMIT_S = 2.0

SHOW = """
import sys
from pathlib import Path
from rich.console import Console
from hpc.watch.show import show_status
from hpc.watch.status import run_status
run = Path(sys.argv[1])
show_status(Console(width=160), run, run_status(run))
"""


def make_run(run: Path, units: int) -> None:
    """Both stages, and flow.json."""
    states = [make_stage(run, "extract", units), make_stage(run, "lid", units)]
    under_way(states[0], units * 6 // 10)
    fold(states[1])
    resources = {"cpus": 16, "gpus": 0, "mem_gb": 4.0}
    stages = [{"stage": s.stage, "fp12": s.fp12, "units": units, "upstream": [], "resources": resources, "work": {}} for s in states]
    replace_json(run / "flow.json", {"run": "bench", "stages": stages})


def make_stage(run: Path, stage: str, units: int) -> StageState:
    identity = {"stage": stage, "units": units}
    fp = fingerprint(identity)
    chance = random.Random(stage)
    planned = tuple(
        PlannedUnit(
            unit_id(i),
            i,
            round(chance.lognormvariate(6, 0.4), 1),
            (unit_id(i),),
            {"paths": [f"crawl-data/CC-MAIN-2024-10/segments/1707947473347.0/warc/CC-MAIN-20240220211055-{i:05d}.warc.gz"]},
            hashlib.sha256(f"{stage} {i}".encode()).hexdigest()[:32],
        )
        for i in range(units)
    )
    state = StageState(run, stage, fp[:FP_CHARS])
    save_plan(state.plan_path, Plan(stage, fp, identity, planned, (), {"base": f"meta/{stage}/{fp[:FP_CHARS]}/{{unit}}.parquet"}))
    return state


def unit_id(i: int) -> str:
    return f"{i:06d}"


def under_way(state: StageState, done: int) -> None:
    """The largest units committed over the last 15 hours, as 500 workers would; claims, failures and tasks as they stand then.

    Written without fsync.
    """
    costs, now = plan_costs(state.plan_path), time.time()
    order = sorted(costs, key=lambda unit: -costs[unit])
    for folder in ("done", "claims", "failed", "tasks"):
        (state.folder / folder).mkdir()
    for i, unit in enumerate(order[:done]):
        at = now - SPAN_S * (1 - i / done)
        _write(state.done_path(unit), sentinel(state, unit, costs[unit]), at)
    for i, unit in enumerate(order[done : done + CLAIMED]):
        _write(state.claim_path(unit), {**holder(i), "began": now - i, "beat_s": 15.0}, now - i % 15)
    for i, unit in enumerate(order[-FAILED:]):
        _write(state.failed_path(unit, holder(i)["id"]), failure(state, unit, i), now - 60 * i)
    for i in range(TASKS):
        end = {"ended": True, "exit": 0} if i >= RUNNING else {}
        _write(state.task_path(holder(i)["id"]), {**task_record(state, i, now), **end}, now - i % 60)


def fold(state: StageState) -> None:
    costs = plan_costs(state.plan_path)
    write_archive(state.archive_path, {unit: sentinel(state, unit, cost) for unit, cost in costs.items()})
    success = {
        "stage": state.stage,
        "fingerprint": state.plan.fingerprint,
        "commit": "0" * 32,
        "counts": {"read": 10**9, "kept": 9 * 10**8, "dropped": {"too_short": 10**8}, "extra": {}},
        "seconds": {"wall": 5e7, "cpu": 4.5e7},
        "peak_rss_bytes": 900 << 20,
    }
    replace_json(state.success_path, success)
    (state.folder / "tasks").mkdir()
    for i in range(TASKS):
        _write(state.task_path(holder(i)["id"]), {**task_record(state, i, time.time()), "ended": True, "exit": 0}, time.time() - 9000)


def holder(i: int) -> dict[str, Any]:
    host = f"node{i % HOSTS:03d}"
    return {"id": f"{i:016x}-{host}-{1000 + i}-77_{i}r0", "host": host, "pid": 1000 + i, "job": f"77_{i % TASKS}", "restart": 0}


def sentinel(state: StageState, unit: str, cost: float) -> dict[str, Any]:
    wall = round(cost * random.Random(unit).lognormvariate(0, 0.2), 3)
    return {
        "stage": state.stage,
        "unit": unit,
        "fingerprint": state.fp12,
        "key": "0" * 32,
        "inputs": {},
        "outputs": {"base": {"path": f"meta/{state.stage}/{state.fp12}/{unit}.parquet", "bytes": 1 << 20, "digest": "0" * 64}},
        "counts": {"read": 10_000, "kept": 9_000, "dropped": {"too_short": 800, "url_blocked": 200}, "extra": {}},
        "seconds": {"wall": wall, "cpu": round(0.9 * wall, 3)},
        "peak_rss_bytes": 800 << 20,
        "slices": [],
        "requested": {"cpus": 16, "mem_gb": 4.0},
        "attempt": holder(int(unit)),
    }


def failure(state: StageState, unit: str, i: int) -> dict[str, Any]:
    cause = (
        f"ValueError: {unit}: no record at byte {i * 977}" if i % 3 else f"OSError: [Errno 5] Input/output error: '/data/{unit}.warc.gz'"
    )
    trace = f'Traceback (most recent call last):\n  File "/site/ccpipe/extract.py", line {100 + i % 2}, in slice\n    read()\n{cause}\n'
    log = str(state.logs / f"77_{i % TASKS}.log")
    attempt = holder(i % 7 and i)
    kept = {"stage": state.stage, "unit": unit, "attempt": attempt, "cause": cause, "kind": "error", "log": log, "traceback": trace}
    return {**kept, "requested": {"cpus": 16, "mem_gb": 4.0}}


def task_record(state: StageState, i: int, now: float) -> dict[str, Any]:
    used = {"wall_s": 3000.0 + i, "cpu_s": PROCS * 0.85 * 3000, "peak_rss_bytes": (PROCS * 800 << 20) + (i << 20), "gpu_busy": None}
    asked = {"launch": "array-1", "task": i, "tasks": TASKS, "procs": PROCS, "cpus": PROCS, "gpus": 0, "mem_gb": 64.0, "time_min": 210}
    end = {"ended": False, "exit": None, "signal": None, "log": str(state.logs / f"77_{i}.log"), "began": now - 3000}
    return {**holder(i), **asked, **used, **end}


def _write(path: Path, value: Any, at: float) -> None:
    path.write_text(json.dumps(value))
    os.utime(path, (at, at))


def run_once(run: Path) -> tuple[float, float, str]:
    """Wall and CPU seconds, and what was printed."""
    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = subprocess.run([sys.executable, "-c", SHOW, str(run)], check=True, capture_output=True, text=True)
    wall, now = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, shown.stdout


def system_calls(run: Path) -> dict[str, int]:
    """Calls that go to the filesystem of the run; empty where strace is missing."""
    if shutil.which("strace") is None:
        return {}
    command = ["strace", "-f", "-e", "trace=file,getdents64", "-o", "/dev/stdout", sys.executable, "-c", SHOW, str(run)]
    traced = subprocess.run(command, check=True, capture_output=True, text=True)
    # lines of the tables come in between; a call looks like `4242 openat(AT_FDCWD, ...`
    calls = re.findall(rf"^(?:\d+ +)?(\w+)\((?=.*(?:{re.escape(str(run))}|entries))", traced.stdout, re.MULTILINE)
    return dict(Counter(calls))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=100_000, help="of each of the two stages")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="do not remove the run directory, and print where it is")
    args = parser.parse_args()
    run = Path(tempfile.mkdtemp(prefix="bench-status-"))
    try:
        make_run(run, args.units)
        taken = [run_once(run) for _ in range(args.repeat)]
        wall, cpu = ([took[i] for took in taken] for i in (0, 1))
        print(taken[-1][2])
        print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}")
        print(
            f"status of 2 stages of {args.units:,} units: median {statistics.median(wall):.2f} s, CPU {statistics.median(cpu):.2f} s; "
            f"all {[round(s, 2) for s in wall]}"
        )
        for call, n in sorted(system_calls(run).items(), key=lambda item: -item[1]):
            print(f"  {call:<12} {n:>6,}")
        return int(statistics.median(wall) > LIMIT_S)
    finally:
        if args.keep:
            print(run)
        else:
            shutil.rmtree(run)


if __name__ == "__main__":
    raise SystemExit(main())
