"""`ccpipe estimate` itself: probe, scale up, and show what comes out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hpc.words import size as bytes_text
from jobs.config import load_config
from jobs.errors import UsageError, blame_run_dir
from jobs.estimate import Estimate, scale_up
from jobs.planning import FlowPlan, plan_flow
from jobs.probe import run_probe


def run_estimate(console: Console, config_path: Path, probe: str, nodes: Sequence[int], procs: int | None, as_json: bool) -> int:
    """Probe, scale, print. Exit code 1 where a stage of the probe stays incomplete. Raises `UsageError`, `ConfigError`."""
    config = load_config(config_path)
    try:
        flow = plan_flow(config)
    except (OSError, ValueError) as error:
        raise blame_run_dir(error, config) from error
    _check_inputs(flow)
    found = run_probe(flow, probe, procs, Console(file=sys.stderr) if as_json else console)
    if found is None:
        return 1
    estimate = scale_up(flow, found, sorted(set(nodes)))
    if as_json:
        print(json.dumps(estimate.to_dict()))
    else:
        show(console, estimate)
    return 0


def _check_inputs(flow: FlowPlan) -> None:
    """Inputs may be deleted once they were read, but a probe reads them again."""
    gone = [file.path for file in flow.manifest.files if not Path(file.path).exists()]
    if gone:
        raise UsageError(
            f"{len(gone)} of {len(flow.manifest.files)} input files of the manifest are gone, such as {gone[0]}; expected all of them, "
            "a probe reads a sample of them again. Put them back, or plan without them: `ccpipe plan --take-inputs`"
        )


def show(console: Console, estimate: Estimate) -> None:
    """The table, the totals, what a kept token costs, and what the figures rest on."""
    table = Table(box=None, padding=(0, 2, 0, 0), title=_title(estimate), title_justify="left")
    headings = ("stage", "units", "core-h", "GPU-h", *(f"{n} node{'s' * (n > 1)}" for n in estimate.nodes))
    for heading in (*headings, "output", "in flight", "memory", "inodes", ""):
        table.add_column(heading, justify="left" if heading in ("stage", "") else "right", no_wrap=True)
    for s in estimate.stages:
        memory = bytes_text(s.peak_rss_bytes) if s.peak_rss_bytes else "?"
        walls = (wall_text(s.wall_s[n]) for n in estimate.nodes)
        sizes = (bytes_text(s.output_bytes), bytes_text(s.flight_bytes), memory, f"{s.inodes:,}")
        table.add_row(
            s.stage, f"{s.units:,}", hours(s.core_hours), hours(s.gpu_hours), *walls, *sizes, "" if s.source == "measured" else "declared"
        )
    total = estimate.to_dict()["total"]
    walls = (wall_text(estimate.wall_s(n)) for n in estimate.nodes)
    most = (bytes_text(total["flight_bytes"]), bytes_text(total["peak_rss_bytes"] or 0))
    sizes = (bytes_text(total["output_bytes"]), *most, f"{int(total['inodes']):,}")
    table.add_row("total", "", hours(total["core_hours"]), hours(total["gpu_hours"]), *walls, *sizes, style="bold")
    console.print(table)
    for line in (*cost_lines(estimate), *estimate.notes):
        console.print(line, highlight=False, soft_wrap=True)


def _title(estimate: Estimate) -> str:
    return f"{bytes_text(estimate.input_bytes)} of input, from a probe of {100 * estimate.share:.2g} % ({estimate.probe})"


def cost_lines(estimate: Estimate) -> list[str]:
    """What a kept token costs."""
    value = estimate.to_dict()
    if not estimate.tokens:
        return [f"Kept tokens: unknown, {estimate.tokens_source}."]
    per = value["per_billion_tokens"]
    lines = [f"Kept tokens: {estimate.tokens:,.0f}, {estimate.tokens_source}; as many of each byte as in the sample."]
    lines.append(f"A billion kept tokens: {hours(per['core_hours'])} core-hours, {hours(per['gpu_hours']) or '0'} GPU-hours.")
    if (price := estimate.price) is not None:
        lines.append(
            f"At the site's prices: {price:,.2f} in all, {per['price']:,.2f} for a billion kept tokens. A GPU-hour has its cores in it."
        )
    return lines


def hours(value: float) -> str:
    """
    >>> hours(0.0), hours(0.00123), hours(4.56), hours(12345.6)
    ('', '0.0012', '4.6', '12,346')
    """
    if not value:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def wall_text(seconds: float) -> str:
    """
    >>> wall_text(4.2), wall_text(300), wall_text(90000)
    ('4.2 s', '5 min', '25.0 h')
    """
    if seconds < 60:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
