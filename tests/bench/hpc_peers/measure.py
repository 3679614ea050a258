"""Measuring one contender: the clock from its command to the last unit committed, then what it has left on the disk."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

POLL_S = 0.2
"""How often a queue's progress is looked at: one directory read."""


@dataclass(frozen=True)
class Contender:
    """`command(folder)`: what is typed, in the folder of this file; `committed(folder)`: units done by the contender's own markers.

    `remark`: what the reader must know of this row.
    """

    name: str
    units: int
    workers: int
    command: Callable[[Path], Sequence[str]]
    committed: Callable[[Path], int]
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 1200
    remark: str = ""


@dataclass(frozen=True)
class Left:
    """Files and folders below a run folder: inodes (a hard link counts once) and bytes on disk."""

    inodes: int
    bytes: int


@dataclass
class Figures:
    """One entry for each run."""

    contender: Contender
    wall_s: list[float] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    @property
    def ms_per_unit_per_worker(self) -> float:
        """Milliseconds that a worker spends on a unit: wall time x workers / units, median of the runs."""
        return 1000 * statistics.median(self.wall_s) * self.contender.workers / self.contender.units

    @property
    def inodes_per_unit(self) -> float:
        return statistics.median(left.inodes for left in self.left) / self.contender.units

    @property
    def bytes_per_unit(self) -> float:
        return statistics.median(left.bytes for left in self.left) / self.contender.units


def count_names(folder: Path, suffix: str = "") -> int:
    """Published files in a folder; 0 where there is none."""
    try:
        with os.scandir(folder) as entries:
            return sum(entry.name.endswith(suffix) and not entry.name.startswith(".") for entry in entries)
    except FileNotFoundError:
        return 0


def run_once(figures: Figures, folder: Path) -> None:
    """One run in a fresh folder. Raises `RuntimeError` when the command fails or units stay undone."""
    contender = figures.contender
    os.sync()  # what others wrote before is not charged to this run
    folder.mkdir(parents=True)
    with (folder.parent / f"{folder.name}.out").open("wb") as out:
        began = time.perf_counter()
        command = list(contender.command(folder))
        env = os.environ | dict(contender.env)
        done = subprocess.run(command, env=env, cwd=Path(__file__).parent, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        while (committed := contender.committed(folder)) < contender.units and not done.returncode:
            if time.perf_counter() - began > contender.timeout_s:
                break
            time.sleep(POLL_S)
        wall_s = time.perf_counter() - began
    if done.returncode or committed != contender.units:
        raise RuntimeError(
            f"{contender.name}: {committed} of {contender.units} units committed, exit status {done.returncode}; expected all, and 0. "
            f"It wrote: {out.name}; its folder: {folder}"
        )
    if (written := sum(1 for _ in folder.rglob("[0-9]*.txt"))) != contender.units:
        raise RuntimeError(f"{contender.name}: {written} files written, expected one for each of {contender.units} units; see {folder}")
    figures.wall_s.append(wall_s)
    figures.left.append(what_is_left(folder))


def what_is_left(folder: Path) -> Left:
    seen: dict[int, int] = {}
    for root, _, names in os.walk(folder):
        for path in (root, *(os.path.join(root, name) for name in names)):  # noqa: PTH118
            stat = os.lstat(path)
            seen[stat.st_ino] = stat.st_blocks * 512
    return Left(len(seen), sum(seen.values()))
