"""dedup.cluster: all links of the run, turned into who is a duplicate of whom.

In: all `links`. Out: `clusters`, one row for each linked document: document, cluster, duplicate of, cluster size; sorted.

keep = "first": a document is dropped if it is linked to a smaller one; it is a duplicate of the smallest such. Following
these leads from document to document ends at a kept one, the cluster's name.
keep = "component": one document of each connected component is kept, the smallest; the others are its duplicates. Chains of
resemblance merge unlike documents here, and a component can grow without end: one of more than `max_cluster` documents
is not merged, its documents are treated as under "first", and the counts report it (giant_components, giant_documents).

Memory: 16 bytes per linked document, 20 under "component", and three times the 8 of its id while ids are collected.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ccpipe.counts import Counts
from ccpipe.dedup import DedupConfig
from ccpipe.dedup.files import Array2D, BadFile, write_rows
from ccpipe.kernels import kernel
from ccpipe.stage import Inputs, Outputs, Stage, Unit

BLOCK_ROWS = 1 << 20
"""Links read, and rows written, at once."""


@kernel
def _join(parent: np.ndarray, ones: np.ndarray, others: np.ndarray) -> None:
    """Union-find: the root of every set is its smallest member. Path halving (Tarjan and van Leeuwen 1984)."""
    for i in range(len(ones)):
        one, other = ones[i], others[i]
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        while parent[other] != other:
            parent[other] = parent[parent[other]]
            other = parent[other]
        if one < other:
            parent[other] = one
        elif other < one:
            parent[one] = other


@kernel
def _lead(leads: np.ndarray, ones: np.ndarray, others: np.ndarray) -> None:
    for i in range(len(ones)):
        if others[i] < leads[ones[i]]:
            leads[ones[i]] = others[i]


@kernel
def _follow(leads: np.ndarray) -> np.ndarray:
    """Where following the leads ends, for every node. leads[i] <= i."""
    roots = np.empty_like(leads)
    for i in range(len(leads)):
        roots[i] = roots[leads[i]] if leads[i] != i else leads[i]
    return roots


def find_components(n_nodes: int, links: Iterator[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Smallest linked node (itself if none is smaller) and smallest node of the component, for every node 0..n_nodes - 1.

    links: pairs of arrays (nodes, smaller nodes). Both results: unsigned, shape (n_nodes,).
    """
    leads = np.arange(n_nodes, dtype=np.uint32 if n_nodes < 1 << 32 else np.uint64)
    parent = leads.copy()
    for ones, others in links:
        _lead(leads, ones, others)
        _join(parent, ones, others)
    return leads, _follow(parent)


class Cluster(Stage):
    class Config(DedupConfig):
        pass

    ignores = frozenset(("where", "partitions", "group_shards", "measure_similarity"))

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        files = [Array2D(path, "dedup.match", 2) for path in inputs["links"]]
        nodes = _collect_nodes(files)
        leads, components = find_components(len(nodes), _number_links(files, nodes))
        counts = Counts()
        counts.keep(sum(file.rows for file in files))
        roots = self._settle(leads, components, counts)
        sizes = np.bincount(roots, minlength=len(nodes)).astype(np.uint32)
        write_rows(out["clusters"], len(nodes), 4, _rows(nodes, roots, leads, sizes))
        counts.extra["linked_documents"] = len(nodes)
        counts.extra["clusters"] = int((sizes > 1).sum())
        counts.extra["largest_cluster"] = int(sizes.max(initial=0))
        counts.extra["duplicates"] = int((leads != np.arange(len(leads))).sum())
        return counts

    def _settle(self, leads: np.ndarray, components: np.ndarray, counts: Counts) -> np.ndarray:
        """The cluster of every node; under "component" `leads` is changed to point at it."""
        sizes = np.bincount(components, minlength=len(components))
        counts.extra["components"] = int((sizes > 1).sum())
        counts.extra["largest_component"] = int(sizes.max(initial=0))
        giant = sizes > self.config.max_cluster
        counts.extra["giant_components"] = int(giant.sum())
        counts.extra["giant_documents"] = int(sizes[giant].sum())
        if self.config.keep == "component":
            merged = ~giant[components]
            leads[merged] = components[merged]
        return np.asarray(_follow(leads))


def _blocks(file: Array2D) -> Iterator[np.ndarray]:
    for first in range(0, file.rows, BLOCK_ROWS):
        yield file.read(first, min(first + BLOCK_ROWS, file.rows))


def _collect_nodes(files: list[Array2D]) -> np.ndarray:
    """All documents that occur in links, sorted: uint64, shape (n,)."""
    nodes = np.empty(0, dtype=np.uint64)
    pending: list[np.ndarray] = []
    waiting = 0
    for file in files:
        for block in _blocks(file):
            if (block[:, 0] <= block[:, 1]).any():
                raise BadFile(f"{file.path} links a document to one that is not smaller: rerun dedup.match for this partition")
            pending.append(np.unique(block))
            waiting += len(pending[-1])
            # merging only when as much is waiting as is there keeps the work linear in the links, but for a logarithm
            if waiting > max(len(nodes), BLOCK_ROWS):
                nodes, pending, waiting = np.unique(np.concatenate([nodes, *pending])), [], 0
    return np.unique(np.concatenate([nodes, *pending]))


def _number_links(files: list[Array2D], nodes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for file in files:
        for block in _blocks(file):
            yield np.searchsorted(nodes, block[:, 0]), np.searchsorted(nodes, block[:, 1])


def _rows(nodes: np.ndarray, roots: np.ndarray, leads: np.ndarray, sizes: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(nodes), BLOCK_ROWS):
        part = slice(first, first + BLOCK_ROWS)
        yield np.column_stack([nodes[part], nodes[roots[part]], nodes[leads[part]], sizes[roots[part]].astype(np.uint64)])
