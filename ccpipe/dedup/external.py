"""Sorting more pairs than memory holds, and arrays that may be larger than memory.

What does not fit goes to files without a name in the folder of the unit's output: they vanish with the process, however it ends.
"""

from __future__ import annotations

import bisect
import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from ccpipe.dedup.pairs import BYTES_PER_PAIR, sort_pairs, unique_pairs

PAIR_BYTES = 16


@dataclass
class Run:
    """Sorted pairs in a file."""

    file: IO[bytes]
    length: int

    def read(self, first: int, last: int) -> np.ndarray:
        self.file.seek(first * PAIR_BYTES)
        return np.fromfile(self.file, "<u8", (last - first) * 2).reshape(-1, 2)

    def find(self, pair: tuple[int, int]) -> int:
        """How many pairs are smaller."""
        return bisect.bisect_left(range(self.length), pair, key=self._pair)

    def _pair(self, index: int) -> tuple[int, int]:
        first, second = self.read(index, index + 1)[0].tolist()
        return first, second


@dataclass
class PairSorter:
    """Takes pairs in any order and gives them back sorted, with at most about `memory_bytes` of them in memory.

    folder: where runs go that do not fit. unique: equal pairs come out once. expected: how many pairs will come, where known.
    """

    memory_bytes: int
    folder: Path
    unique: bool = False
    expected: int | None = None
    runs: list[Run] = field(default_factory=list)
    spilled_bytes: int = 0
    _pairs: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.uint64))
    _used: int = 0

    def __post_init__(self) -> None:
        self.capacity = max(self.memory_bytes // BYTES_PER_PAIR, 64)

    def room(self, wanted: int) -> np.ndarray:
        """Rows to write up to `wanted` pairs into, at least one; `take` says how many were written."""
        if self._used == self.capacity:
            self._compact()
        wanted = min(wanted, self.capacity - self._used)
        if self._used + wanted > len(self._pairs):
            self._grow(self._used + wanted)
        return self._pairs[self._used : self._used + wanted]

    def take(self, written: int) -> None:
        self._used += written

    def add(self, pairs: np.ndarray) -> None:
        done = 0
        while done < len(pairs):
            room = self.room(len(pairs) - done)
            room[:] = pairs[done : done + len(room)]
            done += len(room)
            self.take(len(room))

    def blocks(self) -> Iterator[np.ndarray]:
        """All pairs in order, in blocks that fit the memory. Nothing can be added afterwards."""
        if not self.runs:
            yield self._sorted()
            return
        self._spill()
        self._pairs = np.empty((0, 2), np.uint64)
        for bounds in itertools.pairwise(self._cuts()):
            found = [run.read(first, last) for run, first, last in zip(self.runs, *bounds, strict=True)]
            yield self._in_order(np.concatenate(found))

    def _grow(self, needed: int) -> None:
        length = min(self.capacity, max(needed, 2 * len(self._pairs), min(self.expected or 0, self.capacity)))
        grown = np.empty((length, 2), np.uint64)
        grown[: self._used] = self._pairs[: self._used]
        self._pairs = grown

    def _in_order(self, pairs: np.ndarray) -> np.ndarray:
        return unique_pairs(pairs) if self.unique else sort_pairs(pairs)

    def _sorted(self) -> np.ndarray:
        pairs = self._in_order(self._pairs[: self._used])
        self._used = len(pairs)
        return pairs

    def _compact(self) -> None:
        """Make room: by leaving out what is there twice, where that helps, else by writing all to disk."""
        if len(self._sorted()) > self.capacity // 2:
            self._spill()

    def _spill(self) -> None:
        pairs = self._sorted()
        file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - open for as long as the run is read
        file.write(pairs.data)
        file.flush()
        self.runs.append(Run(file, len(pairs)))
        self.spilled_bytes += pairs.nbytes
        self._used = 0

    def _cuts(self) -> Iterator[list[int]]:
        """For each run, where the ranges begin: ranges of at most `capacity` pairs (unless of equal ones: these stay together).

        A run has less than `step` pairs between two neighbouring samples, so a range of half the capacity by the samples has at most
        step x runs more than that: a quarter of the capacity.
        """
        step = max(self.capacity // (4 * len(self.runs)), 1)
        samples = sorted(run._pair(at) for run in self.runs for at in range(step - 1, run.length, step))
        per_range = max(self.capacity // 2 // step, 1)
        cuts = dict.fromkeys(samples[per_range::per_range])  # each once, in order
        yield [0] * len(self.runs)
        for cut in cuts:
            yield [run.find(cut) for run in self.runs]
        yield [run.length for run in self.runs]


@dataclass
class Arrays:
    """Arrays of zeros: in memory as long as they fit `memory_bytes` together, else mapped from files without a name in `folder`."""

    memory_bytes: int
    folder: Path
    spilled_bytes: int = 0
    _held: int = 0

    def zeros(self, length: int, dtype: Any) -> np.ndarray:
        n_bytes = length * np.dtype(dtype).itemsize
        if self._held + n_bytes <= self.memory_bytes or not length:
            self._held += n_bytes
            return np.zeros(length, dtype)
        self.spilled_bytes += n_bytes
        with tempfile.TemporaryFile(dir=self.folder) as file:
            # a full disk is an error here; found out while writing to a mapping it would kill the process
            os.posix_fallocate(file.fileno(), 0, n_bytes)
            return np.asarray(np.memmap(file, dtype, "r+", shape=(length,)))
