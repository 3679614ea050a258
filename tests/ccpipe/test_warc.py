"""Reading WARC files, sound and damaged."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from pathlib import Path

import pytest
from warc_pages import bare_frame, frame, html, member, page, record, response, sliced, write_warc, zstd_archive
from warcio.archiveiterator import ArchiveIterator

from ccpipe.warc import read_records
from ccpipe.warc.record import Place, Record

LIMIT = 1 << 20


def read(path: Path, place: Place | None = None) -> tuple[list[Record], Counter[str]]:
    damage: Counter[str] = Counter()
    return list(read_records(path, place, LIMIT, damage)), damage


def blocks(records: list[Record]) -> list[bytes]:
    return [one.block for one in records]


def all_pages(*numbers: int) -> list[bytes]:
    return [page(n).partition(b"\r\n\r\n")[2][:-4] for n in numbers]


FORMATS = {
    "gzip_per_record": lambda pages: b"".join(map(member, pages)),
    "whole_file_gzip": lambda pages: gzip.compress(b"".join(pages), mtime=0),
    "uncompressed": lambda pages: b"".join(pages),
    "empty_members_between": lambda pages: b"".join(member(b"") + member(one) for one in pages),
    "zstd_frame_a_record": lambda pages: b"".join(map(frame, pages)),
    "zstd_without_sizes_and_checksums": lambda pages: b"".join(bare_frame(one) for one in pages),
    "zstd_with_a_dictionary": lambda pages: zstd_archive(pages, packed=False),
    "zstd_with_a_compressed_dictionary": lambda pages: zstd_archive(pages, packed=True),
    "zstd_whole_file": lambda pages: frame(b"".join(pages)),
    "zstd_frames_across_records": lambda pages: b"".join(map(frame, sliced(b"".join(pages), 700))),
    "gzip_members_across_records": lambda pages: b"".join(map(member, sliced(b"".join(pages), 700))),
    "two_records_a_frame": lambda pages: b"".join(frame(pages[i] + pages[i + 1]) for i in range(0, len(pages) - 1, 2)),
    "two_records_a_member": lambda pages: b"".join(member(pages[i] + pages[i + 1]) for i in range(0, len(pages) - 1, 2)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_packing_gives_the_same_records(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.warc"
    path.write_bytes(FORMATS[name]([page(n) for n in range(6)]))
    records, damage = read(path)
    assert blocks(records) == all_pages(*range(6))
    assert {one.kind for one in records} == {"response"}
    assert [one.headers["warc-target-uri"] for one in records] == [f"https://example.org/page/{n}" for n in range(6)]
    assert not damage or name == "empty_members_between"


@pytest.mark.parametrize("name", FORMATS)
def test_reading_on_from_any_place_gives_the_rest(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.warc"
    path.write_bytes(FORMATS[name]([page(n) for n in range(6)]))
    records, _ = read(path)
    for i, one in enumerate(records):
        assert read(path, one.next)[0] == records[i + 1 :]


def test_ranges_hold_exactly_the_record(tmp_path: Path) -> None:
    path = write_warc(tmp_path / "a.warc.gz", *(page(n) for n in range(4)))
    data = path.read_bytes()
    records, _ = read(path)
    assert [gzip.decompress(data[one.offset : one.offset + one.length]) for one in records] == [page(n) for n in range(4)]


def test_bare_linefeed_headers_are_read_by_warcio(tmp_path: Path) -> None:
    lines = record(response(html()), 7, line_end=b"\n")
    path = write_warc(tmp_path / "bare_lf.warc.gz", page(1), lines, page(2))
    records, damage = read(path)
    assert [one.headers["warc-record-id"][-6:] for one in records] == ["00001>", "00007>", "00002>"]
    assert records[1].block == response(html())
    assert not damage


@pytest.mark.parametrize("wrong", ["0", "31", "41", "57", "5000", "99999999", "-7", "many", ""])
def test_a_wrong_content_length_in_an_uncompressed_file_costs_nothing(tmp_path: Path, wrong: str) -> None:
    """Too short, too long, beyond the end of the file, none at all: the next header behind a blank line is where reading goes on."""
    pages = [page(n) for n in range(4)]
    declared = re.search(rb"Content-Length: (\d+)\r\n\r\nHTTP", pages[1])
    assert declared
    pages[1] = pages[1].replace(b"Content-Length: %s\r\n\r\nHTTP" % declared[1], b"Content-Length: %s\r\n\r\nHTTP" % wrong.encode())
    path = tmp_path / "wrong_length.warc"
    path.write_bytes(b"".join(pages))
    records, damage = read(path)
    assert blocks(records) == all_pages(*range(4))
    assert damage == Counter(damage_wrong_length=1)
    assert [read(path, one.next)[0] for one in records] == [records[i + 1 :] for i in range(len(records))]


def test_an_empty_file_and_an_empty_archive(tmp_path: Path) -> None:
    (tmp_path / "zero.warc.gz").write_bytes(b"")
    assert read(tmp_path / "zero.warc.gz") == ([], Counter(damage_empty_file=1))
    assert read(write_warc(tmp_path / "none.warc.gz")) == ([], Counter(damage_empty_file=1))


def test_a_record_cut_by_the_end_of_the_file_is_marked(tmp_path: Path) -> None:
    for name, data in {"gz": member(page(2)), "plain": page(2)}.items():
        path = tmp_path / name
        first = member(page(1)) if name == "gz" else page(1)
        path.write_bytes(first + data[: len(data) * 2 // 3])
        records, damage = read(path)
        assert [one.damage for one in records] == [None, "cut"]
        assert sum(damage.values()) == 1


def test_damage_in_the_middle_loses_only_what_is_damaged(tmp_path: Path) -> None:
    broken = bytearray(member(page(2)))
    broken[len(broken) // 2] ^= 0x55
    path = tmp_path / "flipped.warc.gz"
    path.write_bytes(member(page(1)) + bytes(broken) + b"junk" * 9 + member(page(3)) + member(b"no record here") + member(page(4)))
    records, damage = read(path)
    assert blocks([one for one in records if not one.damage]) == all_pages(1, 3, 4)
    assert damage == Counter(damage_corrupt_member=1, damage_no_warc_header=1)


def test_damage_inside_a_whole_file_gzip_is_counted(tmp_path: Path) -> None:
    noise = "".join(f"<!-- {n * 7919 % 99991} -->" for n in range(5000))
    whole = gzip.compress(b"".join(record(response(html(noise)), n) for n in range(10)), mtime=0)
    half = len(whole) // 2
    for name, data in {"cut": whole[:half], "corrupt": whole[:half] + b"\x55\xaa\x55" + whole[half + 3 :]}.items():
        (tmp_path / name).write_bytes(data)
        records, damage = read(tmp_path / name)
        assert len(records) >= 4
        assert damage[f"damage_{name}_member"] == 1


def test_a_file_that_is_no_archive_is_counted(tmp_path: Path) -> None:
    (tmp_path / "photo.warc.gz").write_bytes(b"\x89PNG\r\n\x1a\n" * 100)
    assert read(tmp_path / "photo.warc.gz") == ([], Counter(damage_unreadable_rest=1))


def test_a_block_larger_than_wanted_is_measured_but_not_kept(tmp_path: Path) -> None:
    path = write_warc(tmp_path / "large.warc.gz", page(1, b"x" * (3 * LIMIT)), page(2))
    records, _ = read(path)
    assert len(records[0].block) == LIMIT
    assert records[0].block_bytes > 3 * LIMIT
    assert records[1].block == all_pages(2)[0]


@pytest.mark.shared
def test_real_odd_archives_agree_with_warcio(shared_data: Path) -> None:
    """Where warcio reads a file without an error, the same number of responses is found; reading on gives the same rest."""
    files = sorted(path for path in (shared_data / "warc-odd").rglob("*") if path.is_file() and path.suffix != ".md")
    assert len(files) > 80
    for path in files:
        records, _ = read(path)
        if records:
            middle = len(records) // 2
            assert blocks(read(path, records[middle].next)[0]) == blocks(records[middle + 1 :]), path
        expected = _responses_by_warcio(path)
        if expected is not None:
            assert sum(one.kind == "response" for one in records) == expected, path


def _responses_by_warcio(path: Path) -> int | None:
    with path.open("rb") as file:
        try:
            return sum(one.rec_type == "response" for one in ArchiveIterator(file))
        except Exception:
            return None
