"""Texts and pages of a run can be proved by anybody, with `ccpipe verify` and with what every system has."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest
from flows import plan, run_here, short_flow, until
from warcio.archiveiterator import ArchiveIterator

from ccpipe.wet import text_digest
from jobs import cli

DOC = (Path(__file__).resolve().parents[2] / "docs" / "meta.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def extracted(demo: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    flow = plan(folder, until(short_flow(demo, models, folder / "run"), "extract"))
    assert run_here(flow)[0]
    return flow.run


@pytest.fixture
def run(extracted: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(extracted, tmp_path / "run", symlinks=True))


def verify(run: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = cli.main(["verify", "--config", str(run), *arguments])
    out, err = capsys.readouterr()
    return code, " ".join((out + err).split())


def test_a_sound_run_is_proved_text_by_text_and_page_by_page(extracted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = verify(extracted, capsys, "--pages")
    assert code == 0
    counts = [int(n) for n in re.findall(r"\d{5}: (\d+) documents, 0 not as recorded", said)]
    (rows,) = duckdb.sql(f"SELECT count(*) FROM '{extracted}/meta/base/current/*.parquet'").fetchall()
    assert sum(counts) == rows[0] > 50


def test_a_document_that_was_changed_is_named_with_what_to_do(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wet = next(run.glob("wet/*/00000.warc.wet.gz"))
    data = bytearray(wet.read_bytes())
    (offset,) = duckdb.sql(f"SELECT wet_offset FROM read_parquet('{run}/meta/base/*/00000.parquet') LIMIT 1 OFFSET 2").fetchall()[0]
    data[offset + 100] ^= 4
    wet.write_bytes(data)
    code, said = verify(run, capsys)
    assert code == 1
    assert "1 not as recorded" in said
    assert re.search(rf"00000-2: .*00000.warc.wet.gz at byte {offset}: .*; expected .*: ccpipe redo --stage extract 00000", said)
    assert verify(run, capsys, "00000-1")[0] == 0


def test_a_document_is_saved_with_its_page(extracted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = verify(extracted, capsys, "00000-3", "--save", str(tmp_path / "found"))
    assert code == 0
    query = f"SELECT digest, page_digest FROM read_parquet('{extracted}/meta/base/*/00000.parquet', file_row_number = true)"
    digest, page_digest = duckdb.sql(query + " WHERE file_row_number = 3").fetchall()[0]
    assert text_digest((tmp_path / "found" / "00000-3.txt").read_bytes()) == digest
    page = (tmp_path / "found" / "00000-3.http").read_bytes()
    assert text_digest(page) == page_digest
    assert page.startswith(b"HTTP/1.")


def test_an_unknown_document_is_told(extracted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(extracted, capsys, "00000-99999") == (2, verify(extracted, capsys, "00000-99999")[1])
    assert "asked for row 99999" in verify(extracted, capsys, "00000-99999")[1]


def test_the_documented_commands_cut_text_and_page_without_ccpipe(extracted: Path) -> None:
    """docs/meta.md: DuckDB, dd and zcat; compared with what warcio reads."""
    block = next(block for block in re.findall(r"```sh\n(.*?)```", DOC, re.DOTALL) if "dd if" in block)
    found = re.search(r'-c "(.*?)"', block, re.DOTALL)
    assert found
    query = found[1].replace("meta/base/current", f"{extracted}/meta/base/current")
    warc, warc_at, warc_length, at, length, digest = duckdb.sql(query).fetchall()[0]
    values = {"WARC_PATH": warc, "WARC_OFFSET": warc_at, "WARC_LENGTH": warc_length, "WET_OFFSET": at, "WET_LENGTH": length}
    environment = {**os.environ, **{name: str(value) for name, value in values.items()}}
    cuts = [line for line in block.splitlines() if line.startswith("dd ")]
    text, page = (subprocess.run(cut, shell=True, cwd=extracted, env=environment, capture_output=True, check=True).stdout for cut in cuts)
    assert f"WARC-Block-Digest: {digest}".encode() in text
    assert text_digest(text.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n\r\n")) == digest
    with Path(warc).open("rb") as file:
        file.seek(warc_at)
        record = next(iter(ArchiveIterator(file, no_record_parse=True)))
        assert record.raw_stream.read() == page.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n\r\n")
    with Path(warc).open("rb") as file:
        file.seek(warc_at)
        assert gzip.decompress(file.read(warc_length)) == page
