"""dedup.survivor: the best of each cluster is kept instead of its first document. Only in flows with a `survivor` rule.

In: `clusters`; of the shards with linked documents, the columns that the rule names. Out: `survivors`, in the form of `clusters`,
where the cluster's name and what its other documents duplicate is the best document by the rule; equally good ones by id.
Clusters of the past keep their document of the past. Who belongs together is not touched.

Memory: per cluster 16 bytes and the key of its best document (11 bytes for one number), and the linked rows of one shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from ccpipe.counts import Counts
from ccpipe.dedup import ALARM_KEYS, GIANT_KEYS, VERIFY_KEYS, DedupConfig, DedupStage
from ccpipe.dedup.files import Array2D, BadFile, write_rows
from ccpipe.dedup.past import OURS
from ccpipe.expressions import check_expression, evaluate_order, explain_error, parse_order
from ccpipe.kernels import kernel
from ccpipe.meta import read_columns, shard_groups
from ccpipe.stage import Inputs, Outputs, Stage, Unit

BLOCK_ROWS = 1 << 17
ROW_MASK = np.uint64(0xFFFFFFFF)


@kernel
def _keep_better(clusters: np.ndarray, docs: np.ndarray, keys: np.ndarray, best_docs: np.ndarray, best_keys: np.ndarray) -> None:
    """Smaller keys are better; of equal ones the smaller document. best_docs: the largest number where there is none yet."""
    for i in range(len(docs)):
        at = clusters[i]
        better = docs[i] < best_docs[at]
        if best_docs[at] != np.uint64(0xFFFFFFFFFFFFFFFF):
            for byte in range(keys.shape[1]):
                if keys[i, byte] != best_keys[at, byte]:
                    better = keys[i, byte] < best_keys[at, byte]
                    break
        if better:
            best_docs[at] = docs[i]
            best_keys[at] = keys[i]


class Best:
    """The best document of each cluster so far. names: of the clusters, uint64, sorted."""

    def __init__(self, names: np.ndarray) -> None:
        self.names = names
        self.docs = np.full(len(names), 0xFFFFFFFFFFFFFFFF, dtype=np.uint64)
        self.keys = np.zeros((len(names), 0), dtype=np.uint8)

    def see(self, clusters: np.ndarray, docs: np.ndarray, keys: pa.Array) -> None:
        """clusters, docs: uint64, shape (n,); keys: binary, compared byte by byte."""
        rows = pad_keys(keys, self.keys.shape[1])
        if rows.shape[1] > self.keys.shape[1]:
            # no key is the beginning of another, so what stands behind its end decides nothing
            self.keys = np.pad(self.keys, ((0, 0), (0, rows.shape[1] - self.keys.shape[1])))
        _keep_better(np.searchsorted(self.names, clusters), docs, rows, self.docs, self.keys)

    def of(self, clusters: np.ndarray) -> np.ndarray:
        """The best document of each of these clusters; the cluster itself where it is none of ours."""
        if not len(self.names):
            return clusters
        at = np.minimum(np.searchsorted(self.names, clusters), len(self.names) - 1)
        return np.where(self.names[at] == clusters, self.docs[at], clusters)


def pad_keys(keys: pa.Array, width: int) -> np.ndarray:
    """Keys as rows of bytes, zeros behind their ends: uint8, shape (n, at least `width`)."""
    values = keys.to_pylist()
    width = max([width, *map(len, values)])
    return np.frombuffer(b"".join(value.ljust(width, b"\0") for value in values), np.uint8).reshape(len(values), width)


@dataclass(frozen=True)
class Clusters:
    """The rows of `clusters` in the order of documents, shard by shard. flag: what ids of ours have besides (`ccpipe.dedup.past`)."""

    rows: np.ndarray
    flag: int

    def blocks(self) -> Iterator[np.ndarray]:
        for first in range(0, len(self.rows), BLOCK_ROWS):
            yield np.asarray(self.rows[first : first + BLOCK_ROWS])

    def ours(self, block: np.ndarray) -> np.ndarray:
        """Rows of a block whose cluster is named by a document of ours."""
        return block[block[:, 1] >= np.uint64(self.flag)]

    def names(self) -> np.ndarray:
        """All clusters of ours: uint64, sorted. A cluster's document of that name is its own cluster."""
        found = [rows[rows[:, 0] == rows[:, 1], 0] for rows in map(self.ours, self.blocks())]
        return np.concatenate([np.empty(0, np.uint64), *found])

    def shards(self) -> Iterator[tuple[int, np.ndarray]]:
        """Shard and its rows in clusters of ours."""
        first = 0
        while first < len(self.rows):
            shard = int(self.rows[first, 0]) >> 32
            last = self._end(shard, first)
            rows = self.ours(np.asarray(self.rows[first:last]))
            if len(rows):
                yield shard & ~(self.flag >> 32), rows
            first = last

    def _end(self, shard: int, low: int) -> int:
        """The first row behind a shard, by bisection."""
        high = len(self.rows)
        while low < high:
            middle = (low + high) // 2
            if int(self.rows[middle, 0]) >> 32 <= shard:
                low = middle + 1
            else:
                high = middle
        return low


