"""Matching of addresses, compiled: host found and lower-cased, hashes of its domains and of pages, look-up, words.

All functions are in this file because compiled functions call only those of their own file (see `ccpipe/kernels.py`). The hash is
part of the file format: never change it without a new version there.

A domain is hashed from its last byte to its first, so that one pass over a host gives the hash of every domain above it. A page
continues from the hash of its site, from the first byte to the last.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ccpipe.kernels import BASE, STEP, kernel, mix

NEEDS_PYTHON = 0xFFFF
"""Code of an address that `ccpipe.urls.address` must read: not ASCII, percent-encoded host, odd IP address, tabs."""
HAS_PAGES = 1
"""Lowest bit of an entry's kind: pages of this site are listed. The other bits: number of its category from 1 on, 0 = none."""
HARD, SOFT = 1, 2
"""Kinds of words."""
MAX_SOFT = 16
"""Largest number of different soft words that may be asked for."""

_TAB, _LF, _CR, _SPACE = 9, 10, 13, 32
_PERCENT, _DOT, _SLASH, _COLON, _QUERY, _AT, _BACKSLASH, _HASH = 37, 46, 47, 58, 63, 64, 92, 35
_LEFT_BRACKET = 91


class Table(NamedTuple):
    """Arrays of a compiled block list, read only. Entries with hashes h where h >> shift == b are `starts[b]` to `starts[b + 1]`.

    `hashes`: uint64, ascending; `kinds`: uint8, `kind_bytes` for each entry, little-endian; `words`: uint64, ascending hashes of
    words, `word_kinds` beside them; `jumps`: uint16, the automaton of parts of words, `n_classes` for each state, 0 = root;
    `classes`: uint8, byte -> class; `ends`: uint8, state -> 1 where a part of a word ends.
    """

    starts: np.ndarray
    hashes: np.ndarray
    kinds: np.ndarray
    words: np.ndarray
    word_kinds: np.ndarray
    jumps: np.ndarray
    classes: np.ndarray
    ends: np.ndarray
    shift: int
    kind_bytes: int
    n_classes: int
    soft_limit: int
    n_categories: int
    has_words: bool


@kernel
def add_byte(state: np.uint64, byte: int) -> np.uint64:
    """One step of the hash: for a given byte a bijection of the state, for a given state different for each byte."""
    state = (state ^ np.uint64(byte)) * BASE
    return state ^ (state >> np.uint64(32))


@kernel
def lower(byte: int) -> int:
    return byte + 32 if 65 <= byte <= 90 else byte


@kernel
def is_word_byte(byte: int) -> bool:
    return 48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122


@kernel
def hex_value(byte: int) -> int:
    """-1 for what is no hexadecimal digit."""
    if 48 <= byte <= 57:
        return byte - 48
    byte = lower(byte)
    return byte - 87 if 97 <= byte <= 102 else -1


@kernel
def hash_domain(host: np.ndarray, n: int) -> np.uint64:
    """State of the hash of the first `n` bytes; `mix` of it is the key of the domain."""
    state = STEP
    for at in range(n - 1, -1, -1):
        state = add_byte(state, host[at])
    return state


@kernel
def hash_key(host: np.ndarray, tail: np.ndarray) -> np.uint64:
    """Key of an entry: a domain where `tail` is empty, else a page."""
    state = hash_domain(host, len(host))
    if len(tail) == 0:
        return mix(state)
    state = ~state
    for at in range(len(tail)):
        state = add_byte(state, tail[at])
    return mix(state)


@kernel
def look_up(key: np.uint64, starts: np.ndarray, hashes: np.ndarray, kinds: np.ndarray, shift: int, kind_bytes: int) -> int:
    """Kind of an entry, 0 where it is not listed. Arrays one by one: handing on the whole table costs a fifth of a look-up."""
    bucket = np.int64(key >> np.uint64(shift))
    for at in range(np.int64(starts[bucket]), np.int64(starts[bucket + 1])):
        if hashes[at] == key:
            kind: Any = np.int64(kinds[at * kind_bytes])
            if kind_bytes == 2:
                kind |= np.int64(kinds[at * 2 + 1]) << 8
            return kind  # type: ignore[no-any-return]
    return 0


@kernel
def trim(data: np.ndarray, start: int, end: int) -> tuple[int, int]:
    while start < end and data[start] <= _SPACE:
        start += 1
    while start < end and data[end - 1] <= _SPACE:
        end -= 1
    return start, end


