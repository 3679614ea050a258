"""WET files: extracted text as WARC `conversion` records, one gzip member each (WARC 1.1, ISO 28500:2017).

Written record by record; read back by exact byte range, so that a later stage touches only the documents it wants. Reading proves
that the bytes are those that the meta was written with: gzip's checksum finds damage, the digest in the meta finds other text.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ccpipe.warc.inflate import INFLATE_ERRORS, decompress

COALESCE_BYTES = 1 << 16
"""Unwanted bytes that are read rather than sought over: a seek on a parallel filesystem costs more than 64 KiB."""

PLACE_COLUMNS = ("wet_offset", "wet_length", "digest")
"""Columns of `meta/base` that lead to a text and prove it."""

MAX_READ_BYTES = 32 << 20
"""Largest single read of neighbouring records."""


class DamagedWet(Exception):
    """A byte range of a WET file that does not hold the text that the meta says."""


def text_digest(text: bytes) -> str:
    """`sha1:` and the base32 SHA-1 of the text, the form of WARC-Block-Digest."""
    return "sha1:" + base64.b32encode(hashlib.sha1(text, usedforsecurity=False).digest()).decode("ascii")


def parse_member(member: bytes | memoryview) -> bytes:
    """The text of one conversion record, from its gzip member. Raises `ValueError` when it is not one."""
    try:
        record = decompress(member)
    except INFLATE_ERRORS as error:
        raise ValueError(f"not one gzip member ({error})") from None
    head, separator, body = record.partition(b"\r\n\r\n")
    if not separator or not head.startswith(b"WARC/"):
        raise ValueError(f"no WARC header, the record begins with {record[:20]!r}")
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
            if len(body) < length:
                raise ValueError(f"Content-Length {length}, but {len(body)} bytes follow")
            return body[:length]
    raise ValueError("no Content-Length header")


def read_rows(path: Path, rows: pa.Table) -> pa.Array:
    """Texts of rows of `meta/base` that have `PLACE_COLUMNS`: large_string, proved. Raises `DamagedWet`."""
    offset, length, digest = (rows.column(name) for name in PLACE_COLUMNS)
    return read_texts(path, offset.to_numpy(), length.to_numpy(), digest.to_pylist())


def read_texts(path: Path, offsets: np.ndarray, lengths: np.ndarray, digests: Sequence[str] | None = None) -> pa.Array:
    """Texts of the records at these byte ranges, as an Arrow large_string array in the order given.

    offsets, lengths: integers, shape (n,), bytes of the compressed file; fastest when ascending. digests: as in the meta; without
    them gzip's checksum is all the proof there is. Raises `DamagedWet` with file, offset and what was seen.
    """
    texts: list[bytes] = []
    with path.open("rb") as file:
        for first, last in _runs(offsets, lengths):
            start = int(offsets[first])
            stop = int(offsets[last - 1]) + int(lengths[last - 1])
            file.seek(start)
            window = memoryview(file.read(stop - start))
            for i in range(first, last):
                at = int(offsets[i]) - start
                try:
                    texts.append(_proved(window[at : at + int(lengths[i])], digests[i] if digests is not None else None))
                except ValueError as error:
                    raise DamagedWet(
                        f"{path} at byte {int(offsets[i])}: {error}; expected the {int(lengths[i])} bytes that the meta names. "
                        "The file was damaged or replaced after it was written: put the right one back, or have the shard made again: "
                        f"ccpipe redo --stage extract {path.name.partition('.')[0]}"
                    ) from None
    return pa.array(texts, pa.large_binary()).cast(pa.large_string())


def _proved(member: memoryview, digest: str | None) -> bytes:
    """The text of one member. Raises `ValueError` when it is none, or another than `digest` says."""
    text = parse_member(member)
    if digest is not None and (seen := text_digest(text)) != digest:
        raise ValueError(f"a text with digest {seen}, the meta has {digest}")
    return text


def _runs(offsets: np.ndarray, lengths: np.ndarray) -> list[tuple[int, int]]:
    """Ranges [first, last) of records that one read serves."""
    runs: list[tuple[int, int]] = []
    first = 0
    for i in range(1, len(offsets) + 1):
        if i < len(offsets):
            gap = int(offsets[i]) - int(offsets[i - 1]) - int(lengths[i - 1])
            size = int(offsets[i]) + int(lengths[i]) - int(offsets[first])
            if 0 <= gap <= COALESCE_BYTES and size <= MAX_READ_BYTES:
                continue
        runs.append((first, i))
        first = i
    return runs if len(offsets) else []


def concatenate(parts: Sequence[Path], out: Path) -> list[int]:
    """Append whole files to `out`; returns the byte offset at which each part begins. gzip members may be joined freely."""
    starts: list[int] = []
    with out.open("wb") as target:
        for part in parts:
            starts.append(target.tell())
            with part.open("rb") as source:
                while block := source.read(1 << 20):
                    target.write(block)
    return starts
