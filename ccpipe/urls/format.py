"""The file of a compiled block list: arrays that all processes of a node map into memory.

    bytes 0..8    CCBLOCK and the version, one character
    bytes 8..16   length of the header, uint64 little-endian
    bytes 16..48  SHA-256 of everything behind these bytes
    then          the header, JSON, and the arrays it names, each at a multiple of 64 bytes

Opening checks size and digest (45 MB: 30 ms); the arrays are mapped afterwards, so they cost memory once for each node.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from ccpipe.urls.sources import NotABlocklist

MAGIC = b"CCBLOCK"
VERSION = b"2"
START = 48
"""Bytes before the header."""
ALIGN = 64
BLOCK = 1 << 20

Arrays = dict[str, np.ndarray]


def is_compiled(path: Path) -> bool:
    """Does the file begin as `write_file` begins one, of whatever version?"""
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def write_file(path: Path, header: dict[str, Any], arrays: Arrays) -> None:
    """Appears whole or not at all. Equal header and arrays give equal bytes."""
    sections, at = {}, 0
    for name, array in arrays.items():
        sections[name] = [array.dtype.str, len(array), at]
        at += _padded(array.nbytes)
    text = json.dumps({**header, "sections": sections, "array_bytes": at}).encode()
    text += b" " * (_padded(START + len(text)) - START - len(text))
    digest = hashlib.sha256(text)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("xb") as file:
            file.write(bytes(START) + text)
            for array in arrays.values():
                for data in (array.view(np.uint8).data, bytes(_padded(array.nbytes) - array.nbytes)):
                    digest.update(data)
                    file.write(data)
            file.seek(0)
            file.write(MAGIC + VERSION + len(text).to_bytes(8, "little") + digest.digest())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def read_file(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Header and arrays, these mapped and read only. Raises `NotABlocklist`."""
    with path.open("rb") as file:
        header, start = _read_header(path, file.read(START), file.read)
        seen, expected = os.fstat(file.fileno()).st_size, start + header["array_bytes"]
        if seen != expected:
            raise NotABlocklist(f"{path} has {seen:,} bytes, its header promises {expected:,}: it was cut; {_AGAIN}")
        _check_digest(path, file)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    sections = header["sections"].items()
    return header, {name: np.frombuffer(mapped, dtype, count, start + at) for name, (dtype, count, at) in sections}


_AGAIN = "build it again from its lists with `ccpipe build-blocklist`"


def _read_header(path: Path, head: bytes, read: Any) -> tuple[dict[str, Any], int]:
    """The header and where the arrays begin."""
    if head[: len(MAGIC)] != MAGIC:
        raise NotABlocklist(f"{path} does not begin with {MAGIC.decode()}; expected a file made by `ccpipe build-blocklist`: name that one")
    version = head[len(MAGIC) : len(MAGIC) + 1]
    if version != VERSION:
        age = "a newer" if version > VERSION else "an older"
        raise NotABlocklist(
            f"{path} has {age} format, version {version.decode('ascii', 'replace')!r}; this ccpipe reads version {VERSION.decode()!r}: "
            + (f"update ccpipe, or {_AGAIN}" if version > VERSION else _AGAIN)
        )
    n_bytes = int.from_bytes(head[8:16], "little")
    try:
        header = json.loads(read(min(n_bytes, 1 << 30)))
        return {**header, "array_bytes": int(header["array_bytes"])}, START + n_bytes
    except (ValueError, KeyError, TypeError):
        raise NotABlocklist(f"{path} begins like a compiled blocklist, but its header is damaged; expected JSON: {_AGAIN}") from None


def _check_digest(path: Path, file: Any) -> None:
    file.seek(START - hashlib.sha256().digest_size)
    expected, digest = file.read(hashlib.sha256().digest_size), hashlib.sha256()
    while block := file.read(BLOCK):
        digest.update(block)
    if digest.digest() != expected:
        raise NotABlocklist(
            f"{path} has changed since it was built: SHA-256 {digest.hexdigest()[:12]}..., expected {expected.hex()[:12]}...; {_AGAIN}"
        )


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // ALIGN) * ALIGN
