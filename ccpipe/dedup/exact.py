"""Exact Jaccard similarity of texts: of the sets of shingles that their signatures estimate it from.

In: texts, or where they lie. Out: similarities 0..1. Shingles are 64-bit hashes; two unequal ones share one once in 2^64.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from ccpipe.meta import read_columns
from ccpipe.minhash import hash_bytes, write_shingles
from ccpipe.tokens import hash_tokens
from ccpipe.wet import read_texts

V = TypeVar("V")

TEXT_CACHE_BYTES = 64 << 20
"""Shingle sets kept."""

PLACE_CACHE_BYTES = 64 << 20
"""Offsets and lengths of the records of shards kept: 12 bytes per document."""


def shingle_set(text: bytes, shingle: int) -> np.ndarray:
    """The different shingles of a text: uint64, sorted, shape (n,), n >= 1."""
    data = np.frombuffer(text, np.uint8)
    tokens, _ = hash_tokens(data, np.array([0, len(data)]))
    if not len(tokens):
        return np.array([hash_bytes(data, 0, len(data))], dtype=np.uint64)
    tokens = tokens.copy()
    return np.unique(tokens[: write_shingles(tokens, shingle)])


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Shared members over all members of two sorted sets.

    >>> jaccard(shingle_set(b"a b c d", 2), shingle_set(b"a b c e", 2))
    0.5
    """
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)


class Cache(Generic[V]):
    """The values used last, up to so many bytes."""

    def __init__(self, max_bytes: int, size: Callable[[V], int]) -> None:
        self.left, self.size = max_bytes, size
        self.values: OrderedDict[int, V] = OrderedDict()

    def get(self, key: int, make: Callable[[int], V]) -> V:
        if key in self.values:
            self.values.move_to_end(key)
            return self.values[key]
        value = self.values[key] = make(key)
        self.left -= self.size(value)
        while self.left < 0 and len(self.values) > 1:
            self.left += self.size(self.values.popitem(last=False)[1])
        return value


class Texts:
    """Texts of a run's documents by id, read from exact ranges of the WET; bounded memory.

    wet, base: the files of all shards, in their order.
    """

    def __init__(self, wet: Sequence[Path], base: Sequence[Path], shingle: int) -> None:
        self.wet, self.base, self.shingle = wet, base, shingle
        self.read = 0
        self._places: Cache[np.ndarray] = Cache(PLACE_CACHE_BYTES, lambda found: found.nbytes)
        self._sets: Cache[np.ndarray] = Cache(TEXT_CACHE_BYTES, lambda found: found.nbytes)

    def text(self, document: int) -> str:
        shard, row = document >> 32, document & 0xFFFFFFFF
        place = self._places.get(shard, self._read_places)[row : row + 1]
        self.read += 1
        return str(read_texts(self.wet[shard], place["offset"], place["length"])[0].as_py())

    def similarity(self, one: int, other: int) -> float:
        """Exact Jaccard similarity of two documents."""
        return jaccard(self._sets.get(one, self._read_set), self._sets.get(other, self._read_set))

    def _read_set(self, document: int) -> np.ndarray:
        return shingle_set(self.text(document).encode(), self.shingle)

    def _read_places(self, shard: int) -> np.ndarray:
        table = read_columns([self.base[shard]], ["wet_offset", "wet_length"])
        places = np.empty(len(table), dtype=[("offset", np.uint64), ("length", np.uint32)])
        places["offset"], places["length"] = table.column("wet_offset").to_numpy(), table.column("wet_length").to_numpy()
        return places
