"""One WARC record: what the readers of `ccpipe.warc` hand out, and how its header is parsed.

In: the first bytes of a record, or a record object of warcio. Out: type, the few headers that are used, the block.
The parser takes what crawlers of twenty years have written: bare-LF lines, folded lines, headers in UTF-8 or Latin-1.
ARC records are left to warcio.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

HEADER_BYTES = 1 << 16
"""Room for the WARC and HTTP headers beside the largest body."""

RECORD_END = 4
"""CRLF CRLF after the block."""

BLANK = b"\r\n \t\0"
"""Bytes that may stand between two records."""

TYPES = ("warcinfo", "response", "resource", "request", "metadata", "revisit", "conversion", "continuation")
"""Record types of WARC 1.1 section 5.5; others are `unknown`."""

ARC_HEADERS = ("uri", "-", "archive-date", "content-type", "length")
HEADERS = ("warc-target-uri", "warc-record-id", "warc-date", "content-type", "content-length")

ARC_START = b"filedesc:"
RECORD_START = re.compile(rb"(?:WARC|warc)/\d")
_HEADER_END = re.compile(rb"\n\r*\n")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record begins: byte `offset` of the file, `skip` records after it, and the way of reading from there."""

    how: str
    offset: int = 0
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One WARC record. `block` holds at most the wanted bytes of its content, `block_bytes` says how many there are.

    `length` is 0 where the record has no byte range of its own. `damage`: None, `cut` or `corrupt`.
    """

    kind: str
    offset: int
    length: int
    headers: dict[str, str]
    block: bytes
    block_bytes: int
    damage: str | None
    next: Place


@dataclass(slots=True)
class Parsed:
    """A record's header. `start`, `header_bytes`: where in the parsed bytes it begins, and where its block does."""

    kind: str
    headers: dict[str, str]
    start: int
    header_bytes: int
    declared: int
    """Content-Length; -1 when there is none that can be read."""


def parse_header(data: bytes) -> Parsed | None:
    """The WARC header at the start of `data`, blanks before it aside. None where there is none, or none that ends in time.

    >>> parse_header(b"WARC/1.0\\nWARC-Type: response\\nContent-Length: 5\\n\\nHello").declared
    5
    """
    start = 0 if data[:1] == b"W" else len(data) - len(data.lstrip(BLANK))
    end = _HEADER_END.search(data, start, start + HEADER_BYTES)
    if not end or not RECORD_START.match(data, start):
        return None
    found = _fields(data[start : end.start()])
    headers = {name: _decode(found.get(name.encode(), b"")) for name in HEADERS}
    kind = found.get(b"warc-type", b"").lower().decode("latin-1")
    return Parsed(kind if kind in TYPES else "unknown", headers, start, end.end(), declared_length(headers))


def _fields(header: bytes) -> dict[bytes, bytes]:
    """Lower-case name -> value; the last of equal names counts."""
    fields: dict[bytes, bytes] = {}
    name = b""
    for line in header.split(b"\n")[1:]:
        if line[:1] in (b" ", b"\t") and name:  # folded: the value goes on
            fields[name] += b" " + line.strip()
            continue
        label, _, value = line.partition(b":")
        name = label.strip().lower()
        fields[name] = value.strip()
    return fields


def _decode(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def parse_arc(data: bytes) -> tuple[Parsed, bytes] | None:
    """Header and block of the ARC record that `data` holds, by warcio; None where it holds none."""
    from warcio.archiveiterator import ArchiveIterator

    try:
        record = next(iter(ArchiveIterator(io.BytesIO(data), no_record_parse=True)))
        block = record.raw_stream.read()
    except Exception:  # the last resort read nothing: the caller counts it
        return None
    if not record.rec_type:
        return None
    headers = warcio_headers(record)
    return Parsed(record.rec_type, headers, 0, max(0, len(data) - len(block) - RECORD_END), declared_length(headers)), block


def warcio_headers(record: Any) -> dict[str, str]:
    """The headers wanted; those of an ARC record under their WARC names (warcio's own conversion makes up random ids)."""
    names = ARC_HEADERS if record.format == "arc" else HEADERS
    headers = {name: record.rec_headers.get_header(given) or "" for name, given in zip(HEADERS, names, strict=True)}
    if record.format == "arc":
        headers["warc-date"] = _arc_date(headers["warc-date"])
    return headers


def _arc_date(digits: str) -> str:
    """`20240301000000` as a WARC-Date; empty when it is none."""
    if len(digits) != 14 or not digits.isdecimal():
        return ""
    return "{}-{}-{}T{}:{}:{}Z".format(digits[:4], *(digits[i : i + 2] for i in range(4, 14, 2)))


def declared_length(headers: dict[str, str]) -> int:
    """Content-Length, bytes; -1 when there is none that can be read.

    >>> declared_length({"content-length": " 12 "}), declared_length({"content-length": "1e3"})
    (12, -1)
    """
    text = headers["content-length"].strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1
