"""MinHash signatures of documents: equal positions of two signatures estimate the Jaccard similarity of their shingle sets.

In: UTF-8 bytes and offsets. Out: uint64, shape (n_docs, n_hashes). Tokens and their normalisation are those of
`ccpipe.tokens`; a shingle is `shingle` tokens in a row. A document of fewer tokens is one shingle, all its tokens; a
document without any token is the hash of its raw bytes. So no document is left out, and two are alike only where their
text is: "short" is never a cluster.

The family is fast similarity sketching (Dahlgaard, Knudsen and Thorup, FOCS 2017, arXiv 1704.04370). Round r throws every
shingle into one of the n_hashes positions with a value; a position keeps the smallest value of the first round in which
anything fell into it; from round n_hashes on, round r fills position r - n_hashes alone, so that none stays empty. Each
position is the minimum of one random order over all shingles, exactly as in MinHash (Broder 1997), so the share of equal
positions is an unbiased estimate of Jaccard similarity, concentrated like that of independent MinHashes. A document of n
shingles costs about max(n, k ln k) hashes instead of n k. Integer arithmetic only: every machine gives the same signature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ccpipe.kernels import BASE, STEP, kernel, mix
from ccpipe.tokens import hash_tokens

N_HASHES = 128
SHINGLE = 5
"""Word 5-grams, as FineWeb (Penedo et al. 2024)."""

SEED = 1
"""Signatures of different seeds cannot be compared."""

CHUNK_BYTES = 1 << 18
"""Text worked on at once: its tokens and shingles stay in the cache."""

MAX_REPEATED = 1 << 12
"""A document of more shingles that leaves a position empty in the first round repeats itself: with 4,096 different shingles one
of 128 positions stays empty once in 10^12 documents. Its repeats are removed before the next round."""

BLOCK = 256
"""Shingles hashed at once."""

FILLED = np.uint64(0)
EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class Signatures:
    """`values`: uint64, shape (n_docs, n_hashes); `n_tokens`: int64, shape (n_docs,)."""

    values: np.ndarray
    n_tokens: np.ndarray


@kernel
def hash_bytes(data: np.ndarray, start: int, stop: int) -> np.uint64:
    """Hash of raw bytes, for documents without tokens."""
    value = BASE ^ np.uint64(stop - start)
    for at in range(start, stop):
        value = mix(value ^ np.uint64(data[at])) * BASE
    return mix(value)


@kernel
def write_shingles(tokens: np.ndarray, shingle: int) -> int:
    """Replace token hashes by shingle hashes, in place; returns how many. Fewer tokens than `shingle` make one.

    The hash of tokens t1..tn is the polynomial t1 B^(n-1) + ... + tn modulo 2^64; rolled along where n = shingle.
    """
    n = min(len(tokens), shingle)
    value = np.uint64(0)
    top = np.uint64(1)
    for i in range(n):
        value = value * BASE + tokens[i]
        top *= BASE
    if len(tokens) <= shingle:
        # the number of tokens goes in, so that a short document never equals a shingle of a long one
        tokens[0] = value + np.uint64(shingle - n) * STEP
        return 1
    for i in range(len(tokens) - n):
        first = tokens[i]
        tokens[i] = value
        value = value * BASE + tokens[i + n] - first * top
    tokens[len(tokens) - n] = value
    return len(tokens) - n + 1


@kernel
def remove_repeats(shingles: np.ndarray) -> int:
    """Sort and keep one of each, in place; returns how many."""
    shingles.sort()
    n = 1
    for i in range(1, len(shingles)):
        if shingles[i] != shingles[n - 1]:
            shingles[n] = shingles[i]
            n += 1
    return n


@kernel
def throw(shingles: np.ndarray, salt: np.uint64, hashes: np.ndarray, limit: np.ndarray, opened: np.ndarray, first: bool) -> int:
    """One round: `limit` takes the smallest values of its open positions; returns how many got their first, named in `opened`."""
    k, n_opened = len(limit), 0
    for start in range(0, len(shingles), BLOCK):
        size = min(BLOCK, len(shingles) - start)
        # hashed in a loop of its own, which compilers turn into vector instructions
        for i in range(size):
            hashes[i] = mix(shingles[start + i] ^ salt)
        for i in range(size):
            # the position comes from the upper half of the bits, the order within it from the lower
            position = np.int64(((hashes[i] >> np.uint64(32)) * np.uint64(k)) >> np.uint64(32))
            value = (hashes[i] << np.uint64(32)) | (hashes[i] >> np.uint64(32))
            if first:
                # which of these are smaller nobody can predict: no branch
                limit[position] = min(limit[position], value)
            elif value < limit[position]:
                opened[n_opened] = position
                n_opened += int(limit[position] == EMPTY)
                limit[position] = value
    if first:
        for place in range(k):
            opened[n_opened] = place
            n_opened += int(limit[place] != EMPTY)
    return n_opened


@kernel
def sketch(shingles: np.ndarray, seed: np.uint64, row: np.ndarray) -> None:
    """Fill `row`, uint64, shape (n_hashes,), from shingle hashes, which are reordered where they repeat much."""
    k, n = len(row), len(shingles)
    # what a value must stay below to be taken: nothing gets into a position that an earlier round filled
    limit = np.full(k, EMPTY, dtype=np.uint64)
    opened = np.empty(k + 1, dtype=np.int64)
    hashes = np.empty(BLOCK, dtype=np.uint64)
    left = k
    for number in range(2 * k):
        salt = mix(seed + np.uint64(number + 1) * STEP)
        n_opened = 0
        if number < k:
            n_opened = throw(shingles[:n], salt, hashes, limit, opened, number == 0)
        elif limit[number - k] == EMPTY:
            opened[0], n_opened = number - k, 1
            for i in range(n):
                limit[number - k] = min(limit[number - k], mix(shingles[i] ^ salt))
        # only positions of this round are looked at: a round of few shingles and thousands of positions stays short
        for i in range(n_opened):
            row[opened[i]] = limit[opened[i]]
            limit[opened[i]] = FILLED
        left -= n_opened
        if left == 0:
            return
        if number == 0 and n > MAX_REPEATED:
            n = remove_repeats(shingles)
    # the minimum of a position was the largest word there is: once in 2^64
    for position in range(k):
        if limit[position] != FILLED:
            row[position] = limit[position]


@kernel
def _sign(
    data: np.ndarray, offsets: np.ndarray, tokens: np.ndarray, ends: np.ndarray, shingle: int, seed: np.uint64, rows: np.ndarray
) -> None:
    alone = np.empty(1, dtype=np.uint64)
    for doc in range(len(offsets) - 1):
        first, last = ends[doc], ends[doc + 1]
        if first == last:
            alone[0] = hash_bytes(data, offsets[doc], offsets[doc + 1])
            sketch(alone, seed, rows[doc])
        else:
            n = write_shingles(tokens[first:last], shingle)
            sketch(tokens[first : first + n], seed, rows[doc])


@kernel
def narrow(values: np.ndarray) -> np.ndarray:
    """Half as wide: uint64 of two dimensions -> uint32 of the same shape. Unequal positions become equal once in 2^32."""
    result = np.empty(values.shape, dtype=np.uint32)
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            # minima are small and a position fixes its upper bits, so no half of them is uniform as it is
            result[i, j] = mix(values[i, j]) >> np.uint64(32)
    return result


def sign(data: np.ndarray, offsets: np.ndarray, n_hashes: int = N_HASHES, shingle: int = SHINGLE, seed: int = SEED) -> Signatures:
    """Signatures and token counts of a batch of documents.

    data: uint8, UTF-8; offsets: int64, shape (n_docs + 1,), document i is data[offsets[i]:offsets[i + 1]]. Memory besides the
    result: four bytes per byte of the largest document, and a few megabytes.
    """
    n_docs = len(offsets) - 1
    values = np.empty((n_docs, n_hashes), dtype=np.uint64)
    n_tokens = np.empty(n_docs, dtype=np.int64)
    first = 0
    while first < n_docs:
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + CHUNK_BYTES, side="right")) - 1)
        last = min(last, n_docs)
        part = offsets[first : last + 1]
        tokens, ends = hash_tokens(data, part)
        _sign(data, part, tokens, ends, shingle, np.uint64(seed), values[first:last])
        n_tokens[first:last] = np.diff(ends)
        first = last
    return Signatures(values, n_tokens)


def signatures(data: np.ndarray, offsets: np.ndarray, n_hashes: int = N_HASHES, shingle: int = SHINGLE, seed: int = SEED) -> np.ndarray:
    """Signatures of a batch of documents: uint64, shape (n_docs, n_hashes).

    >>> text = b"The quick brown fox jumps over it." * 2
    >>> one, two = signatures(np.frombuffer(text, np.uint8), np.array([0, 34, 68]))
    >>> estimate_similarity(one, two)
    1.0
    """
    return sign(data, offsets, n_hashes, shingle, seed).values


def estimate_similarity(one: np.ndarray, two: np.ndarray) -> float:
    """Estimated Jaccard similarity of two documents, 0..1: the share of equal positions. Standard error sqrt(J (1 - J) / n_hashes)."""
    return float(np.mean(one == two))
