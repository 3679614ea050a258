"""gzip members of one file, one after another, each with its byte range and its damage.

In: an open file and a byte offset at which a member begins. Out: `Member` objects in file order.
A member is inflated to `limit` bytes only; the rest is inflated piece by piece and thrown away, so that memory stays
bounded whatever the member expands to. After damage (a flipped byte, junk between members) reading goes on at the next
place where a gzip member holds a WARC or ARC record. It knows nothing of what a record means.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from ccpipe.warc.inflate import INFLATE_ERRORS, inflater

CHUNK_BYTES = 1 << 18
"""Compressed bytes per read: a quarter of a MiB keeps a parallel filesystem busy and a cache warm."""

DISCARD_BYTES = 1 << 20
"""Inflated bytes per step once the limit is passed."""

SALVAGE_BYTES = 256
"""Compressed bytes per step where damage is near."""

GZIP_MAGIC = b"\x1f\x8b\x08"
RECORD_STARTS = (b"WARC/", b"filedesc:", b"warc/")
PROBE_BYTES = 4096


@dataclass(slots=True)
class Member:
    """One gzip member: `offset` and `length` in bytes of the file, `data` its first bytes, `size` all its inflated bytes.

    damage: None, or what is wrong: `cut` (the file ends inside), `corrupt` (deflate or checksum error), `junk` (bytes that
    are no gzip member; `data` is then empty), `no_dictionary` (a zstd frame whose dictionary is elsewhere). `size` is unknown
    (-1) until `finish` has run. A zstd frame is told of in the same words.
    """

    offset: int
    data: bytes
    length: int = -1
    size: int = -1
    damage: str | None = None


class MemberReader:
    """Reads members; `finish` must be called between two of them (iteration does it)."""

    def __init__(self, file: BinaryIO, offset: int, limit: int) -> None:
        self._file = file
        self._limit = limit
        self._buffer = b""
        self._next_read = offset
        self._seek(offset)

    def __iter__(self) -> Iterator[Member]:
        while self._skip_padding():
            if not self._starts_member():
                yield self._junk()
                continue
            member = self._open()
            yield member
            self.finish(member)

    def read(self, member: Member, at_most: int) -> bytes:
        """The next bytes of `member` behind those already given; empty at its end or at damage."""
        while member.length < 0 and member.damage is None and not self._inflater.eof:
            if data := self._inflate(member, at_most):
                return data
        return b""

    def finish(self, member: Member) -> None:
        """Find the end of `member`: fills `length` and `size`, and `damage` where there is some."""
        if member.length >= 0:
            return
        while member.damage is None and not self._inflater.eof:
            member.size += len(self._inflate(member, DISCARD_BYTES))
        if member.damage == "corrupt":
            end = self._resync(member.offset + 1)
            self._seek(end)
        else:
            self._buffer = self._inflater.unused_data
            end = self._position()
        member.length = end - member.offset

    def _open(self) -> Member:
        self._inflater: Any = inflater()
        member = Member(self._position(), b"")
        parts: list[bytes] = []
        size = 0
        while size < self._limit and member.damage is None and not self._inflater.eof:
            parts.append(self._inflate(member, self._limit - size))
            size += len(parts[-1])
        member.data = self._salvage(member.offset) if member.damage == "corrupt" else b"".join(parts)
        member.size = len(member.data)
        return member

    def _salvage(self, offset: int) -> bytes:
        """What can be inflated before the damage. In steps of fixed size: zlib gives nothing of the step that fails, and
        the same bytes must come out wherever reading began."""
        self._file.seek(offset)
        inflater = zlib.decompressobj(wbits=31)
        data = bytearray()
        try:
            while len(data) < self._limit and not inflater.eof and (step := self._file.read(SALVAGE_BYTES)):
                data += inflater.decompress(step)
        except zlib.error:
            pass
        return bytes(data[: self._limit])

    def _inflate(self, member: Member, at_most: int) -> bytes:
        """Some inflated bytes, or damage noted in `member`."""
        if not self._buffer:
            self._fill()
        if not self._buffer:
            member.damage = "cut"
            return b""
        try:
            data: bytes = self._inflater.decompress(self._buffer, at_most)
        except INFLATE_ERRORS:
            member.damage = "corrupt"
            return b""
        self._buffer = self._inflater.unconsumed_tail
        return data

    def _skip_padding(self) -> bool:
        """Skip zero bytes, which writers of whole blocks leave after a member. False at the end of the file."""
        while True:
            self._buffer = self._buffer.lstrip(b"\0")
            if self._buffer:
                return True
            self._fill()
            if not self._buffer:
                return False

    def _starts_member(self) -> bool:
        while len(self._buffer) < len(GZIP_MAGIC):
            more = self._file.read(CHUNK_BYTES)
            if not more:
                return False
            self._next_read += len(more)
            self._buffer += more
        return self._buffer.startswith(GZIP_MAGIC)

    def _junk(self) -> Member:
        start = self._position()
        end = self._resync(start + 1)
        self._seek(end)
        return Member(start, b"", end - start, 0, "junk")

    def _resync(self, offset: int) -> int:
        """First offset from `offset` on where a gzip member holds a record; the end of the file if there is none."""
        self._file.seek(offset)
        window = b""
        while chunk := self._file.read(CHUNK_BYTES):
            window += chunk
            at = window.find(GZIP_MAGIC)
            while at >= 0:
                here = self._file.tell()
                found = offset + at
                if self._holds_record(found):
                    return found
                self._file.seek(here)
                at = window.find(GZIP_MAGIC, at + 1)
            kept = window[-(len(GZIP_MAGIC) - 1) :]
            offset += len(window) - len(kept)
            window = kept
        return offset + len(window)

    def _holds_record(self, offset: int) -> bool:
        return self.starts_at(offset).startswith(RECORD_STARTS)

    def starts_at(self, offset: int) -> bytes:
        """The first bytes of the member at `offset`, blanks aside; empty where there is none. The caller is between two members."""
        self._file.seek(offset)
        try:
            start = zlib.decompressobj(wbits=31).decompress(self._file.read(PROBE_BYTES), 64)
        except zlib.error:
            start = b""
        self._file.seek(self._next_read)
        return start.lstrip()

    def _seek(self, offset: int) -> None:
        self._file.seek(offset)
        self._next_read = offset
        self._buffer = b""

    def _fill(self) -> None:
        self._buffer = self._file.read(CHUNK_BYTES)
        self._next_read += len(self._buffer)

    def _position(self) -> int:
        """File offset of the first byte of the buffer."""
        return self._next_read - len(self._buffer)
