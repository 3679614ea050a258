"""dedup.match: documents that share a band key, in one range of keys.

In: all `route` files. Out: `links`, (document, smallest document with the same key), sorted, each once. Linking to the
smallest instead of to each other keeps n documents with one key at n - 1 links.
Memory: about `memory_mb` for keys, whatever the partition's size (a larger range is done piece by piece), plus the links.
"""

from __future__ import annotations

import numpy as np

from ccpipe.counts import Counts
from ccpipe.dedup import DedupConfig
from ccpipe.dedup.files import BadFile, BandFile, write_rows
from ccpipe.dedup.keys import key_range
from ccpipe.dedup.pairs import sort_pairs, unique_pairs
from ccpipe.kernels import kernel
from ccpipe.stage import Inputs, Outputs, Stage, Unit

RECORD_MEMORY = 48
"""Bytes per record while a range is read, put in one piece and sorted."""


@kernel
def _link(keys: np.ndarray, docs: np.ndarray, firsts: np.ndarray, seconds: np.ndarray) -> tuple[int, int]:
    links = shared = 0
    start = 0
    while start < len(keys):
        stop = start + 1
        smallest = docs[start]
        while stop < len(keys) and keys[stop] == keys[start]:
            smallest = min(smallest, docs[stop])
            stop += 1
        before = links
        for i in range(start, stop):
            if docs[i] != smallest:
                firsts[links] = docs[i]
                seconds[links] = smallest
                links += 1
        shared += links > before
        start = stop
    return links, shared


def link_equal_keys(keys: np.ndarray, docs: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Links of sorted keys: document, smallest document of its key (uint64, shape (n,)), and how many keys are shared.

    >>> [x.tolist() for x in link_equal_keys(np.array([7, 7, 7, 9], np.uint64), np.array([3, 1, 2, 1], np.uint64))[:2]]
    [[3, 2], [1, 1]]
    """
    firsts, seconds = np.empty_like(docs), np.empty_like(docs)
    links, shared = _link(keys, docs, firsts, seconds)
    return firsts[:links].copy(), seconds[:links].copy(), shared


class Match(Stage):
    class Config(DedupConfig):
        pass

    ignores = frozenset(("where", "keep", "max_cluster", "measure_similarity"))

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        partitions = self.config.partitions
        if partitions is None or unit.index >= partitions:
            raise ValueError(f"{self.name}: unit {unit.index} of partitions = {partitions}; the plan must give partitions = nodes x cores")
        files = [BandFile(path) for path in inputs["route"]]
        _check_alike(files)
        counts = Counts()
        ranges = self._split(files, unit.index, partitions)
        links = [self._match_range(files, first, last, counts) for first, last in ranges]
        firsts, seconds = unique_pairs(np.concatenate([f for f, _ in links]), np.concatenate([s for _, s in links]))
        write_rows(out["links"], len(firsts), 2, [np.column_stack([firsts, seconds])])
        counts.extra["links"] = len(firsts)
        return counts

    def _split(self, files: list[BandFile], index: int, partitions: int) -> list[tuple[int, int]]:
        """The partition's keys as ranges that fit the memory."""
        n_records = sum(file.count(*key_range(index, partitions)) for file in files)
        pieces = max(1, -(-n_records * RECORD_MEMORY // (self.config.memory_mb << 20)))
        return [key_range(index * pieces + piece, partitions * pieces) for piece in range(pieces)]

    def _match_range(self, files: list[BandFile], first: int, last: int, counts: Counts) -> tuple[np.ndarray, np.ndarray]:
        records = np.concatenate([file.read(first, last) for file in files])
        counts.keep(len(records))
        keys, docs = sort_pairs(records["key"].copy(), records["doc"].copy())
        del records
        firsts, seconds, shared = link_equal_keys(keys, docs)
        counts.extra["shared_keys"] += shared
        return firsts, seconds


def _check_alike(files: list[BandFile]) -> None:
    kinds = {(file.header.bands, file.header.rows, file.header.n_hashes): file.path for file in files}
    if len(kinds) > 1:
        seen = "; ".join(f"{path}: {bands} bands of {rows} rows of {n}" for (bands, rows, n), path in sorted(kinds.items()))
        raise BadFile(f"route files of different bandings cannot be matched ({seen}): rerun dedup.route for the odd group")
