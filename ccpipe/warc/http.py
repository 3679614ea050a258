"""HTTP responses as WARC records hold them: head, media type, and the body with its encodings undone.

In: the block of a `response` record. Out: status, headers, the decoded body. Expanding is limited: a body that would grow
beyond `max_bytes` raises instead. Bodies that a crawler already decoded but whose headers still name the encoding are
taken as they are (Common Crawl and wget both leave such records). No charset handling here.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

HTML_TYPES = ("text/html", "application/xhtml+xml")
SNIFF_BYTES = 1024
GZIP_MAGIC = b"\x1f\x8b\x08"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

MAX_UNTOLD = 2
"""Encodings undone that no header names: servers compress twice, crawlers lose headers."""

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"\s*HTTP/\d(?:\.\d)?\s+(\d{3})(?!\d)")
_CHUNK_SIZE = re.compile(rb"\s*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_HTML_START = re.compile(rb"<(?:!doctype\s+html|html|head|body|title|meta)\b", re.IGNORECASE)


class ExpandsTooFar(Exception):
    """A content-encoded body grows beyond the limit."""


class BadEncoding(Exception):
    """A body that is not what its Content-Encoding says."""


@dataclass(frozen=True, slots=True)
class Response:
    """status: 100..599; headers: lower-case name -> last value; body: as stored in the record."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")


def parse_response(block: bytes) -> Response | None:
    """The response in a record's block, None where no status line begins it.

    >>> parse_response(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/html\\r\\n\\r\\n<p>").status
    200
    """
    status = _STATUS_LINE.match(block)
    if not status:
        return None
    end = _HEAD_END.search(block)
    head, body = (block[: end.start()], block[end.end() :]) if end else (block, b"")
    headers: dict[str, str] = {}
    for line in head.split(b"\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
    return Response(int(status[1]), headers, body)


def media_type(content_type: str) -> str:
    """`text/html` out of `Text/HTML; charset=x`; empty where none is given."""
    return content_type.partition(";")[0].partition(",")[0].strip().lower()


def is_html(response: Response, body: bytes) -> bool:
    """By the Content-Type, or by the first KiB of the body where there is none."""
    kind = media_type(response.content_type)
    return kind in HTML_TYPES if kind else bool(_HTML_START.search(body[:SNIFF_BYTES]))


def decode_body(response: Response, max_bytes: int) -> bytes:
    """The body with transfer and content encodings undone. Raises `ExpandsTooFar`, `BadEncoding`."""
    body = response.body
    if "chunked" in response.headers.get("transfer-encoding", "").lower():
        body = join_chunks(body)
    for name in reversed(response.headers.get("content-encoding", "").lower().split(",")):
        decoder = _by_bytes(body) or _DECODERS.get(name.strip())
        if decoder:
            body = decoder(body, max_bytes)
    # encoded once more than the header says, or without one
    for _ in range(MAX_UNTOLD):
        decoder = _by_bytes(body)
        if decoder is None:
            break
        body = decoder(body, max_bytes)
    return body


def _by_bytes(body: bytes) -> Callable[[bytes, int], bytes] | None:
    """The decoder that the first bytes ask for, whatever the header calls it: gzip and zstd have marks that no text begins with."""
    if body.startswith(GZIP_MAGIC):
        return _gunzip
    return _unzstd if body.startswith(ZSTD_MAGIC) else None


def join_chunks(body: bytes) -> bytes:
    """Chunks joined (RFC 9112 section 7.1); a body that does not begin with a chunk is returned as it is.

    A chunk that is cut, or followed by something else, ends the body there.

    >>> join_chunks(b"3\\r\\nabc\\r\\n0\\r\\n\\r\\n")
    b'abc'
    """
    parts: list[bytes] = []
    at = 0
    while size_line := _CHUNK_SIZE.match(body, at):
        size = int(size_line[1], 16)
        parts.append(body[size_line.end() : size_line.end() + size])
        at = size_line.end() + size
        if not size:
            break
    return b"".join(parts) if at else body


def _inflate(body: bytes, wbits: int, max_bytes: int) -> bytes:
    """Inflate all gzip members or one zlib stream; a stream that is cut gives what is there."""
    parts: list[bytes] = []
    room = max_bytes
    while body:
        inflater = zlib.decompressobj(wbits)
        try:
            data = inflater.decompress(body, room + 1)
        except zlib.error as error:
            if parts:
                break  # rubbish after a whole stream
            raise BadEncoding(str(error)) from None
        room -= len(data)
        if room < 0:
            raise ExpandsTooFar
        parts.append(data)
        body = inflater.unused_data if inflater.eof else b""
    return b"".join(parts)


def _gunzip(body: bytes, max_bytes: int) -> bytes:
    return _inflate(body, 31, max_bytes) if body.startswith(b"\x1f\x8b") else body


def _undeflate(body: bytes, max_bytes: int) -> bytes:
    """zlib streams (RFC 9110) and the raw deflate that some servers send under the same name."""
    try:
        return _inflate(body, 15, max_bytes)
    except BadEncoding:
        if body[:SNIFF_BYTES].lstrip().startswith(b"<"):
            return body
        return _inflate(body, -15, max_bytes)


def _unbrotli(body: bytes, max_bytes: int) -> bytes:
    import brotli  # type: ignore[import-untyped]

    if body[:SNIFF_BYTES].lstrip().startswith(b"<"):
        return body
    decoder = brotli.Decompressor()
    parts: list[bytes] = []
    room = max_bytes
    try:
        data = decoder.process(body, output_buffer_limit=room + 1)
        while data:
            parts.append(data)
            room -= len(data)
            if room < 0:
                raise ExpandsTooFar
            data = decoder.process(b"", output_buffer_limit=room + 1)
    except brotli.error as error:
        raise BadEncoding(str(error)) from None
    return b"".join(parts)


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    import zstandard

    if not body.startswith(b"\x28\xb5\x2f\xfd"):
        return body
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(body, read_across_frames=True) as reader:
            data = reader.read(max_bytes + 1)
    except zstandard.ZstdError as error:
        raise BadEncoding(str(error)) from None
    if len(data) > max_bytes:
        raise ExpandsTooFar
    return bytes(data)


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _undeflate,
    "br": _unbrotli,
    "zstd": _unzstd,
}
