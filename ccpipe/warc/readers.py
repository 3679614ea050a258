"""Records of one archive, in order, from any place in it.

In: a path, a `Place` (None: the beginning), the largest block wanted. Out: `Record` objects, each with the place where the
next one begins; damage is counted by name, never raised.

Ways of reading, decided by the bytes of the file alone, so that a reader that starts in the middle sees the same records:
`gzip` and `zstd` (one member or frame a record: the usual case, seekable), `plain` (uncompressed, seekable), `gzip_stream` and
`zstd_stream` (records that share members or frames: skipped by count), `arc` (ARC files that are not one member a record).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ccpipe.warc.frames import DICTIONARY_FRAME, ZSTD_MAGIC, FrameReader
from ccpipe.warc.members import DISCARD_BYTES, GZIP_MAGIC, Member, MemberReader
from ccpipe.warc.record import (
    ARC_START,
    BLANK,
    HEADER_BYTES,
    RECORD_END,
    RECORD_START,
    Parsed,
    Place,
    Record,
    declared_length,
    parse_arc,
    parse_header,
    warcio_headers,
)
from ccpipe.warc.spans import FileStream, MemberStream, Span, Window, read_spans

DAMAGE = {
    "cut": "damage_cut_member",
    "corrupt": "damage_corrupt_member",
    "junk": "damage_junk_between_members",
    "no_dictionary": "damage_no_dictionary",
}

PACKERS: dict[str, Callable[[BinaryIO, int, int], MemberReader | FrameReader]] = {"gzip": MemberReader, "zstd": FrameReader}


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
        return "gzip"
    if head.startswith((ZSTD_MAGIC, DICTIONARY_FRAME)):
        return "zstd"
    if not head:
        damage["damage_empty_file"] += 1
        return "end"
    return "arc" if head.lstrip(BLANK).startswith(ARC_START) else "plain"


def _read_members(path: Path, place: Place, max_block: int, damage: Counter[str], handover: list[Place]) -> Iterator[Record]:
    """One member or frame a record. Hands over to a stream where records and members do not go together."""
    with path.open("rb") as file:
        reader = PACKERS[place.how](file, place.offset, max_block + HEADER_BYTES)
        for member in reader:
            found = _parse(member.data)
            parsed = found[0] if found else None
            reader.finish(member)
            if parsed and (how := _goes_on(parsed, member, reader)):
                handover.append(Place(f"{place.how}_stream" if how == "warc" else how, member.offset))
                return
            _count_damage(member, parsed, damage)
            if found:
                yield _from_member(*found, member, max_block, place.how)


def _parse(data: bytes) -> tuple[Parsed, bytes] | None:
    """Header and block of the record in a member."""
    parsed = parse_header(data) if data else None
    if parsed is None:
        return parse_arc(data) if data.lstrip(BLANK) else None
    end = len(data) if parsed.declared < 0 else parsed.header_bytes + parsed.declared
    return parsed, data[parsed.header_bytes : end]


def _goes_on(parsed: Parsed, member: Member, reader: MemberReader | FrameReader) -> str:
    """`warc` or `arc` where more than one record, or less, is in the member; empty where it is just one.

    Less is only believed where the next member does not begin with a record: lengths may be wrong, too.
    """
    end = parsed.header_bytes + parsed.declared
    if parsed.declared < 0 or member.size == end + RECORD_END or (member.damage and end >= len(member.data)):
        return ""
    if member.size < end:
        following = reader.starts_at(member.offset + member.length)
        return "warc" if following and not RECORD_START.match(following) and not member.data.startswith(ARC_START) else ""
    if end >= len(member.data):  # too large to be looked behind
        return "warc" if member.size > end + RECORD_END else ""
    rest = member.data[end : end + HEADER_BYTES].lstrip(BLANK)
    if RECORD_START.match(rest):
        return "warc"
    return "arc" if rest and member.data.startswith(ARC_START) else ""


def _count_damage(member: Member, parsed: Parsed | None, damage: Counter[str]) -> None:
    if member.damage:
        damage[DAMAGE[member.damage]] += 1
    elif not member.data:
        damage["damage_empty_member"] += 1
    elif not parsed:
        damage["damage_no_warc_header"] += 1
    elif parsed.header_bytes + parsed.declared > member.size:
        damage["damage_short_block"] += 1


def _from_member(parsed: Parsed, block: bytes, member: Member, max_block: int, how: str) -> Record:
    available = member.size - parsed.header_bytes
    size = min(parsed.declared, available) if parsed.declared >= 0 else available
    after = Place(how, member.offset + member.length)
    return Record(parsed.kind, member.offset, member.length, parsed.headers, block[:max_block], size, member.damage, after)


def _read_plain(path: Path, place: Place, max_block: int, damage: Counter[str], handover: list[Place]) -> Iterator[Record]:
    """An uncompressed WARC."""
    with path.open("rb") as file:
        window = Window(FileStream(file, place.offset), place.offset)
        for span in read_spans(window, max_block, damage):
            yield _from_span(span, span.begin, span.end - span.begin, Place("plain", window.position))


def _from_span(span: Span, offset: int, length: int, after: Place) -> Record:
    return Record(span.parsed.kind, offset, length, span.parsed.headers, span.block, span.block_bytes, span.damage, after)


def _read_stream(path: Path, place: Place, max_block: int, damage: Counter[str], handover: list[Place]) -> Iterator[Record]:
    """Records that share members or frames. Those before the place are read again, but their damage is not counted again."""
    ledger: Counter[str] = Counter()
    with path.open("rb") as file:
        reader = PACKERS[place.how.removesuffix("_stream")](file, place.offset, 0)
        window = Window(MemberStream(reader, ledger, DAMAGE), 0)
        for count, span in enumerate(read_spans(window, max_block, ledger), 1):
            if count > place.skip:
                damage.update(ledger)
                yield _from_span(span, place.offset, 0, Place(place.how, place.offset, count))
            ledger.clear()
    damage.update(ledger)


def _read_arc(path: Path, place: Place, max_block: int, damage: Counter[str], handover: list[Place]) -> Iterator[Record]:
    """What warcio can make of the rest of an ARC file."""
    from warcio.archiveiterator import ArchiveIterator

    count = 0
    with path.open("rb") as file:
        file.seek(place.offset)
        records = ArchiveIterator(file, no_record_parse=True)
        while record := _next_arc(records, damage):
            count += 1
            if count <= place.skip:
                continue
            block = record.raw_stream.read(max_block)
            size = len(block) + _discard(record.raw_stream)
            headers = warcio_headers(record)
            if not 0 <= declared_length(headers) <= size:  # lengths are not to be trusted here: no reason to drop the page
                damage["damage_short_block"] += 1
            offset, after = int(records.get_record_offset()), Place("arc", place.offset, count)
            yield Record(record.rec_type or "unknown", offset, 0, headers, block, size, None, after)


def _next_arc(records: Any, damage: Counter[str]) -> Any | None:
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


_READERS = {
    "gzip": _read_members,
    "zstd": _read_members,
    "plain": _read_plain,
    "gzip_stream": _read_stream,
    "zstd_stream": _read_stream,
    "arc": _read_arc,
}
