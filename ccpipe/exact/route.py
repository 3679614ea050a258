"""same_url.route, same_text.route, paragraphs.route: the keys of a group of shards, sorted, in one band file.

In, one of each for every shard of the group: `base` (and `meta/*` where `where` names their columns), `wet` for paragraphs. Out:
`<family>.route`, (key, id), as in `ccpipe.dedup.files`. An id is that of the document; for paragraphs it is shard << 32 | number of the
line among all lines of the shard's documents in `where`.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from ccpipe.counts import Counts
from ccpipe.dedup.external import PairSorter
from ccpipe.dedup.files import BandHeader, write_bands
from ccpipe.exact import ExactConfig, ParagraphConfig, family
from ccpipe.exact.texts import hash_lines, read_chosen
from ccpipe.exact.urls import canonical_url
from ccpipe.kernels import STEP
from ccpipe.meta import NOT_IN_WHERE, document_ids, read_columns, select_rows, shard_groups
from ccpipe.stage import Inputs, Outputs, Stage, Unit


class KeyRoute(Stage):
    class Config(ExactConfig):
        pass

    ignores = frozenset(("partitions",))

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        counts = Counts()
        path = out[f"{family(self.name)}.route"]
        sorter = PairSorter(self.config.memory_mb << 20, path.parent)
        # another constant for each group: equal keys of different groups differ
        salt = np.uint64((unit.index + 1) * int(STEP) % (1 << 64) if self.config.scope == "group" else 0)
        n_keys = 0
        for position in sorted(range(len(unit.shards)), key=lambda position: unit.shards[position]):
            chosen = select_rows(shard_groups(inputs, position), self.config.where)
            counts.keep(int(chosen.sum()))
            counts.drop(NOT_IN_WHERE, int((~chosen).sum()))
            for keys, ids in self.keys(unit.shards[position], position, inputs, chosen, counts):
                sorter.add(np.column_stack([keys ^ salt, ids]))
                n_keys += len(keys)
        write_bands(path, BandHeader(n_keys, 1, 1, 1), sorter.blocks())
        counts.extra["keys"] = n_keys
        return counts

    @abstractmethod
    def keys(
        self, shard: int, position: int, inputs: Inputs, chosen: np.ndarray, counts: Counts
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Keys and ids of one shard, uint64, shape (n,), in the order of ids; `chosen`: its documents that take part."""


class ColumnRoute(KeyRoute):
    """Keys from one column of the base. A document without a value has no key."""

    column = ""

    def needs(self) -> tuple[str, ...]:
        return (self.column,)

    def keys(
        self, shard: int, position: int, inputs: Inputs, chosen: np.ndarray, counts: Counts
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        values = read_columns(shard_groups(inputs, position), [self.column]).column(self.column)
        there = chosen & values.is_valid().to_numpy()
        counts.extra[f"without_{self.column}"] += int((chosen & ~there).sum())
        names = values.filter(pa.array(there)).to_pylist()
        yield hash_names([self.canonical(name) for name in names]), document_ids(shard, len(chosen))[there]

    def canonical(self, name: str) -> str:
        return name


class UrlRoute(ColumnRoute):
    column = "url"

    def canonical(self, name: str) -> str:
        return canonical_url(name)


class TextRoute(ColumnRoute):
    column = "digest"


class ParagraphRoute(KeyRoute):
    class Config(ParagraphConfig):
        pass

    def keys(
        self, shard: int, position: int, inputs: Inputs, chosen: np.ndarray, counts: Counts
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        first = shard << 32
        for _, text in read_chosen(inputs, position, chosen, self.config.batch_bytes):
            keys, letters, _ = hash_lines(text, self.config.key)
            ids = np.arange(first, first + len(keys), dtype=np.uint64)
            first += len(keys)
            compared = letters >= self.config.min_letters
            counts.extra["lines"] += len(keys)
            yield keys[compared], ids[compared]


def hash_names(names: Sequence[str]) -> np.ndarray:
    """64 bits of BLAKE2b: uint64, shape (n,)."""
    digests = b"".join(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
