"""dedup.match: documents that share a band key, in one range of keys.

In: all `route` files. Out: `links`, (document, smallest document with the same key), sorted, each once. Linking to the
smallest instead of to each other keeps n documents with one key at n - 1 links.
With `verify` only to documents that are alike enough (`ccpipe.dedup.verify`), with `against` also to documents of earlier crawls
(`ccpipe.dedup.past`).
Memory: about `memory_mb`: half for keys (a larger range is halved until it fits; one that cannot be, for many documents share a
key, is sorted on disk), half for links (which go to sorted runs on disk where there are more).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ccpipe.counts import Counts
from ccpipe.dedup import ALARM_KEYS, GIANT_KEYS, SURVIVOR_KEYS, DedupStage, signed_by
from ccpipe.dedup.exact import Texts
from ccpipe.dedup.external import PairSorter
from ccpipe.dedup.files import BadFile, BandFile, write_rows
from ccpipe.dedup.keys import key_range
from ccpipe.dedup.pairs import BYTES_PER_PAIR, sort_pairs
from ccpipe.dedup.past import PastIndex, check_identity, identity, only_ours, open_indices, tag_all
from ccpipe.dedup.verify import Signed, Verifier
from ccpipe.kernels import kernel
from ccpipe.minhash import N_HASHES
from ccpipe.stage import Inputs, Outputs, Stage, Unit

BLOCK_RECORDS = 1 << 16
"""Records read at once from a file whose range must be sorted on disk."""


@kernel
def _link(records: np.ndarray, links: np.ndarray, key: np.uint64, smallest: np.uint64, linked: bool) -> tuple[int, int, bool]:
    """key, smallest, linked: of the last group of the records before, which these may continue; `linked`: it has links already."""
    n = shared = 0
    for i in range(len(records)):
        if records[i, 0] != key:
            key, smallest = records[i, 0], records[i, 1]
            linked = False
        elif records[i, 1] != smallest:
            links[n, 0] = records[i, 1]
            links[n, 1] = smallest
            n += 1
            shared += not linked
            linked = True
    return n, shared, linked


class Linker:
    """Links of records that come block by block in the order of keys, then documents. `shared`: keys of two documents or more."""

    def __init__(self) -> None:
        self.shared = 0
        self._last: tuple[np.uint64, np.uint64, bool] | None = None

    def link(self, records: np.ndarray, links: np.ndarray | None = None) -> np.ndarray:
        """(document, smallest document of its key): uint64, shape (n, 2). links: where to write them; as long as the records.

        >>> Linker().link(np.array([[7, 1], [7, 2], [7, 3], [9, 1]], np.uint64)).tolist()
        [[2, 1], [3, 1]]
        """
        if not len(records):
            return records
        links = np.empty_like(records) if links is None else links
        # where there was nothing before: as if the first record had been seen alone, which makes no link to itself
        key, smallest, linked = self._last or (records[0, 0], records[0, 1], False)
        n, shared, linked = _link(records, links, key, smallest, linked)
        self.shared += shared
        key_last = records[-1, 0]
        if self._last is None or key_last != key:
            smallest = records[np.searchsorted(records[:, 0], key_last), 1]
        self._last = key_last, smallest, linked
        return links[:n]

    def told(self) -> dict[str, int]:
        return {"shared_keys": self.shared}


class Match(DedupStage):
    ignores = frozenset(("where", "scope", "keep", "measure_similarity", *GIANT_KEYS, *ALARM_KEYS, *SURVIVOR_KEYS))

    @property
    def _verifies(self) -> bool:
        return bool(self.config.verify or self.config.verify_text)

    def more_inputs(self) -> Mapping[str, str]:
        text = {"wet": "all", "base": "all"} if self.config.verify_text else {}
        return {"sig": "all", **text} if self._verifies else {}

    def check(self) -> None:
        open_indices(self.config.against)

    def check_inputs(self, types: Mapping[str, pa.DataType], writers: Mapping[str, Stage]) -> None:
        if "sig" not in writers or not self.config.against:
            return  # route needs signatures and checks the banding, and says so
        banding = self.config.banding(getattr(writers["sig"].config, "n_hashes", N_HASHES))
        ours = identity(banding.bands, banding.rows, signed_by(writers["sig"]), self.config.scope_sql)
        compared = self._verifies or self.config.giant == "split"
        for index in open_indices(self.config.against):
            check_identity(index, ours, compared)

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        partitions = self.config.partitions
        if partitions is None or unit.index >= partitions:
            raise ValueError(f"{self.name}: unit {unit.index} of partitions = {partitions}; the plan must give partitions = nodes x cores")
        past = open_indices(self.config.against)
        files = tag_all(inputs["route"], past) if past else [BandFile(path) for path in inputs["route"]]
        _check_alike(files)
        counts = Counts()
        half = max(self.config.memory_bytes // 2, 1)
        links = PairSorter(half, out["links"].parent, unique=True)
        reader = RangeReader(files, half, out["links"].parent)
        linker = self._verifier(inputs, past) if self._verifies else Linker()
        for records in reader.blocks(*key_range(unit.index, partitions)):
            counts.keep(len(records))
            links.add(only_ours(linker.link(records)) if past else linker.link(records))
        counts.extra.update(linker.told())
        counts.extra["links"] = write_rows(out["links"], 2, links.blocks())
        counts.extra["spilled_bytes"] = links.spilled_bytes + reader.spilled_bytes
        return counts

    def _verifier(self, inputs: Inputs, past: Sequence[PastIndex]) -> Verifier:
        signed = Signed({0: inputs["sig"], **{index.number: index.sigs for index in past}})
        texts = Texts(inputs["wet"], inputs["base"], self.config.shingle) if self.config.verify_text else None
        return Verifier(self.config, signed, texts)


@dataclass
class RangeReader:
    """The records of all files in the order of keys, then documents, in blocks that fit `memory_bytes`; folder: for what does not."""

    files: list[BandFile]
    memory_bytes: int
    folder: Path
    spilled_bytes: int = 0

    def blocks(self, first: int, last: int) -> Iterator[np.ndarray]:
        for piece in split_range(self.files, first, last, self.memory_bytes // BYTES_PER_PAIR):
            n_records = sum(file.count(*piece) for file in self.files)
            if n_records * BYTES_PER_PAIR <= self.memory_bytes:
                yield self._read(*piece, n_records)
            else:
                yield from self._sort_on_disk(*piece)

    def _read(self, first: int, last: int, n_records: int) -> np.ndarray:
        records = np.empty((n_records, 2), np.uint64)
        n = 0
        for file in self.files:
            found = file.read(first, last)
            records[n : n + len(found)] = found
            n += len(found)
        return sort_pairs(records[:n])

    def _sort_on_disk(self, first: int, last: int) -> Iterator[np.ndarray]:
        sorter = PairSorter(self.memory_bytes, self.folder)
        for file in self.files:
            for block in file.read_blocks(first, last, BLOCK_RECORDS):
                sorter.add(block)
        yield from sorter.blocks()
        self.spilled_bytes += sorter.spilled_bytes


def split_range(files: list[BandFile], first: int, last: int, max_records: int) -> Iterator[tuple[int, int]]:
    """first..last in ranges of at most `max_records` records, or of one entry of the coarsest index where that alone has more."""
    entry = 1 << min(file.shift for file in files) if files else 1 << 64
    if sum(file.count(first, last) for file in files) <= max_records or last - first < entry:
        yield first, last
        return
    middle = first + (last - first) // 2
    yield from split_range(files, first, middle, max_records)
    yield from split_range(files, middle + 1, last, max_records)


def _check_alike(files: list[BandFile]) -> None:
    kinds = {(file.header.bands, file.header.rows, file.header.n_hashes): file.path for file in files}
    if len(kinds) > 1:
        seen = "; ".join(f"{path}: {bands} bands of {rows} rows of {n}" for (bands, rows, n), path in sorted(kinds.items()))
        raise BadFile(
            f"route files of different bandings cannot be matched ({seen}): type ccpipe redo --stage dedup.route and the odd group"
        )
