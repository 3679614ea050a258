"""`ccpipe diff`: what another threshold, or another extraction, did to which documents. Expected figures are computed here, row by row."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from flows import outputs, plan, run_here, short_flow, until
from rich.console import Console

from ccpipe.wet import read_texts
from hpc.state.manifest import refreeze
from hpc.state.state import StageState
from jobs import diff_rows
from jobs.diff import make_diff
from jobs.diff_show import run_diff
from jobs.errors import UsageError
from jobs.planning import FlowPlan, find

LONGER = 1000
"""Characters of main text that the third version asks for: some of the demo's pages have them, some not."""


@dataclass(frozen=True)
class Runs:
    """Three plans of one run directory, all complete: the first, one with a stricter `lid`, one with another extraction."""

    run: Path
    first: FlowPlan
    strict: FlowPlan
    longer: FlowPlan

    def fp(self, flow: FlowPlan, stage: str) -> str:
        return find(flow.stages, stage).state.fp12


@pytest.fixture(scope="module")
def runs(demo: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("diff")
    text = until(short_flow(demo, models, folder / "run"), "extract", "sig", "lid", "quality", "dedup", "classify", "bucket")
    text += '\n[stage.select]\nwhere = "dedup_keep"\n'
    flows = []
    for table, line in (("", ""), ("[stage.lid]\n", "min_score = 0.9\n"), ("[stage.extract]\n", f"min_text_chars = {LONGER}\n")):
        flow = plan(folder, text.replace(table, table + line) if table else text)
        assert run_here(flow)[0]
        flows.append(flow)
    return Runs(folder / "run", *flows)


def said(runs: Runs, stage: str, old: str | None, new: str | None, examples: int = 5) -> str:
    console = Console(file=StringIO(), width=80)
    assert run_diff(console, runs.run, stage, old, new, examples, as_json=False) == 0
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def told(runs: Runs, capsys: pytest.CaptureFixture[str], stage: str, old: FlowPlan, new: FlowPlan, examples: int = 5) -> dict[str, Any]:
    code = run_diff(Console(), runs.run, stage, runs.fp(old, stage), runs.fp(new, stage), examples, as_json=True)
    assert code == 0
    return dict(json.loads(capsys.readouterr().out))


# --- the same, slowly -------------------------------------------------------------------------------------------------

Record = tuple[str, int]


def rows(flow: FlowPlan, stage: str, dataset: str) -> list[dict[str, Any]]:
    """Every row of a dataset with its document id, read from the files that sentinels name."""
    found = []
    state = find(flow.stages, stage).state
    for unit in find(flow.stages, stage).plan.units:
        sentinel = state.sentinel(unit.id)
        assert sentinel is not None
        table = pq.read_table(flow.run / sentinel["outputs"][dataset]["path"]).to_pylist()
        found += [{**row, "id": unit.index << 32 | i, "unit": unit.id} for i, row in enumerate(table)]
    return found


def documents(flow: FlowPlan, stage: str, dataset: str) -> dict[Record, dict[str, Any]]:
    """Columns of `dataset` and of `base` by record, and what extraction dropped as `extract_reason`."""
    found: dict[Record, dict[str, Any]] = {}
    for base, row in zip(rows(flow, "extract", "base"), rows(flow, stage, dataset), strict=True):
        found[base["warc_path"], base["warc_offset"]] = {**base, **row}
    for row in rows(flow, "extract", "dropped"):
        record = (row["warc_path"], row["warc_offset"])
        assert record not in found
        found[record] = {"extract_reason": row["reason"], "url": row["url"]}
    return found


def expect(old: dict[Record, str | None], new: dict[Record, str | None]) -> dict[str, Any]:
    """Counts from the reason of every record (None: kept)."""
    pairs = Counter((old[record], new[record]) for record in old)
    assert set(old) == set(new)

    def total(was_kept: bool, is_kept: bool) -> int:
        return sum(n for (a, b), n in pairs.items() if (a is None, b is None) == (was_kept, is_kept))

    both, lost, gained, dropped = total(True, True), total(True, False), total(False, True), total(False, False)
    return {
        "documents": {
            "kept_before": both + lost,
            "kept_now": both + gained,
            "kept_both": both,
            "lost": lost,
            "gained": gained,
            "dropped_both": dropped,
            "other_reason": sum(n for (a, b), n in pairs.items() if None not in (a, b) and a != b),
        },
        "lost": {b: n for (a, b), n in pairs.items() if a is None and b is not None},
        "gained": {a: n for (a, b), n in pairs.items() if b is None and a is not None},
        "other_reason": {(a, b): n for (a, b), n in pairs.items() if None not in (a, b) and a != b},
    }


def summary(value: dict[str, Any]) -> dict[str, Any]:
    """The same from what was printed."""
    found = value["kinds"]
    return {
        "documents": value["documents"],
        "lost": {group["new_reason"]: group["documents"] for group in found["lost"]},
        "gained": {group["old_reason"]: group["documents"] for group in found["gained"]},
        "other_reason": {(g["old_reason"], g["new_reason"]): g["documents"] for g in found["other_reason"]},
    }


def reasons(flow: FlowPlan, stage: str, dataset: str, column: str) -> dict[Record, str | None]:
    found = documents(flow, stage, dataset)
    return {record: f"extract:{row['extract_reason']}" if "extract_reason" in row else row[column] for record, row in found.items()}


# --- equal rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stage", "column"), [("lid", "lid_reason"), ("quality", "quality_reason")])
def test_another_threshold(runs: Runs, capsys: pytest.CaptureFixture[str], stage: str, column: str) -> None:
    old = {(str(row["id"]), 0): row[column] for row in rows(runs.first, stage, f"meta/{stage}")}
    new = {(str(row["id"]), 0): row[column] for row in rows(runs.strict, stage, f"meta/{stage}")}
    value = told(runs, capsys, stage, runs.first, runs.strict)
    assert summary(value) == expect(old, new)
    assert value["documents"]["lost"] > 0 and value["documents"]["gained"] == 0
    assert value["matched_by"] == "row" and value["units"] == 9
    back = told(runs, capsys, stage, runs.strict, runs.first)
    assert summary(back) == expect(new, old) and back["documents"]["gained"] == value["documents"]["lost"]


def test_the_keys_that_differ_are_named_down_to_their_cause(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(runs, capsys, "lid", runs.first, runs.strict)["keys"] == [{"key": "config.min_score", "old": 0.5, "new": 0.9}]
    value = told(runs, capsys, "quality", runs.first, runs.strict)
    assert {key["key"].partition(".")[0] for key in value["keys"]} == {"inputs"}
    assert value["causes"] == {"lid": [{"key": "config.min_score", "old": 0.5, "new": 0.9}]}
    shown = said(runs, "quality", runs.fp(runs.first, "quality"), runs.fp(runs.strict, "quality"))
    assert "  because of lid: config.min_score: 0.5 -> 0.9\n" in shown


def test_examples_are_the_first_documents_with_address_values_and_text(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    base = rows(runs.first, "extract", "base")
    before, now = (rows(flow, "quality", "meta/quality") for flow in (runs.first, runs.strict))
    lost = [i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a["quality_reason"] is None and b["quality_reason"]]
    assert len(lost) > 2
    value = told(runs, capsys, "quality", runs.first, runs.strict, examples=2)
    (group,) = value["kinds"]["lost"]
    assert (group["old_reason"], group["new_reason"], group["documents"]) == (None, "not_in_where", len(lost))
    assert [example["new_id"] for example in group["examples"]] == [base[i]["id"] for i in lost[:2]]
    for example, i in zip(group["examples"], lost, strict=False):
        assert example["url"] == base[i]["url"] and example["old_id"] == example["new_id"]
        differing = {name: [before[i][name], now[i][name]] for name in before[i] if before[i][name] != now[i][name]}
        assert example["columns"] == differing and differing["quality_reason"] == [None, "not_in_where"]
        wet = runs.run / f"wet/{runs.fp(runs.first, 'extract')}/{base[i]['unit']}.warc.wet.gz"
        (text,) = read_texts(wet, [base[i]["wet_offset"]], [base[i]["wet_length"]]).to_pylist()  # type: ignore[arg-type]
        assert example["text"] == text[:200] and len(example["text"]) > 20
    assert told(runs, capsys, "quality", runs.first, runs.strict, examples=2) == value
    assert told(runs, capsys, "quality", runs.first, runs.strict, examples=0)["kinds"]["lost"][0]["examples"] == []


def test_a_keep_column_is_a_verdict(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    for stage, column in (("select", "select_keep"), ("dedup.mark", "dedup_keep")):
        before, now = (
            {(str(row["id"]), 0): None if row[column] else row.get("dedup_reason", "not_kept") for row in rows(flow, stage, dataset)}
            for flow in (runs.first, runs.strict)
            for dataset in (f"meta/{column.partition('_')[0]}",)
        )
        value = told(runs, capsys, stage, runs.first, runs.strict)
        assert summary(value) == expect(before, now) and value["documents"]["lost"] > 0


def test_a_family_stands_for_its_member_with_columns(runs: Runs) -> None:
    old, new = (runs.fp(flow, "dedup.mark") for flow in (runs.first, runs.strict))
    assert said(runs, "dedup", old, new) == said(runs, "dedup.mark", old, new)


def test_without_a_verdict_columns_are_compared(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    before, now = (rows(flow, "bucket.assign", "meta/bucket") for flow in (runs.first, runs.strict))
    console = Console(file=StringIO(), width=80)
    old, new = (runs.fp(flow, "bucket.assign") for flow in (runs.first, runs.strict))
    assert run_diff(console, runs.run, "bucket", old, new, 3, as_json=True) == 0
    columns = json.loads(capsys.readouterr().out)["columns"]
    for name in [name for name in before[0] if name not in ("id", "unit")]:
        pairs = [(a[name], b[name]) for a, b in zip(before, now, strict=True) if a[name] != b[name]]
        numbers = [abs(b - a) for a, b in pairs if a is not None and b is not None]
        if pairs:
            assert columns[name]["changed"] == len(pairs)
            assert columns[name]["mean_absolute_change"] == (pytest.approx(sum(numbers) / len(numbers)) if numbers else None)
        else:
            assert name not in columns
    assert columns
    assert "this stage drops none" in said(runs, "bucket", old, new)


# --- other rows -------------------------------------------------------------------------------------------------------


def test_another_extraction(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    before, now = (
        {record: row.get("extract_reason") for record, row in documents(flow, "extract", "base").items()}
        for flow in (runs.strict, runs.longer)
    )
    value = told(runs, capsys, "extract", runs.strict, runs.longer)
    assert summary(value) == expect(before, now)
    assert value["documents"]["lost"] > 0 and value["kinds"]["lost"][0]["new_reason"] == "too_short"
    assert value["matched_by"] == "record" and value["in_both"] == value["documents"]["kept_both"] > 0
    assert value["columns"] == {}, "the texts of what is kept are the same"
    example = value["kinds"]["lost"][0]["examples"][0]
    first = min(row["id"] for record, row in documents(runs.strict, "extract", "base").items() if before[record] is None and now[record])
    assert example["old_id"] == first and example["new_id"] is None and len(example["text"]) > 20
    back = told(runs, capsys, "extract", runs.longer, runs.strict)
    assert summary(back) == expect(now, before)


def test_documents_are_found_again_in_other_rows(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """The rows of a later stage follow the extraction it read: who is no longer there is told from who is judged otherwise."""
    before, now = (reasons(flow, "lid", "meta/lid", "lid_reason") for flow in (runs.first, runs.longer))
    value = told(runs, capsys, "lid", runs.first, runs.longer)
    assert summary(value) == expect(before, now)
    assert "extract:too_short" in summary(value)["lost"]
    moved = {record: row["id"] for record, row in documents(runs.first, "lid", "meta/lid").items() if "id" in row}
    after = {record: row["id"] for record, row in documents(runs.longer, "lid", "meta/lid").items() if "id" in row}
    assert any(moved[record] != after[record] for record in moved.keys() & after.keys())
    assert value["in_both"] == len(moved.keys() & after.keys())
    assert value["causes"] == {"extract": [{"key": "config.min_text_chars", "old": 10, "new": LONGER}]}


def test_the_page_names_what_the_figures_say(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    value = told(runs, capsys, "lid", runs.first, runs.longer)
    shown = said(runs, "lid", runs.fp(runs.first, "lid"), runs.fp(runs.longer, "lid"), examples=1)
    n = value["documents"]
    assert f"kept before {n['kept_before']} = kept both times {n['kept_both']} + not kept now {n['lost']}\n" in shown
    assert f"  {summary(value)['lost']['extract:too_short']}  extract:too_short\n" in shown
    for kind in ("lost", "gained", "other_reason"):
        for group in value["kinds"][kind]:
            assert group["examples"][0]["url"] in shown


@pytest.mark.parametrize("stage", ["lid", "extract"])
def test_neither_batches_nor_an_odd_folder_change_the_answer(
    runs: Runs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stage: str
) -> None:
    value = told(runs, capsys, stage, runs.first, runs.longer)
    odd = shutil.copytree(runs.run, tmp_path / "crawl [2024] it's*", symlinks=True)
    monkeypatch.setattr(diff_rows, "BATCH_ROWS", 1)
    assert run_diff(Console(), odd, stage, runs.fp(runs.first, stage), runs.fp(runs.longer, stage), 5, as_json=True) == 0
    again = json.loads(capsys.readouterr().out)
    for column in (*value["columns"].values(), *again["columns"].values()):  # sums of floats, added in another order
        column["mean_absolute_change"] = pytest.approx(column["mean_absolute_change"])
    assert again == value


# --- other inputs -----------------------------------------------------------------------------------------------------


def test_inputs_that_were_taken_in(demo: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A WARC that lost its last record and a new one: one shard differs, one is new, the others are the same to the byte."""
    shutil.copytree(demo, tmp_path / "demo")
    text = until(short_flow(tmp_path / "demo", models, tmp_path / "run"), "extract")
    old = plan(tmp_path, text)
    assert run_here(old)[0]
    last = max((row for row in rows(old, "extract", "base") if row["unit"] == "00003"), key=lambda row: row["warc_offset"])
    warc = Path(last["warc_path"])
    whole = warc.read_bytes()
    warc.write_bytes(whole[: last["warc_offset"]])
    (warc.parent / "a-new-one.warc.gz").write_bytes(whole)
    _, changes = refreeze(old.run, old.config.run.inputs, old.config.folder, int(old.config.run.shard_bytes))
    assert changes.text() == f"1 new (a-new-one.warc.gz), 1 changed ({warc.name})"
    new = plan(tmp_path, text)
    assert run_here(new)[0]
    before, now = outputs(old), outputs(new)
    assert {name.split("/")[1] for name in before if before[name] != now[name]} == {"00003"}
    assert {name.split("/")[1] for name in now.keys() - before.keys()} == {"00009"}
    assert run_diff(Console(), new.run, "extract", None, None, 5, as_json=True) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["units_with_other_inputs"] == ["00003"] and (value["units"], value["new"]["units"]) == (9, 10)
    gone = [row for row in rows(old, "extract", "dropped") if row["warc_path"] == str(warc) and row["warc_offset"] >= last["warc_offset"]]
    assert value["documents"]["lost"] == 1 and value["documents"]["gained"] == 0 and value["documents"]["other_reason"] == len(gone)
    (group,) = value["kinds"]["lost"]
    assert group["new_reason"] == "not_in_inputs" and group["examples"][0]["url"] == last["url"]


# --- which versions ---------------------------------------------------------------------------------------------------


def test_the_version_planned_now_is_compared_with_the_one_used_last_before_it(runs: Runs) -> None:
    assert f"lid: {runs.fp(runs.strict, 'lid')} (9 units) -> {runs.fp(runs.longer, 'lid')} (9 units)\n" in said(runs, "lid", None, None)
    launches = StageState(runs.run, "lid", runs.fp(runs.first, "lid")).folder / "launches"
    (path,) = launches.iterdir()
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 3600 * 10**9))
    try:
        assert f"lid: {runs.fp(runs.first, 'lid')} " in said(runs, "lid", None, None)
    finally:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert said(runs, "lid", runs.fp(runs.strict, "lid")[:6], None) == said(runs, "lid", None, None)


@pytest.mark.parametrize(
    ("stage", "old", "new", "message"),
    [
        ("nonsense", None, None, r"no stage nonsense in .*; expected one of extract, lid, quality, .*: type --stage and one of them"),
        (None, None, None, "no stage was named; expected one of extract, lid, .*: type --stage and one of them"),
        ("sig", None, None, "stage sig writes no columns that could be compared; expected one of extract, "),
        (
            "lid",
            "ffffffffffff",
            None,
            "stage lid has no version .* begins with ffffffffffff; expected one. Choose with --old and --new, latest",
        ),
        ("lid", "", None, "--old '': expected the first digits of a fingerprint"),
    ],
)
def test_what_cannot_be_compared_is_said(runs: Runs, stage: str | None, old: str | None, new: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run_diff(Console(), runs.run, stage, old, new, 5, as_json=False)


def test_a_version_is_not_compared_with_itself(runs: Runs) -> None:
    with pytest.raises(UsageError, match=r"are both .*; expected two versions of lid. Choose with --old and --new"):
        run_diff(Console(), runs.run, "lid", runs.fp(runs.longer, "lid"), None, 5, as_json=False)


def test_before_there_are_two_versions(demo: Path, models: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run directory yet"):
        run_diff(Console(), tmp_path, "extract", None, None, 5, as_json=False)
    text = until(short_flow(demo, models, tmp_path / "run"), "extract")
    flow = plan(tmp_path, text)
    with pytest.raises(
        UsageError, match=r"no version with committed units .*none is committed yet; to make the version planned now: `ccpipe local"
    ):
        run_diff(Console(), tmp_path / "run", "extract", None, None, 5, as_json=False)
    assert run_here(flow)[0]
    with pytest.raises(UsageError, match=r"only one version with committed units, .*; expected two. Change its config"):
        run_diff(Console(), tmp_path / "run", "extract", None, None, 5, as_json=False)


def test_only_committed_units_of_both_are_compared(demo: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = until(short_flow(demo, models, tmp_path / "run"), "extract")
    flows = [plan(tmp_path, text.replace("[stage.extract]\n", f"[stage.extract]\n{line}")) for line in ("", f"min_text_chars = {LONGER}\n")]
    for flow in flows:
        assert run_here(flow)[0]
    old, new = (find(flow.stages, "extract").state for flow in flows)
    for state, units in ((old, range(4)), (new, range(2, 9))):
        for unit in units:
            (state.folder / "done" / f"{unit:05d}.json").rename(tmp_path / f"{state.fp12}-{unit}")
            (state.folder / "_SUCCESS.json").unlink(missing_ok=True)
    with pytest.raises(UsageError, match=r"\(5 units\) and .* \(2 units\) have no committed unit in common; .* Run what is missing"):
        run_diff(Console(), tmp_path / "run", "extract", None, None, 5, as_json=False)
    (tmp_path / f"{new.fp12}-5").rename(new.folder / "done" / "00005.json")
    console = Console(file=StringIO(), width=80)
    assert run_diff(console, tmp_path / "run", "extract", None, None, 5, as_json=False) == 0
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"  1 units in both are compared; 4 only before, 2 only now\n", shown)
    state = old.sentinel("00005")
    assert state is not None
    (tmp_path / "run" / state["outputs"]["base"]["path"]).unlink()
    with pytest.raises(UsageError, match=r"00005.parquet is gone, though extract .* is committed"):
        run_diff(Console(), tmp_path / "run", "extract", None, None, 5, as_json=False)


@pytest.mark.parametrize(
    ("old", "new", "examples", "message"),
    [
        ("", None, 5, "--old '': expected the first digits of a fingerprint"),
        (None, "", 5, "--new '': expected the first digits of a fingerprint"),
        (None, None, -1, "--examples -1: expected 0 or more"),
    ],
)
def test_options_that_mean_nothing_are_refused(runs: Runs, old: str | None, new: str | None, examples: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_diff(runs.run, "lid", old, new, examples)
