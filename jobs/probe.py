"""The probe behind `ccpipe estimate`: the whole flow on a sample of the input, on this machine; what it took is kept.

In: a run's config and manifest. Out: `RUN/probe/measured.json`, which `estimate` scales up and which sizing reads while a stage has
no units of its own. What a process needs before its first unit (starting, importing, loading a model) is told from what a unit
needs in any case, and both from what grows with the input.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ByteSize
from rich.console import Console

from hpc.dispatch.local import LocalRun
from hpc.fs.files import replace_json
from hpc.planning.measured import PROBE, Measured, from_sentinels
from hpc.state.inputs import resolve_inputs
from hpc.state.work import make_work
from hpc.workers.task import StopFlag, visible_gpus
from jobs.config import RunConfig
from jobs.planning import FlowPlan, StagePlan, plan_flow
from jobs.sample import MAX_PARTS, Sample, parse_probe, take_sample

FEW_PARTITIONS = 8
"""A sample is matched in so many partitions at most; results do not depend on it."""

WARM_UP_S = 60.0
"""A first unit that takes longer than this is not repeated to find out how much of it was warming up."""

MIN_FIT = 4
"""Units from which a line is fitted: seconds = fixed + rate * cost."""


@dataclass(frozen=True)
class Probed:
    """One stage of a probe. `measured` for units of the real input, None where nothing can be concluded, and `note` says why.

    read: documents or records that one unit read, on average. wall_s: of the stage, start to gate. counts: sums over its units.
    unit_s: wall seconds of all units; cpu_s: how many of these their processes had a core.
    """

    measured: Measured | None
    units: int
    wall_s: float
    read: float
    counts: dict[str, Any]
    unit_s: float = 0.0
    cpu_s: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Probe:
    """What a probe found. `share`: of the input's bytes. `stages` in the order of work."""

    share: float
    sample: Sample
    input_bytes: int
    procs: int
    stages: dict[str, Probed]


def run_probe(flow: FlowPlan, probe: str, procs: int | None, console: Console) -> Probe | None:
    """Sample, run and measure; None when a stage stays incomplete, which has been said on the console. Raises `UsageError`.

    What an earlier probe has left in RUN/probe is removed first: times of units that are not run again would be those of then.
    """
    files = flow.manifest.files
    total = sum(file.bytes for file in files)
    wanted, folder = parse_probe(probe, total), flow.run / "probe"
    shutil.rmtree(folder, ignore_errors=True)
    sample = take_sample(files, wanted, folder / "input")
    share, procs = sample.n_bytes / total, procs or os.cpu_count() or 1
    console.print(
        f"probe: {sample.n_bytes:,} of {total:,} bytes ({100 * share:.2g} %), {len(sample.paths)} files, {sample.cut} of them in part; "
        f"{procs} processes on this machine",
        highlight=False,
    )
    probed = plan_flow(probe_config(flow.config, sample, folder / "run", procs))
    stages: dict[str, Probed] = {}
    for stage in probed.stages:
        began = time.monotonic()
        if not LocalRun(probed, procs, False, console).run([stage], StopFlag().install()):
            return None
        wall_s = time.monotonic() - began
        again = warm_units(stage, folder / "again")
        stages[stage.name] = measure_stage(stage, wall_s, again, f"a probe of {100 * share:.2g} % of the input")
    found = Probe(share, sample, total, procs, stages)
    replace_json(flow.run / PROBE, to_json(found))
    return found


