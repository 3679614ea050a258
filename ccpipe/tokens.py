"""Tokens of any script, found in UTF-8 bytes without Python objects.

In: UTF-8 bytes and offsets (an Arrow large_string array's two buffers). Out: for every token its byte range, its 64-bit
hash, or both. One token per character in scripts written without spaces, one per word elsewhere.

What is a token
- Scripts without spaces (line breaking classes ID and SA of Unicode Standard Annex 14: Han, kana, bopomofo, Yi, Tangut,
  Thai, Lao, Khmer, Myanmar, Tai and Ahom, and also Javanese and Balinese): every character with the marks that follow it.
- Elsewhere a word: a longest run of letters, digits and marks. Hangul is written with spaces, so Korean has words;
  Tibetan separates syllables with tsheg, which is punctuation, so it has syllables. An apostrophe between two letters
  does not end a word ("don't" is one).
- Spaces, punctuation, symbols, controls and emoji are never part of a token.

What the hash sees: single-character lower case, full-width ASCII as ASCII; apostrophes inside words, soft hyphens, joiners,
variation selectors and tatweel are passed over. Digits stay themselves (pages made from one template with other figures are
other pages). Not normalised: NFD against NFC, half-width kana, traditional against simplified Chinese.

Deterministic on any machine and Python: character categories are those of Unicode 3.2, which Python carries unchanged for
IDNA, with the later blocks that matter listed below; code points unknown to both are letters.

Other modules call `hash_tokens` and `token_ranges` on batches; why not the kernels themselves, see `ccpipe.kernels`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import numpy as np

from ccpipe.kernels import kernel, mix

BREAK, WORD, CHAR, MARK, JOIN, IGNORE = range(6)
"""Kinds of characters: ends a token; part of a word; a token by itself; belongs to the token before it; belongs to a word
when letters are on both sides; passed over."""

CHAR_BLOCKS = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)),  # Thai and Lao, Myanmar, Khmer
    *((0x1950, 0x19DF), (0x1A20, 0x1AAF), (0x1B00, 0x1B7F)),  # Tai Le and New Tai Lue, Tai Tham, Balinese
    *((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029)),  # Han radicals, iteration marks and zero, Hangzhou numerals
    *((0x3031, 0x3035), (0x3038, 0x303C), (0x3041, 0x312F)),  # kana repeat marks, more Han, kana and bopomofo
    *((0x31A0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF)),  # bopomofo, Han strokes, Ainu kana; Han
    *((0xA000, 0xA4CF), (0xA980, 0xA9DF), (0xA9E0, 0xA9FF)),  # Yi, Javanese, Myanmar
    *((0xAA60, 0xAADF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F)),  # Myanmar and Tai Viet, compatibility Han, half-width kana
)
"""Blocks of the basic plane whose letters are tokens by themselves: first and last code point."""

LATER_MARKS = (
    *((0x0EBA, 0x0EBA), (0x102B, 0x102B), (0x1033, 0x1035), (0x103A, 0x103E), (0x105E, 0x1060), (0x1062, 0x1064)),
    *((0x1067, 0x106D), (0x1071, 0x1074), (0x1082, 0x108D), (0x108F, 0x108F), (0x109A, 0x109D), (0x17DD, 0x17DD)),
    *((0x1A55, 0x1A7F), (0x1B00, 0x1B04), (0x1B34, 0x1B44), (0x1B6B, 0x1B73), (0xA980, 0xA983), (0xA9B3, 0xA9C0)),
    *((0xA9E5, 0xA9E5), (0xAA7B, 0xAA7D), (0xAAB0, 0xAAB0), (0xAAB2, 0xAAB4), (0xAAB7, 0xAAB8), (0xAABE, 0xAAC1)),
)
"""Marks of those scripts that Unicode got after version 3.2. (In other scripts a mark and a letter do the same.)"""

SYMBOL_BLOCKS = (
    (0x0606, 0x060F),
    (0x2053, 0x205E),
    (0x20A0, 0x20CF),
    (0x2190, 0x2BFF),
    (0x2E00, 0x2E7F),
    (0x4DC0, 0x4DFF),
    (0xFE10, 0xFE1F),
)
"""Blocks that Unicode filled with symbols and punctuation after version 3.2."""

HIGH_BLOCKS = (
    *((0x11700, 0x117FF, CHAR), (0x16F00, 0x18DFF, CHAR), (0x1AF00, 0x1B1FF, CHAR)),  # Ahom; Tangut, Khitan; kana
    *((0x1D000, 0x1D3FF, BREAK), (0x1F000, 0x1FBFF, BREAK)),  # musical and other notations; emoji, pictographs
    *((0x20000, 0x3FFFF, CHAR), (0xE0000, 0xE0FFF, IGNORE), (0xF0000, 0x10FFFF, BREAK)),  # Han; tags, selectors; private
)
"""Kinds beyond the basic plane, in steps of 256 code points; everything else there is a letter."""

IGNORED = (0x00AD, 0x0640, *range(0xFE00, 0xFE10))
"""Soft hyphen, Arabic tatweel and variation selectors, besides the format characters (Cf)."""

APOSTROPHES = (0x0027, 0x2019, 0xFF07)

FNV_BASIS = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)
"""FNV-1a of Fowler, Noll and Vo, 64 bits, over code points."""


def build_table() -> np.ndarray:
    """Character table, uint32, shape (65536 + 4352,): kind << 16 | folded code point, and beyond the basic plane one kind per 256."""
    table = np.full(0x10000 + 0x1100, WORD << 16, dtype=np.uint32)
    category = np.array([unicodedata.ucd_3_2_0.category(chr(code)) for code in range(0x10000)])
    table[:0x10000] = _kinds(category) << 16 | _folded(category != "Cn")
    for first, last, kind in HIGH_BLOCKS:
        table[0x10000 + (first >> 8) : 0x10000 + (last >> 8) + 1] = kind << 16
    return table


def _kinds(category: np.ndarray) -> np.ndarray:
    """Kinds of the basic plane, uint32; later lines win."""
    letter = np.isin(category.astype("U1"), ["L", "N"]) | (category == "Cn")
    kinds = np.where(letter, WORD, BREAK).astype(np.uint32)
    kinds[category == "Cf"] = IGNORE
    kinds[_blocks(SYMBOL_BLOCKS)] = BREAK
    # Han radicals are symbols to Unicode
    kinds[_blocks(CHAR_BLOCKS) & (letter | _blocks([(0x2E80, 0x2FDF)]))] = CHAR
    kinds[(category.astype("U1") == "M") | _blocks(LATER_MARKS)] = MARK
    kinds[list(IGNORED)] = IGNORE
    kinds[list(APOSTROPHES)] = JOIN
    return kinds


def _blocks(blocks: Iterable[tuple[int, int]]) -> np.ndarray:
    inside = np.zeros(0x10000, dtype=bool)
    for first, last in blocks:
        inside[first : last + 1] = True
    return inside


def _folded(assigned: np.ndarray) -> np.ndarray:
    """Folded code points of the basic plane, uint32. Case pairs of assigned characters never change (Unicode stability policy)."""
    folded = np.arange(0x10000, dtype=np.uint32)
    folded[0xFF01:0xFF5F] -= 0xFEE0
    for code in np.flatnonzero(assigned):
        lower = chr(folded[code]).lower()
        if len(lower) == 1 and ord(lower) < 0x10000:
            folded[code] = ord(lower)
    return folded


CHARS = build_table()
"""The character table that the kernels take as `chars`."""


LETTER_OF_BYTE = np.zeros(256, dtype=np.uint8)
"""For ASCII: 1 for what ends a token, the folded letter or digit for what is part of a word. 0: look closer (apostrophe, not ASCII)."""
LETTER_OF_BYTE[:128] = np.select([CHARS[:128] >> 16 == WORD, CHARS[:128] >> 16 == BREAK], [CHARS[:128] & 0xFF, np.uint32(1)], np.uint32(0))


@kernel
def scan_document(data: np.ndarray, start: int, stop: int, chars: np.ndarray, hashes: np.ndarray, ranges: np.ndarray) -> int:
    """Tokens of data[start:stop]: returns how many, writes their hashes and byte ranges.

    data: UTF-8, uint8; chars: `CHARS`; hashes: uint64, shape (room,); ranges: int64, shape (room, 2), [first, last) counted in
    `data`. room >= (stop - start + 1) // 2; what is not wanted has length 0. Bytes that are no UTF-8 count as U+FFFD.
    """
    # one loop without helpers on purpose: with arrays passed to helpers at every character it ran six times slower
    want_hashes, want_ranges = len(hashes) > 0, len(ranges) > 0
    only_hashes = want_hashes and not want_ranges
    n, at, first, last = 0, start, start, start
    inside, joined = BREAK, False
    value = FNV_BASIS
    while at < stop:
        if only_hashes and not joined and inside != CHAR and LETTER_OF_BYTE[data[at]] != 0:
            if inside == BREAK:
                value = FNV_BASIS
            # a run of ASCII without branches: where words end nobody can predict, and a wrong guess costs as much as five letters
            while at < stop and LETTER_OF_BYTE[data[at]] != 0:
                letter = LETTER_OF_BYTE[data[at]]
                hashes[n] = value
                n += 1 if letter == 1 and inside == WORD else 0
                inside = BREAK if letter == 1 else WORD
                value = FNV_BASIS if letter == 1 else (value ^ np.uint64(letter)) * FNV_PRIME
                at += 1
            continue
        code, size = np.int64(data[at]), 1
        if code >= 0x80:
            left = stop - at
            if 0xC2 <= code < 0xE0 and left >= 2:
                code, size = (code & 0x1F) << 6 | np.int64(data[at + 1]) & 0x3F, 2
            elif 0xE0 <= code < 0xF0 and left >= 3:
                code = (code & 0x0F) << 12 | (np.int64(data[at + 1]) & 0x3F) << 6 | np.int64(data[at + 2]) & 0x3F
                size = 3
            elif 0xF0 <= code < 0xF5 and left >= 4:
                code = (code & 0x07) << 18 | (np.int64(data[at + 1]) & 0x3F) << 12
                code = min(code | (np.int64(data[at + 2]) & 0x3F) << 6 | np.int64(data[at + 3]) & 0x3F, np.int64(0x10FFFF))
                size = 4
            else:
                code = np.int64(0xFFFD)
        entry = np.int64(chars[code]) if code < 0x10000 else np.int64(chars[0x10000 + (code >> 8)])
        kind = entry >> 16
        folded = entry & 0xFFFF if code < 0x10000 else code
        at += size
        if (kind == WORD and inside == WORD) or (kind == MARK and inside != BREAK):
            value = (value ^ np.uint64(folded)) * FNV_PRIME
            last, joined = at, False
        elif kind == IGNORE:
            continue
        elif kind == JOIN and inside == WORD and not joined:
            joined = True
        else:
            if inside != BREAK:
                if want_hashes:
                    hashes[n] = value
                if want_ranges:
                    ranges[n, 0], ranges[n, 1] = first, last
                n += 1
            inside, joined = BREAK, False
            if kind == WORD or kind == MARK or kind == CHAR:  # noqa: SIM109 - a tuple is searched, not unrolled
                inside = CHAR if kind == CHAR else WORD
                value = (FNV_BASIS ^ np.uint64(folded)) * FNV_PRIME
                first, last = at - size, at
    if inside != BREAK:
        if want_hashes:
            hashes[n] = value
        if want_ranges:
            ranges[n, 0], ranges[n, 1] = first, last
        n += 1
    if want_hashes:
        for i in range(n):
            hashes[i] = mix(hashes[i])
    return n


@kernel
def _scan(data: np.ndarray, offsets: np.ndarray, chars: np.ndarray, hashes: np.ndarray, ranges: np.ndarray, ends: np.ndarray) -> None:
    n = 0
    for doc in range(len(offsets) - 1):
        n += scan_document(data, offsets[doc], offsets[doc + 1], chars, hashes[n:], ranges[n:])
        ends[doc + 1] = n


NO_HASHES = np.empty(0, dtype=np.uint64)
NO_RANGES = np.empty((0, 2), dtype=np.int64)


def hash_tokens(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all tokens, uint64, shape (n_tokens,), and int64 `ends`, shape (n_docs + 1,): document i has hashes[ends[i]:ends[i + 1]].

    data: uint8, UTF-8; offsets: int64, shape (n_docs + 1,), document i is data[offsets[i]:offsets[i + 1]].

    >>> hashes, ends = hash_tokens(np.frombuffer("Don’t 中文 DON'T".encode(), np.uint8), np.array([0, 14, 20]))
    >>> ends.tolist(), bool(hashes[0] == hashes[3])
    ([0, 3, 4], True)
    """
    hashes = np.empty(_room(offsets), dtype=np.uint64)
    ends = np.zeros(len(offsets), dtype=np.int64)
    _scan(data, offsets, CHARS, hashes, NO_RANGES, ends)
    return hashes[: ends[-1]], ends


def token_ranges(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Byte ranges of all tokens, int64, shape (n_tokens, 2), and `ends` as in `hash_tokens`.

    >>> ranges, ends = token_ranges(np.frombuffer("It’s 中文!".encode(), np.uint8), np.array([0, 14]))
    >>> ranges.tolist(), ends.tolist()
    ([[0, 6], [7, 10], [10, 13]], [0, 3])
    """
    ranges = np.empty((_room(offsets), 2), dtype=np.int64)
    ends = np.zeros(len(offsets), dtype=np.int64)
    _scan(data, offsets, CHARS, NO_HASHES, ranges, ends)
    return ranges[: ends[-1]], ends


def _room(offsets: np.ndarray) -> int:
    """Tokens that can be in this much text: a word needs a byte and a separator, a character of the other scripts three bytes."""
    return (int(offsets[-1]) - int(offsets[0])) // 2 + len(offsets)
