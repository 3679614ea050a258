"""Bands and rows: the S-curve, and the choice from a wanted similarity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccpipe.bands import PRESETS, RECALL, Banding, choose_bands, collision_probability, curve, threshold


def test_published_odds() -> None:
    """FineWeb (Penedo et al. 2024, section on deduplication) names 56, 77, 92 and 98.8 % for 0.7, 0.75, 0.8 and 0.85 at 14 x 8."""
    odds = [collision_probability(s, 14, 8) for s in (0.7, 0.75, 0.8, 0.85)]
    assert np.round(odds, 3).tolist() == [0.565, 0.772, 0.924, 0.988]


def test_curve_equals_a_simulation() -> None:
    """Independent equal positions with probability s, cut into bands."""
    rng = np.random.default_rng(0)
    for s in (0.5, 0.7, 0.8, 0.9):
        equal = rng.random((20_000, 16, 8)) < s
        met = equal.all(axis=2).any(axis=1).mean()
        assert abs(met - collision_probability(s, 16, 8)) < 0.015


def test_presets() -> None:
    assert PRESETS["fineweb"] == Banding(14, 8) and PRESETS["strict"].width == PRESETS["full"].width == 128
    assert choose_bands(0.8) == PRESETS["full"]


@given(st.floats(0.3, 1.0), st.integers(16, 512))
def test_choice_is_the_most_selective_that_finds_enough(similarity: float, n_hashes: int) -> None:
    chosen = choose_bands(similarity, n_hashes)
    assert chosen.width <= n_hashes
    assert chosen.probability(similarity) >= RECALL
    more = chosen.rows + 1
    assert more > n_hashes or collision_probability(similarity, n_hashes // more, more) < RECALL


@given(st.integers(1, 60), st.integers(1, 30))
def test_curve_rises_from_0_to_1_through_its_threshold(bands: int, rows: int) -> None:
    values = [p for _, p in curve(bands, rows)]
    assert values[0] == 0 and values[-1] == 1 and values == sorted(values)
    assert collision_probability(threshold(bands, rows), bands, rows) == pytest.approx(0.5)


def test_impossible_wishes_say_what_to_change() -> None:
    with pytest.raises(ValueError, match="raise similarity or max_bands"):
        choose_bands(0.05, 8)
    with pytest.raises(ValueError, match=r"expected more than 0 and at most 1"):
        choose_bands(1.2)
    with pytest.raises(ValueError, match="bands = 16, rows = 8"):
        Banding(0, 8)
