"""Words of a page: their keys and scores, and the counts of each block's characters.

In: text and blocks of a page, places of the boxes' names in its HTML, scores of words. Out: the counted columns of the blocks, and
for each box and block the sum, least and greatest score of its words. Words are runs of letters, pairs of characters in scripts
without spaces, and in names (class, id ...) also pairs of words: `postContent` is post, content and post-content.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from ccpipe.html import blocks as b
from ccpipe.kernels import kernel

SHORT_TEXT = 300
"""Bytes of a block up to which the words of its text are looked at."""

MAX_NAME_WORDS = 40
"""Words of one class or id looked at."""

_NAME_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[A-Z]+")
_TO_LOWER = {code: code + 32 for code in range(65, 91)}
START, END, CHARS, WIDE, DIGITS, UPPER = b.START, b.END, b.CHARS, b.WIDE, b.DIGITS, b.UPPER
ENDS, COMMAS, WORDS, LAST, TAG = b.ENDS, b.COMMAS, b.WORDS, b.LAST, b.TAG


class Words(NamedTuple):
    """Scores of words as an open hash table: keys (0: free slot) and values, a power of two long, at most half full."""

    keys: np.ndarray
    values: np.ndarray


class Scores(NamedTuple):
    """Scores of words in names of boxes and in the text of short blocks."""

    names: Words
    wording: Words


def make_words(scores: dict[str, float]) -> Words:
    """The hash table of some words' scores.

    >>> words = make_words({"post-content": 0.5})
    >>> words.values[words.keys == word_hash("post-content")].tolist()
    [0.5]
    """
    return make_table({word_hash(word): score for word, score in scores.items()})


def make_table(scores: dict[int, float]) -> Words:
    """The hash table of scores by `word_hash`, the same whatever the order of the dict."""
    size = 16
    while size < 2 * len(scores) + 2:
        size *= 2
    keys, values = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.float32)
    order = sorted(scores)
    _insert_all(keys, values, np.array(order, dtype=np.uint64), np.array([scores[key] for key in order], dtype=np.float32))
    return Words(keys, values)


def spell_word(raw: str, is_text: bool) -> str:
    """A word as `word_hash` takes it, from how it stands in a text or between two ends of a name.

    >>> spell_word("postContent", False), spell_word("Über", True)
    ('post-content', 'Über')
    """
    parts = [raw] if is_text else _NAME_PART.findall(raw)
    return "-".join(parts).translate(_TO_LOWER)


def word_hash(word: str) -> int:
    """The key of a word in lower case (of ASCII letters), of two names joined by a hyphen, or of two wide characters."""
    if len(word) == 2 and all(_is_wide(ord(char)) or _is_unspaced(ord(char)) for char in word):
        value = fnv("")
        for char in word:
            value = (value ^ ord(char)) * 1099511628211 & (1 << 64) - 1
        return value
    return fnv(word)


def fnv(word: str) -> int:
    """FNV-1a of 64 bits over the UTF-8 bytes.

    >>> hex(fnv("a"))
    '0xaf63dc4c8601ec8c'
    """
    value = 14695981039346656037
    for byte in word.encode():
        value = (value ^ byte) * 1099511628211 & (1 << 64) - 1
    return value


def make_set(keys: np.ndarray) -> np.ndarray:
    """Hashes as an open hash table without values, at most half full."""
    return make_table(dict.fromkeys(keys.tolist(), 1.0)).keys


_SEED = np.uint64(14695981039346656037)
_PRIME = np.uint64(1099511628211)
_ZERO = np.uint64(0)
_SHIFT = np.uint64(32)


@kernel
def _insert_all(keys: Any, values: Any, new: Any, new_values: Any) -> None:
    mask = len(keys) - 1
    for k in range(len(new)):
        slot = np.int64(new[k] >> _SHIFT) & mask
        while keys[slot] != _ZERO:
            slot = (slot + 1) & mask
        keys[slot] = new[k]
        values[slot] = new_values[k]


@kernel
def _find(keys: Any, key: Any) -> Any:
    """Slot of the key or -1."""
    mask = len(keys) - 1
    slot = np.int64(key >> _SHIFT) & mask
    while keys[slot] != _ZERO:
        if keys[slot] == key:
            return slot
        slot = (slot + 1) & mask
    return -1


@kernel
def _lower(byte: Any) -> Any:
    return byte | 32 if 65 <= byte <= 90 else byte


@kernel
def _score(rows: Any, seen: Any, n_seen: Any, words: Any, scores: Any, kind: Any, owner: Any, key: Any, start: Any, stop: Any) -> None:
    """Take one word into account for the box or block `owner`; keep it while there is room in `seen`."""
    if n_seen[0] < len(seen):
        row = seen[n_seen[0]]
        row[0], row[1], row[2], row[3], row[4] = np.uint64(kind), np.uint64(owner), key, np.uint64(start), np.uint64(stop)
        n_seen[0] += 1
    slot = _find(words, key)
    if slot >= 0:
        value = scores[slot]
        rows[owner, 0] += value
        rows[owner, 1] = min(rows[owner, 1], value)
        rows[owner, 2] = max(rows[owner, 2], value)


@kernel
def _read_names(html: Any, i: Any, stop: Any, box: Any, rows: Any, seen: Any, n_seen: Any, keys: Any, values: Any) -> None:
    """Words of a class, id or role: runs of letters, cut before capitals; and pairs of them within one name."""
    previous = _ZERO  # hash of the word before, which pairs go on from
    previous_start = i
    budget = MAX_NAME_WORDS
    while i < stop and budget > 0:
        byte = html[i]
        if not 97 <= (byte | 32) <= 122:
            if byte <= 32:
                previous = _ZERO
            i += 1
            continue
        start = i
        key = _SEED
        pair = (previous ^ np.uint64(45)) * _PRIME
        while i < stop and 97 <= (html[i] | 32) <= 122:
            if i > start and html[i] < 97 and html[i - 1] >= 97:
                break
            letter = np.uint64(html[i] | 32)
            key = (key ^ letter) * _PRIME
            pair = (pair ^ letter) * _PRIME
            i += 1
        if i - start > 1:
            _score(rows, seen, n_seen, keys, values, 0, box, key, start, i)
            if previous != _ZERO:
                _score(rows, seen, n_seen, keys, values, 0, box, pair, previous_start, i)
            previous, previous_start = key, start
            budget -= 1


@kernel
def _is_wide(char: Any) -> Any:
    """Scripts of which a character says as much as several Latin letters: Chinese, kana, Hangul; and Thai, Lao, Khmer, Burmese,
    which like the first two are written without spaces."""
    if char < 0x0E00:
        return False
    return 0x3040 <= char <= 0x9FFF or 0xAC00 <= char <= 0xD7A3 or 0xF900 <= char <= 0xFAFF or 0x20000 <= char <= 0x3FFFF


@kernel
def _is_unspaced(char: Any) -> Any:
    return 0x0E00 <= char <= 0x0EFF or 0x1000 <= char <= 0x109F or 0x1780 <= char <= 0x17FF


@kernel
def _decode(text: Any, i: Any) -> Any:
    """Code point at `i` of valid UTF-8 and the position after it."""
    byte = np.int64(text[i])
    if byte < 0x80:
        return byte, i + 1
    if byte < 0xE0 and i + 1 < len(text):
        return (byte & 31) << 6 | text[i + 1] & 63, i + 2
    if byte < 0xF0 and i + 2 < len(text):
        return (byte & 15) << 12 | (np.int64(text[i + 1]) & 63) << 6 | text[i + 2] & 63, i + 3
    if i + 3 < len(text):
        return (byte & 7) << 18 | (np.int64(text[i + 1]) & 63) << 12 | (np.int64(text[i + 2]) & 63) << 6 | text[i + 3] & 63, i + 4
    return byte, i + 1


@kernel
def _is_end(char: Any) -> Any:
    """Characters that end a sentence: . ! ? : ; and their forms in Chinese, Arabic and Hindi."""
    if char < 128:
        return char == 46 or char == 33 or char == 63 or char == 58 or char == 59
    return char in (0x3002, 0xFF01, 0xFF1F, 0xFF1A, 0xFF1B, 0x2026, 0x964, 0x6D4, 0x61F)


@kernel
def _is_closing(char: Any) -> Any:
    """Quotation marks and brackets after the end of a sentence."""
    return char in (34, 41, 0x201D, 0xBB, 0x300D, 0xFF09, 0x2019, 0x201C)


@kernel
def _is_word_char(char: Any) -> Any:
    if char < 128:
        return 97 <= (char | 32) <= 122
    return char >= 0xC0 and not (0x2000 <= char <= 0x2FFF or 0x3000 <= char <= 0x303F or 0xFF00 <= char <= 0xFF0F or char == 0xD7)


@kernel
def _measure(text: Any, row: Any, block: Any, title: Any, rows: Any, seen: Any, n_seen: Any, keys: Any, values: Any) -> None:
    """Counts of a block's characters, scores of its words."""
    in_title = 0
    i, stop = row[START], row[END]
    short = stop - i <= SHORT_TEXT
    chars = wide = digits = upper = ends = commas = words = 0
    in_word = False
    key, start = _SEED, i
    before: Any = np.int64(0)
    last: Any = np.int64(0)
    while i < stop:
        at = i
        char, i = _decode(text, i)
        chars += 1
        if char > 32:
            last = char if not (_is_closing(char) and _is_end(last)) else last
        if _is_wide(char) or _is_unspaced(char):
            wide += 1
            words += 1
            if short and before:  # pairs of characters
                pair = ((_SEED ^ np.uint64(before)) * _PRIME ^ np.uint64(char)) * _PRIME
                _score(rows, seen, n_seen, keys, values, 2, block, pair, start, i)
                in_title += _find(title, pair) >= 0
            before, start = char, at
            if in_word and short:
                in_word = False
            continue
        before = 0
        if _is_word_char(char):
            if not in_word:
                words += 1
                in_word = True
                key, start = _SEED, at
            if 65 <= char <= 90 or 0xC0 <= char <= 0xDE or 0x410 <= char <= 0x42F:
                upper += 1
            for k in range(at, i):
                key = (key ^ np.uint64(_lower(text[k]))) * _PRIME
            continue
        if in_word and short and at - start > 1:
            _score(rows, seen, n_seen, keys, values, 1, block, key, start, at)
            in_title += _find(title, key) >= 0
        in_word = False
        if 48 <= char <= 57:
            digits += 1
        elif _is_end(char):
            ends += 1
        elif char == 44 or char == 0xFF0C or char == 0x3001 or char == 0x60C:
            commas += 1
    if in_word and short and stop - start > 1:
        _score(rows, seen, n_seen, keys, values, 1, block, key, start, stop)
        in_title += _find(title, key) >= 0
    rows[block, 3] = in_title
    row[CHARS], row[WIDE], row[DIGITS], row[UPPER] = chars, wide, digits, upper
    row[ENDS], row[COMMAS], row[WORDS], row[LAST] = ends, commas, words, _is_end(last)


