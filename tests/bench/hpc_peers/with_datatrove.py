"""Null units with datatrove: `with_datatrove.py local|slurm FOLDER UNITS WORKERS`, run by the peers' own Python.

One datatrove task for each unit. On Slurm the tasks are packed (`tasks_per_job`) into one array element for each worker; the
command returns when the array is submitted.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor


class NullStep:
    """What every peer does for a unit: write one file of two bytes."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        Path(self.folder, f"{rank:06d}.txt").write_bytes(b"x\n")

    def __str__(self) -> str:
        return "null"


def main() -> None:
    how, folder, units, workers = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    (folder / "out").mkdir(parents=True)
    pipeline: list[Any] = [NullStep(str(folder / "out"))]
    if how == "local":
        LocalPipelineExecutor(pipeline, tasks=units, workers=workers, logging_dir=str(folder / "logs")).run()
        return
    SlurmPipelineExecutor(
        pipeline,
        tasks=units,
        workers=workers,
        tasks_per_job=math.ceil(units / workers),
        time="01:00:00",
        partition="main",
        qos="",
        mem_per_cpu_gb=1,
        logging_dir=str(folder / "logs"),
        env_command=f"export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={Path(__file__).parent}",
    ).run()


if __name__ == "__main__":
    # the pickled pipeline names this class by its module, which the jobs must be able to import
    import with_datatrove

    with_datatrove.main()
