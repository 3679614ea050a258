"""Giant components: reported with a sample of their members, and split or left alone.

In: the leads and components of all linked documents (`ccpipe.dedup.cluster`), as numbers. Out: the same with every component of
more than `max_cluster` documents treated as `giant` says, and rows (smallest document, documents, a member) for the report.
first: untouched here; cluster never merges them, so each document is a duplicate of what it directly resembles.
split: made again from those of their links whose signatures agree in `giant_similarity` of their positions.
refuse: none of their documents is a duplicate of any other; one that resembles the past still is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ccpipe.dedup.numbering import Numbering
from ccpipe.dedup.verify import Signed
from ccpipe.kernels import kernel

MAX_REPORTED = 100
MAX_MEMBERS = 1000
"""Giants, largest first, and members of each, evenly spread over it, that are named for the report."""


@kernel
def _pick(components: np.ndarray, sizes: np.ndarray, max_cluster: int, roots: np.ndarray, picked: np.ndarray, taken: np.ndarray) -> None:
    """Every so many-th member of the giants `roots` (sorted) into picked[giant, :taken[giant]]."""
    seen = np.zeros(len(roots), dtype=np.int64)
    for i in range(len(components)):
        root = components[i]
        if sizes[root] <= max_cluster:
            continue
        at = np.searchsorted(roots, root)
        if at < len(roots) and roots[at] == root:
            step = -(-np.int64(sizes[root]) // picked.shape[1])
            if seen[at] % step == 0:
                picked[at, taken[at]] = i
                taken[at] += 1
            seen[at] += 1


def sample_giants(components: np.ndarray, sizes: np.ndarray, max_cluster: int, numbering: Numbering) -> np.ndarray:
    """(smallest document, documents, member): uint64, shape (n, 3), largest giant first; at most MAX_MEMBERS rows for each."""
    roots = np.flatnonzero(sizes > max_cluster)
    order = np.lexsort((roots, -sizes[roots].astype(np.int64)))[:MAX_REPORTED]
    roots = np.sort(roots[order])
    picked, taken = np.zeros((len(roots), MAX_MEMBERS), dtype=np.int64), np.zeros(len(roots), dtype=np.int64)
    _pick(components, sizes, max_cluster, roots.astype(components.dtype), picked, taken)
    parts = [np.empty((0, 3), np.uint64)]
    for at in np.lexsort((roots, -sizes[roots].astype(np.int64))):
        rows = np.empty((taken[at], 3), np.uint64)
        rows[:, 0], rows[:, 1] = numbering.documents(roots[at : at + 1])[0], sizes[roots[at]]
        rows[:, 2] = numbering.documents(picked[at, : taken[at]])
        parts.append(rows)
    return np.concatenate(parts)


@kernel
def refuse(leads: np.ndarray, components: np.ndarray, sizes: np.ndarray, max_cluster: int, first: int) -> None:
    """Every document of a giant by itself, but those (from number `first` on ours) that lead to the past."""
    for i in range(first, len(leads)):
        if sizes[components[i]] > max_cluster and leads[i] >= first:
            leads[i] = i
            components[i] = i


@kernel
def replace_giants(
    leads: np.ndarray, components: np.ndarray, sizes: np.ndarray, max_cluster: int, other_leads: np.ndarray, other_components: np.ndarray
) -> None:
    """Take over the other leads and components of all documents of giants."""
    for i in range(len(leads)):
        if sizes[components[i]] > max_cluster:
            leads[i] = other_leads[i]
            components[i] = other_components[i]


def similar_links(
    links: Iterable[np.ndarray],
    numbering: Numbering,
    is_giant: np.ndarray,
    signed: Signed,
    least: float,
    block_rows: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of blocks of links (uint64, shape (n, 2)), as numbers: those within giants whose signatures agree in `least` of their positions.

    is_giant: bool by number; block_rows: links whose signatures are in memory at once.
    """
    for block in links:
        inside = block[is_giant[numbering.number(block[:, 0])]]
        for at in range(0, len(inside), block_rows):
            part = inside[at : at + block_rows]
            docs, rows = np.unique(part, return_inverse=True)
            sigs, rows = signed.gather(docs), rows.reshape(-1, 2)
            alike = part[(sigs[rows[:, 0]] == sigs[rows[:, 1]]).mean(axis=1) >= least - 1e-9]
            yield numbering.number(alike[:, 0]), numbering.number(alike[:, 1])
