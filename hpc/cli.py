"""The command line of `hpc` alone: `python -m hpc VERB --flow package.module:function`, whatever the stages are about.

The function returns a `hpc.planning.spec.Pipeline`. `work` and `gate`, which jobs run, and `status` and `gc` need only the run
directory.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from hpc import verbs
from hpc.entry import run_gate_job, run_work, stage_entry
from hpc.errors import ASKED_WRONG, UsageError, tell
from hpc.planning.planner import Flow, StagePlan, plan_pipeline
from hpc.planning.spec import Pipeline
from hpc.state.launch import launches
from hpc.state.state import StageState

Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        return int(args.verb(args))
    except BrokenPipeError:
        return 0
    except Exception as error:
        run = getattr(args, "run", None)
        told = tell(error, run.absolute() if run else None)
        if told is None:
            raise
        print(told[1], file=sys.stderr)
        return told[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hpc", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="VERB")

    def add(name: str, function: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=about, description=about)
        sub.set_defaults(verb=function)
        return sub

    add_run_verbs(add)
    for name, body, about in (
        ("plan", _plan, "dry run: arrays, units, resources, and the reason for each"),
        ("local", _local, "run stages on this machine, no scheduler"),
        ("submit", _submit, "send stages to Slurm as job arrays, each with a gate behind it"),
        ("sbatch", _sbatch, "print the sbatch scripts instead of sending them"),
        ("retry", _retry, "run again what failed or was parked"),
        ("redo", _redo, "take back units that are committed, so that they run again"),
        ("scale", _scale, "add tasks to a running stage"),
    ):
        sub = add(name, body, about)
        sub.add_argument("--flow", required=True, help="package.module:function that returns the Pipeline")
        sub.add_argument("--stage", help="a stage (default: all)")
        add_options(name, sub)
    return parser


def add_options(name: str, sub: argparse.ArgumentParser) -> None:
    """The options that a verb has beside those that say which flow."""
    if name == "local":
        sub.add_argument("--procs", type=int, help="worker processes (default: cores, within the stage's cpus)")
        sub.add_argument("--in-process", action="store_true", help="no child processes: for debuggers")
    if name == "sbatch":
        sub.add_argument("--to", type=Path, help="write them into this folder")
    if name == "retry":
        sub.add_argument("--local", action="store_true", help="on this machine instead of Slurm")
    if name == "redo":
        sub.add_argument("units", nargs="*", help="units (default: all of the stage)")
        sub.add_argument("--all", action="store_true", help="of all stages, where none is named")
    if name == "scale":
        sub.add_argument("more", type=int, help="how many tasks to add, such as +8")
    if name == "status":
        sub.add_argument("--watch", action="store_true", help="again every few seconds, until Ctrl-C")
        sub.add_argument("--efficiency", action="store_true", help="used against requested also for stages of short tasks")
        sub.add_argument("--json", action="store_true", help="for programs")
        sub.add_argument("--prometheus", type=Path, metavar="FILE", help="write metrics for node_exporter's textfile collector")
    if name == "gc":
        sub.add_argument("--yes", action="store_true", help="remove it; without, it is only shown")
        sub.add_argument("--all", action="store_true", help="also old versions that were submitted and are not complete")


def add_run_verbs(add: Add, stage: str | None = None) -> None:
    """Verbs that need nothing but a run directory. `stage`: that of an entrypoint of one stage, "" where another program brings its own
    `status` and `gc`."""
    work = add("work", run_work, "work through units: what tasks run")
    work.add_argument("--run", type=Path, required=True, help="run directory")
    work.add_argument("--stage", required=not stage, default=stage)
    work.add_argument("--task", type=int, default=0, help="number of this task, from 0")
    work.add_argument("--tasks", type=int, default=1, help="how many tasks there are")
    work.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    work.add_argument("--fp12", help="fingerprint that the run must be planned at (default: any)")
    work.add_argument("--launch", help="<fp12>/<launch>; default: one is made from what is pending")
    work.add_argument("--procs", type=int, help="worker processes (default: SLURM_CPUS_PER_TASK, or cores)")
    work.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    gate = add("gate", _gate, "is the stage complete? exit code 0 or 1")
    gate.add_argument("--run", type=Path, required=True, help="run directory")
    gate.add_argument("--stage", required=not stage, default=stage)
    gate.add_argument("--fp12", help="which version of the stage (default: the one planned last)")
    gate.add_argument("--launch", help="the launch that it ends: what is missing is launched again")
    for sub in (work, gate):
        sub.add_argument("--shared-state", action="store_true", help="others may write into the run directory, and are trusted")
    if stage is not None:
        return
    for name, body, about in (
        ("status", lambda args: verbs.do_status(args.run.absolute(), args), "how far every stage is, from files only"),
        ("gc", lambda args: verbs.do_gc(verbs.run_dir_of(args), args.yes, args.all), "old versions and what killed processes left"),
    ):
        sub = add(name, body, about)
        sub.add_argument("--run", type=Path, required=True, help="run directory")
        sub.add_argument("--stage", help="a stage (default: all)")
        add_options(name, sub)
    doctor = add("doctor", _doctor, "check the filesystem, Slurm and GPUs that a run stands on")
    doctor.add_argument("--run", type=Path, required=True, help="run directory, which need not be there yet")
    doctor.add_argument("--site", type=Path, help="site profile (default: a plain Slurm)")


def _doctor(args: argparse.Namespace) -> int:
    from hpc.site import load_site
    from hpc.upkeep.doctor import run_doctor

    return run_doctor(args.run.absolute(), load_site(args.site), verbs.CONSOLE)


# --- verbs of a flow --------------------------------------------------------------------------------------------------


def _planned(args: argparse.Namespace) -> tuple[Flow, list[StagePlan]]:
    pipeline = load_pipeline(args.flow)
    args.run = pipeline.run  # whose files an error may be about
    flow = plan_pipeline(pipeline)
    stages = [stage for stage in flow.stages if verbs.chosen(stage.name, args.stage)]
    if not stages:
        raise UsageError(f"no stage {args.stage!r} in this flow; stages: {', '.join(stage.name for stage in flow.stages)}")
    return flow, stages


def load_pipeline(spec: str) -> Pipeline:
    """The pipeline that "package.module:function" returns. Raises `UsageError`."""
    module_name, _, name = spec.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    module = _imported(spec, module_name)
    function = getattr(module, name, None)
    if not callable(function):
        seen = f"{name!r} is {type(function).__name__}" if hasattr(module, name) else f"no {name!r} in {module.__file__}"
        raise UsageError(f"--flow {spec}: {seen}; expected package.module:function, a function that returns the Pipeline")
    try:
        inspect.signature(function).bind()
    except TypeError:
        wants = inspect.signature(function)
        raise UsageError(f"--flow {spec} needs arguments {wants}; expected a function without: write one that calls it") from None
    try:
        made = function()
    except ASKED_WRONG:
        raise
    except Exception as error:
        raise UsageError(_blame(spec, error)) from error
    if not isinstance(made, Pipeline):
        raise UsageError(f"--flow {spec} returned {type(made).__name__}; expected a hpc.planning.planner.Pipeline")
    return made if made.command else replace(made, command=f"python -m hpc {{verb}} --flow {shlex.quote(spec)}")


def _imported(spec: str, name: str) -> ModuleType:
    expected = f"expected package.module:function, importable from {Path.cwd()}"
    if not name or ":" not in spec:
        raise UsageError(f"--flow {spec}: names no function; {expected}")
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"--flow {spec}: {error}; {expected}") from error
        raise UsageError(_blame(spec, error)) from error


def _blame(spec: str, error: Exception) -> str:
    """What the user's own code raised, and where in it; our own frames, which come first, are left out."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [at for at, frame in enumerate(frames) if frame.filename == __file__ or "importlib" in frame.filename]
    where = "".join(traceback.format_list(frames[ours[-1] + 1 :] if ours else frames))
    what = "".join(traceback.format_exception_only(error))
    return f"--flow {spec} raised {type(error).__name__}: {error}; mend it where it says:\n{where}{what}".rstrip()


