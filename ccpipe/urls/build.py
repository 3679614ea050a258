"""Block lists become one table of hashes: read in pieces, hashed, sorted, the first of equal entries kept.

Memory: about 50 bytes for each entry and some MB for the piece being read. Nothing is lost silently: `Summary` counts every line
and every name in it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ccpipe.urls.address import clean_host
from ccpipe.urls.entries import BLANK, COMMENT, IS_BLANK, IS_COMMENT, IS_DOMAIN, IS_OTHER, SINGLE_LABEL, parse_line, scan_lines
from ccpipe.urls.format import Arrays
from ccpipe.urls.kernels import HAS_PAGES, hash_domains
from ccpipe.urls.keys import key_of
from ccpipe.urls.sources import NotABlocklist, Piece, clean_category, read_pieces
from ccpipe.urls.suffixes import Suffixes
from ccpipe.urls.words import WordLists, word_arrays

PIECE_BYTES = 4 << 20
BUCKET_ENTRIES = 4
"""Least mean number of entries between two neighbours of `starts`: with 8 bytes each, half a cache line (docs/urls.md)."""
MAX_CATEGORIES = (1 << 15) - 1
MAX_EXAMPLES = 10
PUBLIC_SUFFIX = "public_suffix"
"""Why an entry is left out that would block all of com, co.uk or blogspot.com."""


@dataclass
class Source:
    """A file, folder or archive, or lines; `category` None: from the names in it."""

    lists: Path | Iterable[str]
    category: str | None = None


@dataclass
class Summary:
    """What became of the lists. `names == entries + duplicates + listed_before + sum(skipped)`, without blank lines and comments.

    `duplicates`: in the same category already; `listed_before`: in another one, which keeps it; `examples`: of what was skipped.
    """

    lines: int = 0
    names: int = 0
    entries: int = 0
    duplicates: int = 0
    listed_before: int = 0
    categories: dict[str, int] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    examples: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    words: dict[str, int] = field(default_factory=dict)

    def skip(self, reason: str, n: int, texts: Iterable[str]) -> None:
        if n:
            self.skipped[reason] += n
            if reason not in (BLANK, COMMENT):
                self.examples[reason] += islice(texts, MAX_EXAMPLES - len(self.examples[reason]))

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "skipped": dict(sorted(self.skipped.items())), "examples": dict(sorted(self.examples.items()))}


def compile_lists(sources: Iterable[Source], words: WordLists, suffixes: Iterable[str]) -> tuple[dict[str, Any], Arrays, Summary]:
    """Header, arrays and summary of a block list. `suffixes`: public suffixes that may be blocked whole.

    Where several categories list the same entry the first one has it. Raises `NotABlocklist`.
    """
    summary, allowed = Summary(), Suffixes(suffixes)
    categories: dict[str, int] = {}
    parts: list[tuple[int, np.ndarray]] = []
    sites: list[np.ndarray] = []
    for piece in _pieces(sources):
        number = categories.setdefault(piece.category, len(categories) + 1)
        keys, with_pages = _piece_keys(piece, allowed, summary)
        parts.append((number, keys))
        sites.append(with_pages)
    if len(categories) > MAX_CATEGORIES:
        raise NotABlocklist(f"{len(categories):,} categories; at most {MAX_CATEGORIES:,} fit: put lists together with category=path")
    hashes, numbers = _first_of_each(parts, summary)
    hashes, kinds = _with_sites(hashes, numbers, np.unique(np.concatenate([np.zeros(0, np.uint64), *sites])))
    summary.categories = {name: int(np.count_nonzero(numbers == number)) for name, number in categories.items()}
    summary.words = {"hard": len(words.hard), "soft": len(words.soft), "parts": len(words.parts)}
    bits = max(1, (len(hashes) // BUCKET_ENTRIES).bit_length() - 1)
    narrow = kinds.max(initial=0) < 256
    arrays = {
        "starts": _bucket_starts(hashes, bits),
        "hashes": hashes,
        "kinds": kinds.astype(np.uint8) if narrow else kinds.astype("<u2").view(np.uint8),
        **word_arrays(words),
    }
    header = {
        "entries": summary.entries,
        "categories": summary.categories,
        "words": summary.words,
        "soft_limit": words.soft_limit if words.soft else 0,
        "shift": 64 - bits,
        "kind_bytes": 1 if narrow else 2,
        "n_classes": len(arrays["jumps"]) // len(arrays["ends"]),
    }
    return header, arrays, summary


def _pieces(sources: Iterable[Source]) -> Iterator[Piece]:
    for source in sources:
        if isinstance(source.lists, Path):
            yield from read_pieces(source.lists, source.category and clean_category(source.category), PIECE_BYTES)
        else:
            yield Piece(clean_category(source.category or ""), "", "\n".join(line.strip("\r\n") for line in source.lists).encode())


def _piece_keys(piece: Piece, suffixes: Suffixes, summary: Summary) -> tuple[np.ndarray, np.ndarray]:
    """Keys of what a piece of a list blocks, in its order, and of the sites whose pages it blocks. Counts into `summary`."""
    data = np.frombuffer(piece.data, np.uint8)
    starts, ends, kinds = scan_lines(data)
    summary.lines += len(kinds)
    plain = kinds == IS_DOMAIN
    keys, above = hash_domains(data, starts[plain], ends[plain])
    public = suffixes.has(keys, above)
    texts = (_text(piece, *span) for span in zip(starts[plain][public], ends[plain][public], strict=True))
    summary.skip(PUBLIC_SUFFIX, int(public.sum()), texts)
    summary.skip(BLANK, int(np.count_nonzero(kinds == IS_BLANK)), ())
    summary.skip(COMMENT, int(np.count_nonzero(kinds == IS_COMMENT)), ())
    summary.names += len(keys)
    other = kinds == IS_OTHER
    lines = [_text(piece, *span) for span in zip(starts[other], ends[other], strict=True)]
    others, sites = _other_keys(lines, suffixes, summary)
    return np.concatenate([keys[~public], others]), sites


def _text(piece: Piece, start: int, end: int) -> str:
    return piece.data[start:end].decode("utf-8", "replace")


def _other_keys(lines: list[str], suffixes: Suffixes, summary: Summary) -> tuple[np.ndarray, np.ndarray]:
    """The same for lines that are not plain domains."""
    keys: list[int] = []
    sites: list[int] = []
    for line in lines:
        found, reason = parse_line(line)
        good = [(host, tail) for host, tail in found if tail or host not in suffixes]
        if reason == SINGLE_LABEL and clean_host(line.strip("|^*. \t\r")) in suffixes:
            reason = PUBLIC_SUFFIX
        summary.names += len(found) + (reason not in ("", BLANK, COMMENT))
        summary.skip(reason, reason != "", [line])
        summary.skip(PUBLIC_SUFFIX, len(found) - len(good), [line])
        keys += [key_of(host, tail) for host, tail in good]
        sites += [key_of(host) for host, tail in good if tail]
    return np.array(keys, np.uint64), np.array(sites, np.uint64)


def _first_of_each(parts: list[tuple[int, np.ndarray]], summary: Summary) -> tuple[np.ndarray, np.ndarray]:
    """Hashes, ascending, and the number of the category that listed each first. Counts the others."""
    every = np.concatenate([np.zeros(0, np.uint64), *(keys for _, keys in parts)])
    numbers = np.concatenate([np.zeros(0, np.uint16), *(np.full(len(keys), number, np.uint16) for number, keys in parts)])
    parts.clear()
    order = np.argsort(every, kind="stable")
    every, numbers = every[order], numbers[order]
    del order
    first = np.append(True, every[1:] != every[:-1])[: len(every)]
    winners = numbers[first][np.cumsum(first) - 1]
    same = int(np.count_nonzero(~first & (winners == numbers)))
    summary.entries = int(np.count_nonzero(first))
    summary.duplicates, summary.listed_before = same, len(every) - summary.entries - same
    return every[first], numbers[first]


def _with_sites(hashes: np.ndarray, numbers: np.ndarray, sites: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes and kinds, with a mark on each site that has pages; sites that are not listed themselves get a place of kind 1."""
    places = hashes.searchsorted(sites)
    known = np.append(hashes, np.uint64(0))[places] == sites
    hashes = np.insert(hashes, places[~known], sites[~known])
    kinds = np.insert(numbers << 1, places[~known], 0)
    kinds[hashes.searchsorted(sites)] |= HAS_PAGES
    return hashes, kinds


def _bucket_starts(hashes: np.ndarray, bits: int) -> np.ndarray:
    """uint32, shape (2 ** bits + 1,): where the hashes begin whose first bits are at least the index."""
    counts = np.bincount((hashes >> np.uint64(64 - bits)).astype(np.int64), minlength=1 << bits)
    return np.append(0, np.cumsum(counts)).astype(np.uint32)
