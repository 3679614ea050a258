"""What each verb of the command line does: from parsed arguments to an exit code. The verbs of any flow: hpc/verbs.py."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hpc import verbs
from hpc.entry import read_flow
from hpc.verbs import CONSOLE
from hpc.watch.show_plan import print_plan
from jobs.config import load_config, load_run_dir
from jobs.dedup_audit import alarm_lines
from jobs.errors import UsageError, blame_run_dir
from jobs.flow import chosen_names
from jobs.planning import FlowPlan, StagePlan, plan_flow

TEMPLATES = Path(__file__).parent / "templates"


def _planned(args: argparse.Namespace) -> tuple[FlowPlan, list[StagePlan]]:
    config = load_config(args.config)
    args.run = config.run_dir  # whose files an error may be about
    try:
        flow = plan_flow(config, getattr(args, "take_inputs", False))
    except (OSError, ValueError) as error:
        raise blame_run_dir(error, config) from error
    if flow.notice:
        CONSOLE.print(f"note: {flow.notice}", style="yellow", soft_wrap=True)
    names = set(chosen_names([stage.name for stage in flow.stages], args.stage))
    return flow, [stage for stage in flow.stages if stage.name in names]


def do_plan(args: argparse.Namespace) -> int:
    flow, stages = _planned(args)
    title = f"{flow.run}: {len(flow.manifest.files)} files in {flow.manifest.n_shards} shards, site {flow.site.name}"
    print_plan(CONSOLE, flow, stages, {stage.name: flow.explain(stage.name) for stage in stages}, title)
    return 0


def do_local(args: argparse.Namespace) -> int:
    return verbs.do_local(*_planned(args), args.procs, args.in_process)


def do_submit(args: argparse.Namespace) -> int:
    return verbs.do_submit(*_planned(args))


def do_scale(args: argparse.Namespace) -> int:
    return verbs.do_scale(*_planned(args), args.more)


def do_sbatch(args: argparse.Namespace) -> int:
    return verbs.do_sbatch(*_planned(args), args.to)


def do_retry(args: argparse.Namespace) -> int:
    flow, stages = _planned(args)
    verbs.do_forgive(stages)
    return verbs.do_local(flow, stages) if args.local else verbs.do_submit(flow, stages)


def do_redo(args: argparse.Namespace) -> int:
    return verbs.do_redo(*_planned(args), args.units, bool(args.stage or args.all))


def do_status(args: argparse.Namespace) -> int:
    run = args.run = load_run_dir(args.config)
    if (run / "flow.json").is_file():
        chosen_names([entry["stage"] for entry in read_flow(run)["stages"]], args.stage)
    code = verbs.do_status(run, args)
    for line in [] if args.json else alarm_lines(run):
        CONSOLE.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    return code


def do_gc(args: argparse.Namespace) -> int:
    args.run = load_run_dir(args.config)
    return verbs.do_gc(args.run, args.yes, args.all)


def do_estimate(args: argparse.Namespace) -> int:
    from jobs.estimate import parse_nodes
    from jobs.estimate_show import run_estimate

    return run_estimate(CONSOLE, args.config, args.probe, parse_nodes(args.nodes), args.procs, args.json)


def do_diff(args: argparse.Namespace) -> int:
    from jobs.diff_show import run_diff

    return run_diff(CONSOLE, load_run_dir(args.config), args.stage, args.old, args.new, args.examples, args.json)


def do_save_index(args: argparse.Namespace) -> int:
    from jobs.save_index import run_save_index

    args.run = load_run_dir(args.config)
    return run_save_index(CONSOLE, args.run, args.to, args.survivors, args.signatures)


def do_dedup_audit(args: argparse.Namespace) -> int:
    from jobs.dedup_audit import run_audit

    args.run = load_run_dir(args.config)
    return run_audit(CONSOLE, args.run, args.pairs, args.seed, args.html, args.json)


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
    for template, name in (("run.toml", "run.toml"), (f"site-{args.site}.toml", "site.toml")):
        target = args.folder / name
        if target.exists():
            print(f"{target} exists; left as it is")
            continue
        target.write_text((TEMPLATES / template).read_text())
        print(f"wrote {target}")
    return 0


def site_templates() -> list[str]:
    """Names of the site profiles that `init` can write."""
    return sorted(path.stem.removeprefix("site-") for path in TEMPLATES.glob("site-*.toml"))


def do_demo(args: argparse.Namespace) -> int:
    from jobs.demo.fetch import FetchError
    from jobs.demo.run import run_demo

    try:
        return run_demo(CONSOLE, args.out, args.models)
    except FetchError as error:
        raise UsageError(str(error)) from error


def do_dedup_curve(args: argparse.Namespace) -> int:
    from jobs.curve import Wish, run_curve

    wish = Wish(args.similarity, args.hashes, args.recall, args.max_bands, args.bands, args.rows, tuple(args.preset))
    try:
        return run_curve(CONSOLE, wish, args.pairs, args.svg, args.json)
    except FileNotFoundError as error:
        raise UsageError(f"no file {error.filename}; expected lines similarity,pairs such as 0.85,1200") from error
