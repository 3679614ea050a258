"""dedup.mark: the verdict as a column group of one shard.

In: `base` (and `meta/*` where `where` names their columns) of the shard, `clusters` (or `survivors`), and, for the similarity, `sig`
of all shards in their order. Out: `meta/dedup` (or the family's other name), one row for each document:

dedup_cluster     uint64   the document of the cluster that was kept, the smallest or by the survivor rule; its own id where it is alone
dedup_size        uint32   documents in the cluster, 1 where it is alone
dedup_keep        bool     false for a duplicate
dedup_of          uint64   the document it duplicates; null where it is kept
dedup_similarity  float32  estimated Jaccard similarity to dedup_of, 0..1; null where it is kept or not measured
dedup_reason      string   "duplicate" or "duplicate_of_past"; null where it is kept; "not_in_where" outside `where`
dedup_past        string   only with `against`: index/shard-row of dedup_of where that is a document of an earlier crawl, else null
dedup_weight      float32  only with `weights`: how often the document is to be seen, by the size of its cluster; null where not kept

Ids of the past have the number of their index in the bits above 56 (`ccpipe.dedup.past`), so they are none of ours. dedup_size
counts documents of the past too.
Documents outside `where` have null in all others.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ccpipe.counts import Counts
from ccpipe.dedup import ALARM_KEYS, GIANT_KEYS, VERIFY_KEYS, DedupStage, family
from ccpipe.dedup.files import Array2D, BadFile, open_signatures
from ccpipe.dedup.past import OURS, PAST_SHIFT, name_past, open_indices
from ccpipe.meta import NOT_IN_WHERE, document_ids, select_rows, shard_groups, write_group
from ccpipe.stage import Inputs, Outputs, Unit

COLUMNS = {
    "cluster": pa.uint64(),
    "size": pa.uint32(),
    "keep": pa.bool_(),
    "of": pa.uint64(),
    "similarity": pa.float32(),
    "reason": pa.string(),
}

DUPLICATE, OF_PAST = "duplicate", "duplicate_of_past"

ROW_MASK = np.uint64(0xFFFFFFFF)


class Mark(DedupStage):
    ignores = frozenset(("scope", "partitions", "group_shards", "keep", "survivor", *VERIFY_KEYS, *GIANT_KEYS, *ALARM_KEYS))

    @property
    def prefix(self) -> str:
        return family(self.name)

    def more_inputs(self) -> Mapping[str, str]:
        return {"survivors": "all"} if self.config.survivor_sql else {}

    def columns(self) -> dict[str, pa.DataType]:
        further = {"past": pa.string()} if self.config.against else {}
        further |= {"weight": pa.float32()} if self.config.weights else {}
        return {f"{self.prefix}_{short}": kind for short, kind in (COLUMNS | further).items()}

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        shard = unit.shards[0]
        chosen = select_rows(shard_groups(inputs), self.config.where)
        past = open_indices(self.config.against)
        path = inputs["survivors" if self.config.survivor_sql else "clusters"][0]
        linked = read_shard(Array2D(path, "dedup.cluster", 4), shard, OURS if past else 0)
        rows = (linked[:, 0] & ROW_MASK).astype(np.int64)
        _check_rows(rows, chosen, path, shard)

        cluster = document_ids(shard, len(chosen))
        of = cluster.copy()
        size = np.ones(len(chosen), dtype=np.uint32)
        cluster[rows], of[rows], size[rows] = linked[:, 1], linked[:, 2], linked[:, 3]
        dropped = of != document_ids(shard, len(chosen))
        similarity, measured = np.zeros(len(chosen), dtype=np.float32), np.zeros(len(chosen), dtype=bool)
        if self.config.measure_similarity:
            _check_shards(inputs["sig"], unit)
            signed = {0: inputs["sig"], **{index.number: index.sigs for index in past if index.sigs}}
            measured = dropped & np.isin(of >> np.uint64(PAST_SHIFT), list(signed))
            similarity[measured] = measure_similarity(signed, shard, np.flatnonzero(measured), of[measured])
        kept = chosen & ~dropped
        of_past = dropped & (of >> np.uint64(PAST_SHIFT) > 0)
        values = {
            "cluster": pa.array(cluster, mask=~chosen),
            "size": pa.array(size, mask=~chosen),
            "keep": pa.array(~dropped, mask=~chosen),
            "of": pa.array(of, mask=~dropped),
            "similarity": pa.array(similarity, mask=~measured),
            "reason": pa.array(np.select([of_past, dropped], [OF_PAST, DUPLICATE], NOT_IN_WHERE), pa.string(), mask=kept),
            "past": pa.array([name_past(other, [index.name for index in past]) for other in of.tolist()] if past else [], pa.string()),
            "weight": pa.array(weigh(size, self.config.weight_table), mask=~kept) if self.config.weights else None,
        }
        columns = self.columns()
        table = pa.table({name: values[name.removeprefix(f"{self.prefix}_")] for name in columns}, pa.schema(columns))
        write_group(out[f"meta/{self.prefix}"], table)
        counts = Counts()
        counts.drop(NOT_IN_WHERE, int((~chosen).sum()))
        counts.drop(DUPLICATE, int((dropped & ~of_past).sum()))
        counts.drop(OF_PAST, int(of_past.sum()))
        counts.keep(int(kept.sum()))
        return counts


def weigh(sizes: np.ndarray, table: Sequence[tuple[int, float]]) -> np.ndarray:
    """Weights by cluster size: float32, shape (n,).

    >>> weigh(np.array([1, 4, 99, 100, 5000]), [(1, 1), (2, 2), (3, 3), (5, 5), (100, 8), (1000, 1)]).tolist()
    [1.0, 3.0, 5.0, 8.0, 1.0]
    """
    limits, weights = zip(*table, strict=True)
    return np.array(weights, dtype=np.float32)[np.searchsorted(limits, sizes, "right") - 1]


def read_shard(clusters: Array2D, shard: int, flag: int = 0) -> np.ndarray:
    """The rows of one shard, ids as in marks: uint64, shape (n, 4). flag: what ids of ours have besides in the file.

    Found by bisection: the file may be as large as the run.
    """
    docs = clusters.map()
    bounds = (shard << 32 | flag, ((shard + 1) << 32) + flag)
    first, last = (bisect.bisect_left(range(clusters.rows), bound, key=lambda row: int(docs[row, 0])) for bound in bounds)
    rows = clusters.read(first, last)
    rows[:, :3] &= np.uint64(OURS - 1 if flag else 0xFFFFFFFFFFFFFFFF)
    return rows


def measure_similarity(sigs: Mapping[int, Sequence[Path]], shard: int, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of equal signature positions of documents `rows` of `shard` and the documents `others`: float32, shape (n,).

    sigs: signature files by shard, of ours (0) and of the indices of the past by number.
    """
    result = np.empty(len(rows), dtype=np.float32)
    if not len(rows):
        return result
    mine = open_signatures(sigs[0][shard])
    shards = (others >> np.uint64(32)).astype(np.int64)
    for other_shard in np.unique(shards):
        at = np.flatnonzero(shards == other_shard)
        number, place = divmod(int(other_shard), 1 << (PAST_SHIFT - 32))
        theirs = open_signatures(sigs[number][place])
        other_rows = (others[at] & ROW_MASK).astype(np.int64)
        if (theirs.columns, theirs.dtype) != (mine.columns, mine.dtype) or other_rows.max() >= theirs.rows:
            raise BadFile(
                f"{theirs.path} has {theirs.rows} signatures of {theirs.columns} {theirs.dtype} hashes; row {other_rows.max()} of "
                f"{mine.columns} {mine.dtype} is wanted: the clusters come from others, type ccpipe redo --stage dedup.route --all"
            )
        result[at] = (mine.map()[rows[at]] == theirs.map()[other_rows]).mean(axis=1)
    return result


def _check_rows(rows: np.ndarray, chosen: np.ndarray, clusters: Path, shard: int) -> None:
    strange = rows[rows >= len(chosen)] if (rows >= len(chosen)).any() else rows[~chosen[rows]]
    if len(strange):
        raise BadFile(
            f"{clusters} links row {strange[0]} of shard {shard}, which has {len(chosen)} documents, {int(chosen.sum())} of them in where, "
            "and not that one: the clusters come from other documents, type ccpipe redo --stage dedup.route --all"
        )


def _check_shards(sigs: Sequence[Path], unit: Unit) -> None:
    n_shards = unit.detail.get("n_shards", len(sigs))
    if len(sigs) != n_shards:
        raise ValueError(f"{len(sigs)} signature files for {n_shards} shards: mark needs one for every shard, in their order")
