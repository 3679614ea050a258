"""zstd frames of one file, one after another, each with its byte range and its damage: `.warc.zst`.

In: an open file and a byte offset at which a frame begins. Out: `Member` objects in file order, as for gzip. Frames are
found by their block headers, without decompressing (RFC 8878 section 3.1), and decompressed to `limit` bytes; the rest is
decompressed piece by piece and thrown away. After damage reading goes on at the next frame that holds a WARC record.
A dictionary for all frames may stand at the start of the file, in a skippable frame, itself compressed or not (IIPC, "Zstandard
compressed WARC files", version 1.0). It knows nothing of what a record means.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import zstandard

from ccpipe.warc.members import CHUNK_BYTES, DISCARD_BYTES, RECORD_STARTS, SALVAGE_BYTES, Member

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
DICTIONARY_FRAME = b"\x5d\x2a\x4d\x18"
"""Little-endian 0x184D2A5D: the skippable frame that holds the dictionary."""

MAX_DICTIONARY = 64 << 20
"""Bytes of a dictionary, expanded. Those of ArchiveTeam, who began the format, are below 1 MiB."""

MAX_WINDOW = 1 << 27
"""Bytes a frame may look back: the limit of the zstd tool itself without `--long=31`. A frame asks for this much memory."""

MAX_BLOCK = 128 << 10
PROBE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Frame:
    """`end`: offset behind the frame. `damage`: None, `cut` or `corrupt`. `skippable`: holds no content."""

    end: int
    damage: str | None = None
    skippable: bool = False


def find_frame(file: BinaryIO, offset: int) -> Frame | None:
    """The frame at `offset`, found by its block headers alone; None where no frame begins."""
    file.seek(offset)
    head = file.read(18)
    if len(head) >= 8 and head[0] & 0xF0 == 0x50 and head[1:4] == DICTIONARY_FRAME[1:]:
        return _ending(file, offset + 8 + int.from_bytes(head[4:8], "little"), skippable=True)
    if head[:4] != ZSTD_MAGIC:
        return None
    if len(head) < 6:
        return Frame(offset + len(head), "cut")
    flags = head[4]
    single = flags >> 5 & 1
    at = offset + 5 + (not single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
    last = 0
    while not last:
        file.seek(at)
        block = file.read(3)
        if len(block) < 3:
            return _ending(file, at + 3)
        value = int.from_bytes(block, "little")
        last, kind, size = value & 1, value >> 1 & 3, value >> 3
        if kind == 3 or size > MAX_BLOCK:
            return Frame(at, "corrupt")
        at += 3 + (1 if kind == 1 else size)
    return _ending(file, at + 4 * (flags >> 2 & 1))


def _ending(file: BinaryIO, end: int, skippable: bool = False) -> Frame:
    size = file.seek(0, io.SEEK_END)
    return Frame(min(end, size), "cut" if end > size else None, skippable)


def read_dictionary(file: BinaryIO) -> zstandard.ZstdCompressionDict | None:
    """The dictionary at the start of the file; None where there is none that can be read."""
    file.seek(0)
    head = file.read(8)
    if head[:4] != DICTIONARY_FRAME or len(head) < 8:
        return None
    data = file.read(min(int.from_bytes(head[4:8], "little"), MAX_DICTIONARY))
    if data.startswith(ZSTD_MAGIC):
        try:
            with zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(data) as reader:
                data = reader.read(MAX_DICTIONARY)
        except zstandard.ZstdError:
            return None
    return zstandard.ZstdCompressionDict(data) if data else None


class FrameReader:
    """Reads frames; `finish` must be called between two of them (iteration does it)."""

    def __init__(self, file: BinaryIO, offset: int, limit: int) -> None:
        self._file = file
        self._limit = limit
        self._at = offset
        self._dictionary = read_dictionary(file)

    def __iter__(self) -> Iterator[Member]:
        while self._skip_padding():
            frame = find_frame(self._file, self._at)
            if frame is None:
                yield self._junk()
            elif frame.skippable and not frame.damage:
                self._at = frame.end
            else:
                member = self._open(frame)
                yield member
                self.finish(member)

    def read(self, member: Member, at_most: int) -> bytes:
        """The next bytes of `member` behind those already given; empty at its end or at damage."""
        try:
            return bytes(self._content.read(at_most)) if member.length < 0 else b""
        except zstandard.ZstdError:
            member.damage = "corrupt"
            return b""

    def finish(self, member: Member) -> None:
        """Find out what is left of `member`: fills `length` and `size`, and `damage` where there is some."""
        if member.length >= 0:
            return
        while member.damage is None and (data := self.read(member, DISCARD_BYTES)):
            member.size += len(data)
        end = self._frame.end
        if member.damage:
            end = self._resync(member.offset + 1)
            # a damaged block header can send the search for the end of its frame to the end of the file
            member.damage = "corrupt" if end < self._file.seek(0, io.SEEK_END) else member.damage
        member.length = end - member.offset
        self._at = end

    def starts_at(self, offset: int) -> bytes:
        """The first bytes of the frame at `offset`, blanks aside; empty where there is none."""
        self._file.seek(offset)
        try:
            with self._decompressor().stream_reader(self._file.read(PROBE_BYTES)) as reader:
                return bytes(reader.read(64).lstrip())
        except zstandard.ZstdError:
            return b""

    def decompress(self, offset: int, end: int) -> Any:
        """A stream of the content of the frame between two offsets; reading raises `ZstdError`."""
        self._file.seek(offset)
        source = io.BytesIO(self._file.read(end - offset)) if end - offset <= CHUNK_BYTES else _Part(self._file, offset, end)
        return self._decompressor().stream_reader(source, closefd=False)  # type: ignore[arg-type]

    def needs_other_dictionary(self, offset: int) -> bool:
        """Does the frame ask for a dictionary that the file does not hold?"""
        self._file.seek(offset)
        try:
            wanted = zstandard.get_frame_parameters(self._file.read(18)).dict_id
        except zstandard.ZstdError:
            return False
        return bool(wanted) and (self._dictionary is None or self._dictionary.dict_id() != wanted)

    def _decompressor(self) -> zstandard.ZstdDecompressor:
        return zstandard.ZstdDecompressor(dict_data=self._dictionary, max_window_size=MAX_WINDOW)

    def _open(self, frame: Frame) -> Member:
        self._frame = frame
        member = Member(self._at, b"", damage=frame.damage)
        if self.needs_other_dictionary(self._at):
            member.damage, member.length, member.size = "no_dictionary", frame.end - self._at, 0
            self._at = frame.end
            return member
        self._content = self.decompress(self._at, frame.end)
        member.data = self._first(member)
        member.size = len(member.data)
        return member

    def _first(self, member: Member) -> bytes:
        """The first `limit` bytes, or fewer: what comes before the damage, in steps of fixed size."""
        parts: list[bytes] = []
        size = 0
        step = SALVAGE_BYTES if member.damage else DISCARD_BYTES
        try:
            while size < self._limit and (data := self._content.read(min(step, self._limit - size))):
                parts.append(data)
                size += len(data)
        except zstandard.ZstdError:
            if not member.damage:
                member.damage = "corrupt"
                self._content = self.decompress(member.offset, self._frame.end)
                return self._first(member)
        return b"".join(parts)

    def _skip_padding(self) -> bool:
        """Skip zero bytes. False at the end of the file."""
        self._file.seek(self._at)
        while chunk := self._file.read(64):
            rest = chunk.lstrip(b"\0")
            if rest:
                self._at += len(chunk) - len(rest)
                return True
            self._at += len(chunk)
        return False

    def _junk(self) -> Member:
        start = self._at
        self._at = self._resync(start + 1)
        return Member(start, b"", self._at - start, 0, "junk")

    def _resync(self, offset: int) -> int:
        """First offset from `offset` on where a frame holds a record; the end of the file if there is none."""
        self._file.seek(offset)
        window = b""
        while chunk := self._file.read(CHUNK_BYTES):
            here = self._file.tell()
            window += chunk
            at = window.find(ZSTD_MAGIC)
            while at >= 0:
                found = here - len(window) + at
                if self.starts_at(found).startswith(RECORD_STARTS):
                    return found
                at = window.find(ZSTD_MAGIC, at + 1)
            self._file.seek(here)
            window = window[-(len(ZSTD_MAGIC) - 1) :]
        return self._file.seek(0, io.SEEK_END)


class _Part:
    """Bytes of a file between two offsets, for one reader that shares the file with nobody meanwhile."""

    def __init__(self, file: BinaryIO, offset: int, end: int) -> None:
        self._file, self._at, self._end = file, offset, end

    def read(self, size: int = -1) -> bytes:
        self._file.seek(self._at)
        room = self._end - self._at
        data = self._file.read(room if size < 0 else min(size, room))
        self._at += len(data)
        return data
