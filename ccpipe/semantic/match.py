"""semantic.match: similar pairs within the clusters of one partition (cluster modulo partitions).

Out: `<family>.links`, .npy, uint64, shape (n, 3): document, the most similar earlier one of its cluster's order, cosine as bits; sorted.
Memory: the vectors of one cluster, 4 bytes x dimensions x `max_cluster` at most, twice; and 16 bytes per document of the partition.
"""

from __future__ import annotations

import itertools

import numpy as np

from ccpipe.counts import Counts
from ccpipe.dedup.files import Array2D, write_rows
from ccpipe.exact import family
from ccpipe.meta import document_ids
from ccpipe.semantic import NO_CLUSTER, SemanticConfig, bits_similarity, open_embeddings, similarity_bits, unit_rows
from ccpipe.semantic.kernels import find_earlier
from ccpipe.stage import Inputs, Outputs, Stage, Unit


class SemanticMatch(Stage):
    class Config(SemanticConfig):
        pass

    ignores = frozenset(("where", "n_clusters", "sample", "iterations"))

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        name = family(self.name)
        partitions = self.config.partitions
        if partitions is None or unit.index >= partitions:
            raise ValueError(f"{self.name}: unit {unit.index} of partitions = {partitions}; the plan must give partitions = nodes x cores")
        assigned = [Array2D(path, f"{name}.assign", 2) for path in inputs[f"{name}.assigned"]]
        clusters, ids, cosines = self._members(assigned, unit.index, partitions)
        counts = Counts()
        counts.keep(len(ids))
        links = [np.empty((0, 3), np.uint64)]
        bounds = np.flatnonzero(np.concatenate([[True], clusters[1:] != clusters[:-1], [True]])) if len(clusters) else np.array([0])
        for first, last in itertools.pairwise(bounds.tolist()):
            if last - first > self.config.max_cluster:
                counts.extra["giant_clusters"] += 1
                counts.extra["giant_documents"] += last - first
            else:
                links.append(self._compare(ids[first:last], cosines[first:last], [file.rows for file in assigned]))
        found = np.concatenate(links)
        write_rows(out[f"{name}.links"], 3, [found[np.argsort(found[:, 0], kind="stable")]])
        counts.extra["links"] = len(found)
        return counts

    def _members(self, assigned: list[Array2D], index: int, partitions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Clusters, ids and cosines of the partition's documents, by cluster, then id."""
        clusters, ids, cosines = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)], [np.empty(0, np.float32)]
        for shard, file in enumerate(assigned):
            rows = file.read_all()
            mine = (rows[:, 0] != NO_CLUSTER) & (rows[:, 0] % np.uint64(partitions) == index)
            clusters.append(rows[mine, 0])
            ids.append(document_ids(shard, len(rows))[mine])
            cosines.append(bits_similarity(rows[mine, 1]))
        every = np.concatenate(clusters)
        order = np.argsort(every, kind="stable")
        return every[order], np.concatenate(ids)[order], np.concatenate(cosines)[order]

    def _compare(self, ids: np.ndarray, cosines: np.ndarray, n_rows: list[int]) -> np.ndarray:
        """Links of one cluster. ids: rising."""
        sign = {"far": 1, "near": -1, "first": 0}[self.config.order]
        order = np.argsort(sign * cosines, kind="stable")
        shards = (ids >> np.uint64(32)).astype(np.int64)
        vectors = []
        for shard in np.unique(shards):
            rows = (ids[shards == shard] & np.uint64(0xFFFFFFFF)).astype(np.int64)
            vectors.append(unit_rows(open_embeddings(self.config.embeddings, int(shard), n_rows[shard])[rows])[0])
        columns = np.ascontiguousarray(np.concatenate(vectors)[order].T)
        of, similarity = np.empty(len(ids), np.int64), np.empty(len(ids), np.float32)
        find_earlier(columns, np.float32(self.config.threshold), of, similarity)
        ordered, linked = ids[order], np.flatnonzero(of >= 0)
        return np.column_stack([ordered[linked], ordered[of[linked]], similarity_bits(similarity[linked])])
