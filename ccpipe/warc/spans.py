"""Records of a stream of bytes, one behind the other: uncompressed archives, and whole files in one gzip member or zstd frame.

In: something to `read`. Out: `Span` objects in order. A record ends where its Content-Length says if another record, or
the end, follows there. Where something else follows, the length is wrong or bytes are strewn in between: the next header behind
a blank line is where reading goes on, and nothing but the damaged record is lost.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from ccpipe.warc.members import CHUNK_BYTES, DISCARD_BYTES, Member
from ccpipe.warc.record import BLANK, HEADER_BYTES, RECORD_END, RECORD_START, Parsed, parse_header

PEEK_BYTES = 64
"""How far behind a record the next one is looked for: blanks between two records are few."""

_NEXT = re.compile(rb"\r*\n\r*\n(?=(?:WARC|warc)/[01]\.\d{1,2}\r*\n)")
_OVERLAP = 16
"""Bytes of a header's first line and the blank line before it."""


@dataclass(slots=True)
class Span:
    """One record: `begin` and `end` in bytes of the stream, at most `max_block` bytes of its block, all `block_bytes` of it."""

    parsed: Parsed
    begin: int
    end: int
    block: bytes
    block_bytes: int
    damage: str | None = None


class Stream(Protocol):
    """Bytes in order. After `read` gave nothing, `damage` tells why, and `resume` goes on behind the damage, False at the end."""

    damage: str | None

    def read(self, size: int) -> bytes: ...

    def resume(self) -> bool: ...


class Members(Protocol):
    def __iter__(self) -> Iterator[Member]: ...

    def read(self, member: Member, at_most: int) -> bytes: ...


class FileStream:
    """An uncompressed file from `offset` on; a damaged length is no reason to lose what it covers, so it can go back."""

    damage: str | None = None

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self._file = file
        self.seek(offset)

    def seek(self, offset: int) -> None:
        self._file.seek(offset)

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def resume(self) -> bool:
        return False


class MemberStream:
    """The content of gzip members or zstd frames as one stream. `reader` was made with limit 0, to be read from here alone."""

    def __init__(self, reader: Members, ledger: Counter[str], names: dict[str, str]) -> None:
        self.damage: str | None = None
        self._reader = reader
        self._members = iter(reader)
        self._member: Member | None = None
        self._ledger, self._names = ledger, names

    def read(self, size: int) -> bytes:
        while self.damage is None:
            if self._member is None:
                self._member = next(self._members, None)
                if self._member is None:
                    return b""
            if data := self._reader.read(self._member, size):
                return data
            if self._member.damage:
                self.damage = self._member.damage
                self._ledger[self._names[self.damage]] += 1
            self._member = None
        return b""

    def resume(self) -> bool:
        more = self.damage is not None
        self.damage = None
        return more


class Window:
    """A look ahead into a stream. `position`: of the first byte not yet taken, from the beginning of the stream or file."""

    def __init__(self, stream: Stream, position: int) -> None:
        self.stream = stream
        self.position = position
        self._data = bytearray()

    def peek(self, size: int) -> bytes:
        """The next bytes; fewer where the stream ends or is damaged."""
        while len(self._data) < size and (more := self.stream.read(CHUNK_BYTES)):
            self._data += more
        return bytes(self._data[:size])

    def skip(self, size: int) -> int:
        """Pass over bytes; returns how many there were."""
        left = size
        while left:
            if not self._data and not self.peek(min(left, CHUNK_BYTES)):
                break
            taken = min(left, len(self._data))
            del self._data[:taken]
            left -= taken
        self.position += size - left
        return size - left

    def skip_blanks(self) -> None:
        while (ahead := self.peek(HEADER_BYTES)) and not ahead.lstrip(BLANK):
            self.skip(len(ahead))
        self.skip(len(ahead) - len(ahead.lstrip(BLANK)))

    def skip_to_record(self) -> bool:
        """Pass over bytes up to the blank line before the next header; False where there is none before the end or damage."""
        while True:
            ahead = self.peek(DISCARD_BYTES)
            found = _NEXT.search(ahead)
            if found:
                self.skip(found.start())
                return True
            if len(ahead) < DISCARD_BYTES:
                self.skip(len(ahead))
                return False
            self.skip(len(ahead) - _OVERLAP)

    def go_back(self, position: int) -> bool:
        """Go to an earlier position; False where the stream cannot."""
        if not isinstance(self.stream, FileStream):
            return False
        self.stream.seek(position)
        self._data.clear()
        self.position = position
        return True


