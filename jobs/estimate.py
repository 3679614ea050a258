"""`ccpipe estimate`: what the whole input will cost, scaled up from a probe on a sample of it.

Units' seconds grow with their declared cost; what a process needs before its first unit is paid once a process, not once a byte. Stages
over everything are scaled by the law named for each. Figures that could not be measured here say so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ccpipe.stage import SlicedStage
from hpc.planning.inodes import Budget, budget
from hpc.planning.measured import Measured
from hpc.planning.sizing import Packing, makespan, size
from hpc.site import Resources, Site
from jobs.errors import UsageError
from jobs.flow import FlowStage
from jobs.planning import FlowPlan, StagePlan
from jobs.probe import Probe, Probed

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
