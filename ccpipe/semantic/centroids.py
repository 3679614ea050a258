"""semantic.centroids: k-means over a sample of all documents. Out: `<family>.centroids`, .npy, float32, shape (dim, k)."""

from __future__ import annotations

import numpy as np

from ccpipe.counts import Counts
from ccpipe.dedup.files import BadFile
from ccpipe.exact import family
from ccpipe.meta import select_rows, shard_groups
from ccpipe.semantic import SemanticConfig, open_embeddings, unit_rows
from ccpipe.semantic.kernels import cluster_centres
from ccpipe.stage import Inputs, Outputs, Stage, Unit


class Centroids(Stage):
    class Config(SemanticConfig):
        pass

    ignores = frozenset(("threshold", "order", "max_cluster", "partitions"))

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        chosen = [np.flatnonzero(select_rows(shard_groups(inputs, shard), self.config.where)) for shard in range(len(inputs["base"]))]
        totals = np.cumsum([0, *map(len, chosen)])
        wanted = np.arange(min(self.config.sample, totals[-1])) * int(totals[-1]) // max(min(self.config.sample, int(totals[-1])), 1)
        parts = []
        counts = Counts()
        for shard, rows in enumerate(chosen):
            mine = rows[wanted[(wanted >= totals[shard]) & (wanted < totals[shard + 1])] - totals[shard]]
            n_rows = len(select_rows(shard_groups(inputs, shard), None))
            vectors, there = unit_rows(open_embeddings(self.config.embeddings, shard, n_rows)[mine])
            parts.append(vectors[there])
            counts.keep(int(there.sum()))
            counts.drop("no_embedding", int((~there).sum()))
        if len({part.shape[1] for part in parts}) > 1:
            raise BadFile(
                f"embeddings of {sorted({part.shape[1] for part in parts})} dimensions in {self.config.embeddings}: "
                "they come from different models; write all shards with one"
            )
        centres = cluster_centres(np.concatenate(parts), self.config.n_clusters, self.config.iterations)
        with out[f"{family(self.name)}.centroids"].open("wb") as file:
            np.save(file, centres)
        counts.extra["clusters"] = centres.shape[1]
        return counts
