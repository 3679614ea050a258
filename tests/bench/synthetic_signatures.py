"""Signatures of a crawl that never was, with duplicates whose number, cluster sizes and similarities are known.

Seven documents of ten are alone. The others are in clusters of the sizes in `SIZES`, each with one of the similarities in
`SIMILARITIES`: every position of a copy equals that of the cluster's original with that probability, and is random else; so pairs of
original and copy have exactly that expected similarity, and pairs of two copies its square. Members of a cluster lie anywhere in the
crawl. Everything is arithmetic: any shard can be made alone, and any document be asked for its cluster, without a table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ccpipe.kernels import kernel, mix
from ccpipe.meta import write_group

SIMILARITIES = np.array([0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0])
SIZES = np.array([2] * 40 + [3] * 10 + [5] * 6 + [10] * 3 + [80])
"""Sizes of the clusters in one tile; tiles follow each other, each with the next similarity."""

ENDS = np.cumsum(SIZES)
TILE = int(ENDS[-1])
ALONE = 0.7
BLOCK_ROWS = 8192
MULTIPLIER = 2_654_435_761
"""Of the permutation; a prime, so that it is coprime to any number of documents that is not a multiple of it."""


@dataclass(frozen=True)
class Crawl:
    n_docs: int
    shard_docs: int
    n_hashes: int = 128
    seed: int = 1

    @property
    def n_shards(self) -> int:
        return -(-self.n_docs // self.shard_docs)

    @property
    def alone(self) -> int:
        """Places from here on belong to clusters, but for an unfinished tile at the end."""
        return self.n_docs - int(self.n_docs * (1 - ALONE)) // TILE * TILE

    def rows(self, shard: int) -> int:
        return min(self.shard_docs, self.n_docs - shard * self.shard_docs)

    def write_signatures(self, shard: int, path: Path) -> int:
        """The signature file of a shard; returns its documents."""
        n_rows = self.rows(shard)
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<u8", "fortran_order": False, "shape": (n_rows, self.n_hashes)})
            for first in range(0, n_rows, BLOCK_ROWS):
                numbers = shard * self.shard_docs + np.arange(first, min(first + BLOCK_ROWS, n_rows))
                file.write(self.signatures(numbers).data)
        return n_rows

    def write_base(self, shard: int, path: Path) -> int:
        """A base of one small column; returns its documents."""
        write_group(path, pa.table({"text_bytes": np.zeros(self.rows(shard), np.uint32)}))
        return self.rows(shard)

    def signatures(self, numbers: np.ndarray) -> np.ndarray:
        """Of documents by their number in the crawl: uint64, shape (n, n_hashes)."""
        cluster, member, similarity = self.places(numbers)
        sigs = np.empty((len(numbers), self.n_hashes), np.uint64)
        threshold = np.array([min(int(s * 2.0**64), 2**64 - 1) for s in (*SIMILARITIES, 0)], np.uint64)[similarity]
        _fill(numbers.astype(np.uint64), cluster, member, threshold, np.uint64(self.seed), sigs)
        return sigs

    def places(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cluster (-1: alone), place in it (0: the original), index of its similarity (-1: alone): int64, shape (n,) each."""
        at = (numbers.astype(np.int64) * MULTIPLIER) % self.n_docs - self.alone
        tile, within = np.divmod(at, TILE)
        which = np.searchsorted(ENDS, within, "right")
        alone = at < 0
        cluster = np.where(alone, -1, tile * len(SIZES) + which)
        member = np.where(alone, 0, within - (ENDS - SIZES)[which])
        return cluster, member, np.where(alone, -1, tile % len(SIMILARITIES))

    def size(self, cluster: np.ndarray) -> np.ndarray:
        return np.where(cluster < 0, 1, SIZES[cluster % len(SIZES)])

    def member(self, cluster: np.ndarray, place: np.ndarray | int) -> np.ndarray:
        """Number of the document at this place of a cluster."""
        tile, which = np.divmod(cluster, len(SIZES))
        at = self.alone + tile * TILE + (ENDS - SIZES)[which] + place
        # Python's integers: the product of two numbers of a crawl may not fit a word
        inverse = pow(MULTIPLIER, -1, self.n_docs) if self.n_docs > 1 else 0
        if self.n_docs < math.isqrt(1 << 63):
            return (at * inverse) % self.n_docs
        return np.array([int(x) * inverse % self.n_docs for x in at], np.int64)

    def smallest(self, cluster: np.ndarray) -> np.ndarray:
        """The member with the smallest number."""
        found = self.member(cluster, 0)
        sizes = self.size(cluster)
        for place in range(1, int(sizes.max(initial=0))):
            several = np.flatnonzero(sizes > place)
            found[several] = np.minimum(found[several], self.member(cluster[several], place))
        return found

    def ids(self, numbers: np.ndarray) -> np.ndarray:
        shard, row = np.divmod(numbers, self.shard_docs)
        return (shard.astype(np.uint64) << np.uint64(32)) | row.astype(np.uint64)

    def numbers(self, ids: np.ndarray) -> np.ndarray:
        return (ids >> np.uint64(32)).astype(np.int64) * self.shard_docs + (ids & np.uint64(0xFFFFFFFF)).astype(np.int64)


@kernel
def _fill(numbers: np.ndarray, cluster: np.ndarray, member: np.ndarray, threshold: np.ndarray, seed: np.uint64, sigs: np.ndarray) -> None:
    for i in range(len(numbers)):
        own = mix(mix(numbers[i] + np.uint64(1)) ^ seed)
        original = mix(mix(np.uint64(cluster[i] + 2) << np.uint64(20)) ^ ~seed)
        for position in range(sigs.shape[1]):
            alone = mix(own + np.uint64(2 * position))
            if cluster[i] < 0:
                sigs[i, position] = alone
            elif member[i] == 0 or mix(own + np.uint64(2 * position + 1)) < threshold[i] or threshold[i] == np.uint64(0xFFFFFFFFFFFFFFFF):
                sigs[i, position] = mix(original + np.uint64(position))
            else:
                sigs[i, position] = alone