@kernel
def is_special(data: np.ndarray, start: int, end: int) -> bool:
    """http, https, ftp, ws, wss."""
    n = end - start
    if not 2 <= n <= 5:
        return False
    word = np.int64(0)
    for at in range(start, end):
        word = word << 8 | np.int64(lower(data[at]))
    return word in (0x68747470, 0x6874747073, 0x667470, 0x7773, 0x777373)


@kernel
def find_authority(data: np.ndarray, start: int, end: int) -> int:
    """Where `user@host:port` begins; -1: there is none. As `split_authority`; a tab on the way is left in place."""
    at = start
    while at < end and (is_word_byte(data[at]) or (at > start and data[at] in (43, 45, 46))):
        at += 1
    if at < end and at > start and data[at] == _COLON and not 48 <= data[start] <= 57:
        if is_special(data, start, at):
            at += 1
            while at < end and data[at] in (_SLASH, _BACKSLASH):
                at += 1
            return at
        if at + 2 < end and data[at + 1] == _SLASH and data[at + 2] == _SLASH:
            return at + 3
        digits = at + 1
        while digits < end and 48 <= data[digits] <= 57:
            digits += 1
        is_port = digits > at + 1 and (digits == end or data[digits] in (_SLASH, _BACKSLASH, _QUERY, _HASH))
        return start if is_port else -1
    if start < end and data[start] in (_SLASH, _BACKSLASH):
        if start + 1 >= end or data[start + 1] not in (_SLASH, _BACKSLASH):
            return -1
        while start < end and data[start] in (_SLASH, _BACKSLASH):
            start += 1
    return start


@kernel
def find_host(data: np.ndarray, start: int, end: int, host: np.ndarray) -> tuple[int, int]:
    """Clean host of the authority at `start` into `host`: its length, or -1 where Python must look; where the path begins."""
    first, colon, at = start, -1, start
    while at < end:
        byte = data[at]
        if byte in (_SLASH, _BACKSLASH, _QUERY, _HASH):
            break
        if byte <= _SPACE or byte >= 127 or byte in (_PERCENT, _LEFT_BRACKET):
            return -1, at
        if byte == _AT:
            first, colon = at + 1, -1
        elif byte == _COLON and colon < 0:
            colon = at
        at += 1
    last = colon if colon >= 0 else at
    while last > first and data[last - 1] == _DOT:
        last -= 1
    for place in range(first, last):
        host[place - first] = lower(data[place])
    return last - first, at


@kernel
def number_at_end(host: np.ndarray, n: int) -> int:
    """0: a name; 1: an IPv4 address of four decimal numbers; 2: another spelling of one, or none at all."""
    label = n
    while label > 0 and host[label - 1] != _DOT:
        label -= 1
    if label == n or not 48 <= host[label] <= 57:
        return 0
    is_hex = label + 1 < n and host[label] == 48 and host[label + 1] == 120
    for at in range(label + 2 * is_hex, n):
        if hex_value(host[at]) < 0 or (not is_hex and host[at] > 57):
            return 0
    parts, value, digits = 0, 0, 0
    for at in range(n + 1):
        if at == n or host[at] == _DOT:
            if digits == 0 or value > 255 or (digits > 1 and host[at - digits] == 48):
                return 2
            parts, value, digits = parts + 1, 0, 0
        elif not 48 <= host[at] <= 57 or digits == 3:
            return 2
        else:
            value, digits = value * 10 + host[at] - 48, digits + 1
    return 1 if parts == 4 else 2


@kernel
def clean_tail(data: np.ndarray, start: int, end: int, is_path: bool, out: np.ndarray) -> tuple[int, int]:
    """Path (or query) from `start` on into `out`, as `clean_path` (`unescape`) gives it: its length, and where it ends in `data`.

    The length is -1 where there is a tab or line end, which may stand inside an escape.
    """
    n, at, slash = 0, start, -1
    while True:
        byte = -1 if at >= end else np.int64(data[at])
        if byte == _HASH or (is_path and byte == _QUERY):
            byte = -1
        if is_path and byte == _BACKSLASH:
            byte = _SLASH
        if is_path and (byte == _SLASH or byte < 0):
            if n - slash == 2 and slash >= 0 and out[slash + 1] == _DOT:
                n = slash
            elif n - slash == 3 and slash >= 0 and out[slash + 1] == _DOT and out[slash + 2] == _DOT:
                n = slash - 1
                while n > 0 and out[n] != _SLASH:
                    n -= 1
                n = max(n, 0)
            slash = n
        if byte < 0:
            break
        at += 1
        if byte in (_TAB, _LF, _CR):
            return -1, at
        if byte == _PERCENT and at + 1 < end and hex_value(data[at]) >= 0 and hex_value(data[at + 1]) >= 0:
            byte = hex_value(data[at]) * 16 + hex_value(data[at + 1])
            at += 2
            if stays_encoded(byte):
                out[n], out[n + 1] = _PERCENT, hex_digit(byte >> 4)
                n += 2
                byte = hex_digit(byte & 15)
        out[n] = byte
        n += 1
    while is_path and n > 0 and out[n - 1] == _SLASH:
        n -= 1
    return n, at


