"""`ccpipe estimate`: what the whole input will cost, scaled up from a probe on a sample of it.

Units' seconds grow with their declared cost; what a process needs before its first unit is paid once a process, not once a byte. Stages
over everything are scaled by the law named for each. Figures that could not be measured here say so.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ccpipe.stage import SlicedStage
from hpc.planning.inodes import Budget, budget
from hpc.planning.measured import Measured
from hpc.planning.sizing import Packing, makespan, size
from hpc.site import Resources, Site
from hpc.words import size as bytes_text
from jobs.config import load_config
from jobs.errors import UsageError, blame_run_dir
from jobs.flow import FlowStage
from jobs.planning import FlowPlan, StagePlan, plan_flow
from jobs.probe import Probe, Probed, run_probe

BUSY = 0.75
"""Of the time that units took in the probe, the share in which they had a core; below, the machine was doing other things too."""

BYTES_PER_TOKEN = 4
"""Of text, where no tokenizer is configured: a rule of thumb for English; Chinese has about as many characters as tokens."""

LAWS = {
    "shard": "in proportion to the bytes of each shard",
    "group": "in proportion to the bytes of each group of shards",
    "partition": "n log n in the keys of a partition",
    "all": "n log n in what all shards hold",
}


@dataclass(frozen=True)
class StageEstimate:
    """One stage over the whole input. Seconds and hours are of processes; `wall_s`: nodes -> seconds.

    flight_bytes: at most at once beside the outputs, in scratch and slices. peak_rss_bytes: of a process, None where not measured.
    """

    stage: str
    units: int
    tasks: int
    core_hours: float
    gpu_hours: float
    startup_hours: float
    wall_s: dict[int, float]
    output_bytes: float
    flight_bytes: float
    peak_rss_bytes: float | None
    inodes: int
    inodes_running: int
    law: str
    source: str


@dataclass(frozen=True)
class Estimate:
    """The whole flow. `tokens`: kept, with `tokens_source` in words; None where nothing is exported."""

    probe: str
    share: float
    input_bytes: int
    nodes: tuple[int, ...]
    stages: tuple[StageEstimate, ...]
    tokens: float | None
    tokens_source: str
    core_hour_price: float | None
    gpu_hour_price: float | None
    notes: tuple[str, ...] = field(default=())

    def total(self, name: str) -> float:
        return float(sum(getattr(stage, name) for stage in self.stages))

    def wall_s(self, nodes: int) -> float:
        """One stage after the other; waiting for nodes not included."""
        return sum(stage.wall_s[nodes] for stage in self.stages)

    @property
    def price(self) -> float | None:
        """Cores of CPU stages and GPUs of GPU stages; None where the site profile has no price of what is used."""
        cores = sum(stage.core_hours for stage in self.stages if not stage.gpu_hours)
        gpus = self.total("gpu_hours")
        if (cores and self.core_hour_price is None) or (gpus and self.gpu_hour_price is None):
            return None
        return cores * (self.core_hour_price or 0.0) + gpus * (self.gpu_hour_price or 0.0)

    def to_dict(self) -> dict[str, Any]:
        totals: dict[str, Any] = {name: self.total(name) for name in ("core_hours", "gpu_hours", "startup_hours", "output_bytes", "inodes")}
        peaks = [stage.peak_rss_bytes for stage in self.stages if stage.peak_rss_bytes]
        totals |= {
            "wall_s": {nodes: self.wall_s(nodes) for nodes in self.nodes},
            "flight_bytes": max((stage.flight_bytes for stage in self.stages), default=0.0),
            "peak_rss_bytes": max(peaks, default=None),
            "price": self.price,
        }
        per_billion = {name: totals[name] / self.tokens * 1e9 for name in ("core_hours", "gpu_hours")} if self.tokens else None
        if per_billion and self.tokens and self.price is not None:
            per_billion["price"] = self.price / self.tokens * 1e9
        return {**asdict(self), "total": totals, "per_billion_tokens": per_billion}


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


def parse_nodes(text: str) -> list[int]:
    """
    >>> parse_nodes("1,10,100")
    [1, 10, 100]
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"--nodes {text!r}: expected numbers of nodes, such as 1,10,100")
    return [int(part) for part in parts]


# --- scaling ---


def scale_up(flow: FlowPlan, probe: Probe, nodes: Sequence[int]) -> Estimate:
    """The whole input from a sample of it."""
    base = min((p.measured.peak_rss_bytes for p in probe.stages.values() if p.measured), default=0)
    stages = tuple(_stage(stage, flow.described[stage.name], probe.stages[stage.name], flow.site, nodes, base) for stage in flow.stages)
    tokens, tokens_source = _tokens(probe)
    site = flow.config.site
    return Estimate(
        probe=f"{probe.sample.n_bytes:,} of {probe.input_bytes:,} bytes",
        share=probe.share,
        input_bytes=probe.input_bytes,
        nodes=tuple(nodes),
        stages=stages,
        tokens=tokens,
        tokens_source=tokens_source,
        core_hour_price=site.core_hour_price,
        gpu_hour_price=site.gpu_hour_price,
        notes=tuple(_notes(flow, probe)),
    )


