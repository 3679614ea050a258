"""dedup.cluster: all links of the run, turned into who is a duplicate of whom.

In: all `links`. Out: `clusters`, one row for each linked document: document, cluster, duplicate of, cluster size; sorted.

keep = "first": a document is dropped if it is linked to a smaller one; it is a duplicate of the smallest such. Following
these leads from document to document ends at a kept one, the cluster's name.
keep = "component": one document of each connected component is kept, the smallest; the others are its duplicates. Chains of
resemblance merge unlike documents here, and a component can grow without end: one of more than `max_cluster` documents
is not merged, its documents are treated as under "first", and the counts report it (giant_components, giant_documents).

Memory: per linked document 4 bytes each for its lead, its component and the size of its cluster (8, 8 and 4 where there are
2^32 or more), and 1.125 bits per document of the run. What does not fit `memory_mb` is mapped from files in the unit's folder: then
speed depends on how much of them the page cache holds, the result does not.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from ccpipe.counts import Counts
from ccpipe.dedup import ALARM_KEYS, SURVIVOR_KEYS, VERIFY_KEYS, DedupStage
from ccpipe.dedup.external import Arrays
from ccpipe.dedup.files import Array2D, BadFile, redo, write_rows
from ccpipe.dedup.giants import refuse, replace_giants, sample_giants, similar_links
from ccpipe.dedup.numbering import Numbering
from ccpipe.dedup.past import OURS, open_indices
from ccpipe.dedup.verify import Signed
from ccpipe.kernels import kernel
from ccpipe.stage import Inputs, Outputs, Unit

BLOCK_ROWS = 1 << 17
"""Links read, and rows written, at once."""

GIANT_LINKS = 1 << 14
"""Links of giants whose signatures are compared at once: at most 32 MiB of 128 hashes."""


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
def _set_self(nodes: np.ndarray) -> None:
    for i in range(len(nodes)):
        nodes[i] = i


@kernel
def _lead(leads: np.ndarray, ones: np.ndarray, others: np.ndarray) -> None:
    for i in range(len(ones)):
        if others[i] < leads[ones[i]]:
            leads[ones[i]] = others[i]


@kernel
def _follow(leads: np.ndarray, roots: np.ndarray) -> None:
    """Where following the leads ends, for every node. leads[i] <= i; `roots` may be `leads`."""
    for i in range(len(leads)):
        roots[i] = roots[leads[i]] if leads[i] != i else leads[i]


@kernel
def _count(roots: np.ndarray, sizes: np.ndarray) -> None:
    sizes[:] = 0
    for i in range(len(roots)):
        sizes[roots[i]] += 1


@kernel
def _merge(leads: np.ndarray, components: np.ndarray, sizes: np.ndarray, max_cluster: int) -> None:
    """All but the giant components: what leads to something smaller leads to the smallest."""
    for i in range(len(leads)):
        if sizes[components[i]] <= max_cluster:
            leads[i] = components[i]


@kernel
def _count_leading(leads: np.ndarray, start: int) -> int:
    n = 0
    for i in range(start, len(leads)):
        n += leads[i] != i
    return n


@kernel
def _describe(sizes: np.ndarray, max_cluster: int) -> tuple[int, int, int, int]:
    """Of components: how many of two or more, the largest, how many giant ones, documents in these."""
    several = largest = giants = documents = 0
    for size in sizes:
        several += size > 1
        largest = size if size > largest else largest
        if size > max_cluster:
            giants += 1
            documents += size
    return several, largest, giants, documents


def find_components(n_nodes: int, links: Iterable[tuple[np.ndarray, np.ndarray]], arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Smallest linked node (itself if none is smaller) and smallest node of the component, for every node 0..n_nodes - 1.

    links: pairs of arrays (nodes, smaller nodes). Both results: unsigned, shape (n_nodes,).
    """
    dtype = np.uint32 if n_nodes < 1 << 32 else np.uint64
    leads, parent = arrays.zeros(n_nodes, dtype), arrays.zeros(n_nodes, dtype)
    for array in (leads, parent):
        _set_self(array)
    for ones, others in links:
        _lead(leads, ones, others)
        _join(parent, ones, others)
    _follow(parent, parent)
    return leads, parent


