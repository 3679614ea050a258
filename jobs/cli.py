"""The command line: `ccpipe VERB`, and the same verbs for one stage as `python -m jobs.STAGE VERB`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from hpc.gate import run_gate
from hpc.state import StageState
from hpc.task import StopFlag
from jobs.config import ConfigError, load_config
from jobs.flow import choose
from jobs.planning import FlowPlan, StagePlan, plan_flow
from jobs.work import run_work, stage_entry

CONSOLE = Console()


def main(argv: Sequence[str] | None = None, stage: str | None = None) -> int:
    """Run one verb; returns the exit code. `stage` is set by the entrypoints of single stages."""
    args = _parser(stage).parse_args(argv)
    try:
        return int(args.verb(args))
    except (ConfigError, KeyError) as error:
        print(error.args[0] if isinstance(error, KeyError) else error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0


def _parser(stage: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m jobs.{stage}" if stage else "ccpipe", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, function: object, about: str, config: bool = True) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=about, description=about)
        sub.set_defaults(verb=function)
        if config:
            sub.add_argument("--config", type=Path, default=Path("run.toml"), help="the run.toml (default: here)")
            sub.add_argument("--stage", default=stage, help="a stage, a family such as dedup, or nothing for the whole flow")
        return sub

    verb("plan", do_plan, "check everything and show what would run, and why")
    local = verb("local", do_local, "run on this machine, no scheduler")
    local.add_argument("--procs", type=int, help="worker processes (default: cores, within the stage's cpus)")
    local.add_argument("--in-process", action="store_true", help="no child processes: for debuggers")
    work = verb("work", run_work, "work through units: what tasks run", config=False)
    work.add_argument("--run", type=Path, required=True, help="run directory")
    work.add_argument("--stage", required=stage is None, default=stage)
    work.add_argument("--task", type=int, default=0, help="number of this task, from 0")
    work.add_argument("--tasks", type=int, default=1, help="how many tasks there are")
    work.add_argument("--launch", help="<fp12>/<launch>; default: one is made from what is pending")
    work.add_argument("--procs", type=int, help="worker processes (default: SLURM_CPUS_PER_TASK, or cores)")
    work.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    gate = verb("gate", do_gate, "is the stage complete? exit code 0 or 1", config=False)
    gate.add_argument("--run", type=Path, required=True, help="run directory")
    gate.add_argument("--stage", required=stage is None, default=stage)
    return parser


def _planned(args: argparse.Namespace) -> tuple[FlowPlan, list[StagePlan]]:
    flow = plan_flow(load_config(args.config))
    if flow.notice:
        CONSOLE.print(f"note: {flow.notice}", style="yellow")
    names = {stage.name for stage in choose([item.stage for item in flow.stages], args.stage)}
    return flow, [stage for stage in flow.stages if stage.name in names]


def do_plan(args: argparse.Namespace) -> int:
    flow, stages = _planned(args)
    for stage in stages:
        print(stage.name, stage.state.fp12, len(stage.pending), "of", len(stage.plan.units), stage.packing.reason)
    return 0


def do_local(args: argparse.Namespace) -> int:
    from jobs.local import LocalRun

    flow, stages = _planned(args)
    complete = LocalRun(flow, args.procs, args.in_process, CONSOLE).run(stages, StopFlag().install())
    return 0 if complete else 1


def do_gate(args: argparse.Namespace) -> int:
    run = args.run.absolute()
    report = run_gate(StageState(run, args.stage, stage_entry(run, args.stage)["fp12"]))
    print(report.text())
    return 0 if report.complete else 1


if __name__ == "__main__":
    sys.exit(main())
