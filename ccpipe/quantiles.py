"""Exact weighted quantiles of float32 scores, in bounded memory, from two passes over them.

The bits of a float32, with the sign handled, sort as the numbers do. One pass counts the upper 16 bits of every score, the
second one the lower 16 bits in the few places where a quantile lies. The answer depends neither on the order nor on
how the scores are cut into pieces.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Keys = npt.NDArray[np.uint32]
Weights = npt.NDArray[np.int64]

HALF = 1 << 16
"""Values of one half of a 32-bit key."""


def sort_keys(scores: Scores) -> Keys:
    """Keys in the order of the scores: uint32, of the same shape. Both zeros have one key."""
    bits = (scores + np.float32(0)).view(np.uint32)  # -0.0 + 0.0 is 0.0
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def score_of_key(key: int) -> np.float32:
    """The score that `sort_keys` gave this key."""
    bits = np.array([key], dtype=np.uint32)
    return np.float32(np.where(bits >> 31, bits & np.uint32(0x7FFFFFFF), ~bits).view(np.float32)[0])


class QuantileCounter:
    """Exact weighted quantiles of a stream seen twice: `add_coarse` all of it, `narrow`, `add_fine` all of it, `thresholds`.

    Holds at most (n_buckets + 1) x 65,536 integers.
    """

    def __init__(self, n_buckets: int) -> None:
        self.n_buckets = n_buckets
        self.total = 0
        self._coarse = np.zeros(HALF, dtype=np.int64)
        self._slots = np.full(HALF, -1, dtype=np.int64)
        self._fine = np.zeros((0, HALF), dtype=np.int64)
        self._places: list[tuple[int, int]] = []

    def add_coarse(self, keys: Keys, weights: Weights) -> None:
        self._coarse += _histogram(keys >> 16, weights, HALF)

    def narrow(self) -> None:
        """Find in which coarse bin, and how deep in it, each threshold lies."""
        below = np.cumsum(self._coarse)
        self.total = int(below[-1])
        targets = _targets(self.total, self.n_buckets) if self.total else []
        bins = [int(np.searchsorted(below, target)) for target in targets]
        self._places = [(b, target - int(below[b] - self._coarse[b])) for b, target in zip(bins, targets, strict=True)]
        needed = sorted(set(bins))
        self._slots[needed] = np.arange(len(needed))
        self._fine = np.zeros((len(needed), HALF), dtype=np.int64)

    def add_fine(self, keys: Keys, weights: Weights) -> None:
        slots = self._slots[keys >> 16]
        for slot in range(len(self._fine)):
            here = slots == slot
            self._fine[slot] += _histogram(keys[here] & np.uint32(0xFFFF), weights[here], HALF)

    def thresholds(self) -> Scores:
        """float32, shape (n_buckets - 1,), rising; shape (0,) when nothing was counted."""
        below = np.cumsum(self._fine, axis=1)
        keys = [b << 16 | int(np.searchsorted(below[self._slots[b]], depth)) for b, depth in self._places]
        return np.array([score_of_key(key) for key in keys], dtype=np.float32)


def _targets(total: int, n_buckets: int) -> list[int]:
    """Smallest weights that reach k / n_buckets of the total, k = 1, 2, ...: in integers, so that no rounding decides."""
    return [-(-total * k // n_buckets) for k in range(1, n_buckets)]


def _histogram(bins: npt.NDArray[Any], weights: Weights, n_bins: int) -> npt.NDArray[np.int64]:
    # float64 sums of one shard are exact up to 9e15 bytes
    return np.bincount(bins, weights=weights, minlength=n_bins).astype(np.int64)
