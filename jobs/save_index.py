"""`ccpipe save-index`: the band index of a run, in a folder of its own, for later runs to be deduplicated against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console

from ccpipe.dedup import DedupConfig
from ccpipe.dedup.files import BadFile
from ccpipe.dedup.past import BadIndex
from ccpipe.dedup.save_index import save_index
from hpc.fs.files import read_json
from hpc.state.state import StageState
from jobs.errors import UsageError


def run_save_index(console: Console, run: Path, folder: Path, survivors: bool, signatures: bool) -> int:
    """Save the index of a run whose dedup.route is complete. Raises `UsageError`."""
    routes = complete_files(run, "dedup.route", "route")
    sigs = complete_files(run, "sig", "sig") if signatures else []
    marks = complete_files(run, "dedup.mark", "meta/dedup") if survivors else []

    def keeps(shard: int) -> np.ndarray:
        return np.asarray(pq.read_table(marks[shard], columns=["dedup_keep"]).column(0).fill_null(False))

    config = state_of(run, "dedup.route").plan.identity["config"]
    made = {"signed": config["signed"], "scope": DedupConfig.model_validate({"scope": config["scope"]}).scope_sql}
    try:
        value = save_index(folder, folder.absolute().name, routes, made, sigs, keeps if survivors else None)
    except (BadIndex, BadFile) as error:
        raise UsageError(str(error)) from error
    size = sum(item["bytes"] for item in value["route"] + value["sig"])
    console.print(f"{folder}: {len(routes)} route files and {len(sigs)} of signatures, {size / 1e9:.3f} GB", highlight=False)
    console.print(
        f'to use it, in another run.toml: [stage.dedup] against = ["{folder.absolute()}"]', markup=False, highlight=False, soft_wrap=True
    )
    return 0


def state_of(run: Path, stage: str) -> StageState:
    """The state of a stage as planned last. Raises `UsageError`."""
    try:
        entries = read_json(run / "flow.json")["stages"]
    except FileNotFoundError:
        raise UsageError(
            f"{run} has no flow.json, expected the run directory of a flow: start with `ccpipe plan` or `ccpipe local`"
        ) from None
    for entry in entries:
        if entry["stage"] == stage:
            return StageState(run, stage, entry["fp12"])
    raise UsageError(
        f"{run}: its flow has no stage {stage}, only {', '.join(entry['stage'] for entry in entries)}: add its table, then run it"
    )


def complete_files(run: Path, stage: str, dataset: str) -> Sequence[Path]:
    """The files of all units in their order. Raises `UsageError` where some are not committed."""
    state = state_of(run, stage)
    units = sorted(state.plan.units, key=lambda unit: unit.index)
    sentinels = [state.sentinel(unit.id) for unit in units]
    missing = [unit.id for unit, sentinel in zip(units, sentinels, strict=True) if sentinel is None]
    if missing:
        raise UsageError(
            f"{run}: {len(missing)} of {len(units)} units of {stage} are not committed ({', '.join(missing[:3])}), expected all: "
            f"run it to its end first (`ccpipe local --stage {stage}` or `ccpipe submit --stage {stage}`)"
        )
    return [run / str(sentinel["outputs"][dataset]["path"]) for sentinel in sentinels if sentinel]
