"""The command line: `ccpipe VERB`, and the same verbs for one stage as `python -m jobs.STAGE VERB`. What verbs do: verbs.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hpc.cli import add_options, add_run_verbs
from jobs import blocklists, verbs
from jobs.errors import tell

Verb = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None, stage: str | None = None) -> int:
    """Run one verb; returns the exit code. `stage` is set by the entrypoints of single stages."""
    args = _parser(stage).parse_args(argv)
    try:
        return int(args.verb(args))
    except BrokenPipeError:
        return 0
    except Exception as error:
        told = tell(error, getattr(args, "run", None))
        if told is None:
            raise
        print(told[1], file=sys.stderr)
        return told[0]


def _parser(stage: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m jobs.{stage}" if stage else "ccpipe", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, function: Verb, about: str, config: bool = True) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=about, description=about)
        sub.set_defaults(verb=function)
        if config:
            sub.add_argument("--config", type=Path, default=Path("run.toml"), help="the run.toml (default: here)")
            sub.add_argument("--stage", default=stage, help="a stage, a family such as dedup, or nothing for the whole flow")
        add_options(name, sub)
        return sub

    for name, function, about in VERBS_OF_A_FLOW:
        sub = verb(name, function, about)
        if name in ("plan", "local", "submit"):
            sub.add_argument("--take-inputs", action="store_true", help="take in the inputs as they are now, changed and new ones")
    _add_others(verb)
    add_run_verbs(lambda name, function, about: verb(name, function, about, config=False), stage or "")
    return parser


VERBS_OF_A_FLOW: tuple[tuple[str, Verb, str], ...] = (
    ("plan", verbs.do_plan, "dry run: check everything, show arrays, units, resources and the reason for each"),
    ("local", verbs.do_local, "run stages on this machine, no scheduler"),
    ("submit", verbs.do_submit, "send stages to Slurm as job arrays, each with a gate behind it"),
    ("scale", verbs.do_scale, "add tasks to a running stage"),
    ("sbatch", verbs.do_sbatch, "print the sbatch scripts instead of sending them"),
    ("retry", verbs.do_retry, "run again what failed or was parked"),
    ("redo", verbs.do_redo, "take back units that are committed, so that they and what depends on them run again"),
    ("status", verbs.do_status, "how far every stage is, from files only"),
    ("gc", verbs.do_gc, "show, and with --yes remove, old versions and what killed processes left"),
    ("doctor", verbs.do_doctor, "check Python, models, filesystem, Slurm limits and GPUs"),
)


def _add_others(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Verbs with arguments of their own, and those that need no config."""
    estimate = verb("estimate", verbs.do_estimate, "run a sample of the input, and say what all of it will take")
    estimate.add_argument("--probe", default="1%", help="how much: 1%%, 200MB, or a number of files (default: 1%%)")
    estimate.add_argument("--nodes", default="1,10,100", help="numbers of nodes to tell the wall time for")
    estimate.add_argument("--procs", type=int, help="worker processes of the probe (default: cores)")
    estimate.add_argument("--json", action="store_true", help="for programs")
    diff = verb("diff", verbs.do_diff, "what another version of a stage kept, and this one does not, with examples")
    diff.add_argument("--old", metavar="FP12", help="the version before (default: the latest other one)")
    diff.add_argument("--new", metavar="FP12", help="the version now (default: the one planned)")
    diff.add_argument("--examples", type=int, default=5, help="documents shown of each kind")
    diff.add_argument("--json", action="store_true", help="for programs")
    inspect = verb("inspect", verbs.do_inspect, "every column of one document, its text, and why it was kept or dropped")
    inspect.add_argument("document", help="URL, document id, or SHARD-ROW")
    inspect.add_argument("--full", action="store_true", help="the whole text")
    verify = verb("verify", verbs.do_verify, "do the WET files, and the WARCs, still hold what the meta says? Saves single documents")
    verify.add_argument("documents", nargs="*", help="URLs, document ids, or SHARD-ROW (default: all)")
    verify.add_argument("--pages", action="store_true", help="the records in the WARCs too, not only the texts")
    verify.add_argument("--save", type=Path, metavar="FOLDER", help="write texts (.txt) and HTTP responses (.http) there")
    audit = verb("dedup-audit", verbs.do_dedup_audit, "what dedup dropped beside what was kept, alarms and giant components")
    audit.add_argument("--pairs", type=int, default=3, help="pairs of each stratum (default: 3)")
    audit.add_argument("--seed", type=int, default=1, help="another seed, other pairs (default: 1)")
    audit.add_argument("--html", type=Path, metavar="FILE", help="write a page with everything side by side too")
    audit.add_argument("--json", action="store_true", help="for programs")
    index = verb("save-index", verbs.do_save_index, "save the band index of this run, for later runs to be deduplicated against")
    index.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder, on the filesystem of later runs")
    index.add_argument("--survivors", action="store_true", help="only keys of documents that dedup kept")
    index.add_argument("--signatures", action="store_true", help="the signatures too, which verify and dedup_similarity compare")
    init = verb("init", verbs.do_init, "write a commented run.toml and site.toml", config=False)
    init.add_argument("folder", type=Path, nargs="?", default=Path(), help="where (default: here)")
    init.add_argument("--site", choices=verbs.site_templates(), default="cpu", help="which profile to start from")
    demo = verb("demo", verbs.do_demo, "the whole pipeline on bundled pages", config=False)
    demo.add_argument("--out", type=Path, default=Path("demo-run"), help="folder of the demo")
    demo.add_argument("--models", type=Path, default=Path(".cache/models"), help="folder of the small models")
    curve = verb("dedup-curve", verbs.do_dedup_curve, "which similar pairs bands and rows find and miss, as table and plot", config=False)
    curve.add_argument("--similarity", type=float, default=0.8, help="Jaccard similarity that shall be found (default: 0.8)")
    curve.add_argument("--hashes", type=int, default=128, help="positions of a signature: the budget (default: 128)")
    curve.add_argument("--recall", type=float, default=0.92, help="share of the pairs at that similarity that shall meet (default: 0.92)")
    curve.add_argument("--max-bands", type=int, help="keys per document at most")
    curve.add_argument("--bands", type=int, help="with --rows: this choice and no other")
    curve.add_argument("--rows", type=int)
    curve.add_argument("--preset", action="append", default=[], help="fineweb, full, strict or refinedweb; may be repeated")
    curve.add_argument("--pairs", type=Path, help="histogram, lines similarity,pairs: also how many pairs are missed")
    curve.add_argument("--svg", type=Path, help="write the plot there as a picture, too")
    curve.add_argument("--json", action="store_true", help="for programs")
    blocklists.add_verbs(verb)


if __name__ == "__main__":
    sys.exit(main())
