"""semantic.assign: the nearest centroid of each document of a shard.

Out: `<family>.assigned`, .npy, uint64, shape (n_docs, 2): cluster (`NO_CLUSTER` where it has none), cosine to its centroid as bits.
"""

from __future__ import annotations

import numpy as np

from ccpipe.counts import Counts
from ccpipe.dedup.files import BadFile, write_rows
from ccpipe.exact import family
from ccpipe.meta import NOT_IN_WHERE, select_rows, shard_groups
from ccpipe.semantic import NO_CLUSTER, SemanticConfig, open_embeddings, similarity_bits, unit_rows
from ccpipe.semantic.kernels import find_nearest
from ccpipe.stage import Inputs, Outputs, Stage, Unit


class AssignCentroids(Stage):
    class Config(SemanticConfig):
        pass

    ignores = frozenset(("threshold", "order", "max_cluster", "partitions", "n_clusters", "sample", "iterations"))

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        name = family(self.name)
        chosen = select_rows(shard_groups(inputs), self.config.where)
        rows = open_embeddings(self.config.embeddings, unit.shards[0], len(chosen))
        centres = np.load(inputs[f"{name}.centroids"][0])
        if centres.shape[0] != rows.shape[1]:
            raise BadFile(
                f"embeddings of shard {unit.shards[0]} have {rows.shape[1]} dimensions, the centroids {centres.shape[0]}: rerun {name}"
            )
        found = np.full((len(chosen), 2), NO_CLUSTER, np.uint64)
        found[:, 1] = similarity_bits(np.zeros(len(chosen), np.float32))
        counts = Counts()
        counts.drop(NOT_IN_WHERE, int((~chosen).sum()))
        numbers = np.flatnonzero(chosen)
        for first in range(0, len(numbers), self.config.block_rows):
            part = numbers[first : first + self.config.block_rows]
            vectors, there = unit_rows(rows[part])
            which, best = np.empty(len(part), np.int64), np.empty(len(part), np.float32)
            if centres.shape[1]:
                find_nearest(vectors, centres, which, best)
            found[part[there], 0] = which[there].astype(np.uint64)
            found[part, 1] = similarity_bits(np.where(there, best, np.float32(1)))
            counts.keep(int(there.sum()))
            counts.drop("no_embedding", int((~there).sum()))
        write_rows(out[f"{name}.assigned"], 2, [found])
        return counts
