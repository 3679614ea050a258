"""Which text of a page stands there more than once, or is stated by the page elsewhere: shares for each block.

In: a `Page`, and texts that the page states in JSON-LD or meta tags. Out: float64 (n_blocks, 8), columns named in `OVERLAP`. Text is
compared by runs of 16 letters and digits, whatever stands between them; within the page by every eighth run (by hash).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ccpipe.html import blocks as b
from ccpipe.kernels import kernel

OVERLAP = ["body_share", "lead_share", "body_length", "body_found", "copies", "copies_before", "said_before", "said_again"]

START, END = b.START, b.END
_WINDOW = 16
_FACTOR = np.uint64(0xD1342543DE82EF95)
_LAST_FACTOR = np.uint64(pow(0xD1342543DE82EF95, _WINDOW, 1 << 64))
_EIGHTH = np.uint64(7 << 40)
_ZERO = np.uint64(0)


def overlap(page: b.Page, body: str, lead: str) -> np.ndarray:
    """`body`: texts of the page's JSON-LD; `lead`: its descriptions."""
    told: np.ndarray = _overlap(page.text, page.blocks, _as_array(body), _as_array(lead))
    return told


def _as_array(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8)


@kernel
def _table_slot(keys: Any, key: Any) -> Any:
    mask = len(keys) - 1
    slot = np.int64(key >> np.uint64(32)) & mask
    while keys[slot] != np.uint64(0) and keys[slot] != key:
        slot = (slot + 1) & mask
    keys[slot] = key
    return slot


@kernel
def _join(one: Any, other: Any) -> Any:
    value = (one ^ (other * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xD1342543DE82EF95)
    value ^= value >> np.uint64(29)
    return value * np.uint64(0x94D049BB133111EB) | np.uint64(1)


@kernel
def _table_size(n: Any) -> Any:
    size = 16
    while size < 2 * n + 2:
        size *= 2
    return size


@kernel
def _letter(text: Any, i: Any) -> Any:
    """The letter or digit at `i` in lower case, as a number; 0 for blanks and marks."""
    byte = text[i]
    if byte >= 128 or 97 <= byte <= 122 or 48 <= byte <= 57:
        return np.uint64(byte)
    return np.uint64(byte + 32) if 65 <= byte <= 90 else np.uint64(0)


@kernel
def _windows(text: Any, start: Any, stop: Any, out: Any) -> Any:
    """Hashes of all runs of `_WINDOW` letters into `out`; how many."""
    ring = np.zeros(_WINDOW, dtype=np.uint64)
    key = np.uint64(0)
    seen = n = 0
    for i in range(start, stop):
        letter = _letter(text, i)
        if letter == np.uint64(0):
            continue
        key = key * _FACTOR + letter - ring[seen % _WINDOW] * _LAST_FACTOR
        ring[seen % _WINDOW] = letter
        seen += 1
        if seen >= _WINDOW:
            out[n] = _join(key, np.uint64(1))
            n += 1
    return n


@kernel
def _windows_set(text: Any) -> Any:
    found = np.empty(len(text) + 1, dtype=np.uint64)
    n = _windows(text, 0, len(text), found)
    keys = np.zeros(_table_size(n), dtype=np.uint64)
    for k in range(n):
        _table_slot(keys, found[k])
    return keys


@kernel
def _holds(keys: Any, key: Any) -> Any:
    mask = len(keys) - 1
    slot = np.int64(key >> np.uint64(32)) & mask
    while keys[slot] != np.uint64(0):
        if keys[slot] == key:
            return True
        slot = (slot + 1) & mask
    return False


@kernel
def _overlap(text: Any, blocks: Any, body: Any, lead: Any) -> Any:
    """For each block: share of its letters in `body` and in `lead`, length of `body`, share of `body` on the page; how often the
    same block stands on the page, and how often before; share of its letters that stand in a block before and in one after."""
    n = len(blocks)
    out = np.zeros((n, 8), dtype=np.float64)
    in_body, in_lead = _windows_set(body), _windows_set(lead)
    longest = 0
    for i in range(n):
        longest = max(longest, blocks[i, END] - blocks[i, START])
    found = np.empty(longest + 1, dtype=np.uint64)
    keys = np.zeros(_table_size(n), dtype=np.uint64)
    counts = np.zeros(len(keys), dtype=np.int64)
    slots = np.full(n, -1, dtype=np.int64)
    covered = 0.0
    longer = 0
    for i in range(n):
        longer += blocks[i, END] - blocks[i, START]
    first = np.zeros(_table_size(longer // 6 + 64), dtype=np.uint64)
    last_block = np.zeros(len(first), dtype=np.int32)
    samples = np.empty(len(first) // 2, dtype=np.int64)  # where in `first` each block's sampled runs are
    ends = np.zeros(n + 1, dtype=np.int64)
    for i in range(n):
        ends[i + 1] = ends[i]
        start, stop = blocks[i, START], blocks[i, END]
        if stop - start < _WINDOW:
            continue
        whole = np.uint64(stop - start)
        for k in range(start, stop):
            whole = (whole ^ np.uint64(text[k])) * _FACTOR
        slots[i] = _table_slot(keys, _join(whole, np.uint64(2)))
        out[i, 5] = counts[slots[i]]
        counts[slots[i]] += 1
        m = _windows(text, start, stop, found)
        before = 0
        for k in range(m):
            if found[k] & _EIGHTH == _ZERO and ends[i + 1] < len(samples):
                place = _table_slot(first, found[k])
                before += 0 < last_block[place] <= i
                last_block[place] = i + 1
                samples[ends[i + 1]] = place
                ends[i + 1] += 1
        out[i, 6] = before / max(1, ends[i + 1] - ends[i])
        if len(body) >= _WINDOW or len(lead) >= _WINDOW:
            hits = others = 0
            for k in range(m):
                hits += _holds(in_body, found[k])
                others += _holds(in_lead, found[k])
            out[i, 0], out[i, 1] = hits / max(1, m), others / max(1, m)
            covered += hits
    for i in range(n):
        after = 0
        for k in range(ends[i], ends[i + 1]):
            after += last_block[samples[k]] > i + 1
        out[i, 7] = after / max(1, ends[i + 1] - ends[i])
        out[i, 2], out[i, 3] = len(body), covered / max(1, len(body))
        out[i, 4] = counts[slots[i]] if slots[i] >= 0 else 1
    return out
