"""What the verbs do with a planned flow, whoever has described it. Exit codes: 0 done, 1 not done, 2 asked wrong."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from hpc.dispatch.launching import Sent, forgive, scripts, send
from hpc.dispatch.scaling import NotRunning, scale
from hpc.errors import UsageError
from hpc.fs.files import read_json
from hpc.planning.planner import Flow, StagePlan
from hpc.state.pending import retire
from hpc.upkeep.gc import find_garbage
from hpc.watch.metrics import to_json, write_metrics
from hpc.watch.show import show_status
from hpc.watch.show_plan import print_plan
from hpc.watch.status import run_status
from hpc.words import size
from hpc.workers.task import StopFlag

CONSOLE = Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False)
"""What is said may hold names and messages of others; brackets in them are no markup."""

WATCH_S = 5.0


def do_plan(flow: Flow, stages: Sequence[StagePlan]) -> int:
    print_plan(CONSOLE, flow, stages)
    return 0


def do_local(flow: Flow, stages: Sequence[StagePlan], procs: int | None = None, in_process: bool = False) -> int:
    from hpc.dispatch.local import LocalRun

    return 0 if LocalRun(flow, procs, in_process, CONSOLE).run(stages, StopFlag().install()) else 1


def do_submit(flow: Flow, stages: Sequence[StagePlan]) -> int:
    from hpc.dispatch.slurm import SlurmError

    inside = {stage.name for stage in stages}
    missing = {up for s in stages if s.pending for up in s.upstream if up not in inside and flow.find(up).pending}
    if missing:
        whole = flow.typed("submit")
        print(f"not complete yet: {', '.join(sorted(missing))}. Run them first, or submit the whole flow: {whole}", file=sys.stderr)
        return 1
    sent = 0
    try:
        for item in send(flow, stages):
            sent += 1
            _tell_sent(item)
    except SlurmError as error:
        print(error, file=sys.stderr)
        return 1
    CONSOLE.print(
        "nothing to submit: everything is committed" if not sent else f"watch it with: {flow.typed('status')} --watch", soft_wrap=True
    )
    return 0


def _tell_sent(item: Sent) -> None:
    taken = f"; {item.adopted} taken over from an older version" if item.adopted else ""
    if item.jobs:
        arrays = ", ".join(item.jobs)
        CONSOLE.print(
            f"{item.stage:<20} array {arrays}: {item.tasks} tasks for {item.units} units; gate {item.gate}{taken}", highlight=False
        )
    else:
        CONSOLE.print(f"{item.stage:<20} nothing to run{taken}", highlight=False)


def do_scale(flow: Flow, stages: Sequence[StagePlan], more: int) -> int:
    from hpc.dispatch.slurm import SlurmError

    if len(stages) != 1:
        raise UsageError(f"scale adds tasks to one running stage, {len(stages)} were named; type: {flow.typed('scale', 'STAGE', '+8')}")
    if more < 1:
        raise UsageError(f"scale by {more}: expected how many tasks to add, such as +8. Tasks are taken away with scancel: nothing is lost")
    try:
        item = scale(flow, stages[0], more)
    except (NotRunning, SlurmError) as error:
        print(error, file=sys.stderr)
        return 1
    arrays = ", ".join(item.jobs)
    CONSOLE.print(f"{item.stage:<20} array {arrays}: {item.tasks} more tasks for launch {item.launch}; gate {item.gate}", highlight=False)
    return 0


def do_sbatch(flow: Flow, stages: Sequence[StagePlan], folder: Path | None) -> int:
    if not any(stage.pending for stage in stages):
        print("# nothing to do: everything is committed")
    for name, text in scripts(flow, stages):
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
            print(folder / name)
        else:
            print(f"# --- {name}\n{text}")
    return 0


def do_forgive(stages: Sequence[StagePlan]) -> None:
    print(f"{forgive(stages)} units that failed before may be tried again")


def do_redo(flow: Flow, stages: Sequence[StagePlan], units: Sequence[str], named: bool) -> int:
    """Take back sentinels, so that units run again, and then what depends on them. `named`: the stages were, or all were asked for."""
    if not named:
        done = sum(len(stage.state.done_units() & stage.plan.by_id.keys()) for stage in stages)
        raise UsageError(
            f"redo without a stage would take back {len(stages)} stages, {done} committed units; expected --stage STAGE, or --all for "
            f"everything; type: {flow.typed('redo', 'STAGE', *units)}"
        )
    for stage in stages:
        if unknown := sorted(set(units) - set(stage.plan.by_id)):
            some = ", ".join(list(stage.plan.by_id)[:3])
            raise UsageError(f"stage {stage.name} has no unit {', '.join(unknown[:3])}; its units are {some} ... ({len(stage.plan.units)})")
    for stage in stages:
        chosen = set(units) or set(stage.plan.by_id)
        print(f"{stage.name}: {retire(stage.state, chosen)} units will run again; type: {flow.typed('submit')}")
    return 0


def do_status(run: Path, args: argparse.Namespace) -> int:
    if not (run / "flow.json").exists():
        print(f"{run} is not a run directory yet; plan the run first", file=sys.stderr)
        return 1
    names = [str(entry["stage"]) for entry in read_json(run / "flow.json")["stages"]]
    if not any(chosen(name, args.stage) for name in names):
        raise UsageError(f"no stage {args.stage!r} in {run}; stages: {', '.join(names)}")
    try:
        while True:
            stages = [status for status in run_status(run) if chosen(status.stage, args.stage)]
            if args.prometheus:
                write_metrics(args.prometheus, str(read_json(run / "flow.json")["run"]), stages)
            if args.json:
                print(json.dumps(to_json(run, stages)))
                return 0
            if args.prometheus and not args.watch:
                print(f"wrote {args.prometheus}")
                return 0
            if args.watch:
                CONSOLE.clear()
            show_status(CONSOLE, run, stages, *([0.0] if args.efficiency else []))
            if not args.watch or all(status.complete for status in stages):
                return 0
            time.sleep(WATCH_S)
    except KeyboardInterrupt:
        return 0


def chosen(stage: str, wanted: str | None) -> bool:
    """Whether a stage is meant by a name on the command line: its own, that of its family, or none."""
    return not wanted or wanted in ("all", stage, stage.partition(".")[0])


def do_gc(run: Path, really: bool, everything: bool = False) -> int:
    """Show what can go; remove it if `really`. `everything`: also old versions whose jobs may still wait in the queue."""
    if not (run / "flow.json").is_file():
        raise UsageError(f"{run} is not a run directory (no flow.json); plan the run first")
    found = find_garbage(run, lambda line: CONSOLE.print(line, highlight=False, soft_wrap=True), everything)
    for item in found[:40]:
        CONSOLE.print(f"{size(item.bytes):>10} {item.inodes:>7,} inodes  {item.path}  {item.why}", highlight=False, soft_wrap=True)
    if len(found) > 40:
        CONSOLE.print(f"... and {len(found) - 40} more")
    failed = False
    if really:
        for error in filter(None, [item.remove() for item in found]):
            failed = True
            print(error, file=sys.stderr)
        found = [item for item in found if not os.path.lexists(item.path)]
    did = "removed" if really else "can go; nothing is removed without --yes"
    total, inodes = sum(item.bytes for item in found), sum(item.inodes for item in found)
    CONSOLE.print(f"{len(found)} things, {size(total)}, {inodes:,} inodes {did}", highlight=False)
    return 1 if failed else 0


def run_dir_of(args: argparse.Namespace) -> Path:
    """The run directory that a verb was given."""
    run: Path = args.run.absolute()
    if not (run / "flow.json").is_file():
        raise UsageError(
            f"{run} is not a run directory (no flow.json); expected --run RUN of a planned run, not {shlex.quote(str(args.run))}"
        )
    return run
