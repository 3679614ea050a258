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
def _band_keys(sigs: np.ndarray, ids: np.ndarray, salts: np.ndarray, bands: int, rows: int, pairs: np.ndarray) -> None:
    n = 0
    for i in range(len(sigs)):
        salt = salts[i] if len(salts) else np.uint64(0)
        for band in range(bands):
            key = mix(np.uint64(band + 1) * STEP)
            for row in range(band * rows, band * rows + rows):
                key = key * BASE + sigs[i, row]
            pairs[n, 0] = mix(key ^ salt)
            pairs[n, 1] = ids[i]
            n += 1


def band_keys(
    sigs: np.ndarray, ids: np.ndarray, banding: Banding, pairs: np.ndarray | None = None, salts: np.ndarray = NO_SALTS
) -> np.ndarray:
    """(key, document) of all bands: uint64, shape (n_docs x bands, 2), in the order of documents, then bands.

    sigs: uint64, shape (n_docs, n_hashes); ids: uint64, shape (n_docs,); pairs: where to write them, made where it is not given;
    salts: uint64, shape (n_docs,), what keeps documents of different scopes apart.
    """
    if pairs is None:
        pairs = np.empty((len(sigs) * banding.bands, 2), dtype=np.uint64)
    _band_keys(sigs, ids, salts, banding.bands, banding.rows, pairs)
    return pairs


def key_range(index: int, count: int) -> tuple[int, int]:
    """First and last key of range `index` of `count` equal ranges.

    >>> key_range(0, 1) == (0, 2**64 - 1), key_range(1, 2) == (2**63, 2**64 - 1)
    (True, True)
    """
    return -(-(index << 64) // count), -(-((index + 1) << 64) // count) - 1
