"""dedup.mark: the verdict as a column group of one shard.

In: `base` (and `meta/*` where `where` names their columns) of the shard, `clusters`, and, for the similarity, `sig` of all
shards in their order. Out: `meta/dedup` (or the family's other name), one row for each document:

dedup_cluster     uint64   a document of the cluster that was kept, the smallest; its own id where it is alone
dedup_size        uint32   documents in the cluster, 1 where it is alone
dedup_keep        bool     false for a duplicate
dedup_of          uint64   the document it duplicates; null where it is kept
dedup_similarity  float32  estimated Jaccard similarity to dedup_of, 0..1; null where it is kept or not measured
dedup_reason      string   "duplicate"; null where it is kept; "not_in_where" outside `where`

Documents outside `where` have null in all others.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ccpipe.counts import Counts
from ccpipe.dedup import DedupConfig, family
from ccpipe.dedup.files import Array2D, BadFile, open_signatures
from ccpipe.dedup.phase import Phase
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

ROW_MASK = np.uint64(0xFFFFFFFF)


class Mark(Phase):
    phase = "mark"

    class Config(DedupConfig):
        pass

    ignores = frozenset(("partitions", "group_shards", "max_cluster", "keep"))

    @property
    def prefix(self) -> str:
        return family(self.name)

    def columns(self) -> dict[str, pa.DataType]:
        return {f"{self.prefix}_{short}": kind for short, kind in COLUMNS.items()}

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        shard = unit.shards[0]
        chosen = select_rows(shard_groups(inputs), self.config.where)
        linked = read_shard(Array2D(inputs["clusters"][0], "dedup.cluster", 4), shard)
        rows = (linked[:, 0] & ROW_MASK).astype(np.int64)
        _check_rows(rows, chosen, inputs["clusters"][0], shard)

        cluster = document_ids(shard, len(chosen))
        of = cluster.copy()
        size = np.ones(len(chosen), dtype=np.uint32)
        cluster[rows], of[rows], size[rows] = linked[:, 1], linked[:, 2], linked[:, 3]
        dropped = of != document_ids(shard, len(chosen))
        similarity, measured = np.zeros(len(chosen), dtype=np.float32), np.zeros(len(chosen), dtype=bool)
        if self.config.measure_similarity:
            _check_shards(inputs["sig"], unit)
            similarity[dropped] = measure_similarity(inputs["sig"], shard, np.flatnonzero(dropped), of[dropped])
            measured = dropped
        values = {
            "cluster": pa.array(cluster, mask=~chosen),
            "size": pa.array(size, mask=~chosen),
            "keep": pa.array(~dropped, mask=~chosen),
            "of": pa.array(of, mask=~dropped),
            "similarity": pa.array(similarity, mask=~measured),
            "reason": pa.array(np.where(dropped, "duplicate", NOT_IN_WHERE), pa.string(), mask=chosen & ~dropped),
        }
        table = pa.table({f"{self.prefix}_{short}": values[short] for short in COLUMNS}, pa.schema(self.columns()))
        write_group(out[f"meta/{self.prefix}"], table)
        counts = Counts()
        counts.drop(NOT_IN_WHERE, int((~chosen).sum()))
        counts.drop("duplicate", int(dropped.sum()))
        counts.keep(int((chosen & ~dropped).sum()))
        return counts


def read_shard(clusters: Array2D, shard: int) -> np.ndarray:
    """The rows of one shard: uint64, shape (n, 4). Found by bisection: the file may be as large as the run."""
    docs = clusters.map()
    first, last = (bisect.bisect_left(range(clusters.rows), bound << 32, key=lambda row: int(docs[row, 0])) for bound in (shard, shard + 1))
    return clusters.read(first, last)


def measure_similarity(sigs: Sequence[Path], shard: int, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of equal signature positions of documents `rows` of `shard` and the documents `others`: float32, shape (n,)."""
    result = np.empty(len(rows), dtype=np.float32)
    if not len(rows):
        return result
    mine = open_signatures(sigs[shard])
    shards = (others >> np.uint64(32)).astype(np.int64)
    for other_shard in np.unique(shards):
        at = np.flatnonzero(shards == other_shard)
        theirs = open_signatures(sigs[other_shard])
        other_rows = (others[at] & ROW_MASK).astype(np.int64)
        if (theirs.columns, theirs.dtype) != (mine.columns, mine.dtype) or other_rows.max() >= theirs.rows:
            raise BadFile(
                f"{theirs.path} has {theirs.rows} signatures of {theirs.columns} {theirs.dtype} hashes; row {other_rows.max()} of "
                f"{mine.columns} {mine.dtype} is wanted: the clusters come from other signatures, rerun dedup.route"
            )
        result[at] = (mine.map()[rows[at]] == theirs.map()[other_rows]).mean(axis=1)
    return result


def _check_rows(rows: np.ndarray, chosen: np.ndarray, clusters: Path, shard: int) -> None:
    strange = rows[rows >= len(chosen)] if (rows >= len(chosen)).any() else rows[~chosen[rows]]
    if len(strange):
        raise BadFile(
            f"{clusters} links row {strange[0]} of shard {shard}, which has {len(chosen)} documents, {int(chosen.sum())} of them in where, "
            "and not that one: the clusters come from other documents, rerun dedup.route"
        )


def _check_shards(sigs: Sequence[Path], unit: Unit) -> None:
    n_shards = unit.detail.get("n_shards", len(sigs))
    if len(sigs) != n_shards:
        raise ValueError(f"{len(sigs)} signature files for {n_shards} shards: mark needs one for every shard, in their order")