def _gate(args: argparse.Namespace) -> int:
    """`gate`, of a launch that there is."""
    if args.launch:
        run = args.run.absolute()
        state = StageState(run, args.stage, args.fp12 or stage_entry(run, args.stage)["fp12"])
        if not state.launch_path(args.launch).is_file():
            known = ", ".join(path.stem for path in launches(state)[-5:]) or "none yet"
            raise UsageError(
                f"no launch {args.launch!r} of stage {args.stage} at {state.fp12} in {run}; expected one of, the latest: {known}"
            )
    return run_gate_job(args)


def _plan(args: argparse.Namespace) -> int:
    return verbs.do_plan(*_planned(args))


def _local(args: argparse.Namespace) -> int:
    return verbs.do_local(*_planned(args), args.procs, args.in_process)


def _submit(args: argparse.Namespace) -> int:
    return verbs.do_submit(*_planned(args))


def _sbatch(args: argparse.Namespace) -> int:
    return verbs.do_sbatch(*_planned(args), args.to)


def _retry(args: argparse.Namespace) -> int:
    flow, stages = _planned(args)
    verbs.do_forgive(stages)
    return verbs.do_local(flow, stages) if args.local else verbs.do_submit(flow, stages)


def _redo(args: argparse.Namespace) -> int:
    return verbs.do_redo(*_planned(args), args.units, bool(args.stage or args.all))


def _scale(args: argparse.Namespace) -> int:
    return verbs.do_scale(*_planned(args), args.more)


if __name__ == "__main__":
    sys.exit(main())
