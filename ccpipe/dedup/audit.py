"""Sampled pairs of a dropped document and what was kept instead of it, side by side, for a person to judge.

In: base, marks and WET of all shards. Out: for each stratum some pairs with their addresses, estimated and exact similarity and
the lines in which they differ. The sample is that of the smallest hashes of (seed, document): the same seed shows the same
pairs, whatever the number of shards looked at before. Strata: similarity by tenths, large clusters, pairs across hosts.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ccpipe.dedup.exact import Texts, jaccard, shingle_set
from ccpipe.dedup.past import PAST_SHIFT
from ccpipe.dedup.report import read_pages
from ccpipe.kernels import STEP, kernel, mix
from ccpipe.meta import document_ids, read_columns

LARGE = 100
"""Documents of a cluster from which on it is a stratum of its own."""

ACROSS = "across hosts"
OVERSAMPLE = 50
"""Pairs whose hosts are looked up for each that is wanted of those across hosts."""

MAX_LINES = 2000
MAX_DIFFERENT = 40
MAX_CHARS = 300
"""Lines of a text that are compared, differing lines shown, characters shown of each."""


@dataclass(frozen=True)
class Pair:
    """`kept`: what `dropped` duplicates. `estimate` is None where mark did not measure. `only_*`: lines of one text alone."""

    stratum: str
    dropped: int
    kept: int
    dropped_url: str
    kept_url: str
    cluster_size: int
    estimate: float | None
    exact: float
    only_dropped: list[str]
    only_kept: list[str]
    more_lines: int


@dataclass
class Sample:
    """For each stratum the `most` candidates of the smallest hashes. Rows: hash, dropped, kept, size, similarity in bits."""

    most: int
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def add(self, stratum: str, rows: np.ndarray, most: int | None = None) -> None:
        self.seen[stratum] = self.seen.get(stratum, 0) + len(rows)
        everything = np.concatenate([self.rows.get(stratum, np.empty((0, rows.shape[1]), rows.dtype)), rows])
        self.rows[stratum] = everything[np.argsort(everything[:, 0], kind="stable")][: most or self.most]


@dataclass(frozen=True)
class Audit:
    """`seen`: dropped documents of each stratum; `of_past`: those whose counterpart is of an earlier crawl, which are not shown."""

    pairs: list[Pair]
    seen: dict[str, int]
    dropped: int
    of_past: int


def audit(base: Sequence[Path], marks: Sequence[Path], texts: Texts, n_pairs: int, seed: int, family: str = "dedup") -> Audit:
    """Sample `n_pairs` of each stratum. base, marks: files of all shards, by shard; texts: of the same."""
    sample = Sample(n_pairs)
    dropped = of_past = 0
    for shard, path in enumerate(marks):
        rows, past = _candidates(path, shard, seed, family)
        dropped, of_past = dropped + len(rows) + past, of_past + past
        _stratify(rows, sample)
    hosts = sample.rows.pop(ACROSS, np.empty((0, 5), np.uint64))
    pages = read_pages(base, sorted({int(d) for d in hosts[:, 1:3].ravel()}))
    across = [row for row in hosts if pages[int(row[1])]["host"] != pages[int(row[2])]["host"]]
    sample.seen.pop(ACROSS, None)
    if across:
        sample.rows[ACROSS] = np.array(across[:n_pairs])
    chosen = [(stratum, row) for stratum, rows in sorted(sample.rows.items()) for row in rows]
    pages = read_pages(base, sorted({int(d) for _, row in chosen for d in row[1:3]}))
    pairs = [_pair(stratum, row, lambda d: str(pages[d]["url"]), texts) for stratum, row in chosen]
    return Audit(pairs, dict(sorted(sample.seen.items())), dropped, of_past)


@kernel
def _hash(docs: np.ndarray, seed: np.uint64, hashes: np.ndarray) -> None:
    salt = mix(seed + STEP)
    for i in range(len(docs)):
        hashes[i] = mix(docs[i] ^ salt)


def _candidates(path: Path, shard: int, seed: int, family: str) -> tuple[np.ndarray, int]:
    """Rows of `Sample` for the dropped documents of a shard, and how many are of the past."""
    table = read_columns([path], [f"{family}_{name}" for name in ("of", "size", "similarity")])
    at = np.flatnonzero(np.asarray(table.column(0).is_valid()))
    of = table.column(0).take(at).to_numpy().astype(np.uint64)
    ours = of >> np.uint64(PAST_SHIFT) == 0
    at, of = at[ours], of[ours]
    similarity = table.column(2).take(at).fill_null(-1.0).to_numpy().astype(np.float64)
    rows = np.empty((len(at), 5), np.uint64)
    rows[:, 1], rows[:, 2] = document_ids(shard, len(table))[at], of
    _hash(rows[:, 1], np.uint64(seed), rows[:, 0])
    rows[:, 3], rows[:, 4] = table.column(1).take(at).to_numpy(), similarity.view(np.uint64)
    return rows, int((~ours).sum())


def _stratify(rows: np.ndarray, sample: Sample) -> None:
    similarity = np.ascontiguousarray(rows[:, 4]).view(np.float64)
    tenths = np.where(similarity < 0, -1, np.minimum((similarity * 10 + 1e-6).astype(int), 9))
    for tenth in np.unique(tenths):
        name = "similarity not measured" if tenth < 0 else f"similarity {tenth / 10:.1f} to {(tenth + 1) / 10:.1f}"
        sample.add(name, rows[tenths == tenth])
    if (rows[:, 3] >= LARGE).any():
        sample.add(f"clusters of {LARGE} and more", rows[rows[:, 3] >= LARGE])
    sample.add(ACROSS, rows, sample.most * OVERSAMPLE)


def _pair(stratum: str, row: np.ndarray, url: Callable[[int], str], texts: Texts) -> Pair:
    one, other = int(row[1]), int(row[2])
    similarity = float(row[4:5].view(np.float64)[0])
    dropped, kept = texts.text(one), texts.text(other)
    only_dropped, only_kept, more = different_lines(dropped, kept)
    exact = jaccard(*(shingle_set(text.encode(), texts.shingle) for text in (dropped, kept)))
    estimate = None if similarity < 0 else round(similarity, 4)
    return Pair(stratum, one, other, url(one), url(other), int(row[3]), estimate, round(exact, 4), only_dropped, only_kept, more)


def different_lines(one: str, other: str) -> tuple[list[str], list[str], int]:
    """Lines of one text alone, of the other alone, and how many more there are that are not listed.

    >>> different_lines("a\\nb\\nc", "a\\nx\\nc")
    (['b'], ['x'], 0)
    """
    lines, others = one.splitlines()[:MAX_LINES], other.splitlines()[:MAX_LINES]
    only: tuple[list[str], list[str]] = ([], [])
    for tag, a, b, c, d in difflib.SequenceMatcher(None, lines, others, autojunk=False).get_opcodes():
        if tag != "equal":
            only[0].extend(lines[a:b])
            only[1].extend(others[c:d])
    more = sum(max(0, len(part) - MAX_DIFFERENT) for part in only)
    first, second = ([line[:MAX_CHARS] for line in part[:MAX_DIFFERENT]] for part in only)
    return first, second, more
