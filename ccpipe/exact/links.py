"""Links from what has a key again to the first that had it."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ccpipe.dedup.files import Array2D


class FirstLinker:
    """Takes sorted (key, id) block by block, keys may go on in the next one. `shared`: keys of two ids or more."""

    def __init__(self) -> None:
        self.shared = 0
        self._key, self._first, self._many = np.uint64(0), np.uint64(0), False
        self._begun = False

    def link(self, pairs: np.ndarray) -> np.ndarray:
        """(id, smallest id with its key): uint64, shape (n, 2), in the order of the pairs, which have this shape too.

        >>> linker = FirstLinker()
        >>> linker.link(np.array([[7, 1], [7, 2], [9, 1]], np.uint64)).tolist(), linker.link(np.array([[9, 3]], np.uint64)).tolist()
        ([[2, 1]], [[3, 1]])
        """
        if not len(pairs):
            return pairs
        keys, ids = pairs[:, 0], pairs[:, 1]
        begins = np.ones(len(pairs), dtype=bool)
        begins[1:] = keys[1:] != keys[:-1]
        begins[0] = not self._begun or keys[0] != self._key
        start = np.maximum.accumulate(np.where(begins, np.arange(len(pairs)), -1))
        firsts = np.where(start >= 0, ids[start], self._first)
        # a key is shared from its second id on
        seconds = ~begins
        seconds[1:] &= begins[:-1]
        seconds[0] &= not self._many
        self.shared += int(seconds.sum())
        self._begun, self._key, self._first, self._many = True, keys[-1], firsts[-1], not begins[-1]
        return np.column_stack([ids[~begins], firsts[~begins]])


def read_links(paths: Sequence[Path], stage: str, shard: int, columns: int = 2) -> np.ndarray:
    """The links of one shard, sorted: uint64, shape (n, columns), id first. Found by bisection in each file. Raises `BadFile`."""
    found = [np.empty((0, columns), np.uint64)]
    for path in paths:
        links = Array2D(path, stage, columns)
        ids = links.map()
        first, last = (bisect.bisect_left(range(links.rows), bound << 32, key=lambda row: int(ids[row, 0])) for bound in (shard, shard + 1))
        found.append(links.read(first, last))
    rows = np.concatenate(found)
    return rows[np.argsort(rows[:, 0], kind="stable")]
