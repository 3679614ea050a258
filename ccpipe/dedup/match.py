"""dedup.match: documents that share a band key, in one range of keys.

In: all `route` files. Out: `links`, (document, smallest document with the same key), sorted, each once. Linking to the
smallest instead of to each other keeps n documents with one key at n - 1 links.
With `verify` only to documents that are alike enough (`ccpipe.dedup.verify`), with `against` also to documents of earlier crawls
(`ccpipe.dedup.past`).
Memory: about `memory_mb` for keys, whatever the partition's size (a larger range is done piece by piece), plus the links.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from ccpipe.counts import Counts
from ccpipe.dedup import ALARM_KEYS, GIANT_KEYS, SURVIVOR_KEYS, DedupStage, signed_by
from ccpipe.dedup.exact import Texts
from ccpipe.dedup.files import BadFile, BandFile, write_rows
from ccpipe.dedup.keys import key_range
from ccpipe.dedup.pairs import sort_pairs, unique_pairs
from ccpipe.dedup.past import OURS, check_identity, check_ids, identity, join_past, open_indices, open_routes
from ccpipe.dedup.verify import Signed, Verifier
from ccpipe.kernels import kernel
from ccpipe.minhash import N_HASHES
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


class Match(DedupStage):
    ignores = frozenset(("where", "scope", "keep", "measure_similarity", *GIANT_KEYS, *ALARM_KEYS, *SURVIVOR_KEYS))

    _past: tuple[tuple[int, BandFile], ...] = ()
    _verifier: Verifier | None = None

    def more_inputs(self) -> Mapping[str, str]:
        text = {"wet": "all", "base": "all"} if self.config.verify_text else {}
        return {"sig": "all", **text} if self._verifies else {}

    @property
    def _verifies(self) -> bool:
        return bool(self.config.verify or self.config.verify_text)

    def check(self) -> None:
        open_indices(self.config.against)

    def check_inputs(self, types: Mapping[str, pa.DataType], writers: Mapping[str, Stage]) -> None:
        banding = self.config.banding(getattr(writers["sig"].config, "n_hashes", N_HASHES))
        ours = identity(banding.bands, banding.rows, signed_by(writers["sig"]), self.config.scope_sql)
        for index in open_indices(self.config.against):
            check_identity(index, ours, self._verifies)

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        partitions = self.config.partitions
        if partitions is None or unit.index >= partitions:
            raise ValueError(f"{self.name}: unit {unit.index} of partitions = {partitions}; the plan must give partitions = nodes x cores")
        files = [BandFile(path) for path in inputs["route"]]
        indices = open_indices(self.config.against)
        self._past = tuple(open_routes(indices))
        _check_alike([*files, *(file for _, file in self._past)])
        if self._verifies:
            signed = Signed({0: inputs["sig"], **{index.number: index.sigs for index in indices}})
            texts = Texts(inputs["wet"], inputs["base"], self.config.shingle) if self.config.verify_text else None
            self._verifier = Verifier(self.config, signed, texts)
        counts = Counts()
        ranges = self._split(files, unit.index, partitions)
        links = [self._match_range(files, first, last, counts) for first, last in ranges]
        firsts, seconds = unique_pairs(np.concatenate([f for f, _ in links]), np.concatenate([s for _, s in links]))
        write_rows(out["links"], len(firsts), 2, [np.column_stack([firsts, seconds])])
        counts.extra["links"] = len(firsts)
        if self._past:
            counts.extra["links_to_the_past"] = int((seconds < np.uint64(OURS)).sum())
        return counts

    def _split(self, files: list[BandFile], index: int, partitions: int) -> list[tuple[int, int]]:
        """The partition's keys as ranges that fit the memory."""
        everything = [*files, *(file for _, file in self._past)]
        n_records = sum(file.count(*key_range(index, partitions)) for file in everything)
        pieces = max(1, -(-n_records * RECORD_MEMORY // (self.config.memory_mb << 20)))
        return [key_range(index * pieces + piece, partitions * pieces) for piece in range(pieces)]

    def _match_range(self, files: list[BandFile], first: int, last: int, counts: Counts) -> tuple[np.ndarray, np.ndarray]:
        records = np.concatenate([file.read(first, last) for file in files])
        counts.keep(len(records))
        keys, docs = records["key"].copy(), records["doc"].copy()
        del records
        if self._verifier is not None:
            docs, keys = sort_pairs(docs, keys)
        keys, docs = sort_pairs(keys, docs)
        if self._past:
            keys, docs = self._with_past(files, first, last, keys, docs)
        if self._verifier is not None:
            firsts, seconds = self._verifier.link(keys, docs, counts)
        else:
            firsts, seconds, shared = link_equal_keys(keys, docs)
            counts.extra["shared_keys"] += shared
        if self._past:
            ours = firsts >= np.uint64(OURS)
            firsts, seconds = firsts[ours], seconds[ours]
        return firsts, seconds

    def _with_past(self, files: list[BandFile], first: int, last: int, keys: np.ndarray, docs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sorted records of ours with those of the past that share a key, the past first."""
        check_ids(docs, files[0].path)
        past = join_past(self._past, first, last, keys)
        keys, docs = np.concatenate([past["key"], keys]), np.concatenate([past["doc"], docs | np.uint64(OURS)])
        if self._verifier is not None:
            docs, keys = sort_pairs(docs, keys)
        return sort_pairs(keys, docs)


def _check_alike(files: list[BandFile]) -> None:
    kinds = {(file.header.bands, file.header.rows, file.header.n_hashes): file.path for file in files}
    if len(kinds) > 1:
        seen = "; ".join(f"{path}: {bands} bands of {rows} rows of {n}" for (bands, rows, n), path in sorted(kinds.items()))
        raise BadFile(f"route files of different bandings cannot be matched ({seen}): rerun dedup.route for the odd group")
