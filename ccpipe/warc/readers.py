"""Records of one WARC file, in order, from any place in it.

In: a path, a `Place` (None: the beginning), the largest block wanted. Out: `Record` objects, each with the place where the
next one begins; damage is counted by name, never raised. FastWARC parses the records; warcio takes over where FastWARC
finds none (bare-LF headers, wrong lengths, ARC files).

Three ways of reading, decided by the bytes of the file alone, so that a reader that starts in the middle sees the same records:
`members` (one gzip member a record: the usual case, seekable), `plain` (uncompressed, seekable), `stream` and `warcio`
(a whole file in one gzip member, zstd, damaged headers: records are skipped by count).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastwarc.warc import ArchiveIterator
from warcio.archiveiterator import ArchiveIterator as WarcioIterator

from ccpipe.warc.members import DISCARD_BYTES, GZIP_MAGIC, Member, MemberReader
from ccpipe.warc.record import (
    HEADER_BYTES,
    RECORD_END,
    Parsed,
    Place,
    Record,
    declared_length,
    fast_headers,
    fast_kind,
    parse,
    warcio_headers,
)

MEMBER_DAMAGE = {"cut": "damage_cut_member", "corrupt": "damage_corrupt_member", "junk": "damage_junk_between_members"}


def read_records(path: Path, place: Place | None, max_block: int, damage: Counter[str]) -> Iterator[Record]:
    """Records from `place` on. Names in `damage`: `damage_*`. Raises `OSError` where the disk fails, never for the content."""
    place = place or Place(_sniff(path, damage))
    while place.how != "end":
        reader = _READERS[place.how]
        handover: list[Place] = []
        yield from reader(path, place, max_block, damage, handover)
        place = handover[0] if handover else Place("end")


def _sniff(path: Path, damage: Counter[str]) -> str:
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if head.startswith(GZIP_MAGIC):
        return "members"
    if head.lstrip().startswith((b"WARC/", b"warc/")):
        return "plain"
    if not head:
        damage["damage_empty_file"] += 1
        return "end"
    return "stream"


def _read_members(path: Path, place: Place, max_block: int, damage: Counter[str], handover: list[Place]) -> Iterator[Record]:
    """One gzip member a record. Hands over to `stream` at a member with several records."""
    with path.open("rb") as file:
        reader = MemberReader(file, place.offset, max_block + HEADER_BYTES)
        for member in reader:
            parsed = parse(member.data) if member.data else None
            if parsed and _holds_more(parsed, member):
                handover.append(Place("stream", member.offset))
                return
            reader.finish(member)
            if parsed and member.damage is None and _ran_over(parsed, member):
                handover.append(Place("stream", member.offset))
                return
            _count_damage(member, parsed, damage)
            if parsed:
                yield _from_member(parsed, member, max_block)


def _count_damage(member: Member, parsed: Parsed | None, damage: Counter[str]) -> None:
    if member.damage:
        damage[MEMBER_DAMAGE[member.damage]] += 1
    elif not member.data:
        damage["damage_empty_member"] += 1
    elif not parsed:
        damage["damage_no_warc_header"] += 1
    elif parsed.header_bytes + parsed.declared > member.size:
        damage["damage_short_block"] += 1


def _from_member(parsed: Parsed, member: Member, max_block: int) -> Record:
    available = member.size - parsed.header_bytes
    size = min(parsed.declared, available) if parsed.declared >= 0 else available
    after = Place("members", member.offset + member.length)
    return Record(parsed.kind, member.offset, member.length, parsed.headers, parsed.block[:max_block], size, member.damage, after)


def _holds_more(parsed: Parsed, member: Member) -> bool:
    """Does another record follow in the same gzip member?"""
    end = parsed.header_bytes + parsed.declared
    if parsed.declared < 0 or member.size <= end + RECORD_END:
        return False
    return member.data[end : end + 64].lstrip().startswith((b"WARC/", b"warc/"))


def _ran_over(parsed: Parsed, member: Member) -> bool:
    """Did a record too large to be looked behind end before its member?"""
    end = parsed.header_bytes + parsed.declared
    return end >= len(member.data) and member.size > end + RECORD_END


def _read_plain(path: Path, place: Place, max_block: int, damage: Counter[str], handover: list[Place]) -> Iterator[Record]:
    """An uncompressed WARC with FastWARC. Hands over to warcio where FastWARC stops before the end of the file.

    A plain place names the last good record and skips it: warcio needs a good record to find its bearings.
    """
    size = path.stat().st_size
    end = place.offset
    with path.open("rb") as file, path.open("rb") as second:
        file.seek(place.offset)
        for count, record in enumerate(_fast_records(file)):
            headers = fast_headers(record)
            offset, declared = int(record.stream_pos), max(declared_length(headers), 0)
            header_bytes = _header_bytes(second, offset)
            if count < place.skip:
                end = offset + header_bytes + declared
                continue
            if not header_bytes:
                break
            end = offset + header_bytes + declared
            place_after = Place("plain", offset, 1)
            block = record.reader.read(max_block)
            cut = _note_cut(end > size, damage)
            length = min(end + RECORD_END, size) - offset
            yield Record(fast_kind(record), offset, length, headers, block, declared, cut, place_after)
            place = place_after
        second.seek(min(end, size))
        if second.read(HEADER_BYTES).strip(b"\r\n\0 "):
            handover.append(Place("warcio", place.offset, place.skip))


def _note_cut(cut: bool, damage: Counter[str]) -> str | None:
    if cut:
        damage["damage_cut_record"] += 1
    return "cut" if cut else None


def _header_bytes(file: Any, offset: int) -> int:
    """Length of the WARC header at `offset` with the blank line that ends it; 0 where none does."""
    file.seek(offset)
    head = file.read(HEADER_BYTES)
    end = int(head.find(b"\r\n\r\n", len(head) - len(head.lstrip())))
    return end + 4 if end >= 0 else 0


def _fast_records(file: Any) -> Iterator[Any]:
    """FastWARC's records until it ends or gives up; a failing disk raises."""
    try:
        yield from ArchiveIterator(file, parse_http=False)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None):
            raise


