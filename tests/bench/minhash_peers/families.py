"""Families of hash functions for the same shingles, compared in `bench_minhash.py --families`: what each costs and how exact it is.

mixes      one full hash for each position and shingle: MinHash as Broder (1997) defines it, as near as 64 bits come
affine     (a x + b) mod 2^64, upper half, for each position: 2-independent multiply-shift (Dietzfelbinger 1996)
oph        one permutation hashing with optimal densification (Shrivastava 2017, arXiv 1703.04664): one hash for each shingle,
           empty positions copy one that a hash of (position, attempt) chooses
fast       `ccpipe.minhash.sketch`
"""

from __future__ import annotations

import time

import numpy as np

from ccpipe.kernels import STEP, kernel, mix
from ccpipe.minhash import sketch

K = 128
EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)


@kernel
def mixes(shingles: np.ndarray, seed: np.uint64, row: np.ndarray) -> None:
    for position in range(len(row)):
        salt = mix(seed + np.uint64(position + 1) * STEP)
        least = EMPTY
        for i in range(len(shingles)):
            least = min(least, mix(shingles[i] ^ salt))
        row[position] = least


@kernel
def affine(shingles: np.ndarray, seed: np.uint64, row: np.ndarray) -> None:
    for position in range(len(row)):
        a = mix(seed + np.uint64(2 * position + 1) * STEP) | np.uint64(1)
        b = mix(seed + np.uint64(2 * position + 2) * STEP)
        least = EMPTY
        for i in range(len(shingles)):
            least = min(least, (a * shingles[i] + b) >> np.uint64(32))
        row[position] = least


@kernel
def oph(shingles: np.ndarray, seed: np.uint64, row: np.ndarray) -> None:
    k = len(row)
    salt = mix(seed + STEP)
    row[:] = EMPTY
    for i in range(len(shingles)):
        value = mix(shingles[i] ^ salt)
        position = np.int64(((value >> np.uint64(32)) * np.uint64(k)) >> np.uint64(32))
        value = (value << np.uint64(32)) | (value >> np.uint64(32))
        row[position] = min(row[position], value)
    filled = row != EMPTY
    for position in range(k):
        attempt = 0
        source = position
        while not filled[source]:
            attempt += 1
            chosen = mix(salt ^ mix(np.uint64(position + 1) * STEP + np.uint64(attempt)))
            source = np.int64(((chosen >> np.uint64(32)) * np.uint64(k)) >> np.uint64(32))
        row[position] = row[source]


FAMILIES = {"mixes": mixes, "affine": affine, "oph": oph, "fast": sketch}


def pair_of_sets(n: int, similarity: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """Two sets of n hashes with about this Jaccard similarity, and the exact one."""
    common = round(2 * n * similarity / (1 + similarity))
    words = rng.integers(0, 1 << 64, 2 * n - common, dtype=np.uint64)
    return words[:n].copy(), words[n - common :].copy(), common / (2 * n - common)


def compare_families(sizes: tuple[int, ...] = (8, 20, 100, 434, 5000), trials: int = 2000) -> list[str]:
    """A Markdown table: microseconds per document, and the error of the estimate in units of MinHash's standard error."""
    lines = [
        "| family | shingles | us per document | mean error, standard errors of the mean | spread / sqrt(J (1 - J) / 128) |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, family in FAMILIES.items():
        for n in sizes:
            rng = np.random.default_rng(n)
            errors, expected = np.empty(trials), 0.0
            one, other = np.empty(K, np.uint64), np.empty(K, np.uint64)
            seconds = []
            for trial in range(trials):
                a, b, exact = pair_of_sets(n, 0.8, rng)
                start = time.process_time_ns()
                family(a, np.uint64(trial), one)
                seconds.append(time.process_time_ns() - start)
                family(b, np.uint64(trial), other)
                errors[trial] = (one == other).mean() - exact
                expected = (exact * (1 - exact) / K) ** 0.5
            shift = errors.mean() / (errors.std() / trials**0.5)
            lines.append(f"| {name} | {n:,} | {np.median(seconds) / 1e3:.1f} | {shift:+.1f} | {errors.std() / expected:.2f} |")
    return lines
