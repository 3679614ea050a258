"""Bands and rows: which similar documents meet.

In: the similarity that shall be found. Out: how many bands of how many rows a signature is cut into. Two documents of
similarity s agree in all `rows` positions of at least one of `bands` bands with probability 1 - (1 - s^rows)^bands
(Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4): the S-curve.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ccpipe.minhash import N_HASHES

KEY_BYTES = 16
"""A band key and its document, in the route files and again, for the time of the sort, in memory."""

HASH_BYTES = 8
"""A position of a signature, as wide as the sig stage makes it by default."""

RECALL = 0.92
"""Share of the pairs at exactly the wanted similarity that must meet. FineWeb's 14 x 8 finds 92 % of the pairs at 0.8."""


@dataclass(frozen=True)
class Banding:
    """`bands` groups of `rows` consecutive positions of a signature; positions beyond bands x rows are not used."""

    bands: int
    rows: int

    def __post_init__(self) -> None:
        if self.bands < 1 or self.rows < 1:
            raise ValueError(f"{self.bands} bands of {self.rows} rows: both must be at least 1, for instance bands = 16, rows = 8")

    @property
    def width(self) -> int:
        return self.bands * self.rows

    @property
    def key_bytes(self) -> int:
        """Bytes of route files per document."""
        return self.bands * KEY_BYTES

    @property
    def signature_bytes(self) -> int:
        """Bytes of signature files per document where the signature is as wide as this banding needs."""
        return self.width * HASH_BYTES

    def probability(self, similarity: float) -> float:
        return collision_probability(similarity, self.bands, self.rows)


PRESETS = {
    "fineweb": Banding(14, 8),
    "full": Banding(16, 8),
    "strict": Banding(8, 16),
    "refinedweb": Banding(450, 20),
}
"""FineWeb (Penedo et al. 2024); all of 128 hashes; near-identical only; RefinedWeb (Penedo et al. 2023, 9,000 hashes)."""


def collision_probability(similarity: float, bands: int, rows: int) -> float:
    """Probability 0..1 that two documents of this Jaccard similarity (0..1) share at least one band.

    >>> round(collision_probability(0.8, bands=14, rows=8), 3)
    0.924
    """
    return 1.0 - (1.0 - similarity**rows) ** bands


def threshold(bands: int, rows: int) -> float:
    """The similarity at which half of the pairs meet: where the S-curve passes 1/2.

    >>> round(threshold(14, 8), 3)
    0.685
    """
    return float((1.0 - 0.5 ** (1.0 / bands)) ** (1.0 / rows))


def choose_bands(similarity: float, n_hashes: int = N_HASHES, recall: float = RECALL, max_bands: int | None = None) -> Banding:
    """The most selective banding that finds at least `recall` of the pairs at `similarity`.

    More rows let fewer dissimilar pairs meet and need fewer keys; of all bandings that are good enough the one with most
    rows is taken, with as many bands as fit. similarity: 0 < s <= 1; max_bands: limit of the keys per document.
    Raises `ValueError` where no banding of `n_hashes` reaches the recall.

    >>> choose_bands(0.8)
    Banding(bands=16, rows=8)
    >>> choose_bands(0.9), choose_bands(1.0)
    (Banding(bands=9, rows=13), Banding(bands=1, rows=128))
    """
    if not 0 < similarity <= 1:
        raise ValueError(f"similarity {similarity}: expected more than 0 and at most 1, for instance 0.8")
    for rows in range(n_hashes, 0, -1):
        bands = min(n_hashes // rows, max_bands or n_hashes)
        if collision_probability(similarity, bands, rows) >= recall:
            return Banding(bands, rows)
    best = collision_probability(similarity, min(n_hashes, max_bands or n_hashes), 1)
    raise ValueError(
        f"similarity {similarity} with {n_hashes} hashes and at most {max_bands or n_hashes} bands finds at best {best:.0%} of the pairs, "
        f"wanted {recall:.0%}: raise similarity or max_bands, lower recall, or give more hashes"
    )


def curve(bands: int, rows: int, steps: int = 20) -> list[tuple[float, float]]:
    """The S-curve as (similarity, probability) at 0, 1/steps, ..., 1."""
    return [(i / steps, collision_probability(i / steps, bands, rows)) for i in range(steps + 1)]


@dataclass(frozen=True)
class Expected:
    """What a banding does to a corpus whose pairs are known: numbers of pairs, those at `similarity` or above being wanted."""

    wanted: float
    missed: float
    unwanted: float
    met_unwanted: float

    @property
    def recall(self) -> float:
        return 1.0 - self.missed / self.wanted if self.wanted else 1.0


def expect(banding: Banding, pairs: Mapping[float, float], similarity: float) -> Expected:
    """How many pairs of a histogram (similarity 0..1 -> number of pairs) meet and how many do not.

    Pairs that share no band can still end in one cluster through a third document; this counts pairs alone.

    >>> expect(Banding(14, 8), {0.7: 1000, 0.8: 500, 0.9: 100}, 0.8)
    Expected(wanted=600, missed=38.3, unwanted=1000, met_unwanted=564.5)
    """
    wanted = {s: n for s, n in pairs.items() if s >= similarity}
    below = {s: n for s, n in pairs.items() if s < similarity}
    missed = sum(n * (1.0 - banding.probability(s)) for s, n in wanted.items())
    met = sum(n * banding.probability(s) for s, n in below.items())
    return Expected(sum(wanted.values()), round(missed, 1), sum(below.values()), round(met, 1))
