"""Semantic duplicates over embeddings of the user's own model: documents of one meaning in other words.

After SemDeDup (Abbas et al. 2023, arXiv 2303.09540) and D4 (Tirumala et al. 2023, arXiv 2308.12284). Four phases: centroids (k-means
over a sample), assign (the nearest centroid of each document), match (pairs within one cluster), mark (a column group per shard). Meant
for some millions of documents: the work grows with the square of the clusters' sizes.

**Sign.** `threshold` is a cosine similarity: 1 is the same direction, 0 has nothing in common, and a pair is a duplicate where its
similarity is `threshold` or MORE. SemDeDup's paper speaks of epsilon: threshold = 1 - epsilon, so a SMALLER epsilon drops fewer documents.

**Who stays.** The members of a cluster are put in an order, and one is dropped where an earlier one, itself dropped or not, is that
similar: "far": least similar to the centroid first, so of a group of duplicates the least typical stays (SemDeDup's choice); "near":
most similar to the centroid first; "first": by id. Ties by id. Pairs that k-means put into different clusters do not meet.

Arithmetic is float32 in a fixed order without fused or reassociated operations, so every machine gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from ccpipe.dedup.files import BadFile
from ccpipe.stage import ModelFile, StageConfig, tuning

NO_CLUSTER = 0xFFFFFFFF
"""Cluster of documents outside `where` (similarity 0), or without an embedding (similarity 1)."""


class SemanticConfig(StageConfig):
    """`where` says which documents take part; the others get null marks and are never a reason to drop one."""

    embeddings: ModelFile = Field(description="folder of 00000.npy, 00001.npy ...: float32 or float16, a row per document of the shard")
    threshold: float = Field(0.95, description="cosine similarity from which on two documents are duplicates, -1..1", ge=-1, le=1)
    order: Literal["far", "near", "first"] = Field(
        "far", description="who of a group stays: far from or near to the centroid, or the first"
    )
    n_clusters: int = Field(1000, description="centroids of k-means; at most one per sampled document", ge=1, le=100_000)
    sample: int = Field(100_000, description="documents that k-means sees, evenly spread", ge=1)
    iterations: int = Field(10, description="rounds of k-means", ge=1, le=1000)
    max_cluster: int = Field(50_000, description="documents; a larger cluster is counted and not compared: raise n_clusters", ge=2)
    partitions: int | None = Field(None, description="groups of clusters matched separately; nodes x cores where not given", ge=1)
    block_rows: int = tuning(16_384, "rows of embeddings in memory at once in centroids and assign", ge=1)


def open_embeddings(folder: str, shard: int, n_rows: int) -> np.ndarray:
    """The rows of a shard, memory mapped: float16 or float32, shape (n_rows, dim). Raises `BadFile`."""
    path = Path(folder) / f"{shard:05d}.npy"
    try:
        rows: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadFile(f"{path} cannot be read ({error}): expected a .npy file with a row for each document of shard {shard}") from None
    if rows.ndim != 2 or rows.dtype not in (np.float16, np.float32) or len(rows) != n_rows:
        raise BadFile(
            f"{path} holds {rows.dtype} of shape {rows.shape}, expected float16 or float32 of shape ({n_rows}, dimensions): "
            "write one row for each document of the shard, those outside where as zeros"
        )
    return rows


def unit_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of length 1, float32, and which had a direction at all: bool. Zeros, infinities and NaN have none, and become zeros.

    >>> unit_rows(np.array([[3, 4], [0, 0]], np.float32))[0].round(2).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    wide = rows.astype(np.float64)
    # one sum after the other, in the same order on every machine
    length = np.sqrt(np.cumsum(wide * wide, axis=1)[:, -1]) if rows.shape[1] else np.zeros(len(rows))
    there = np.isfinite(length) & (length > 0)
    result = np.zeros(rows.shape, np.float32)
    result[there] = wide[there] / length[there, None]
    return result, there


def similarity_bits(similarity: np.ndarray) -> np.ndarray:
    """float32 as uint64, for files of uint64; `bits_similarity` turns it back."""
    return similarity.astype(np.float32).view(np.uint32).astype(np.uint64)


def bits_similarity(bits: np.ndarray) -> np.ndarray:
    return bits.astype(np.uint32).view(np.float32)
