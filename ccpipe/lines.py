"""Lines that repeat: inside a document, and inside a shard.

In: documents as UTF-8, one after the other in the order of the shard. Out: each document without the lines that were there
before. A switch of `extract`, off unless asked for: what is dropped here is in no file behind it.

Two lines are the same when their keys are (`KEYS`), 64-bit hashes of the line without white space at its ends: FNV-1a over code
points with a shift after each step, then the finaliser of SplitMix64. cc_net takes the first 64 bits of SHA-1, which is many times
slower and as likely to confuse two lines (12 million lines: 1 in 250,000). Keys:

exact         the characters as they are
ccnet_code    as cc_net's program makes them (facebookresearch/cc_net, `text_normalizer.normalize_for_dedup`): lower case, digits
              to 0, its list of punctuation and control characters removed; accents and ASCII punctuation stay
ccnet_paper   as its paper says (Wenzek et al., LREC 2020, section 3.1): also all other Unicode punctuation, and accents, removed

cc_net drops a line that occurs twice in a group of shards everywhere, the first occurrence too, which needs a second pass; here the
first one stays. Character properties are those of Unicode 3.2, which every Python carries: the same lines on every machine.

Never dropped: lines with fewer than `min_letters` letters and digits (closing brackets, rules); lines that begin with a blank or a
tab (code), rows of tables (` | `), and all between two fences of backticks, where the text is Markdown.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from ccpipe.kernels import kernel, mix

Key = Literal["exact", "ccnet_code", "ccnet_paper"]
KEYS: tuple[Key, ...] = ("exact", "ccnet_code", "ccnet_paper")

CCNET_PUNCTUATION = frozenset("，。、„”“«»１」「《》´∶：？！（）；–—．～’…━〈〉【】％►")
"""The characters that cc_net's `remove_unicode_punct` removes. Its full-width 1 is a digit, and 0 before this is looked at."""

PLANES = 0x20000
"""Code points with an entry of their own: the first two planes. Behind them are Han characters, tags and selectors."""

CODE, LETTER, SPACE = 0x1FFFFF, 1 << 21, 1 << 22
"""An entry: the code point that stands for this one in the key (0: none), whether it is a letter or digit, whether white space."""

KEEP, IN_DOCUMENT, IN_SHARD = 0, 1, 2

FNV_BASIS = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)


@cache
def key_table(key: Key) -> np.ndarray:
    """uint32, shape (131072,): the entry of each code point."""
    return np.array([_entry(chr(code), key) for code in range(PLANES)], dtype=np.uint32)


def _entry(char: str, key: Key) -> int:
    category = unicodedata.ucd_3_2_0.category(char)
    flags = LETTER if category[0] in "LN" or category == "Cn" else 0
    flags |= SPACE if char.isspace() else 0
    return flags | (ord(char) if key == "exact" or category == "Cn" else _normal(char, category, key))


def _normal(char: str, category: str, key: Key) -> int:
    """The code point that stands for an assigned one; 0 where it is removed. What would become several stays as it is."""
    if category == "Nd":
        return ord("0")
    if category == "Cc" or char in CCNET_PUNCTUATION or (key == "ccnet_paper" and category[0] == "P"):
        return 0
    # the small sigma at the end of a word is one by its neighbours
    text = char.lower().replace("ς", "σ")
    if key == "ccnet_paper":
        text = "".join(one for one in unicodedata.ucd_3_2_0.normalize("NFD", text) if unicodedata.ucd_3_2_0.category(one) != "Mn")
    return ord(text) if len(text) == 1 else (ord(char) if text else 0)


@kernel
def scan_lines(data: np.ndarray, table: np.ndarray, ends: np.ndarray, keys: np.ndarray, letters: np.ndarray) -> int:
    """Lines of `data`: returns how many; ends: int64, byte behind each; keys: uint64; letters: int64, -1 for lines that stay.

    data: UTF-8, uint8; the arrays have room for one line more than there are newlines.
    """
    n, at, first, fence = 0, 0, 0, -1
    size = len(data)
    while at <= size:
        first = at
        value, pending = FNV_BASIS, FNV_BASIS
        found, started, row, ticks = 0, False, False, True
        while at < size and data[at] != 10:
            code, width = np.int64(data[at]), 1
            left = size - at
            if 0xC2 <= code < 0xE0 and left >= 2:
                code, width = (code & 0x1F) << 6 | np.int64(data[at + 1]) & 0x3F, 2
            elif 0xE0 <= code < 0xF0 and left >= 3:
                code = (code & 0x0F) << 12 | (np.int64(data[at + 1]) & 0x3F) << 6 | np.int64(data[at + 2]) & 0x3F
                width = 3
            elif 0xF0 <= code < 0xF5 and left >= 4:
                code = (code & 0x07) << 18 | (np.int64(data[at + 1]) & 0x3F) << 12
                code |= (np.int64(data[at + 2]) & 0x3F) << 6 | np.int64(data[at + 3]) & 0x3F
                width = 4
            if code == 124 and at > first and left >= 2 and data[at - 1] == 32 and data[at + 1] == 32:
                row = True
            if at - first < 3 and code != 96:
                ticks = False
            at += width
            # Han characters, then tags and selectors
            entry = np.int64(table[code]) if code < PLANES else np.int64(LETTER | code if code < 0xE0000 else 0)
            if entry & LETTER:
                found += 1
            space = entry & SPACE != 0
            started = started or not space
            code = entry & CODE
            # the value behind the last character that is no white space is the key; inner white space counts when more follows
            if started and code:
                pending = (pending ^ np.uint64(code)) * FNV_PRIME
                pending ^= pending >> np.uint64(29)
            if not space:
                value = pending
        stays = at > first and (data[first] == 32 or data[first] == 9)
        ends[n] = at
        keys[n] = mix(value) | np.uint64(1)
        letters[n] = -1 if row or stays else found
        if ticks and at - first >= 3:
            if fence >= 0:
                letters[fence : n + 1] = -1
                fence = -1
            else:
                fence = n
        n += 1
        at += 1
    return n


