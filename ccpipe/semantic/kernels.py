"""Cosines in a fixed order of operations: inner loops run over documents or centroids, so they become vectors without reordering sums."""

from __future__ import annotations

import numpy as np

from ccpipe.kernels import kernel


@kernel
def find_nearest(rows: np.ndarray, centroids: np.ndarray, which: np.ndarray, best: np.ndarray) -> None:
    """The centroid with the largest dot product, the first of equal ones, and that product.

    rows: float32, shape (n, dim); centroids: float32, shape (dim, k), transposed; which: int64, best: float32, shape (n,).
    """
    dots = np.empty(centroids.shape[1], dtype=np.float32)
    for i in range(rows.shape[0]):
        dots[:] = np.float32(0)
        for d in range(rows.shape[1]):
            value = rows[i, d]
            for c in range(len(dots)):
                dots[c] += value * centroids[d, c]
        which[i] = np.argmax(dots)
        best[i] = dots[which[i]]


@kernel
def find_earlier(columns: np.ndarray, threshold: np.float32, of: np.ndarray, similarity: np.ndarray) -> None:
    """For each member of a cluster the most similar earlier one where their cosine is `threshold` or more; of: int64, else -1.

    columns: float32, shape (dim, n), the members' unit vectors in their order.
    """
    n = columns.shape[1]
    dots = np.empty(n, dtype=np.float32)
    for j in range(n):
        dots[:j] = np.float32(0)
        for d in range(columns.shape[0]):
            value = columns[d, j]
            for i in range(j):
                dots[i] += value * columns[d, i]
        of[j] = -1
        similarity[j] = threshold
        for i in range(j):
            if dots[i] > similarity[j] or (dots[i] == threshold and of[j] < 0):
                of[j] = i
                similarity[j] = dots[i]


def cluster_centres(rows: np.ndarray, k: int, iterations: int) -> np.ndarray:
    """Spherical k-means: unit vectors, float32, shape (dim, k). Begins with rows spread evenly; an empty cluster keeps its centre."""
    k = min(k, len(rows))
    centres = rows[np.arange(k) * len(rows) // max(k, 1)].T.copy()
    which, best = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
    for _ in range(iterations):
        find_nearest(rows, centres, which, best)
        sums = np.zeros((k, rows.shape[1]), np.float64)
        np.add.at(sums, which, rows)
        length = np.sqrt(np.cumsum(sums * sums, axis=1)[:, -1])
        full = length > 0
        centres[:, full] = (sums[full] / length[full, None]).T.astype(np.float32)
    return centres
