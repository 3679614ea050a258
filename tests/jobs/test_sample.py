"""Samples: about what was asked for, cut where a record ends, the same each time, spread over the whole list."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from ccpipe.warc import read_records
from hpc.state.manifest import InputFile
from jobs.errors import UsageError
from jobs.sample import MAX_PARTS, MIN_PART_BYTES, Wanted, end_of_part, parse_probe, part_sizes, take_sample

PAGES = 60


def warc(path: Path, gzip: bool, n: int = PAGES) -> InputFile:
    """A file of `n` pages of about 2 kB that do not compress, behind a warcinfo."""
    import random

    chance = random.Random(path.name)
    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=gzip)
        writer.write_record(writer.create_warcinfo_record(path.name, {"software": "test"}))
        for i in range(n):
            headers = StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1")
            body = io.BytesIO(chance.randbytes(2000))
            writer.write_record(writer.create_warc_record(f"http://a.example/{i}", "response", payload=body, http_headers=headers))
    return InputFile(str(path), path.stat().st_size, 0)


def zstd_frames(path: Path, source: Path) -> InputFile:
    """The records of a plain WARC, a Zstandard frame each."""
    data, ends = source.read_bytes(), [0]
    for record in read_records(source, None, 1, Counter()):
        ends.append(record.offset + record.length)
    frames = [zstandard.ZstdCompressor().compress(data[first:last]) for first, last in itertools.pairwise(ends)]
    path.write_bytes(b"".join(frames))
    return InputFile(str(path), path.stat().st_size, 0)


def records(path: Path) -> tuple[int, Counter[str]]:
    """Pages, and damage by name."""
    damage: Counter[str] = Counter()
    return sum(record.kind == "response" for record in read_records(path, None, 1 << 20, damage)), damage


# --- what is asked for ---


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1%", Wanted(n_bytes=10_000)),
        (" 0.5 % ", Wanted(n_bytes=5_000)),
        ("100%", Wanted(n_bytes=1_000_000)),
        ("200kB", Wanted(n_bytes=200_000)),
        ("2 GiB", Wanted(n_bytes=1_000_000)),
        ("3", Wanted(files=3)),
    ],
)
def test_a_share_a_size_or_a_number_of_files(text: str, wanted: Wanted) -> None:
    assert parse_probe(text, 1_000_000) == wanted


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "-3", "many", "3 files", "5%%", "0MB", "nan%"])
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match="200MB"):
        parse_probe(text, 1_000_000)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=8), st.integers(1, 10**9))
def test_parts_add_up_to_what_is_wanted_and_never_exceed_their_files(sizes: list[int], n_bytes: int) -> None:
    parts = part_sizes(sizes, n_bytes)
    assert all(0 <= part <= size for part, size in zip(parts, sizes, strict=True))
    assert min(n_bytes, sum(sizes)) - len(sizes) - 1 <= sum(parts) <= n_bytes


# --- what is taken ---


def test_whole_files_come_from_all_over_the_list_and_are_not_copied(tmp_path: Path) -> None:
    files = [InputFile(f"/in/{i:03d}.warc.gz", 1000, 0) for i in range(100)]
    sample = take_sample(files, Wanted(n_bytes=10_000), tmp_path / "input")
    assert [int(Path(path).name[:3]) for path in sample.paths] == list(range(5, 100, 10))
    assert (sample.n_bytes, sample.cut) == (10_000, 0) and not (tmp_path / "input").exists()
    assert take_sample(files, Wanted(files=3), tmp_path).paths == tuple(Path(f"/in/{i:03d}.warc.gz") for i in (16, 50, 83))
    assert len(take_sample(files, Wanted(files=1000), tmp_path).paths) == 100


@pytest.mark.parametrize("gzip", [True, False])
def test_of_large_files_the_first_parts_are_taken_about_as_many_bytes_as_wanted(tmp_path: Path, gzip: bool) -> None:
    files = [warc(tmp_path / f"{i:02d}.warc", gzip, n=200) for i in range(12)]
    total = sum(file.bytes for file in files)
    sample = take_sample(files, Wanted(n_bytes=total // 10), tmp_path / "input")
    assert len(sample.paths) == sample.cut == MAX_PARTS
    assert sample.n_bytes == sum(path.stat().st_size for path in sample.paths) == pytest.approx(total / 10, rel=0.05)
    found = [records(path) for path in sample.paths]
    assert all(pages >= 1 and not damage for pages, damage in found)
    assert sum(pages for pages, _ in found) == pytest.approx(12 * 200 / 10, rel=0.1)
    sizes = [path.stat().st_size for path in sample.paths]
    assert max(sizes) > 2 * min(sizes)
    again = take_sample(files, Wanted(n_bytes=total // 10), tmp_path / "again")
    assert [path.read_bytes() for path in again.paths] == [path.read_bytes() for path in sample.paths]


def test_a_tiny_sample_is_one_part_with_at_least_one_page(tmp_path: Path) -> None:
    files = [warc(tmp_path / f"{i}.warc.gz", True) for i in range(3)]
    sample = take_sample(files, Wanted(n_bytes=MIN_PART_BYTES // 100), tmp_path / "input")
    assert len(sample.paths) == 1 and records(sample.paths[0])[0] >= 1 and sample.n_bytes < 10_000


def test_files_of_one_name_in_two_folders_stay_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    files = [warc(tmp_path / folder / "x.warc.gz", True) for folder in ("a", "b")]
    sample = take_sample(files, Wanted(n_bytes=files[0].bytes), tmp_path / "input")
    assert len(set(sample.paths)) == 2


def test_an_input_of_empty_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to probe"):
        take_sample([InputFile("/in/a", 0, 0)], Wanted(files=1), tmp_path)


# --- where a file is cut ---


@pytest.mark.parametrize("kind", ["gz", "plain", "zst"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.77, 1.0])
def test_a_cut_is_the_end_of_a_record(tmp_path: Path, kind: str, share: float) -> None:
    """Judged by warcio, which must read the part to its end."""
    file = warc(tmp_path / "a.warc", kind == "gz")
    if kind == "zst":
        file = zstd_frames(tmp_path / "a.warc.zst", Path(file.path))
    end = end_of_part(Path(file.path), int(file.bytes * share))
    assert abs(end - file.bytes * share) < 5000 and end > 0
    head = Path(file.path).read_bytes()[:end]
    if kind == "zst":
        head = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(head), read_across_frames=True).read()
    seen = [record.content_stream().read() for record in ArchiveIterator(io.BytesIO(head)) if record.rec_type == "response"]
    assert all(len(body) == 2000 for body in seen) and len(seen) == pytest.approx(PAGES * share, abs=2)


def test_a_cut_is_at_the_nearest_end(tmp_path: Path) -> None:
    path = Path(warc(tmp_path / "a.warc.gz", True).path)
    ends = [record.offset + record.length for record in read_records(path, None, 1, Counter())]
    for end in (ends[2], ends[30], ends[-2]):
        assert [end_of_part(path, end + off) for off in (-10, 0, 10)] == [end] * 3


def test_a_file_in_one_piece_is_taken_whole(tmp_path: Path) -> None:
    import gzip

    plain = warc(tmp_path / "a.warc", False)
    whole = tmp_path / "whole.warc.gz"
    whole.write_bytes(gzip.compress(Path(plain.path).read_bytes()))
    frame = tmp_path / "whole.warc.zst"
    frame.write_bytes(zstandard.ZstdCompressor().compress(Path(plain.path).read_bytes()))
    broken = tmp_path / "broken.warc.zst"
    broken.write_bytes(frame.read_bytes()[:500])
    for path in (whole, frame, broken):
        assert end_of_part(path, 100) == path.stat().st_size
