"""WET files: extracted text as WARC `conversion` records, one gzip member each (WARC 1.1, ISO 28500:2017).

Written record by record; read back by exact byte range, so that a later stage touches only the documents it wants.
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

MAX_READ_BYTES = 32 << 20
"""Largest single read of neighbouring records."""


class DamagedWet(Exception):
    """A byte range of a WET file that does not hold the record that the meta says."""


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


def read_texts(path: Path, offsets: np.ndarray, lengths: np.ndarray) -> pa.Array:
    """Texts of the records at these byte ranges, as an Arrow large_string array in the order given.

    offsets, lengths: integers, shape (n,), bytes of the compressed file; fastest when ascending.
    Raises `DamagedWet` with file, offset and what was seen.
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
                    texts.append(parse_member(window[at : at + int(lengths[i])]))
                except ValueError as error:
                    raise DamagedWet(
                        f"{path} at byte {int(offsets[i])}: {error}; expected the record named by the meta. "
                        "The file is not the one this meta was written with: rerun extract for this shard"
                    ) from None
    return pa.array(texts, pa.large_binary()).cast(pa.large_string())


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