def probe_config(config: RunConfig, sample: Sample, run: Path, procs: int) -> RunConfig:
    """The same flow over the sample: several shards, few partitions, a run directory of its own."""
    shard_bytes = min(int(config.run.shard_bytes), max(1, sample.n_bytes // MAX_PARTS))
    changed = {"dir": str(run), "inputs": [str(path) for path in sample.paths], "shard_bytes": shard_bytes}
    section = config.run.model_copy(update={**changed, "shard_bytes": ByteSize(shard_bytes)})
    resources = {
        name: table.model_copy(update={"nodes": 1, "cpus": min(table.cpus, max(procs, table.gpus))})
        for name, table in config.resources.items()
    }
    value = tomllib.loads(config.text)
    value["run"] |= changed
    stages = []
    for table in config.stages:
        partitions = getattr(table.config, "partitions", None)
        few = {"partitions": min(partitions, FEW_PARTITIONS)} if partitions else {}
        stages.append(replace(table, config=table.config.model_copy(update=few)))
    return replace(config, text=tomli_w.dumps(value), run=section, resources=resources, stages=tuple(stages))


def warm_units(stage: StagePlan, folder: Path) -> list[tuple[float, float]]:
    """(declared cost, seconds) of units done once more in this process, behind one that warms it up.

    Only where no process had several units, so that nothing else tells what the first one costs more: stages over all shards have a
    single unit, and compiling or opening a database must not be multiplied by a hundred.
    """
    units = _by_process(_sentinels(stage))
    longest = max((_wall(s) for process in units for _, s in process), default=0.0)
    if _enough(units) or longest > WARM_UP_S:
        return []
    work = make_work(stage.spec.work)
    if work.sliced:
        return []
    work.load()
    found = []
    first, *others = sorted(stage.plan.units, key=lambda unit: -unit.cost)[:2]
    for unit in (first, first, *others):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        inputs, _ = resolve_inputs(stage.state.run, stage.plan, unit)
        out = {dataset: folder / f"{dataset.replace('/', '.')}-{Path(name).name}" for dataset, name in stage.plan.outputs.items()}
        began = time.monotonic()
        work.run(unit, inputs, out)
        found.append((unit.cost, time.monotonic() - began))
    shutil.rmtree(folder, ignore_errors=True)
    return found[1:]


def _sentinels(stage: StagePlan) -> list[tuple[float, Mapping[str, Any]]]:
    """(declared cost, sentinel) of the committed units."""
    return [(unit.cost, sentinel) for unit in stage.plan.units if (sentinel := stage.state.sentinel(unit.id)) is not None]


def measure_stage(stage: StagePlan, wall_s: float, again: Sequence[tuple[float, float]], source: str) -> Probed:
    """What a stage of the probe says of units of the real input. `again`: from `warm_units`."""
    pairs = _sentinels(stage)
    counts = [sentinel["counts"] for _, sentinel in pairs]
    sums = {"read": sum(c["read"] for c in counts), "kept": sum(c["kept"] for c in counts), "extra": _add(c["extra"] for c in counts)}
    read = sums["read"] / max(len(pairs), 1)
    spent = {kind: sum(float(s["seconds"][kind]) for _, s in pairs) for kind in ("wall", "cpu")}
    told = Probed(None, len(pairs), wall_s, read, sums, spent["wall"], spent["cpu"])
    found = from_sentinels(pairs, source)
    if found is None:
        return replace(told, note="no unit declares a cost")
    processes = _by_process(pairs)
    busiest = max(sum(_wall(s) for _, s in units) for units in processes)
    fixed, rate, warm_up = fit([[(cost, _wall(s)) for cost, s in units] for units in processes], again)
    found = replace(found, fixed_s=fixed, rate=rate, startup_s=round(max(0.0, wall_s - busiest) + warm_up, 3))
    if stage.resources.gpus and not visible_gpus():
        note = (
            f"ran without a GPU, {spent['wall']:.1f} core-seconds for {sums['read']:,} documents; its GPU-hours are declared, not measured"
        )
        return replace(told, note=note)
    return replace(told, measured=found)


def _add(parts: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, n in part.items():
            total[name] = total.get(name, 0) + n
    return total


def _wall(sentinel: Mapping[str, Any]) -> float:
    return float(sentinel["seconds"]["wall"])


def _by_process(pairs: Sequence[tuple[float, Mapping[str, Any]]]) -> list[list[tuple[float, Mapping[str, Any]]]]:
    """The units of each worker process, largest first, which is how they were worked on."""
    found: dict[int, list[tuple[float, Mapping[str, Any]]]] = {}
    for cost, sentinel in sorted(pairs, key=lambda pair: -pair[0]):
        found.setdefault(sentinel["attempt"]["pid"], []).append((cost, sentinel))
    return list(found.values())


def _enough(processes: Sequence[Sequence[Any]]) -> bool:
    """Whether first units can be left out."""
    return sum(len(units) - 1 for units in processes) >= max(2, len(processes))


def fit(processes: Sequence[Sequence[tuple[float, float]]], again: Sequence[tuple[float, float]] = ()) -> tuple[float, float, float]:
    """(fixed seconds of a unit, seconds for a declared second, seconds more that the first unit of a process takes).

    processes: (declared cost, seconds) of the units of each process, in order. First units warm up caches and are left out where
    enough others remain; `again` takes the place of all. The slope is the median over pairs of units of different cost (Theil-Sen),
    which one odd unit does not move.

    >>> fit([[(4, 9.0), (2, 3.0), (1, 2.0)], [(4, 9.0), (3, 4.0), (1, 2.0)]])
    (1.0, 1.0, 4.0)
    """
    firsts = [units[0] for units in processes]
    warm = list(again) or ([pair for units in processes for pair in units[1:]] if _enough(processes) else [])
    pairs = warm or [pair for units in processes for pair in units]
    cost, wall = sum(c for c, _ in pairs), sum(w for _, w in pairs)
    slopes = [(w1 - w2) / (c1 - c2) for i, (c1, w1) in enumerate(pairs) for c2, w2 in pairs[:i] if abs(c1 - c2) > 0.1 * max(c1, c2)]
    fixed = 0.0
    if len(pairs) >= MIN_FIT and slopes:
        slope = max(0.0, statistics.median(slopes))
        fixed = min(max(0.0, statistics.median(w - slope * c for c, w in pairs)), min(w for _, w in pairs))
    rate = (wall - fixed * len(pairs)) / cost
    warm_up = statistics.mean(max(0.0, w - fixed - rate * c) for c, w in firsts) if warm else 0.0
    return round(fixed, 6), rate, warm_up


def to_json(probe: Probe) -> dict[str, Any]:
    """As it is kept in RUN/probe/measured.json."""
    return {
        "share": probe.share,
        "input_bytes": probe.input_bytes,
        "sample_bytes": probe.sample.n_bytes,
        "sources": list(probe.sample.sources),
        "procs": probe.procs,
        "stages": {name: asdict(stage) for name, stage in probe.stages.items()},
    }
