"""Builders of small WARC files for tests, written by hand so that damage can be put where it is wanted."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import zstandard

PROSE = (
    "The river rose in the night, and by the morning the lower fields were under water. Nobody in the village could "
    "remember a spring like this one; the oldest of them said that it would go down by Sunday, and it did."
)


def html(body: str = f"<p>{PROSE}</p>", head: str = "<title>A page</title>") -> bytes:
    return f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>".encode()


def response(body: bytes, content_type: str = "text/html; charset=utf-8", status: str = "200 OK", extra: str = "") -> bytes:
    """An HTTP response."""
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    return f"HTTP/1.1 {status}\r\n{kind}{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


def record(block: bytes, number: int = 1, kind: str = "response", url: str = "", line_end: bytes = b"\r\n") -> bytes:
    """A WARC record, uncompressed."""
    lines = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        f"WARC-Target-URI: {url or f'https://example.org/page/{number}'}",
        "WARC-Date: 2024-03-01T00:00:00Z",
        f"WARC-Record-ID: <urn:uuid:00000000-0000-4000-8000-{number:012d}>",
        f"Content-Type: application/http; msgtype={kind}",
        f"Content-Length: {len(block)}",
    ]
    return line_end.join(line.encode() for line in lines) + line_end * 2 + block + line_end * 2


def page(number: int = 1, body: bytes | None = None, **options: str) -> bytes:
    """A response record with a page of prose that names its number."""
    text = html(f"<h1>Chapter {number}</h1><p>{PROSE}</p><p>This is the page with the number {number}.</p>")
    return record(response(text if body is None else body, **options), number)


def member(data: bytes) -> bytes:
    """One gzip member, without a time."""
    return gzip.compress(data, mtime=0)


def write_warc(path: Path, *records: bytes) -> Path:
    """One gzip member for each record."""
    path.write_bytes(b"".join(map(member, records)))
    return path


def bomb(megabytes: int) -> bytes:
    """A gzip stream that expands to this many MB of `a`, made without holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b"a" * 1_000_000) for _ in range(megabytes)) + packer.flush()


def frame(data: bytes, dictionary: zstandard.ZstdCompressionDict | None = None) -> bytes:
    """One zstd frame that states its size and has a checksum, as WARC-zstd recommends."""
    return zstandard.ZstdCompressor(dict_data=dictionary, write_checksum=True).compress(data)


def bare_frame(data: bytes) -> bytes:
    """One zstd frame as a stream leaves it: size not stated, no checksum."""
    packer = zstandard.ZstdCompressor(write_checksum=False, write_content_size=False).compressobj()
    return packer.compress(data) + packer.flush()


def train_dictionary() -> zstandard.ZstdCompressionDict:
    return zstandard.train_dictionary(8192, [page(n) for n in range(1000, 1400)])


def zstd_archive(records: Sequence[bytes], packed: bool) -> bytes:
    """A `.warc.zst`: the dictionary in a skippable frame, compressed or not, then one frame for each record."""
    dictionary = train_dictionary()
    raw = frame(dictionary.as_bytes()) if packed else dictionary.as_bytes()
    head = (0x184D2A5D).to_bytes(4, "little") + len(raw).to_bytes(4, "little") + raw
    return head + b"".join(frame(one, dictionary) for one in records)


def sliced(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]