class Survivor(DedupStage):
    reads_where = False

    ignores = frozenset(
        ("where", "scope", "keep", "partitions", "group_shards", "measure_similarity", "weights", *VERIFY_KEYS, *GIANT_KEYS, *ALARM_KEYS)
    )

    @classmethod
    def wanted(cls, config: DedupConfig) -> bool:
        return config.survivor_sql is not None

    def needs(self) -> tuple[str, ...]:
        try:
            return parse_order(self.config.survivor_sql).columns
        except duckdb.Error:
            return ()  # `check` says what is wrong

    def check(self) -> None:
        self._check()

    def check_inputs(self, types: Mapping[str, pa.DataType], writers: Mapping[str, Stage]) -> None:
        self._check(types)

    def _check(self, types: Mapping[str, pa.DataType] | None = None) -> None:
        try:
            parsed = parse_order(self.config.survivor_sql)
            if types is not None:
                check_expression(parsed, dict(types))
        except duckdb.Error as error:
            raise ValueError(explain_error("survivor", self.config.survivor, error, list(types or ()))) from None

    def explain(self) -> list[str]:
        return [f"of each cluster the first by ORDER BY {self.config.survivor_sql} is kept, nulls last, then by document id"]

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        clusters = Clusters(Array2D(inputs["clusters"][0], "dedup.cluster", 4).map(), OURS if self.config.against else 0)
        best = Best(clusters.names())
        for shard, rows in clusters.shards():
            groups = shard_groups(inputs, shard)
            best.see(rows[:, 1], rows[:, 0], self._keys(groups, (rows[:, 0] & ROW_MASK).astype(np.int64)))
        counts = Counts()
        counts.keep(len(clusters.rows))
        counts.extra["clusters"] = len(best.names)
        counts.extra["other_survivors"] = int((best.docs != best.names).sum())
        write_rows(out["survivors"], 4, (_settle(block, best, clusters.flag) for block in clusters.blocks()))
        return counts

    def _keys(self, groups: list[Path], rows: np.ndarray) -> pa.Array:
        sql = self.config.survivor_sql
        table = read_columns(groups, parse_order(sql).columns)
        if int(rows[-1]) >= len(table):
            raise BadFile(f"{groups[0]} has {len(table)} documents, row {rows[-1]} is in a cluster: rerun dedup.route")
        return evaluate_order(table.take(pa.array(rows)), sql)


def _settle(block: np.ndarray, best: Best, flag: int) -> np.ndarray:
    """The rows with the best document as the cluster and as what the others duplicate."""
    rows = block.copy()
    ours = block[:, 1] >= np.uint64(flag)
    survivors = best.of(block[ours, 1])
    rows[ours, 1] = rows[ours, 2] = survivors
    return rows
