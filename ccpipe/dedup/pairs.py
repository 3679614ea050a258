"""Sorting pairs of 64-bit words, on which route and match spend their time.

Pairs are rows of a uint64 array of shape (n, 2), ordered by the first word, then by the second. Sorting is radix from the top:
one pass deals all pairs into buckets that fit a core's cache, a second one deals each bucket into pieces of about one pair,
which insertion puts in order. Where values crowd (many copies of one key), a piece is sorted byte by byte instead, so the time
is linear whatever the values.
"""

from __future__ import annotations

import numpy as np

from ccpipe.kernels import kernel

BYTES_PER_PAIR = 32
"""Memory of sorting: the pairs and as much again."""

BUCKET_PAIRS = 1 << 14
"""Pairs in a bucket of the first pass, about: 256 KiB, which a core's second cache holds."""

MAX_BUCKET_BITS = 11
"""More open buckets than this miss the translation buffer at every write."""

MAX_PIECE_BITS = 16
INSERTION = 48
"""Insertion sorts up to so many; more in one piece means that the values crowd."""


@kernel
def _bit_length(value: np.uint64) -> int:
    bits = 0
    while value > np.uint64(0):
        value >>= np.uint64(1)
        bits += 1
    return bits


@kernel
def _spread(pairs: np.ndarray, bits: int) -> tuple[np.uint64, np.uint64]:
    """Smallest first word, and the shift that leaves `bits` bits, at least one, of what is above it."""
    low = high = pairs[0, 0]
    for i in range(len(pairs)):
        low = min(low, pairs[i, 0])
        high = max(high, pairs[i, 0])
    return low, np.uint64(max(_bit_length(high - low) - bits, 0))


@kernel
def _deal(pairs: np.ndarray, low: np.uint64, shift: np.uint64, bounds: np.ndarray, to: np.ndarray) -> None:
    """Copy into buckets, in their order; afterwards bucket b is to[bounds[b]:bounds[b + 1]]. bounds: buckets + 2 long."""
    bounds[:] = 0
    for i in range(len(pairs)):
        bounds[np.int64((pairs[i, 0] - low) >> shift) + 2] += 1
    for i in range(2, len(bounds)):
        bounds[i] += bounds[i - 1]
    for i in range(len(pairs)):
        bucket = np.int64((pairs[i, 0] - low) >> shift) + 1
        at = bounds[bucket]
        to[at, 0] = pairs[i, 0]
        to[at, 1] = pairs[i, 1]
        bounds[bucket] = at + 1


@kernel
def _insert(pairs: np.ndarray) -> None:
    for i in range(1, len(pairs)):
        first, second = pairs[i, 0], pairs[i, 1]
        j = i - 1
        while j >= 0 and (pairs[j, 0] > first or (pairs[j, 0] == first and pairs[j, 1] > second)):
            pairs[j + 1, 0] = pairs[j, 0]
            pairs[j + 1, 1] = pairs[j, 1]
            j -= 1
        pairs[j + 1, 0] = first
        pairs[j + 1, 1] = second


@kernel
def _is_sorted(pairs: np.ndarray) -> bool:
    for i in range(1, len(pairs)):
        if pairs[i, 0] < pairs[i - 1, 0] or (pairs[i, 0] == pairs[i - 1, 0] and pairs[i, 1] < pairs[i - 1, 1]):
            return False
    return True


@kernel
def _sort_bytes(pairs: np.ndarray, spare: np.ndarray) -> None:
    """From the lowest byte of the second word to the highest of the first; bytes equal in all pairs cost nothing."""
    starts = np.empty(257, dtype=np.int64)
    one, other = pairs, spare
    swapped = False
    for digit in range(16):
        word, shift = 1 - digit // 8, np.uint64(8 * (digit % 8))
        starts[:] = 0
        for i in range(len(one)):
            starts[np.int64((one[i, word] >> shift) & np.uint64(255)) + 1] += 1
        if starts.max() == len(one):
            continue
        for i in range(1, 257):
            starts[i] += starts[i - 1]
        for i in range(len(one)):
            byte = np.int64((one[i, word] >> shift) & np.uint64(255))
            other[starts[byte], 0] = one[i, 0]
            other[starts[byte], 1] = one[i, 1]
            starts[byte] += 1
        one, other = other, one
        swapped = not swapped
    if swapped:
        pairs[:] = spare


@kernel
def _sort_bucket(bucket: np.ndarray, result: np.ndarray, bounds: np.ndarray) -> None:
    """Sort `bucket` into `result`; `bucket` is overwritten. bounds: scratch, 2^MAX_PIECE_BITS + 2 long."""
    if len(bucket) == 0:
        return
    bits = min(_bit_length(np.uint64(len(bucket))), MAX_PIECE_BITS)
    low, shift = _spread(bucket, bits)
    _deal(bucket, low, shift, bounds[: (1 << bits) + 2], result)
    for i in range(1 << bits):
        piece = result[bounds[i] : bounds[i + 1]]
        if len(piece) <= INSERTION:
            _insert(piece)
        elif not _is_sorted(piece):
            _sort_bytes(piece, bucket[bounds[i] : bounds[i + 1]])


@kernel
def _sort(pairs: np.ndarray, spare: np.ndarray, bits: int) -> None:
    bounds = np.empty((1 << bits) + 2, dtype=np.int64)
    low, shift = _spread(pairs, bits)
    _deal(pairs, low, shift, bounds, spare)
    pieces = np.empty((1 << MAX_PIECE_BITS) + 2, dtype=np.int64)
    for i in range(1 << bits):
        _sort_bucket(spare[bounds[i] : bounds[i + 1]], pairs[bounds[i] : bounds[i + 1]], pieces)


@kernel
def _unique(pairs: np.ndarray) -> int:
    n = min(1, len(pairs))
    for i in range(1, len(pairs)):
        if pairs[i, 0] != pairs[n - 1, 0] or pairs[i, 1] != pairs[n - 1, 1]:
            pairs[n, 0] = pairs[i, 0]
            pairs[n, 1] = pairs[i, 1]
            n += 1
    return n


def sort_pairs(pairs: np.ndarray, spare: np.ndarray | None = None) -> np.ndarray:
    """`pairs`, uint64, shape (n, 2), sorted in place. spare: of the same shape, overwritten; made where it is not given.

    >>> sort_pairs(np.array([[7, 2], [1, 9], [7, 1]], np.uint64)).tolist()
    [[1, 9], [7, 1], [7, 2]]
    """
    if len(pairs):
        bits = min(max((len(pairs) // BUCKET_PAIRS).bit_length(), 1), MAX_BUCKET_BITS)
        _sort(pairs, np.empty_like(pairs) if spare is None else spare, bits)
    return pairs


def unique_pairs(pairs: np.ndarray, spare: np.ndarray | None = None) -> np.ndarray:
    """The distinct pairs, sorted: a view of `pairs`, which is overwritten."""
    return pairs[: _unique(sort_pairs(pairs, spare))]