@kernel
def find_slot(slots: np.ndarray, key: np.uint64) -> int:
    """Where `key` stands in an open hash table, or the free place (0) where it would; uint64, shape (power of two,)."""
    mask = np.uint64(len(slots) - 1)
    at = (key >> np.uint64(1)) & mask
    while slots[at] != 0 and slots[at] != key:
        at = (at + np.uint64(1)) & mask
    return int(at)


@kernel
def mark_lines(keys: np.ndarray, letters: np.ndarray, min_letters: int, seen: np.ndarray, own: np.ndarray, marks: np.ndarray) -> None:
    """Fills marks (uint8: KEEP, IN_DOCUMENT, IN_SHARD). own: zeros, more than keys; seen: of the shard, at least one free place."""
    for i in range(len(keys)):
        marks[i] = KEEP
        if letters[i] < min_letters:
            continue
        slot = find_slot(own, keys[i])
        if own[slot] != 0:
            marks[i] = IN_DOCUMENT
            continue
        own[slot] = keys[i]
        if seen[find_slot(seen, keys[i])] != 0:
            marks[i] = IN_SHARD


@kernel
def insert_keys(slots: np.ndarray, keys: np.ndarray, new: np.ndarray, room: int) -> int:
    """Adds keys that are not there, at most `room`; writes these into `new` and returns how many. slots: more free places than keys."""
    n = 0
    for key in keys:
        slot = find_slot(slots, key)
        if slots[slot] == 0 and n < room:
            slots[slot] = key
            new[n] = key
            n += 1
    return n


class SeenLines:
    """Keys of the lines of a shard that are known, at most `limit`; later ones are not remembered. 16 bytes each in the largest table."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.n = 0
        self.slots = np.zeros(1 << 12, dtype=np.uint64)

    def add(self, keys: np.ndarray) -> np.ndarray:
        """Remember keys (uint64, any number, repetitions allowed); returns those that were new, in order."""
        while 2 * (self.n + len(keys)) >= len(self.slots):
            self._grow()
        new = np.empty(len(keys), dtype=np.uint64)
        n = insert_keys(self.slots, keys, new, self.limit - self.n)
        self.n += n
        return new[:n]

    def _grow(self) -> None:
        old = self.slots[self.slots != 0]
        self.slots = np.zeros(2 * len(self.slots), dtype=np.uint64)
        insert_keys(self.slots, old, np.empty(len(old), dtype=np.uint64), len(old))


@dataclass(frozen=True, slots=True)
class Kept:
    """text: what is left, without blank lines at its ends; n_lines: lines before; in_document, in_shard: lines dropped.

    keys: uint64, of the lines left that later ones are compared with.
    """

    text: bytes
    n_lines: int
    in_document: int
    in_shard: int
    keys: np.ndarray

    @property
    def n_dropped(self) -> int:
        return self.in_document + self.in_shard


NOTHING_SEEN = np.zeros(1, dtype=np.uint64)


def drop_repeated(text: bytes, key: Key, min_letters: int, seen: np.ndarray = NOTHING_SEEN) -> Kept:
    """A document without the lines that repeat one before. seen: `SeenLines.slots` of the shard; it is not changed.

    >>> drop_repeated("同一行文字\\nA word.\\n同一行文字\\n}\\n}".encode(), "exact", 3).text.decode()
    '同一行文字\\nA word.\\n}\\n}'
    """
    data = np.frombuffer(text, dtype=np.uint8)
    room = text.count(b"\n") + 1
    ends, keys, letters = np.empty(room, np.int64), np.empty(room, np.uint64), np.empty(room, np.int64)
    scan_lines(data, key_table(key), ends, keys, letters)
    marks = np.empty(room, dtype=np.uint8)
    mark_lines(keys, letters, min_letters, seen, np.zeros(1 << (2 * room).bit_length(), dtype=np.uint64), marks)
    fresh = keys[(marks == KEEP) & (letters >= min_letters)]
    if not marks.any():
        return Kept(text, room, 0, 0, fresh)
    left = _join(text, ends.tolist(), np.flatnonzero(marks == KEEP).tolist())
    return Kept(left, room, int((marks == IN_DOCUMENT).sum()), int((marks == IN_SHARD).sum()), fresh)


def _join(text: bytes, ends: list[int], kept: Iterable[int]) -> bytes:
    """The lines numbered in `kept`; blank ones at the ends and behind another go."""
    lines: list[bytes] = []
    for n in kept:
        line = text[ends[n - 1] + 1 if n else 0 : ends[n]]
        if line.strip() or (lines and lines[-1].strip()):
            lines.append(line)
    while lines and not lines[-1].strip():
        lines.pop()
    return b"\n".join(lines)
