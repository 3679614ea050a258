"""What each verb of the command line does: from parsed arguments to an exit code. Parsing them: cli.py."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from hpc.gate import run_gate
from hpc.state import StageState
from hpc.status import run_status
from hpc.task import StopFlag
from jobs.config import load_config, load_run_dir
from jobs.errors import UsageError, blame_run_dir
from jobs.flow import choose, chosen_names
from jobs.launching import forgive, scripts, send
from jobs.planning import FlowPlan, StagePlan, find, plan_flow
from jobs.show import plan_reason, plan_table, show_status
from jobs.work import stage_entry

CONSOLE = Console(width=None if sys.stdout.isatty() else 160)
WATCH_S = 5.0


def _planned(args: argparse.Namespace) -> tuple[FlowPlan, list[StagePlan]]:
    config = load_config(args.config)
    try:
        flow = plan_flow(config)
    except (OSError, ValueError) as error:
        raise blame_run_dir(error, config) from error
    if flow.notice:
        CONSOLE.print(f"note: {flow.notice}", style="yellow")
    names = {stage.name for stage in choose([item.stage for item in flow.stages], args.stage)}
    return flow, [stage for stage in flow.stages if stage.name in names]


def do_plan(args: argparse.Namespace) -> int:
    flow, stages = _planned(args)
    CONSOLE.print(plan_table(flow, stages))
    for stage in stages:
        CONSOLE.print(f"{stage.name}: {plan_reason(stage)}", highlight=False, soft_wrap=True)
        for line in stage.stage.stage.explain():
            CONSOLE.print(f"    {line}", highlight=False, soft_wrap=True)
    return 0


def do_local(args: argparse.Namespace) -> int:
    from jobs.local import LocalRun

    flow, stages = _planned(args)
    complete = LocalRun(flow, args.procs, args.in_process, CONSOLE).run(stages, StopFlag().install())
    return 0 if complete else 1


def do_submit(args: argparse.Namespace) -> int:
    flow, stages = _planned(args)
    return _submit(flow, stages)


def _submit(flow: FlowPlan, stages: list[StagePlan]) -> int:
    from hpc.slurm import SlurmError

    inside = {stage.name for stage in stages}
    missing = {up for s in stages if s.pending for up in s.stage.upstream if up not in inside and find(flow.stages, up).pending}
    if missing:
        print(
            f"not complete yet: {', '.join(sorted(missing))}. Run them first, or submit the whole flow with `ccpipe submit`",
            file=sys.stderr,
        )
        return 1
    try:
        sent = 0
        for item in send(flow, stages):
            sent += 1
            arrays = ", ".join(item.jobs)
            CONSOLE.print(f"{item.stage:<20} array {arrays}: {item.tasks} tasks for {item.units} units; gate {item.gate}", highlight=False)
    except SlurmError as error:
        print(error, file=sys.stderr)
        return 1
    CONSOLE.print("nothing to submit: everything is committed" if not sent else "watch it with: ccpipe status --watch")
    return 0


def do_sbatch(args: argparse.Namespace) -> int:
    flow, stages = _planned(args)
    if not any(stage.pending for stage in stages):
        print("# nothing to do: everything is committed")
    for name, text in scripts(flow, stages):
        if args.to:
            args.to.mkdir(parents=True, exist_ok=True)
            (args.to / name).write_text(text)
            print(args.to / name)
        else:
            print(f"# --- {name}\n{text}")
    return 0


def do_retry(args: argparse.Namespace) -> int:
    flow, stages = _planned(args)
    print(f"{forgive(stages)} units that failed before may be tried again")
    if args.local:
        args.procs, args.in_process = None, False
        return do_local(args)
    return _submit(flow, stages)


def do_status(args: argparse.Namespace) -> int:
    run = load_run_dir(args.config)
    try:
        while True:
            every = run_status(run)
            names = chosen_names([s.stage for s in every], args.stage)
            stages = [s for s in every if s.stage in names]
            if args.json:
                print(json.dumps({"run": str(run), "stages": [s.to_dict() for s in stages]}))
                return 0
            if args.watch:
                CONSOLE.clear()
            show_status(CONSOLE, run, stages)
            if not args.watch or all(s.complete for s in stages):
                return 0
            time.sleep(WATCH_S)
    except FileNotFoundError:
        print(f"{run} is not a run directory yet; start with `ccpipe plan` or `ccpipe local`", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def do_inspect(args: argparse.Namespace) -> int:
    from jobs.inspection import NotFound, show_document

    try:
        show_document(CONSOLE, load_run_dir(args.config), args.document, args.full)
    except NotFound as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def do_doctor(args: argparse.Namespace) -> int:
    from jobs.doctor import run_doctor

    return run_doctor(CONSOLE, args.config)


def do_init(args: argparse.Namespace) -> int:
    args.folder.mkdir(parents=True, exist_ok=True)
    for template in ("run.toml", "site.toml"):
        target = args.folder / template
        if target.exists():
            print(f"{target} exists; left as it is")
            continue
        target.write_text((Path(__file__).parent / "templates" / template).read_text())
        print(f"wrote {target}")
    return 0


def do_demo(args: argparse.Namespace) -> int:
    from jobs.demo.fetch import FetchError
    from jobs.demo.run import run_demo

    try:
        return run_demo(CONSOLE, args.out, args.models)
    except FetchError as error:
        raise UsageError(str(error)) from error


def do_gate(args: argparse.Namespace) -> int:
    run = args.run.absolute()
    state = StageState(run, args.stage, args.fp12 or stage_entry(run, args.stage)["fp12"])
    if not state.plan_path.exists():
        raise UsageError(
            f"no plan {state.plan_path}; expected a stage and the fingerprint of one of its plans, as `ccpipe plan` shows them"
        )
    report = run_gate(state)
    print(report.text())
    return 0 if report.complete else 1


def do_build_blocklist(args: argparse.Namespace) -> int:
    from ccpipe.blocklist import NotABlocklist, build_blocklist, folder_sources

    sources: dict[str, Iterable[str] | Path] = {}
    for source in args.sources:
        if not source.exists():
            raise UsageError(f"no file or folder {source}; expected plain lists, hosts files or UT1 folders")
    try:
        for source in args.sources:
            sources |= folder_sources(source) if source.is_dir() else {source.stem: source}
        blocklist = build_blocklist(sources, args.out)
    except NotABlocklist as error:
        raise UsageError(str(error)) from error
    print(f"{args.out}: {len(blocklist):,} entries, categories: {', '.join(blocklist.categories)}")
    return 0
