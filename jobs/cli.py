"""The command line: `ccpipe VERB`, and the same verbs for one stage as `python -m jobs.STAGE VERB`. What verbs do: verbs.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jobs import verbs
from jobs.errors import tell
from jobs.work import run_work


def main(argv: Sequence[str] | None = None, stage: str | None = None) -> int:
    """Run one verb; returns the exit code. `stage` is set by the entrypoints of single stages."""
    args = _parser(stage).parse_args(argv)
    try:
        return int(args.verb(args))
    except BrokenPipeError:
        return 0
    except Exception as error:
        told = tell(error)
        if told is None:
            raise
        print(told[1], file=sys.stderr)
        return told[0]


def _parser(stage: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m jobs.{stage}" if stage else "ccpipe", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, function: object, about: str, config: bool = True) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=about, description=about)
        sub.set_defaults(verb=function)
        if config:
            sub.add_argument("--config", type=Path, default=Path("run.toml"), help="the run.toml (default: here)")
            sub.add_argument("--stage", default=stage, help="a stage, a family such as dedup, or nothing for the whole flow")
        return sub

    verb("plan", verbs.do_plan, "dry run: check everything, show arrays, units, resources and the reason for each")
    local = verb("local", verbs.do_local, "run stages on this machine, no scheduler")
    local.add_argument("--procs", type=int, help="worker processes (default: cores, within the stage's cpus)")
    local.add_argument("--in-process", action="store_true", help="no child processes: for debuggers")
    verb("submit", verbs.do_submit, "send stages to Slurm as job arrays, each with a gate behind it")
    sbatch = verb("sbatch", verbs.do_sbatch, "print the sbatch scripts instead of sending them")
    sbatch.add_argument("--to", type=Path, help="write them into this folder")
    retry = verb("retry", verbs.do_retry, "run again what failed or was parked")
    retry.add_argument("--local", action="store_true", help="on this machine instead of Slurm")
    _add_run_verbs(verb, stage)
    return parser


def _add_run_verbs(verb: Callable[..., argparse.ArgumentParser], stage: str | None) -> None:
    """Verbs about a run directory, and those that need none."""
    status = verb("status", verbs.do_status, "how far every stage is, from files only")
    status.add_argument("--watch", action="store_true", help="again every few seconds, until Ctrl-C")
    status.add_argument("--json", action="store_true", help="for programs")
    inspect = verb("inspect", verbs.do_inspect, "every column of one document, its text, and why it was kept or dropped")
    inspect.add_argument("document", help="URL, document id, or SHARD-ROW")
    inspect.add_argument("--full", action="store_true", help="the whole text")
    verb("doctor", verbs.do_doctor, "check Python, models, filesystem, Slurm limits and GPUs")
    init = verb("init", verbs.do_init, "write a commented run.toml and site.toml", config=False)
    init.add_argument("folder", type=Path, nargs="?", default=Path(), help="where (default: here)")
    demo = verb("demo", verbs.do_demo, "the whole pipeline on bundled pages", config=False)
    demo.add_argument("--out", type=Path, default=Path("demo-run"), help="folder of the demo")
    demo.add_argument("--models", type=Path, default=Path(".cache/models"), help="folder of the small models")
    blocklist = verb("build-blocklist", verbs.do_build_blocklist, "compile block lists into one memory-mapped file", config=False)
    blocklist.add_argument("out", type=Path, help="the .blocklist file to write")
    blocklist.add_argument("sources", type=Path, nargs="+", help="plain lists, hosts files, or UT1 folders (folder = category)")
    work = verb("work", run_work, "work through units: what tasks run", config=False)
    work.add_argument("--run", type=Path, required=True, help="run directory")
    work.add_argument("--stage", required=stage is None, default=stage)
    work.add_argument("--task", type=int, default=0, help="number of this task, from 0")
    work.add_argument("--tasks", type=int, default=1, help="how many tasks there are")
    work.add_argument("--fp12", help="fingerprint that the run must be planned at (default: any)")
    work.add_argument("--launch", help="<fp12>/<launch>; default: one is made from what is pending")
    work.add_argument("--procs", type=int, help="worker processes (default: SLURM_CPUS_PER_TASK, or cores)")
    work.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    gate = verb("gate", verbs.do_gate, "is the stage complete? exit code 0 or 1", config=False)
    gate.add_argument("--run", type=Path, required=True, help="run directory")
    gate.add_argument("--stage", required=stage is None, default=stage)
    gate.add_argument("--fp12", help="which version of the stage (default: the one planned last)")


if __name__ == "__main__":
    sys.exit(main())
