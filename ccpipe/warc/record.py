"""One WARC record: what the readers of `ccpipe.warc` hand out, and how it is parsed from bytes.

In: the first bytes of a record, or a record object of FastWARC or warcio. Out: type, the few headers that are used, the block.
warcio parses what FastWARC refuses: bare-LF headers, ARC records.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from fastwarc.warc import WarcRecord
from warcio.archiveiterator import ArchiveIterator as WarcioIterator

HEADER_BYTES = 1 << 16
"""Room for the WARC and HTTP headers beside the largest body (FastWARC refuses headers over 32 KiB)."""

RECORD_END = 4
"""CRLF CRLF after the block."""

TYPE_NAMES = {
    2: "warcinfo",
    4: "response",
    8: "resource",
    16: "request",
    32: "metadata",
    64: "revisit",
    128: "conversion",
    256: "continuation",
}
ARC_HEADERS = ("uri", "-", "archive-date", "content-type", "length")
HEADERS = ("warc-target-uri", "warc-record-id", "warc-date", "content-type", "content-length")


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
    kind: str
    headers: dict[str, str]
    block: bytes
    header_bytes: int
    declared: int
    """Content-Length; -1 when there is none that can be read."""


def parse(data: bytes) -> Parsed | None:
    """The record at the start of `data`, by FastWARC or, failing that, by warcio."""
    try:
        record = WarcRecord.from_bytes(data)
    except OSError:
        return _parse_warcio(data)
    kind = TYPE_NAMES.get(int(record.record_type))
    if not kind:
        return _parse_warcio(data)
    headers = fast_headers(record)
    start = data.find(b"\r\n\r\n", len(data) - len(data.lstrip()))
    if start < 0:
        return _parse_warcio(data)
    header_bytes = start + 4
    declared = declared_length(headers)
    block = data[header_bytes : header_bytes + declared] if declared >= 0 else data[header_bytes:]
    return Parsed(kind, headers, block, header_bytes, declared)


def _parse_warcio(data: bytes) -> Parsed | None:
    try:
        record = next(iter(WarcioIterator(io.BytesIO(data), no_record_parse=True)))
        block = record.raw_stream.read()
    except Exception:  # the last resort read nothing: the caller counts it
        return None
    if not record.rec_type:
        return None
    headers = warcio_headers(record)
    declared = declared_length(headers)
    return Parsed(record.rec_type, headers, block, max(0, len(data) - len(block) - RECORD_END), declared)


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
    text = headers["content-length"].strip()
    return int(text) if text.isascii() and text.isdigit() else -1


def fast_headers(record: Any) -> dict[str, str]:
    """The headers wanted, of a FastWARC record."""
    return {name: record.headers.get(name) or "" for name in HEADERS}


def fast_kind(record: Any) -> str:
    return TYPE_NAMES.get(int(record.record_type), "unknown")
