"""Counts over the lines of a batch of documents: one pass over the UTF-8 bytes, no Python object per document.

In: the two buffers of an Arrow large_string array. Out: one row of integers for each line (columns below). No threshold lives
here. A word is a run of non-space characters that holds a letter or digit; each character of a script written without
spaces (Han, kana, Thai, Lao, Khmer, Myanmar) is a word by itself, and full-width punctuation ends a word.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ccpipe.kernels import kernel

SPACE, LETTER, UPPER, DIGIT, SYMBOL, SINGLE, HANGUL, BULLET = (1 << bit for bit in range(8))
"""What a character is; a character may be several of these."""

CHARS, UPPERS, DIGITS, LETTERS, SYMBOLS, WORDS, SYLLABIC_WORDS, SINGLES, WORD_CHARS, MARKS, STARTS_BULLET, ENDS_ELLIPSIS = range(12)
"""Columns of `measure_lines`: non-space characters; of them upper-case, digits, letters, symbols; words; of them single
characters or Hangul; of them single characters; letters and digits inside words; `#` and ellipses; and two flags, 0 or 1."""

N_COLUMNS = 12

SINGLE_RANGES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # ideographic iteration mark, closing mark, zero
    (0x3041, 0x30FF),  # hiragana, katakana
    (0x31F0, 0x31FF),  # katakana extensions
    (0x3400, 0x4DBF),  # Han extension A
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han compatibility
    (0xFF66, 0xFF9D),  # half-width katakana
    (0x1B000, 0x1B16F),  # kana supplement
    (0x20000, 0x3FFFF),  # Han extensions B and later
)
HANGUL_RANGES = ((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7FF))
BULLETS = "•‣▶◀◦■□▪▫–-*●○◆◇★☆▲△►▸·・※➢✓✔"
"""RedPajama-V2's ten bullets (rps_lines_start_with_bulletpoint), `-` (Gopher) and those common on Chinese and list pages.
The em dash is no bullet: it opens dialogue in Russian, French and Spanish."""

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
LineTable = npt.NDArray[np.int32]


@lru_cache(maxsize=1)
def character_flags() -> Bytes:
    """Flags of every code point: uint8, shape (0x110000,), from this Python's Unicode database (half a second, once)."""
    flags = np.zeros(0x110000, dtype=np.uint8)
    for point in (*range(0x32000), *range(0xE0000, 0xE0200)):
        flags[point] = _flags_of(chr(point))
    flags[0x20000:0x3FFFE] = LETTER | SINGLE  # assigned or not, these two planes are kept for Han
    return flags


def _flags_of(char: str) -> int:
    category = unicodedata.category(char)
    flags = 0
    flags |= SPACE if char.isspace() else 0
    flags |= LETTER if category[0] == "L" or category == "Nl" else 0
    flags |= UPPER if category in ("Lu", "Lt") else 0
    flags |= DIGIT if category in ("Nd", "No") else 0
    flags |= SYMBOL if category[0] == "S" else 0
    flags |= BULLET if char in BULLETS else 0
    if flags & LETTER:
        flags |= SINGLE if _within(char, SINGLE_RANGES) else 0
        flags |= HANGUL if _within(char, HANGUL_RANGES) else 0
    elif category[0] == "M" and not _within(char, SINGLE_RANGES):
        flags |= LETTER  # vowel signs of Indic and Arabic words belong to the word
    return int(flags)


def _within(char: str, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= ord(char) <= last for first, last in ranges)


@kernel
def first_lines(data: Bytes, offsets: Ints) -> Ints:
    """Number of the first line of each document: int64, shape (n_docs + 1,). A text has one line more than newlines."""
    first = np.zeros(len(offsets), np.int64)
    for doc in range(len(offsets) - 1):
        n_lines = 1
        for i in range(offsets[doc], offsets[doc + 1]):
            if data[i] == 10:
                n_lines += 1
        first[doc + 1] = first[doc] + n_lines
    return first


@kernel
def decode(data: Bytes, at: int) -> tuple[int, int]:
    """Code point at byte `at` of valid UTF-8, and its length in bytes."""
    lead = int(data[at])
    if lead < 0x80:
        return lead, 1
    if lead < 0xE0:
        return (lead & 0x1F) << 6 | int(data[at + 1] & 0x3F), 2
    if lead < 0xF0:
        return (lead & 0x0F) << 12 | int(data[at + 1] & 0x3F) << 6 | int(data[at + 2] & 0x3F), 3
    return (lead & 0x07) << 18 | int(data[at + 1] & 0x3F) << 12 | int(data[at + 2] & 0x3F) << 6 | int(data[at + 3] & 0x3F), 4


@kernel
def measure_lines(data: Bytes, offsets: Ints, first: Ints, flags: Bytes) -> tuple[LineTable, Ints]:
    """Measure every line: int32, shape (n_lines, N_COLUMNS), and the byte range of each, int64, shape (n_lines, 2)."""
    lines = np.zeros((first[-1], N_COLUMNS), np.int32)
    ranges = np.zeros((first[-1], 2), np.int64)
    for doc in range(len(offsets) - 1):
        start = offsets[doc]
        for line in range(first[doc], first[doc + 1]):
            stop = start
            while stop < offsets[doc + 1] and data[stop] != 10:
                stop += 1
            ranges[line, 0], ranges[line, 1] = start, stop
            _measure_line(data, start, stop, flags, lines[line])
            start = stop + 1
    return lines, ranges


@kernel
def _measure_line(data: Bytes, start: int, stop: int, flags: Bytes, row: LineTable) -> None:
    at = start
    in_word = False
    run_char, run = 0, 0  # a run of equal characters that may be an ellipsis
    while at < stop:
        char, size = decode(data, at)
        at += size
        kind = flags[char]
        if kind & SPACE:
            in_word = False
            run_char = 0
            continue
        if row[CHARS] == 0:
            row[STARTS_BULLET] = 1 if kind & BULLET else 0
        row[CHARS] += 1
        run = run + 1 if char == run_char else 1
        run_char = char
        # three dots or ideographic stops, one U+2026 or U+22EF; a longer run is still one ellipsis
        needed = 1 if char == 0x2026 or char == 0x22EF else 3 if char == 0x2E or char == 0x3002 else 0
        row[ENDS_ELLIPSIS] = 1 if needed and run >= needed else 0
        if char == 0x23 or run == needed:
            row[MARKS] += 1
        if kind & (LETTER | DIGIT):
            in_word = _measure_letter(kind, in_word, row)
        elif char >= 0x3000:
            in_word = False
        if kind & SYMBOL:
            row[SYMBOLS] += 1


@kernel
def _measure_letter(kind: np.uint8, in_word: bool, row: LineTable) -> bool:
    """Count one letter or digit; returns whether the next one continues its word."""
    row[WORD_CHARS] += 1
    if kind & LETTER:
        row[LETTERS] += 1
    if kind & UPPER:
        row[UPPERS] += 1
    if kind & DIGIT:
        row[DIGITS] += 1
    if kind & SINGLE:
        row[WORDS] += 1
        row[SINGLES] += 1
        row[SYLLABIC_WORDS] += 1
        return False
    if not in_word:
        row[WORDS] += 1
        if kind & HANGUL:
            row[SYLLABIC_WORDS] += 1
    return True
