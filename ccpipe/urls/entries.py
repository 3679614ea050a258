"""Lines of block lists: which domain or page one blocks, or why it blocks nothing.

Formats: a domain or address per line; hosts files; the simple rules of Adblock lists (`||ads.example^`, `|http://a.example/b|`).
The compiled `scan_lines` reads bare domains and hosts lines, nearly all of a list; `parse_line` reads every line.
"""

from __future__ import annotations

import re

import numpy as np

from ccpipe.kernels import kernel
from ccpipe.urls.address import is_ip, parse_address

MAX_HOST = 253
"""Characters of a host name (RFC 1035, section 2.3.4, without the length bytes of the wire)."""
SINKS = ("0.0.0.0", "127.0.0.1", "::", "::1", "0:0:0:0:0:0:0:0", "255.255.255.255")
"""Addresses to which hosts files send what they block."""

BLANK, COMMENT, SINGLE_LABEL, MALFORMED, RULE = "blank", "comment", "single_label", "malformed", "rule"
"""Why a line blocks nothing. `single_label`: a name without a dot that is no top-level domain, such as localhost. `rule`: exceptions
and patterns of Adblock lists, which say more than an address can."""

IS_DOMAIN, IS_BLANK, IS_COMMENT, IS_OTHER = 0, 1, 2, 3
"""What `scan_lines` finds; IS_OTHER is for `parse_line`."""

_HOST = re.compile(r"(?!-)[a-z0-9_\-]{1,63}(?:\.[a-z0-9_\-]{1,63})*")
_INLINE_COMMENT = re.compile(r"\s#.*")
_RULE = re.compile(r"^@@|#[@?$]?#|[*^]|\$[a-z~]+(?:[,=]|$)")

_SPACE, _HASH, _DASH, _DOT, _UNDERSCORE = 32, 35, 45, 46, 95


def parse_line(line: str) -> tuple[list[tuple[str, bytes]], str]:
    """Keys (host, tail) that a line blocks, and the reason where it blocks nothing (or something in it is malformed).

    A domain blocks all below it. An address with a path blocks this page and all below it at a slash; with a query, or between
    bars, that page alone. Ports are left out.

    >>> [parse_line(line) for line in ("0.0.0.0 ads.example.com # x", "||Example.org^", "http://www.a.com/b/", "|http://a.com/b|")]
    ... # doctest: +NORMALIZE_WHITESPACE
    [([('ads.example.com', b'')], ''), ([('example.org', b'')], ''), ([('a.com', b'/b')], ''), ([('a.com', b'/b?')], '')]
    >>> [parse_line(line)[1] for line in ("", "! x", "localhost", "two words", "@@||good.example^", "||a.example^$image")]
    ['blank', 'comment', 'single_label', 'malformed', 'rule', 'rule']
    """
    text = _INLINE_COMMENT.sub("", line.strip("\ufeff \t\r\n"))
    if not text:
        return [], BLANK
    if text[0] in "#!;" or (text[0] == "[" and text[-1] == "]" and ":" not in text):
        return ([], RULE) if text.startswith("##") else ([], COMMENT)
    first, *names = text.split()
    if names and first not in SINKS:
        return [], MALFORMED
    found = [parse_entry(name) for name in names or [first]]
    return [key for key in found if not isinstance(key, str)], next((why for why in found if isinstance(why, str)), "")


def parse_entry(text: str) -> tuple[str, bytes] | str:
    """The key of one domain or address, or the reason why there is none."""
    exact = len(text) > 2 and text[0] == text[-1] == "|" and text[1] != "|"
    bare = text.strip("|") if exact else text.removeprefix("||").removesuffix("^").removeprefix("*.").removeprefix(".")
    if _RULE.search(bare):
        return RULE
    host, path, query = address = parse_address(bare)
    if not (is_ip(host) or (len(host) <= MAX_HOST and _HOST.fullmatch(host))):
        return MALFORMED
    if exact or query:
        return address.site, path + b"?" + query
    if path:
        return address.site, path
    return (host, b"") if "." in host or ":" in host else SINGLE_LABEL


@kernel
def is_name_byte(byte: int) -> bool:
    return 48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122 or byte in (_DASH, _UNDERSCORE)


@kernel
def after_sink(data: np.ndarray, start: int, end: int) -> int:
    """Where the name of a hosts line begins: behind `0.0.0.0` or `127.0.0.1` and spaces; `start` in other lines."""
    at = start
    for sink in (b"0.0.0.0", b"127.0.0.1"):
        n = len(sink)
        if start + n < end and data[start + n] in (9, _SPACE):
            same = True
            for place in range(n):
                same = same and data[start + place] == sink[place]
            if same:
                at = start + n
    while at > start and at < end and data[at] in (9, _SPACE):
        at += 1
    return at


@kernel
def is_plain_domain(data: np.ndarray, start: int, end: int) -> bool:
    """Two labels or more of letters, digits, dashes and underscores, the last one not beginning with a digit."""
    if end - start > MAX_HOST or data[start] == _DASH:
        return False
    label = start
    for at in range(start, end + 1):
        if at == end or data[at] == _DOT:
            if not 1 <= at - label <= 63:
                return False
            if at < end:
                label = at + 1
        elif not is_name_byte(data[at]):
            return False
    return label > start and not 48 <= data[label] <= 57


@kernel
def scan_lines(data: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lines of UTF-8 text: where the domain (or the line) begins and ends, int64, and what it is, uint8; shapes (n,)."""
    n = 0
    for byte in data:
        n += byte == 10
    n += len(data) > 0 and data[-1] != 10
    starts, ends, kinds = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.uint8)
    at = 0
    for row in range(n):
        end = at
        while end < len(data) and data[end] != 10:
            end += 1
        start, stop = at, end
        while start < stop and data[start] <= _SPACE:
            start += 1
        while start < stop and data[stop - 1] <= _SPACE:
            stop -= 1
        name = after_sink(data, start, stop)
        kinds[row] = IS_OTHER
        if start == stop:
            kinds[row] = IS_BLANK
        elif data[start] == _HASH and not (stop - start > 1 and data[start + 1] == _HASH):
            kinds[row] = IS_COMMENT
        elif name < stop and is_plain_domain(data, name, stop):
            kinds[row], start = IS_DOMAIN, name
        starts[row], ends[row] = start, stop
        at = end + 1
    return starts, ends, kinds
