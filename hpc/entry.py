"""The worker's entrypoint: `work` starts one process per core (or GPU) of a task, each of which is `work --worker W`.

The same command is started by submitit, by the plain sbatch templates and by the local executor.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hpc.errors import UsageError
from hpc.fs.files import read_json
from hpc.fs.permissions import check_private
from hpc.fs.scratch import local_scratch
from hpc.planning.reuse import adopt, reusable_units
from hpc.state.attempt import scheduler_job
from hpc.state.claims import Heart, beat_s
from hpc.state.launch import Launch, launch_name, launches, load_launch, save_launch, start_order, timestamp
from hpc.state.pending import pending_units, retire, still_pending
from hpc.state.state import StageState
from hpc.state.work import make_work
from hpc.workers.meter import start_meter
from hpc.workers.requeue import requeue_self
from hpc.workers.task import StopFlag, Task, stop_when_orphaned, visible_gpus
from hpc.workers.worker import EXIT_STOPPED, Worker

log = logging.getLogger("hpc.entry")

WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
"""Sent some minutes before the time limit (`--signal=B:USR1@120`), while the element can still be requeued."""

LOG_LINE_S = 60.0
"""A task says in its log where the stage stands, this often."""

SHOWN_LAUNCHES = 5
"""Launches offered to somebody who named one that is not there."""


def setup_logging(prefix: str = "") -> None:
    logging.basicConfig(
        level=os.environ.get("CCPIPE_LOG_LEVEL", "INFO"), format=f"%(asctime)s {prefix}%(levelname)s %(message)s", stream=sys.stderr
    )


def read_flow(run: Path) -> dict[str, Any]:
    """What flow.json says of the run. Raises `UsageError`."""
    try:
        value: dict[str, Any] = read_json(run / "flow.json")
        return value
    except FileNotFoundError:
        raise UsageError(f"{run} is not a run directory (no flow.json); plan the run first") from None


def stage_entry(run: Path, stage: str) -> dict[str, Any]:
    """What flow.json says of a stage. Raises `UsageError` with the stages on offer."""
    flow = read_flow(run)
    for entry in flow["stages"]:
        if entry["stage"] == stage:
            return dict(entry)
    raise UsageError(f"no stage {stage!r} in {run}; stages: {', '.join(entry['stage'] for entry in flow['stages'])}")


def find_launch(args: argparse.Namespace, procs: int) -> tuple[StageState, Launch]:
    """The launch to work on. A plain sbatch array has none yet: its first element writes it, under the array job's number.

    Raises `UsageError` where there is no such launch, and where a printed script was planned at `--fp12`, and the run has been
    planned anew since.
    """
    run, stage = args.run.absolute(), args.stage
    if args.launch:
        return _named_launch(run, stage, args.launch)
    job = scheduler_job().partition("_")[0]
    name = f"sbatch-{job}" if job else launch_name("by-hand")
    for path in sorted((run / "state" / stage).glob(f"*/launches/{name}.json")):
        # written by another element, or in an earlier life, perhaps at an older fingerprint than today's
        state = StageState(run, stage, path.parents[1].name)
        return state, load_launch(state, name)
    flow, entry = read_flow(run), stage_entry(run, stage)
    if args.fp12 not in (None, entry["fp12"]):
        raise UsageError(
            f"this script was made for {stage} at {args.fp12}, the run is now planned at {entry['fp12']}; print it again: ccpipe sbatch"
        )
    state = StageState(run, stage, entry["fp12"])
    todo = pending_units(state, {})
    reusable = reusable_units(state, todo)
    mine = Launch(
        name,
        stage,
        tuple(unit for unit in state.plan.largest_first if unit in todo),
        args.tasks,
        procs,
        timestamp(),
        entry["resources"],
        entry["work"],
        flow["site"],
        f"{flow['run']}.{stage}",
        flow["command"],
        0,
        entry["overlap"],
    )
    launch = save_launch(state, mine)
    if launch is mine:  # of elements that race for it, one takes back stale sentinels, before it works on any unit
        retire(state, still_pending(state, todo))
        adopt(state, reusable)
    return state, launch


def _named_launch(run: Path, stage: str, name: str) -> tuple[StageState, Launch]:
    fp12, _, launch_id = name.partition("/")
    state = StageState(run, stage, fp12)
    if not (fp12 and launch_id and state.launch_path(launch_id).is_file()):
        versions = sorted((run / "state" / stage).glob("*/launches"))
        known = [
            f"{folder.parent.name}/{path.stem}" for folder in versions for path in launches(StageState(run, stage, folder.parent.name))
        ]
        offered = ", ".join(known[-SHOWN_LAUNCHES:]) or "none yet"
        raise UsageError(f"no launch {name!r} of stage {stage} in {run}; expected <fp12>/<launch>, the latest: {offered}")
    return state, load_launch(state, launch_id)


def run_work(args: argparse.Namespace) -> int:
    """`work` without --worker: a task; with it: one worker process."""
    joins = args.first > 0 or args.worker is not None  # tasks that joined a running stage have numbers behind the last
    if args.task < 0 or args.tasks < 1 or args.first < 0 or (args.task >= args.tasks and not joins):
        raise UsageError(
            f"--task {args.task} --tasks {args.tasks}: expected a number from 0 to {max(args.tasks - 1, 0)}, and at least one task"
        )
    procs = args.procs or int(os.environ.get("SLURM_CPUS_PER_TASK", "0")) or os.cpu_count() or 1
    _check_private(args)
    state, launch = find_launch(args, procs)
    args.task += args.first
    args.first = 0
    if args.worker is not None:
        return _worker(args, state, launch)
    setup_logging()
    stop = StopFlag().install()
    gpus = visible_gpus() if launch.requested.get("gpus") else []
    if launch.requested.get("gpus"):
        procs = len(gpus) or procs
    log.info("%s: task %d of %d, %d processes, launch %s", args.stage, args.task, args.tasks, procs, launch.id)
    said = str(state.logs / f"{scheduler_job()}.log") if scheduler_job() else ""
    task = Task(
        state,
        lambda w: worker_command(args, state, launch, w, procs),
        procs,
        gpus,
        _progress_lines(state, launch),
        {"CCPIPE_LOG": said} if said else {},
        requested=launch.requested,
        meter=start_meter(state, launch, args.task, procs, said, gpus),
    )
    code = task.run(stop)
    if code == EXIT_STOPPED and stop.signal in WARNINGS:
        requeue_self()
    return code


def _check_private(args: argparse.Namespace) -> None:
    """Before anything in the run directory is believed: whether others may write there is not for it to say, but for the command."""
    run = args.run.absolute()
    fp12 = args.fp12 or (args.launch or "").partition("/")[0]
    check_private(run, args.shared_state, run / "state" / args.stage / fp12 if fp12 else None)


def worker_command(args: argparse.Namespace, state: StageState, launch: Launch, worker: int, procs: int) -> list[str]:
    """Command line of one worker process."""
    return [
        *(sys.executable, "-m", "hpc", "work", "--run", str(state.run), "--stage", state.stage),
        *("--launch", f"{state.fp12}/{launch.id}", "--task", str(args.task), "--tasks", str(args.tasks)),
        *("--procs", str(procs), "--worker", str(worker)),
        *(["--shared-state"] if launch.site.get("shared_state") else []),
    ]


def _worker(args: argparse.Namespace, state: StageState, launch: Launch) -> int:
    setup_logging(f"[{args.task}.{args.worker}] ")
    stop = stop_when_orphaned(StopFlag().install())
    of = args.tasks * args.procs
    # tasks that joined later have numbers behind all shares
    number = args.task + args.tasks * args.worker if args.task < args.tasks else of + args.task * args.procs + args.worker
    worker = Worker(
        state,
        make_work(launch.work),
        start_order(launch.units, number, of),
        stop,
        launch.requested,
        overlap=launch.overlap,
        local=local_scratch(launch.scratch),
        heart=Heart(beat_s(of)),
    )
    return worker.run().exit_code


def _progress_lines(state: StageState, launch: Launch) -> Callable[[], None]:
    """A function that now and then logs how much of the launch is committed."""
    last = time.monotonic()

    def tick() -> None:
        nonlocal last
        if time.monotonic() - last >= LOG_LINE_S:
            last = time.monotonic()
            done = state.done_units()
            log.info("%s: %d of %d units committed", state.stage, sum(unit in done for unit in launch.units), len(launch.units))

    return tick


def run_in_process(state: StageState, launch: Launch, stop: StopFlag, units: Sequence[str] | None = None) -> int:
    """Work through a launch in this very process: for debuggers and profilers."""
    return Worker(state, make_work(launch.work), list(units or launch.units), stop, launch.requested, full_patience_s=0.0).run().exit_code


def run_gate_job(args: argparse.Namespace) -> int:
    """`gate`: exit code 0 where the stage is complete. With `--launch`, what is missing is launched again."""
    from hpc.dispatch.gate import run_gate

    run = args.run.absolute()
    check_private(run, args.shared_state, run / "state" / args.stage / args.fp12 if args.fp12 else None)
    state = StageState(run, args.stage, args.fp12 or stage_entry(run, args.stage)["fp12"])
    if not state.plan_path.exists():
        raise UsageError(f"no plan {state.plan_path}; expected a stage and the fingerprint of one of its plans, as `plan` shows them")
    launch = load_launch(state, args.launch) if args.launch else None
    report = run_gate(state, launch.resources.max_failures) if launch else run_gate(state)
    if report.complete or launch is None:
        print(report.text())
        return 0 if report.complete else 1
    return _after_incomplete(state, launch)


def _after_incomplete(state: StageState, launch: Launch) -> int:
    """Say what is missing and why, and launch it again where that can help."""
    from hpc.dispatch.gate import run_gate
    from hpc.dispatch.rounds import hand_over, next_round, record_losses

    lost = record_losses(state, launch, sorted(set(launch.units) - state.done_units()))
    report = run_gate(state, launch.resources.max_failures)
    print(report.text())
    if report.complete:
        return 0
    if lost:
        print("lost with their tasks: " + ", ".join(f"{n} units ({kind.replace('_', ' ')})" for kind, n in sorted(lost.items())))
    sent, said = next_round(state, launch, report)
    for line in said:
        print(line)
    if sent is not None:
        print(f"round {launch.round + 1}: array {', '.join(sent.jobs)}, {sent.tasks} tasks for {sent.units} units; gate {sent.gate}")
        for line in hand_over(sent):
            print(line)
    return 1