@kernel
def _measure_all(
    text: Any, blocks: Any, html: Any, boxes: Any, spans: Any, names: Any, name_scores: Any, keys: Any, values: Any, title: Any, seen: Any
) -> Any:
    n_seen = np.zeros(1, dtype=np.int64)
    signs = np.empty(len(boxes), dtype=np.uint64)
    of_boxes = np.zeros((len(boxes), 3), dtype=np.float32)
    of_blocks = np.zeros((len(blocks), 4), dtype=np.float32)
    for k in range(len(boxes)):
        signs[k] = (_SEED ^ np.uint64(boxes[k, TAG])) * _PRIME
    for k in range(len(spans)):
        box, start, stop = spans[k, 0], spans[k, 1], spans[k, 2]
        _read_names(html, start, stop, box, of_boxes, seen, n_seen, names, name_scores)
        if spans[k, 3]:
            sign = signs[box]
            for i in range(start, stop):
                sign = (sign ^ np.uint64(html[i])) * _PRIME
            signs[box] = sign
    for block in range(len(blocks)):
        _measure(text, blocks[block], block, title, of_blocks, seen, n_seen, keys, values)
    return signs, of_boxes, of_blocks, n_seen[0]


def measure(
    text: np.ndarray,
    blocks: np.ndarray,
    html: np.ndarray,
    boxes: np.ndarray,
    spans: np.ndarray,
    scores: Scores,
    title: np.ndarray,
    keep: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Signs and names of boxes, wording of blocks, words seen (see `Page`); counted columns of `blocks` are filled in.

    `spans`: int32 (n, 4), box, start and end in `html`, and 1 for a class; `title`: set of the title's words; `keep`: words to keep.
    """
    seen = np.empty((keep, 5), dtype=np.uint64)
    signs, names, wording, n = _measure_all(text, blocks, html, boxes, spans, *scores.names, *scores.wording, title, seen)
    return signs, names, wording, seen[:n]
