"""Null units with submitit alone: `with_submitit.py local|slurm FOLDER UNITS WORKERS`, run by the peers' own Python.

One submitit job for each unit, as its users write it: `map_array` on Slurm (the command returns when it is submitted), and
`submit` on this machine, where submitit starts every job at once, so that keeping to some workers is left to its caller.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import submitit


def null(folder: str, unit: int) -> None:
    Path(folder, f"{unit:06d}.txt").write_bytes(b"x\n")


def run_local(folder: Path, units: int, workers: int) -> None:
    executor = submitit.LocalExecutor(folder=folder / "jobs")
    running: list[submitit.Job[None]] = []
    for unit in range(units):
        running.append(executor.submit(null, str(folder / "out"), unit))
        while len(running) >= workers:
            time.sleep(0.005)
            running = [job for job in running if not job.done()]
    for job in running:
        job.result()


def run_slurm(folder: Path, units: int, workers: int) -> None:
    executor = submitit.SlurmExecutor(folder=folder / "jobs", max_num_timeout=0)
    executor.update_parameters(time=60, partition="main", mem="500MB", cpus_per_task=1, array_parallelism=workers)
    executor.map_array(null, [str(folder / "out")] * units, range(units))


def main() -> None:
    how, folder, units, workers = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    (folder / "out").mkdir(parents=True)
    (run_local if how == "local" else run_slurm)(folder, units, workers)


if __name__ == "__main__":
    main()