@kernel
def stays_encoded(byte: int) -> bool:
    """`KEPT_ENCODED` of ccpipe.urls.address: # $ % & ' ( ) * + , / : ; = ? @ [ backslash ] and !"""
    return byte == 33 or 35 <= byte <= 44 or byte in (47, 58, 59, 61, 63, 64, 91, 92, 93)


@kernel
def hex_digit(value: int) -> int:
    return value + 48 if value < 10 else value + 55


@kernel
def match_page(data: np.ndarray, start: int, end: int, site: np.uint64, table: Table, out: np.ndarray) -> int:
    """Category of the page whose path begins at `start`, or of the nearest page above it; `site`: state of the hash of its site."""
    starts, hashes, kinds, shift, width = table.starts, table.hashes, table.kinds, table.shift, table.kind_bytes
    n, at = clean_tail(data, start, end, True, out)
    if n < 0:
        return NEEDS_PYTHON
    state, found = ~site, 0
    for place in range(n):
        if place > 0 and out[place] == _SLASH:
            kind = look_up(mix(state), starts, hashes, kinds, shift, width) >> 1
            found = kind if kind else found
        state = add_byte(state, out[place])
    if n > 0:
        kind = look_up(mix(state), starts, hashes, kinds, shift, width) >> 1
        found = kind if kind else found
    state = add_byte(state, _QUERY)
    if at < end and data[at] == _QUERY:
        n, at = clean_tail(data, at + 1, end, False, out)
        if n < 0:
            return NEEDS_PYTHON
        for place in range(n):
            state = add_byte(state, out[place])
    kind = look_up(mix(state), starts, hashes, kinds, shift, width) >> 1
    return kind if kind else found


@kernel
def match_host(host: np.ndarray, n: int, one: bool, data: np.ndarray, rest: int, end: int, table: Table, out: np.ndarray) -> int:
    """Category of a clean host of `n` bytes with the path at `rest`; `one`: an IP address, nothing is above it."""
    starts, hashes, kinds, shift, width = table.starts, table.hashes, table.kinds, table.shift, table.kind_bytes
    state = STEP
    nearest, above, pages, site = 0, 0, False, STEP
    has_www = n > 4 and host[0] == 119 and host[1] == 119 and host[2] == 119 and host[3] == _DOT and not one
    for at in range(n - 1, -1, -1):
        if host[at] == _DOT and not one:
            kind = look_up(mix(state), starts, hashes, kinds, shift, width)
            above = kind >> 1 if kind >> 1 else above
            if has_www and at == 3:
                pages, site = kind & HAS_PAGES != 0, state
        state = add_byte(state, host[at])
    kind = look_up(mix(state), starts, hashes, kinds, shift, width)
    nearest = kind >> 1 if kind >> 1 else above
    if not has_www:
        pages, site = kind & HAS_PAGES != 0, state
    if pages:
        page = match_page(data, rest, end, site, table, out)
        nearest = page if page else nearest
    return nearest


@kernel
def is_among(values: np.ndarray, n: int, value: np.uint64) -> bool:
    found = False
    for at in range(n):
        found = found or values[at] == value
    return found


