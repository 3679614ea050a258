"""What hpc costs for each unit, beside submitit alone and datatrove's executors, and how fast lost work is taken up again.

    python tests/bench/bench_hpc.py [--units 10000] [--workers 2] [--runs 3] [--no-slurm] [--only overhead|recovery|status]

A null unit writes one file of two bytes. All contenders have the same number of workers, on one machine and on the Slurm of the tests
(root, and the packages of tests/slurm/install.sh). The clock runs from the command to the last unit committed. Contenders take turns,
each run in a fresh folder; nothing is deleted before the end, since ext4 makes files slowly for minutes after many were deleted.
submitit starts a process for each unit, so it gets fewer units; all figures are per unit. The peers live in .cache/bench-venv.
Exit code 1 where hpc needs more than 5 ms per unit and worker, or more than 3 inodes per unit.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# the tree that this file is in, wherever the package is installed from
sys.path[:0] = [str(ROOT), str(HERE.parent / "slurm")]
os.environ["PYTHONPATH"] = str(ROOT)

from cluster import SlurmCluster, why_not  # noqa: E402
from hpc_peers.measure import Contender, Figures, run_once  # noqa: E402
from hpc_peers.ours import hpc  # noqa: E402
from hpc_peers.peers import datatrove, submitit  # noqa: E402
from hpc_peers.recovery import losses  # noqa: E402
from hpc_peers.venv import peers_python, versions  # noqa: E402

MAX_MS, MAX_INODES = 5.0, 3.0


def main() -> int:
    args = parse()
    folder = Path(tempfile.mkdtemp(prefix="bench-hpc-", dir=args.folder))
    print(f"{hardware(folder)}\n{software()}\nfolder {folder}\n", flush=True)
    try:
        return measure(args, folder)
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=10_000, help="null units of hpc")
    parser.add_argument("--datatrove-units", type=int, help="null units of datatrove (default: as many)")
    parser.add_argument("--submitit-units", type=int, nargs=2, default=(200, 40), metavar=("LOCAL", "SLURM"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--no-slurm", action="store_true", help="only this machine")
    parser.add_argument("--only", choices=("overhead", "recovery", "status"), help="one part")
    parser.add_argument("--contenders", default="", help="only those whose name holds this text, e.g. hpc")
    parser.add_argument("--folder", type=Path, help="on which filesystem (default: that of temporary files)")
    parser.add_argument("--keep", action="store_true", help="do not remove the runs")
    return parser.parse_args()


def measure(args: argparse.Namespace, folder: Path) -> int:
    good = True
    with cluster_or_none(args) as slurm:
        if args.only in (None, "overhead"):
            good = overhead(args, folder, slurm)
        if args.only in (None, "recovery"):
            recovery(args.runs, folder, slurm)
    if args.only in (None, "status"):
        status()
    return 0 if good else 1


@contextlib.contextmanager
def cluster_or_none(args: argparse.Namespace) -> Iterator[SlurmCluster | None]:
    reason = "not asked for" if args.no_slurm or args.only == "status" else why_not()
    if reason:
        print(f"without Slurm: {reason}\n")
        yield None
        return
    with SlurmCluster.start() as slurm:
        before = dict(os.environ)
        os.environ.update({name: slurm.env()[name] for name in ("SLURM_CONF", "PATH")})
        try:
            yield slurm
        finally:
            os.environ.clear()
            os.environ.update(before)


# --- overhead ---------------------------------------------------------------------------------------------------------


def overhead(args: argparse.Namespace, folder: Path, slurm: SlurmCluster | None) -> bool:
    """Print the table; whether hpc keeps to its bars."""
    peers_python()  # installed before any clock runs
    every = [Figures(contender) for contender in contenders(args, slurm) if args.contenders in contender.name]
    for number in range(args.runs):
        for figures in every:
            name = figures.contender.name
            run_once(figures, folder / f"{name.replace(', ', '-')}-{number}")
            print(f"# run {number + 1}: {name}: {figures.wall_s[-1]:.2f} s, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    print(overhead_table(every), flush=True)
    ours = [figures for figures in every if figures.contender.name.startswith("hpc")]
    return all(figures.ms_per_unit_per_worker <= MAX_MS and figures.inodes_per_unit <= MAX_INODES for figures in ours)


def contenders(args: argparse.Namespace, slurm: SlurmCluster | None) -> list[Contender]:
    (local, on_slurm), workers = args.submitit_units, args.workers
    packed = args.datatrove_units or args.units
    found = [hpc("local", args.units, workers, {}), datatrove("local", packed, workers, {}), submitit("local", local, workers, {})]
    if slurm is not None:
        env = slurm.env()
        found += [
            hpc("slurm", args.units, workers, env),
            datatrove("slurm", packed, workers, env),
            submitit("slurm", on_slurm, workers, env),
        ]
    return found


def overhead_table(every: list[Figures]) -> str:
    lines = [
        "| contender | units | wall s (each run) | ms per unit per worker | inodes per unit | bytes on disk per unit | |",
        "|---|---:|---|---:|---:|---:|---|",
    ]
    for figures in every:
        contender = figures.contender
        walls = ", ".join(f"{wall:.1f}" for wall in figures.wall_s)
        lines.append(
            f"| {contender.name} | {contender.units:,} | {walls} | {figures.ms_per_unit_per_worker:,.2f} | {figures.inodes_per_unit:.2f} "
            f"| {figures.bytes_per_unit:,.0f} | {contender.remark} |"
        )
    return "\n".join(lines) + "\n"


# --- recovery and status ----------------------------------------------------------------------------------------------


def recovery(runs: int, folder: Path, slurm: SlurmCluster | None) -> None:
    print("| what is lost | seconds until its unit is worked on again (median; each) |\n|---|---|", flush=True)
    for number, loss in enumerate(losses(slurm, stale=True)):
        times = 1 if "90 s" in loss.name else runs
        taken = [loss.measure(folder / f"loss-{number}-{run}") for run in range(times)]
        print(f"| {loss.name} | {statistics.median(taken):.1f} ({', '.join(f'{s:.1f}' for s in taken)}) |", flush=True)
    print(flush=True)


def status() -> None:
    """The last lines of the bench of `status`, for 10,000 and 100,000 units."""
    bench = HERE / "bench_status.py"
    for units in (10_000, 100_000) if bench.exists() else ():
        done = subprocess.run([sys.executable, str(bench), "--units", str(units)], capture_output=True, text=True)
        said = [line for line in done.stdout.splitlines() if line.startswith("status of")]
        print("\n".join(said) or f"bench_status.py returned {done.returncode}: {done.stderr[-500:]}", flush=True)


# --- what it ran on ---------------------------------------------------------------------------------------------------


def hardware(folder: Path) -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    kind = subprocess.run(
        ["findmnt", "--noheadings", "--output=FSTYPE", "--target", str(folder)], capture_output=True, text=True
    ).stdout.strip()
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    return f"{time.strftime('%Y-%m-%d')}: {model}, {os.cpu_count()} cores, {kind}, Linux {platform.release()}, load before the start {load}"


def software() -> str:
    peers = versions()
    slurm = said("sinfo", "-V") if shutil.which("sinfo") else "no Slurm"
    return f"Python {platform.python_version()}, datatrove {peers['datatrove']}, submitit {peers['submitit']}, {slurm}"


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main())
