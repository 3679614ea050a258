"""The contenders beside hpc: datatrove's executors, and submitit alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpc_peers.measure import Contender, count_names
from hpc_peers.venv import peers_python

HERE = Path(__file__).parent


def datatrove(how: str, units: int, workers: int, env: Mapping[str, str]) -> Contender:
    """`how`: local or slurm."""
    return Contender(
        name=f"datatrove, {how}",
        units=units,
        workers=workers,
        command=lambda folder: [str(peers_python()), str(HERE / "with_datatrove.py"), how, str(folder), str(units), str(workers)],
        committed=lambda folder: count_names(folder / "logs" / "completions"),
        env=env,
        remark="one process per worker" if how == "local" else "tasks_per_job packs them into one element per worker",
    )


def submitit(how: str, units: int, workers: int, env: Mapping[str, str]) -> Contender:
    return Contender(
        name=f"submitit, {how}",
        units=units,
        workers=workers,
        command=lambda folder: [str(peers_python()), str(HERE / "with_submitit.py"), how, str(folder), str(units), str(workers)],
        committed=lambda folder: count_names(folder / "jobs", "_result.pkl"),
        env=env,
        remark="a process per unit" if how == "local" else "an array element per unit",
    )