def _stage(stage: StagePlan, described: FlowStage, probed: Probed, site: Site, nodes: Sequence[int], base_rss: int) -> StageEstimate:
    costs = [unit.cost for unit in stage.plan.units]
    largest = max(costs, default=0.0)
    measured = _by_law(described, probed, largest)
    packing = size(costs, stage.resources, site, measured)
    seconds = sorted((measured.seconds(cost) if measured else cost for cost in costs), reverse=True)
    startup_s = measured.startup_s if measured else 0.0
    started = min(len(costs), packing.tasks * packing.procs)
    process_hours = (sum(seconds) + startup_s * started) / 3600
    given = packing.resources
    at_once = min(len(costs), min(packing.tasks, site.throttle or packing.tasks) * packing.procs)
    unit_bytes = (measured.bytes_per_cost if measured else 0.0) * largest
    counted = _inodes(stage, described, probed, packing)
    return StageEstimate(
        stage=stage.name,
        units=len(costs),
        tasks=packing.tasks,
        core_hours=process_hours * (given.cpus / given.gpus if given.gpus else 1.0),
        gpu_hours=process_hours if given.gpus else 0.0,
        startup_hours=startup_s * started / 3600,
        wall_s={n: makespan(seconds, n * _slots(stage.resources, given, site)) + (startup_s if costs else 0.0) for n in nodes},
        output_bytes=(measured.bytes_per_cost if measured else 0.0) * sum(costs),
        # slices stay until the unit that is joined from them is committed
        flight_bytes=at_once * unit_bytes * (2 if isinstance(described.stage, SlicedStage) else 1),
        peak_rss_bytes=_peak(described, measured, largest, base_rss),
        inodes=counted.kept,
        inodes_running=counted.running - counted.ended,
        law=LAWS[described.row.units],
        source="measured" if probed.measured else f"declared: {probed.note}",
    )


def _by_law(described: FlowStage, probed: Probed, largest_cost: float) -> Measured | None:
    """The measurement, steeper where sorting makes it so."""
    measured = probed.measured
    if measured is None or described.row.units not in ("partition", "all"):
        return measured
    read = max(probed.read, 2.0)
    larger = read * max(1.0, largest_cost / max(measured.max_cost, 1e-12))
    return replace(measured, rate=measured.rate * math.log2(larger) / math.log2(read))


def _peak(described: FlowStage, measured: Measured | None, largest_cost: float, base_rss: int) -> float | None:
    """Memory of a process: as seen, and growing with the input behind what any process holds where a unit reads all shards."""
    if measured is None:
        return None
    if described.row.units not in ("partition", "all"):
        return measured.peak_rss_bytes
    return base_rss + (measured.peak_rss_bytes - base_rss) * max(1.0, largest_cost / max(measured.max_cost, 1e-12))


def _slots(asked: Resources, given: Resources, site: Site) -> int:
    """Processes of this stage on one node."""
    most = (site.node_gpus or asked.gpus) if asked.gpus else (site.node_cpus or asked.cpus)
    by_memory = int(site.node_mem_gb / given.worker_mem_gb) if site.node_mem_gb else most
    return max(1, min(most, by_memory))


def _inodes(stage: StagePlan, described: FlowStage, probed: Probed, packing: Packing) -> Budget:
    """With as many slices as the tuning of the stage makes of its largest unit."""
    config, largest = described.config, max(stage.plan.units, key=lambda unit: unit.cost, default=None)
    if largest is None:
        return budget(stage.plan, packing.tasks, packing.procs)
    slices = 1
    if (n_bytes := getattr(config, "slice_bytes", None)) and "warcs" in largest.detail:
        slices = sum(math.ceil(int(warc["bytes"]) / n_bytes) for warc in largest.detail["warcs"])
    elif (rows := getattr(config, "slice_rows", None)) and probed.measured:
        slices = math.ceil(probed.read * largest.cost / max(probed.measured.max_cost, 1e-12) / rows)
    return budget(stage.plan, packing.tasks, packing.procs, slices=max(1, slices))


def _tokens(probe: Probe) -> tuple[float | None, str]:
    """Kept tokens of the whole input, and where the number comes from."""
    extra = probe.stages["export.shards"].counts["extra"] if "export.shards" in probe.stages else {}
    if extra.get("tokens"):
        return extra["tokens"] / probe.share, "by the tokenizer of the export"
    if extra.get("text_bytes"):
        return extra["text_bytes"] / BYTES_PER_TOKEN / probe.share, f"estimated, {BYTES_PER_TOKEN} bytes of kept text each"
    return None, "nothing is exported" if extra == {} else "nothing of the sample was kept"


def _notes(flow: FlowPlan, probe: Probe) -> list[str]:
    notes = [f"{name}: {p.note}." for name, p in probe.stages.items() if p.note]
    wall, cpu = (sum(getattr(p, name) for p in probe.stages.values()) for name in ("unit_s", "cpu_s"))
    if wall and cpu / wall < BUSY:
        notes.append(
            f"Units of the probe had a core for {100 * cpu / wall:.0f} % of their time: they waited for files, or this machine was busy "
            "with other work. Hours are too high by as much of that as a compute node would not have."
        )
    laws: dict[str, list[str]] = {}
    for stage in flow.described.values():
        laws.setdefault(LAWS[stage.row.units], []).append(stage.name)
    notes += [f"Scaled {law}: {', '.join(names)}." for law, names in laws.items()]
    if any(name.startswith("dedup") for name in probe.stages):
        notes.append("A sample holds fewer duplicates than the whole: the whole keeps fewer tokens, and dedup has more links.")
    notes.append(
        "Memory of stages by shard or group was seen on units of the probe's size; larger units may need more. "
        "Walls are of one stage after the other, without waiting in the queue."
    )
    return notes


# --- showing ---


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