def _read_stream(path: Path, place: Place, max_block: int, damage: Counter[str], handover: list[Place]) -> Iterator[Record]:
    """Whatever FastWARC can decompress, without seeking. Hands over to warcio when it reads nothing at all."""
    count = 0
    with path.open("rb") as file:
        file.seek(place.offset)
        for record in _fast_records(file):
            count += 1
            if count <= place.skip:
                continue
            headers = fast_headers(record)
            block = record.reader.read(max_block)
            size = len(block) + int(record.reader.consume())
            cut = _note_cut(declared_length(headers) > size, damage)
            yield Record(fast_kind(record), place.offset, 0, headers, block, size, cut, Place("stream", place.offset, count))
        _check_members(file, place.offset, damage)
    if not count:
        handover.append(Place("warcio", place.offset))


def _check_members(file: Any, offset: int, damage: Counter[str]) -> None:
    """Count damage behind which FastWARC read nothing more, and said nothing."""
    file.seek(offset)
    if file.read(len(GZIP_MAGIC)) == GZIP_MAGIC:
        reader = MemberReader(file, offset, 1)
        for member in reader:
            reader.finish(member)
            if member.damage:
                damage[MEMBER_DAMAGE[member.damage]] += 1


def _read_warcio(path: Path, place: Place, max_block: int, damage: Counter[str], handover: list[Place]) -> Iterator[Record]:
    """The last resort: what warcio can make of the rest of the file."""
    count = 0
    with path.open("rb") as file:
        file.seek(place.offset)
        records = WarcioIterator(file, no_record_parse=True)
        while record := _next_warcio(records, damage):
            count += 1
            if count <= place.skip:
                continue
            block = record.raw_stream.read(max_block)
            size = len(block) + _discard(record.raw_stream)
            headers = warcio_headers(record)
            if not 0 <= declared_length(headers) <= size:  # lengths are not to be trusted here: no reason to drop the page
                damage["damage_short_block"] += 1
            offset, after = int(records.get_record_offset()), Place("warcio", place.offset, count)
            yield Record(record.rec_type or "unknown", offset, 0, headers, block, size, None, after)


def _next_warcio(records: Any, damage: Counter[str]) -> Any | None:
    """The next record, None at the end. Whatever stops warcio ends the file and is counted; a failing disk raises."""
    try:
        return next(iter(records), None)
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        damage["damage_unreadable_rest"] += 1
        return None


def _discard(stream: Any) -> int:
    size = 0
    while more := stream.read(DISCARD_BYTES):
        size += len(more)
    return size


_READERS = {"members": _read_members, "plain": _read_plain, "stream": _read_stream, "warcio": _read_warcio}
