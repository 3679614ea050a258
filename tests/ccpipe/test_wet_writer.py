"""WET files that any reader accepts."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from fastwarc.warc import ArchiveIterator as FastIterator
from hypothesis import given
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator
from warcio.checker import Checker
from warcio.indexer import Indexer

from ccpipe.wet import DamagedWet, read_texts, text_digest
from ccpipe.wet_writer import WetWriter, derived_id

TEXTS = ["one\n\nline", "水" * 500, "", "\r\n\r\nWARC/1.1\r\n", "a" * 100_000]


def write(path: Path) -> list[tuple[int, int, str]]:
    with path.open("wb") as file:
        writer = WetWriter(file)
        writer.write_info("00007")
        return [
            writer.write_text(text.encode(), f"http://a.example/ü/{i}", "2024-01-01T00:00:00Z", f"source {i}", f"<urn:uuid:{i}>")
            for i, text in enumerate(TEXTS)
        ]


def test_ranges_and_digests_lead_back_to_the_texts(tmp_path: Path) -> None:
    written = write(tmp_path / "a.warc.wet.gz")
    offsets, lengths = (np.array([one[k] for one in written]) for k in (0, 1))
    assert read_texts(tmp_path / "a.warc.wet.gz", offsets, lengths).to_pylist() == TEXTS
    assert [one[2] for one in written] == [text_digest(text.encode()) for text in TEXTS]


def damaged(path: Path, written: list[tuple[int, int, str]], how: str) -> None:
    """What happens to files behind one's back."""
    data = path.read_bytes()
    offset, length, _ = written[1]
    if how == "flipped":
        data = data[: offset + length // 2] + bytes([data[offset + length // 2] ^ 1]) + data[offset + length // 2 + 1 :]
    elif how == "cut":
        data = data[: offset + length - 9]
    elif how == "replaced":
        # a sound record of the same length with another text
        record = gzip.decompress(data[offset : offset + length]).replace("水".encode(), "火".encode())
        other = gzip.compress(record, mtime=0)
        data = data[:offset] + other + b"\0" * (length - len(other)) + data[offset + length :]
    else:
        data = data[:7] + data
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["flipped", "cut", "replaced", "moved"])
def test_a_wet_file_that_was_changed_is_told(tmp_path: Path, how: str) -> None:
    path = tmp_path / "00007.warc.wet.gz"
    written = write(path)
    damaged(path, written, how)
    offsets, lengths, digests = ([one[k] for one in written[1:2]] for k in range(3))
    with pytest.raises(DamagedWet, match=rf"00007.warc.wet.gz at byte {offsets[0]}: .*; expected .*: ccpipe redo --stage extract 00007"):
        read_texts(path, np.array(offsets), np.array(lengths), digests)


def test_another_text_in_a_sound_record_is_told_by_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.wet.gz"
    (offset, length, _), *_ = write(path)
    with pytest.raises(DamagedWet, match=r"a text with digest sha1:\w{32}, the meta has sha1:A{32}"):
        read_texts(path, np.array([offset]), np.array([length]), ["sha1:" + "A" * 32])
    assert read_texts(path, np.array([offset]), np.array([length])).to_pylist() == TEXTS[:1]


def test_warcio_and_fastwarc_read_valid_conversion_records(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.wet.gz"
    write(path)
    with path.open("rb") as file:
        records = [(one.rec_type, one.rec_headers, one.content_stream().read()) for one in ArchiveIterator(file, check_digests="raise")]
    assert [kind for kind, _, _ in records] == ["warcinfo"] + ["conversion"] * len(TEXTS)
    assert [text.decode() for _, _, text in records[1:]] == TEXTS
    for i, (_, headers, text) in enumerate(records[1:]):
        assert headers.get_header("WARC-Target-URI") == f"http://a.example/ü/{i}"
        assert headers.get_header("WARC-Refers-To") == f"<urn:uuid:{i}>"
        assert headers.get_header("Content-Type") == "text/plain"
        assert int(headers.get_header("Content-Length")) == len(text)
    assert [one.reader.read().decode() for one in FastIterator(str(path))][1:] == TEXTS


def test_warcio_index_and_check_have_no_complaint(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.wet.gz"
    written = write(path)
    index = io.StringIO()
    with path.open("rb") as file:
        Indexer(["offset", "warc-type"], [str(path)], None).process_one(file, index, str(path))
    assert [line.count("conversion") for line in index.getvalue().splitlines()] == [0] + [1] * len(TEXTS)
    assert str(written[-1][0]) in index.getvalue().splitlines()[-1]
    checker = Checker(_Arguments(inputs=[str(path)], verbose=True))
    checker.process_all()
    assert checker.exit_value == 0


class _Arguments:
    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)


def test_the_bytes_depend_on_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@given(st.text(), st.text())
def test_ids_are_equal_for_equal_sources_only(a: str, b: str) -> None:
    assert (derived_id(a) == derived_id(b)) == (a == b)