@kernel
def match_words(data: np.ndarray, start: int, end: int, table: Table) -> int:
    """1: a word of the hard list; 2: enough different words of the soft one; 3: a part of a word; 0: none of them; -1: a tab.

    Words are runs of ASCII letters and digits, or of other bytes above 127, after percent-decoding, in lower case.
    """
    soft = np.empty(MAX_SOFT, np.uint64)
    n_soft, part, state, run, at = 0, False, STEP, 0, start
    node: Any = 0
    while at <= end:
        byte: Any = 0 if at == end else np.int64(data[at])
        at += 1
        if byte in (_TAB, _LF, _CR):
            return -1
        if byte == _PERCENT and at + 1 < end and hex_value(data[at]) >= 0 and hex_value(data[at + 1]) >= 0:
            byte = hex_value(data[at]) * 16 + hex_value(data[at + 1])
            at += 2
        kind = 1 if is_word_byte(byte) else 2 if byte > 127 else 0
        if kind != run and run != 0:
            word = word_kind(mix(state), table)
            if word == HARD:
                return 1
            if word == SOFT and n_soft < table.soft_limit and not is_among(soft, n_soft, state):
                soft[n_soft] = state
                n_soft += 1
        if kind != run:
            state, run = STEP, kind
        if kind:
            state = add_byte(state, lower(byte))
            node = np.int64(table.jumps[node * table.n_classes + table.classes[lower(byte)]])
            part = part or table.ends[node] != 0
    if table.soft_limit and n_soft >= table.soft_limit:
        return 2
    return 3 if part else 0


@kernel
def word_kind(key: np.uint64, table: Table) -> int:
    low, high = 0, len(table.words)
    while low < high:
        middle = (low + high) // 2
        if table.words[middle] < key:
            low = middle + 1
        else:
            high = middle
    found: Any = np.int64(table.word_kinds[low]) if low < len(table.words) and table.words[low] == key else 0
    return found  # type: ignore[no-any-return]


@kernel
def hash_word(word: np.ndarray) -> np.uint64:
    state = STEP
    for byte in word:
        state = add_byte(state, byte)
    return mix(state)


@kernel
def match_clean(
    host: np.ndarray, n: int, one: bool, data: np.ndarray, first: int, rest: int, end: int, table: Table, out: np.ndarray
) -> int:
    """Code of a clean host, its path at `rest`; words are looked for from `first` on. Hosts and pages come before words."""
    code = match_host(host, n, one, data, rest, end, table, out) if n else 0
    if code or not table.has_words:
        return code
    word = match_words(data, first, end, table)
    return NEEDS_PYTHON if word < 0 else table.n_categories + word if word else 0


@kernel
def match_one(data: np.ndarray, start: int, end: int, table: Table, host: np.ndarray, out: np.ndarray) -> int:
    """Code of the address in `data[start:end]`: 0, its category from 1 on, behind these the kinds of words, or `NEEDS_PYTHON`."""
    start, end = trim(data, start, end)
    first = find_authority(data, start, end)
    if first < 0:
        for at in range(start, end):  # a tab before the authority hides it
            if data[at] in (_TAB, _LF, _CR):
                return NEEDS_PYTHON
        return match_clean(host, 0, False, data, start, end, end, table, out)
    n, rest = find_host(data, first, end, host)
    number = number_at_end(host, n) if n > 0 else 0
    if n < 0 or number == 2:
        return NEEDS_PYTHON
    return match_clean(host, n, number == 1, data, first, rest, end, table, out)


@kernel
def match_rows(data: np.ndarray, offsets: np.ndarray, table: Table) -> np.ndarray:
    """Codes of addresses, uint16, shape (n,). `data`: UTF-8, uint8; `offsets`: int64, shape (n + 1,)."""
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    host, out = np.empty(longest + 1, np.uint8), np.empty(longest + 1, np.uint8)
    codes = np.empty(len(offsets) - 1, np.uint16)
    for row in range(len(offsets) - 1):
        codes[row] = match_one(data, offsets[row], offsets[row + 1], table, host, out)
    return codes


@kernel
def match_prepared(host: np.ndarray, one: bool, data: np.ndarray, rest: int, table: Table) -> int:
    """The same for an address that Python has read: clean host, then everything behind the scheme, the path at `rest`."""
    return match_clean(host, len(host), one, data, 0, rest, len(data), table, np.empty(len(data) + 1, np.uint8))


@kernel
def hash_domains(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys of domains in `data`, and of what stands behind the first dot where that is the only dot, else 0. uint64, shape (n,)."""
    keys, above = np.empty(len(starts), np.uint64), np.zeros(len(starts), np.uint64)
    for row in range(len(starts)):
        state, dots = STEP, 0
        for at in range(ends[row] - 1, starts[row] - 1, -1):
            byte = lower(data[at])
            if byte == _DOT:
                dots += 1
                above[row] = mix(state) if dots == 1 else np.uint64(0)
            state = add_byte(state, byte)
        keys[row] = mix(state)
    return keys, above
