"""hpc as a contender: the public command line on the flow of `null_flow.py`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from hpc_peers.measure import Contender, count_names

from hpc.state.fold import FOLD_UNITS
from hpc.state.state import StageState

HERE = Path(__file__).parent
STAGE = "null"


def hpc(how: str, units: int, workers: int, env: Mapping[str, str]) -> Contender:
    """`how`: local (one task of so many processes) or slurm (so many array elements of one process)."""
    tasks, cpus = (1, workers) if how == "local" else (workers, 1)
    typed = ["local", "--procs", str(workers)] if how == "local" else ["submit"]
    return Contender(
        name=f"hpc, {how}",
        units=units,
        workers=workers,
        command=lambda folder: [
            *("env", f"BENCH_RUN={folder}", f"BENCH_UNITS={units}", f"BENCH_TASKS={tasks}", f"BENCH_CPUS={cpus}"),
            *(sys.executable, "-m", "hpc", *typed, "--flow", "null_flow:pipeline"),
        ],
        committed=committed,
        env=env,
        remark="files, folders and names fsynced; the clock runs until the gate has folded the sentinels",
    )


def the_state(run: Path) -> StageState | None:
    """State folder of the one version of the one stage; None before it is planned."""
    plans = list((run / "state" / STAGE).glob("*/plan.json"))
    return StageState(run, STAGE, plans[0].parent.name) if plans else None


def committed(run: Path) -> int:
    """Committed units; one less than all while they are not folded."""
    state = the_state(run)
    if state is None:
        return 0
    units, loose = len(state.plan.units), count_names(state.folder / "done")
    folding = loose > 0 and units >= FOLD_UNITS
    return units if state.success_path.exists() and not folding else min(units - 1, loose)
