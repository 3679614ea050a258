"""The policies of dedup in whole flows: what depends on what, what is refused, and a second crawl against the first."""

from __future__ import annotations

import json
import re
import shutil
from html import escape
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from flows import plan, run_here, short_flow, until

from hpc.entry import read_flow
from jobs import cli
from jobs.config import ConfigError, load_config
from jobs.flow import FlowStage, build_flow
from jobs.inspection import committed_files
from jobs.planning import FlowPlan

STAGES = ("extract", "sig", "lid", "dedup")
DEDUP = re.compile(r"\[stage\.dedup\]\n(?:.+\n)*")


@pytest.fixture(scope="module")
def text(demo: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return until(short_flow(demo, models, tmp_path_factory.mktemp("never") / "run"), *STAGES)


def flow_of(folder: Path, text: str, *lines: str) -> list[FlowStage]:
    folder.mkdir(exist_ok=True)
    (folder / "run.toml").write_text(DEDUP.sub("\n".join(["[stage.dedup]", *lines, ""]), text))
    return build_flow(load_config(folder / "run.toml"))


def sources(flow: list[FlowStage], stage: str) -> dict[str, tuple[str, str]]:
    found = next(item for item in flow if item.name == stage)
    return {source.dataset: (source.stage, source.of) for source in found.sources}


def test_the_order_of_stages_follows_from_scope_and_survivor(text: str, tmp_path: Path) -> None:
    flow = flow_of(tmp_path, text, 'scope = "language"', 'survivor = "lid_score DESC, text_bytes DESC"', 'where = "text_bytes > 1"')
    assert sources(flow, "dedup.route")["meta/lid"] == ("lid", "members")
    assert sources(flow, "dedup.survivor") == {
        "clusters": ("dedup.cluster", "all"),
        "base": ("extract", "all"),
        "meta/lid": ("lid", "all"),
    }
    assert sources(flow, "dedup.mark")["survivors"] == ("dedup.survivor", "all")
    plain = flow_of(tmp_path, text, 'where = "lid_score > 0.5"')
    assert "dedup.survivor" not in {item.name for item in plain} and "survivors" not in sources(plain, "dedup.mark")
    assert "meta/lid" not in sources(flow_of(tmp_path, text, 'survivor = "longest"', 'where = "lid_score > 0.5"'), "dedup.survivor")


def test_what_verification_reads(text: str, tmp_path: Path) -> None:
    assert set(sources(flow_of(tmp_path, text, "verify = 0.8"), "dedup.match")) == {"route", "sig"}
    assert set(sources(flow_of(tmp_path, text, "verify_text = 0.8"), "dedup.match")) == {"route", "sig", "wet", "base"}
    assert set(sources(flow_of(tmp_path, text, 'giant = "split"'), "dedup.cluster")) == {"links", "sig"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('survivor = "lid_scor DESC"', r"stage dedup.survivor reads column 'lid_scor', which no stage .*Did you mean 'lid_score'\?"),
        ('survivor = "lid_score DSC"', r'stage dedup.survivor: survivor = "lid_score DSC": .*syntax error'),
        ('survivor = "abs(lid_label)"', r'stage dedup.survivor: survivor = "abs\(lid_label\)": .*columns: .*lid_label'),
        ('scope = "lid_lable"', r"stage dedup.route reads column 'lid_lable', .*Did you mean 'lid_label'\?"),
        ('scope = "count(url)"', r'stage dedup.route: scope = "count\(url\)": .*aggregates'),
        ('scope = "crawl"\nagainst = ["x"]', "take one of the two out"),
        ('against = ["nowhere"]', r"stage dedup.match: .*nowhere/index.json does not exist"),
        ("verify = 1.5", r"verify.*1"),
        ('keep = "best"', "first.*component"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_runs(text: str, tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        flow_of(tmp_path, text, line)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_a_flow_without_signatures_is_told_what_to_add(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stage dedup.route reads sig, which no stage of this flow writes; add \[stage.sig\]"):
        flow_of(tmp_path, until(text, "extract", "lid", "dedup"), "verify = 0.8")


def reasons(flow: FlowPlan) -> dict[tuple[str, int], str | None]:
    """Page (WARC and offset) -> why it was dropped."""
    found: dict[tuple[str, int], str | None] = {}
    for unit, marks in committed_files(flow.run, "dedup.mark", "meta/dedup").items():
        base = pq.read_table(committed_files(flow.run, "extract", "base")[unit], columns=["warc_path", "warc_offset"]).to_pylist()
        pages = [(row["warc_path"], row["warc_offset"]) for row in base]
        found |= dict(zip(pages, pq.read_table(marks).column("dedup_reason").to_pylist(), strict=True))
    return found


def audited(flow: FlowPlan, page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`dedup-audit` shows pairs that are there, as text, as JSON and as a page; `status` points to it where there is an alarm."""
    config = ["--config", str(flow.config.path)]
    assert cli.main(["dedup-audit", *config, "--json", "--html", str(page)]) == 0
    value = json.loads(capsys.readouterr().out)
    dropped = sum(reason == "duplicate" for reason in reasons(flow).values())
    assert value["dropped"] == dropped > 0 and value["counts"]["dropped_by_first"] == dropped
    assert {pair["stratum"] for pair in value["pairs"]} <= {*value["seen"], "across hosts"}
    assert cli.main(["dedup-audit", *config]) == 0
    text, html = capsys.readouterr().out, page.read_text(encoding="utf-8")
    for pair in value["pairs"]:
        assert pair["dropped_url"] in text and escape(pair["kept_url"]) in html
    assert cli.main(["status", *config]) == 0
    assert "look at them with `ccpipe dedup-audit`" in capsys.readouterr().out


def test_a_second_crawl_against_the_saved_index_of_the_first(
    text: str, demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Halves of the demo, one after the other, keep what one run over both keeps; another seed is refused by name."""
    warcs = sorted(demo.rglob("*.warc.gz"))
    halves = {"whole": warcs, "first": warcs[: len(warcs) // 2], "second": warcs[len(warcs) // 2 :]}

    # one shard each, so that documents are numbered in the order of the WARCs
    small = re.sub(r'^shard_bytes = ".*"$', 'shard_bytes = "1 GiB"', until(text, "extract", "sig", "dedup"), flags=re.MULTILINE)

    def config(name: str, *lines: str) -> str:
        own = DEDUP.sub("\n".join(["[stage.dedup]", "verify = 0.7", "alarm_documents = 1", "alarm_share = 0.3", *lines, ""]), small)
        own = re.sub(r"^inputs = .*$", f"inputs = {json.dumps([str(path) for path in halves[name]])}", own, flags=re.MULTILINE)
        return re.sub(r'^dir = ".*"$', f'dir = "{tmp_path / name / "run"}"', own, flags=re.MULTILINE)

    flows = {name: plan(tmp_path / name, config(name)) for name in ("whole", "first")}
    for flow in flows.values():
        assert run_here(flow)[0]
    audited(flows["whole"], tmp_path / "audit.html", capsys)
    index = tmp_path / "index"
    assert cli.main(["save-index", "--config", str(tmp_path / "first" / "run.toml"), "--to", str(index), "--signatures"]) == 0
    assert f'against = ["{index}"]' in capsys.readouterr().out
    assert cli.main(["save-index", "--config", str(tmp_path / "first" / "run.toml"), "--to", str(index)]) == 2
    assert "holds an index already" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "first" / "run" / "dedup")  # the index stands alone
    second = plan(tmp_path / "second", config("second", f'against = ["{index}"]'))
    assert run_here(second)[0]
    whole, now = reasons(flows["whole"]), reasons(second)
    assert now.keys() < whole.keys() and {p for p in now if now[p] is None} == {p for p in now if whole[p] is None}
    assert "duplicate_of_past" in now.values()

    with pytest.raises(ConfigError, match=r"signed.seed = 1 there, 2 here.*make the index anew"):
        plan(tmp_path / "second", config("second", f'against = ["{index}"]').replace("[stage.sig]\n", "[stage.sig]\nseed = 2\n"))
    assert {entry["stage"] for entry in read_flow(second.run)["stages"]} >= {"dedup.match"}


def test_an_index_is_saved_of_a_complete_run_alone(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = DEDUP.sub("[stage.dedup]\n", text)
    flow = plan(tmp_path, re.sub(r'^dir = ".*"$', f'dir = "{tmp_path / "run"}"', own, flags=re.MULTILINE))
    assert cli.main(["save-index", "--config", str(flow.config.path), "--to", str(tmp_path / "index")]) == 2
    assert "units of dedup.route are not committed" in capsys.readouterr().err and not (tmp_path / "index").exists()
