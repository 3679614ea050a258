"""Band keys of signatures, and the ranges they are divided into.

A key is the hash of one band of a signature and of the band's number, so that bands never meet each other. Keys are uniform
64-bit words; two unequal bands share one with probability 2^-64 (about 60 such pairs among 3 billion documents of 16 bands).
"""

from __future__ import annotations

import numpy as np

from ccpipe.bands import Banding
from ccpipe.kernels import BASE, STEP, kernel, mix

NO_SALTS = np.empty(0, dtype=np.uint64)
"""One scope: keys as they are."""


@kernel
def _band_keys(
    sigs: np.ndarray,
    ids: np.ndarray,
    salts: np.ndarray,
    bands: int,
    rows: int,
    first: np.uint64,
    last: np.uint64,
    keys: np.ndarray,
    docs: np.ndarray,
) -> int:
    n = 0
    for i in range(len(sigs)):
        salt = salts[i] if len(salts) else np.uint64(0)
        for band in range(bands):
            key = mix(np.uint64(band + 1) * STEP)
            for row in range(band * rows, band * rows + rows):
                key = key * BASE + sigs[i, row]
            key = mix(key ^ salt)
            if first <= key <= last:
                keys[n] = key
                docs[n] = ids[i]
                n += 1
    return n


def band_keys(
    sigs: np.ndarray, ids: np.ndarray, banding: Banding, first: int = 0, last: int = (1 << 64) - 1, salts: np.ndarray = NO_SALTS
) -> tuple[np.ndarray, np.ndarray]:
    """Keys and documents, uint64, shape (n,), for the keys first..last; in the order of documents, then bands.

    sigs: uint64, shape (n_docs, n_hashes); ids: uint64, shape (n_docs,); salts: of the same shape, what keeps scopes apart.
    """
    keys = np.empty(len(sigs) * banding.bands, dtype=np.uint64)
    docs = np.empty_like(keys)
    n = _band_keys(sigs, ids, salts, banding.bands, banding.rows, np.uint64(first), np.uint64(last), keys, docs)
    return keys[:n], docs[:n]


def key_range(index: int, count: int) -> tuple[int, int]:
    """First and last key of range `index` of `count` equal ranges.

    >>> key_range(0, 1) == (0, 2**64 - 1), key_range(1, 2) == (2**63, 2**64 - 1)
    (True, True)
    """
    return -(-(index << 64) // count), -(-((index + 1) << 64) // count) - 1