class Cluster(DedupStage):
    version = 2

    ignores = frozenset(("where", "scope", "partitions", "group_shards", "measure_similarity", *VERIFY_KEYS, *ALARM_KEYS, *SURVIVOR_KEYS))

    def more_inputs(self) -> Mapping[str, str]:
        return {"sig": "all"} if self.config.giant == "split" else {}

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        files = [Array2D(path, "dedup.match", 2) for path in inputs["links"]]
        counts = Counts()
        counts.keep(sum(file.rows for file in files))
        arrays = Arrays(self.config.memory_bytes, out["clusters"].parent)
        numbering = _number_nodes(files, arrays)
        leads, components = find_components(numbering.length, _number_links(files, numbering), arrays)
        sizes = arrays.zeros(numbering.length, np.uint32)
        # the past comes first; what is ours begins behind it
        past = _count_past(numbering) if self.config.against else 0
        _count(components, sizes)
        self._compare(leads, components, past, counts)
        if "giants" in out:  # a caller may have no use for them
            write_rows(out["giants"], 3, [sample_giants(components, sizes, self.config.max_cluster, numbering)])
        self._settle(leads, components, sizes, counts)
        if counts.extra["giant_components"] and self.config.giant != "first":
            self._treat_giants(files, inputs, (leads, components, sizes), (numbering, arrays, past))
        if self.config.keep == "component":
            _merge(leads, components, sizes, self.config.max_cluster)
        # from here on the array of components holds what everything leads to
        _follow(leads, components)
        _count(components, sizes)
        write_rows(out["clusters"], 4, _rows(numbering, components, leads, sizes))
        counts.extra["linked_documents"] = numbering.length
        counts.extra["clusters"], counts.extra["largest_cluster"], _, _ = _describe(sizes, self.config.max_cluster)
        counts.extra["duplicates"] = int(_count_leading(leads, past))
        if self.config.against:
            counts.extra["past_documents"] = past
        counts.extra["spilled_bytes"] = arrays.spilled_bytes
        return counts

    def _compare(self, leads: np.ndarray, components: np.ndarray, past: int, counts: Counts) -> None:
        """How many documents each `keep` would drop. Whoever has a smaller neighbour is not the smallest of its component: what "first"
        drops, "component" drops too, and the difference is what only "component" drops (giants not being treated)."""
        first, component = int(_count_leading(leads, past)), int(_count_leading(components, past))
        counts.extra["dropped_by_first"], counts.extra["dropped_by_component"] = first, component
        counts.extra["dropped_by_component_alone"] = component - first

    def _settle(self, leads: np.ndarray, components: np.ndarray, sizes: np.ndarray, counts: Counts) -> None:
        """What there is of components is counted."""
        extra = counts.extra
        described = _describe(sizes, self.config.max_cluster)
        extra["components"], extra["largest_component"], extra["giant_components"], extra["giant_documents"] = map(int, described)

    def _treat_giants(
        self,
        files: list[Array2D],
        inputs: Inputs,
        graph: tuple[np.ndarray, np.ndarray, np.ndarray],
        nodes: tuple[Numbering, Arrays, int],
    ) -> None:
        leads, components, sizes = graph
        numbering, arrays, past = nodes
        most = self.config.max_cluster
        if self.config.giant == "refuse":
            refuse(leads, components, sizes, most, past)
        else:
            signed = Signed({0: inputs["sig"], **{index.number: index.sigs for index in open_indices(self.config.against)}})
            is_giant = arrays.zeros(len(leads), np.bool_)
            is_giant[:] = sizes[components] > most
            links = similar_links(_blocks(files), numbering, is_giant, signed, self.config.giant_similarity, GIANT_LINKS)
            replace_giants(leads, components, sizes, most, *find_components(len(leads), links, arrays))
        _count(components, sizes)


def _count_past(numbering: Numbering) -> int:
    """Documents of the past among the linked ones."""
    return bisect.bisect_left(range(numbering.length), OURS, key=lambda number: int(numbering.documents(np.array([number]))[0]))


def _blocks(files: list[Array2D]) -> Iterator[np.ndarray]:
    for file in files:
        for first in range(0, file.rows, BLOCK_ROWS):
            yield file.read(first, min(first + BLOCK_ROWS, file.rows))


def _number_nodes(files: list[Array2D], arrays: Arrays) -> Numbering:
    """All documents that occur in links, in their order."""
    numbering = Numbering(arrays)
    for file in files:
        for block in _blocks([file]):
            if (block[:, 0] <= block[:, 1]).any():
                raise BadFile(f"{file.path} links a document to one that is not smaller: {redo('dedup.match', file.path)}")
            numbering.note_rows(block.ravel())
    numbering.mark(block.ravel() for block in _blocks(files))
    return numbering


def _number_links(files: list[Array2D], numbering: Numbering) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for block in _blocks(files):
        yield numbering.number(block[:, 0]), numbering.number(block[:, 1])


def _rows(numbering: Numbering, roots: np.ndarray, leads: np.ndarray, sizes: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, numbering.length, BLOCK_ROWS):
        last = min(first + BLOCK_ROWS, numbering.length)
        part = slice(first, last)
        rows = np.empty((last - first, 4), np.uint64)
        for column, numbers in enumerate((np.arange(first, last), roots[part], leads[part])):
            rows[:, column] = numbering.documents(numbers)
        rows[:, 3] = sizes[roots[part]]
        yield rows