def read_spans(window: Window, max_block: int, ledger: Counter[str]) -> Iterator[Span]:
    """Records from the window on. Counts in `ledger`: `damage_wrong_length`, `damage_junk_between_records`, `damage_unreadable_rest`."""
    while True:
        window.skip_blanks()
        ahead = window.peek(HEADER_BYTES)
        if not ahead:
            if window.stream.resume():
                continue
            return
        parsed = parse_header(ahead)
        if parsed is not None:
            yield _take(window, parsed, max_block, ledger)
        elif window.skip_to_record():
            ledger["damage_junk_between_records"] += 1
        elif window.stream.damage is None:
            ledger["damage_unreadable_rest"] += 1


def _take(window: Window, parsed: Parsed, max_block: int, ledger: Counter[str]) -> Span:
    """The record at the window, which then stands behind its block."""
    begin = window.position
    window.skip(parsed.header_bytes)
    body, declared = window.position, parsed.declared
    if 0 <= declared <= max_block:
        ahead = window.peek(declared + PEEK_BYTES)
        if len(ahead) >= declared and _ends_here(ahead[declared:]):
            return _span(window, parsed, begin, ahead[:declared])
    elif declared > max_block:
        block = window.peek(max_block)
        size = window.skip(declared)
        ends = size == declared and _ends_here(window.peek(PEEK_BYTES))
        if ends or not window.go_back(body):
            return Span(parsed, begin, window.position, block, size, None if size == declared else _cut(window, ledger))
    return _mend(window, parsed, begin, max_block, ledger)


def _ends_here(behind: bytes) -> bool:
    rest = behind.lstrip(BLANK)
    return not rest or bool(RECORD_START.match(rest))


def _mend(window: Window, parsed: Parsed, begin: int, max_block: int, ledger: Counter[str]) -> Span:
    """A record that does not end where it says. The window stands at its block."""
    ahead = window.peek(max_block + PEEK_BYTES)
    found = _NEXT.search(ahead)
    declared = parsed.declared
    strewn = 0 <= declared <= len(ahead) and (ahead[declared : declared + RECORD_END] == b"\r\n\r\n" or not found)
    if strewn and not (found and found.start() < declared):
        return _span(window, parsed, begin, ahead[:declared])  # something follows that is no record: counted there
    if found:
        ledger["damage_wrong_length"] += 1
        return _span(window, parsed, begin, ahead[: found.start()])
    if len(ahead) < max_block + PEEK_BYTES and declared < 0:
        ledger["damage_wrong_length"] += 1
        return _span(window, parsed, begin, ahead[: len(ahead.rstrip(b"\r\n"))])
    body = window.position
    if window.skip_to_record():
        ledger["damage_wrong_length"] += 1
        return Span(parsed, begin, window.position, ahead[:max_block], window.position - body)
    return Span(parsed, begin, window.position, ahead[:max_block], window.position - body, _cut(window, ledger))


def _cut(window: Window, ledger: Counter[str]) -> str:
    if window.stream.damage is None:
        ledger["damage_cut_record"] += 1
    return window.stream.damage or "cut"


def _span(window: Window, parsed: Parsed, begin: int, block: bytes) -> Span:
    window.skip(len(block))
    tail = window.peek(RECORD_END)
    return Span(parsed, begin, window.position + len(tail) - len(tail.lstrip(b"\r\n")), block, len(block))
