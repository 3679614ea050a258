"""`ccpipe inspect`: any document by its address or number, with its text and the verdict on it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from flows import plan, run_here, short_flow, until

from jobs import cli
from jobs.planning import FlowPlan, find


@pytest.fixture(scope="module")
def run(demo: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> FlowPlan:
    """Extracted, judged, deduplicated and selected."""
    folder = tmp_path_factory.mktemp("inspection")
    text = until(short_flow(demo, models, folder / "run"), "extract", "sig", "lid", "quality", "dedup")
    flow = plan(folder, text + '\n[stage.select]\nwhere = "dedup_keep"\n')
    assert run_here(flow)[0]
    return flow


def columns(run: FlowPlan, stage: str, shard: int) -> dict[str, list[object]]:
    state = find(run.stages, stage).state
    sentinel = state.sentinel(f"{shard:05d}")
    assert sentinel is not None
    path = next(entry["path"] for name, entry in sentinel["outputs"].items() if name == "base" or name.startswith("meta/"))
    return dict(pq.read_table(run.run / path).to_pydict())


def first(run: FlowPlan, stage: str, column: str, value: object) -> tuple[int, int, str]:
    """Shard, row and URL of the first document with this value."""
    for shard in range(9):
        values = columns(run, stage, shard)[column]
        if value in values:
            row = values.index(value)
            return shard, row, str(columns(run, "extract", shard)["url"][row])
    raise AssertionError(f"no document has {column} = {value!r}")


def inspect(run: FlowPlan, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["inspect", "--config", str(run.run), *arguments])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("stage", "column", "value", "verdict"),
    [
        ("select", "select_keep", True, "selected for export"),
        ("lid", "lid_reason", "no_language", "lid says: no_language"),
        ("quality", "quality_reason", "too_few_words", "quality says: too_few_words"),
        ("dedup.mark", "dedup_reason", "duplicate", "dedup: duplicate of document"),
    ],
)
def test_a_document_is_shown_with_its_verdict(
    run: FlowPlan, capsys: pytest.CaptureFixture[str], stage: str, column: str, value: object, verdict: str
) -> None:
    shard, row, url = first(run, stage, column, value)
    code, shown, _ = inspect(run, capsys, url)
    assert code == 0 and verdict in shown
    assert ("not selected" in shown) == (value is not True)
    flat = shown.replace("\n", "")
    for name, values in columns(run, stage, shard).items():
        assert re.search(rf"\b{name}\b", flat), f"{name} is not shown"
        assert len(values) > row
    for name in (str(shard << 32 | row), f"{shard}-{row}", f"{shard:05d}-{row:07d}"):
        assert inspect(run, capsys, name) == (0, shown, "")


def test_the_text_is_the_extracted_one(run: FlowPlan, demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = next(json.loads(line) for line in (demo / "pages.jsonl").read_text().splitlines() if json.loads(line)["source"] == "en-tides")
    code, shown, _ = inspect(run, capsys, page["url"], "--full")
    assert code == 0
    text = re.sub(r"\s+", " ", shown.partition("\ntext\n")[2])
    assert "tide" in text and len(text) > 500


def test_what_a_duplicate_duplicates_can_be_inspected_in_turn(run: FlowPlan, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, url = first(run, "dedup.mark", "dedup_reason", "duplicate")
    shown = inspect(run, capsys, url)[1].replace("\n", " ")
    original = re.search(r"duplicate of document (\d+) \((\d+-\d+)\)", shown)
    assert original
    one, other = inspect(run, capsys, original[1]), inspect(run, capsys, original[2])
    assert one == other and one[0] == 0 and "duplicate of" not in one[1]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("https://nowhere.test/", "https://nowhere.test/ is in none of the 9 committed shards, neither kept nor dropped"),
        ("https://fieldnotes.example/gone", "extract dropped https://fieldnotes.example/gone: http_status (record at byte "),
        ("99-0", "no shard 00099 among the 9 committed shards of extract"),
        ("0-99999", "shard 00000 has rows 0.."),
        (str(99 << 32), "no shard 00099"),
        ("' OR 1=1 --", "is in none of the 9 committed shards"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(run: FlowPlan, capsys: pytest.CaptureFixture[str], wanted: str, message: str) -> None:
    code, shown, error = inspect(run, capsys, wanted)
    assert code == 1 and shown == "" and message in error and len(error.splitlines()) == 1


def test_before_anything_is_extracted(demo: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flow = plan(tmp_path, until(short_flow(demo, models, tmp_path / "run"), "extract"))
    assert inspect(flow, capsys, "https://fieldnotes.example/")[0] == 1
    assert cli.main(["inspect", "--config", str(tmp_path), "0-0"]) == 1
    assert "is not a run directory" in capsys.readouterr().err
