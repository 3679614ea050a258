"""Null units with hpc: the flow that `python -m hpc local|submit --flow null_flow:pipeline` runs in the bench.

A flow function takes no arguments, so the bench says what it wants in the environment: BENCH_RUN, the run directory; BENCH_UNITS;
BENCH_TASKS and BENCH_CPUS, array elements and worker processes of each; BENCH_UNIT_S, seconds that each unit lasts (several numbers:
that of each unit; default 0, the null unit).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc.planning.spec import Pipeline, StageSpec
from hpc.site import Resources, Site
from hpc.state.plan import PlannedUnit
from hpc.state.work import Counts, Files, PlainWork, counts

SLICE_S = 0.1


class Null(PlainWork):
    """What every contender does for a unit: write one file of two bytes."""

    def run(self, unit: PlannedUnit, inputs: Files, out: Mapping[str, Path]) -> Counts:
        out["null"].write_bytes(b"x\n")
        return counts(read=1)


class Slow(Null):
    """A unit that lasts `detail["seconds"]`, in slices of `SLICE_S`."""

    sliced = True

    def slice(self, unit: PlannedUnit, inputs: Files, folder: Path, cursor: Any) -> tuple[Counts, Any]:
        time.sleep(SLICE_S)
        done = (cursor or 0) + 1
        return counts(read=1), done if done * SLICE_S < unit.detail["seconds"] else None

    def join(self, unit: PlannedUnit, inputs: Files, slices: Sequence[Path], out: Mapping[str, Path]) -> None:
        out["null"].write_bytes(b"x\n")


def pipeline() -> Pipeline:
    units, seconds = int(os.environ["BENCH_UNITS"]), [float(s) for s in os.environ.get("BENCH_UNIT_S", "0").split(",")]
    planned = [
        PlannedUnit(f"{i:06d}", i, 1 + seconds[i % len(seconds)], (), {"seconds": seconds[i % len(seconds)]} if any(seconds) else {})
        for i in range(units)
    ]
    resources = Resources.model_validate(
        {"cpus": int(os.environ["BENCH_CPUS"]), "tasks": int(os.environ["BENCH_TASKS"]), "mem_gb": 0.4, "time_limit_min": 60}
    )
    stage = StageSpec(
        name="null",
        identity={"version": 1},
        units=planned,
        outputs={"null": "null/{fp}/{unit}.txt"},
        work={"factory": f"null_flow:{'Slow' if any(seconds) else 'Null'}", "args": {}, "path": str(Path(__file__).parent)},
        resources=resources,
    )
    return Pipeline("bench", Path(os.environ["BENCH_RUN"]), [stage], Site.model_validate({"max_array_size": 200}))
