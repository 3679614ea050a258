"""Sorting pairs of 64-bit words, on which route and match spend their time."""

from __future__ import annotations

import numpy as np

from ccpipe.kernels import kernel

DIGIT_BITS = 8
DIGITS = 64 // DIGIT_BITS


@kernel
def _count_digits(keys: np.ndarray) -> np.ndarray:
    counts = np.zeros((DIGITS, 1 << DIGIT_BITS), dtype=np.int64)
    for i in range(len(keys)):
        key = keys[i]
        for digit in range(DIGITS):
            counts[digit, np.int64((key >> np.uint64(digit * DIGIT_BITS)) & np.uint64((1 << DIGIT_BITS) - 1))] += 1
    return counts


@kernel
def _scatter(keys: np.ndarray, values: np.ndarray, digit: int, starts: np.ndarray, to_keys: np.ndarray, to_values: np.ndarray) -> None:
    shift = np.uint64(digit * DIGIT_BITS)
    for i in range(len(keys)):
        bucket = np.int64((keys[i] >> shift) & np.uint64((1 << DIGIT_BITS) - 1))
        at = starts[bucket]
        to_keys[at] = keys[i]
        to_values[at] = values[i]
        starts[bucket] = at + 1


def sort_pairs(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both arrays, uint64, shape (n,), in the order of the keys; equal keys stay in their order. The inputs are overwritten.

    Radix sort from the lowest byte; bytes that are equal in all keys cost nothing. Memory: the size of the inputs again.
    """
    counts = _count_digits(keys)
    spare_keys, spare_values = np.empty_like(keys), np.empty_like(values)
    for digit in range(DIGITS):
        if counts[digit].max() == len(keys):
            continue
        starts = np.cumsum(counts[digit]) - counts[digit]
        _scatter(keys, values, digit, starts, spare_keys, spare_values)
        keys, spare_keys = spare_keys, keys
        values, spare_values = spare_values, values
    return keys, values


def unique_pairs(firsts: np.ndarray, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct pairs, sorted by first, then second. The inputs are overwritten."""
    seconds, firsts = sort_pairs(seconds, firsts)
    firsts, seconds = sort_pairs(firsts, seconds)
    new = np.ones(len(firsts), dtype=bool)
    new[1:] = (firsts[1:] != firsts[:-1]) | (seconds[1:] != seconds[:-1])
    return firsts[new], seconds[new]
