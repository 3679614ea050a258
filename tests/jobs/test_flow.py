"""The order of stages follows from columns and files, never from the order of the tables."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from flows import short_flow, tables, until

from jobs.config import ConfigError, load_config
from jobs.flow import FlowStage, build_flow, chosen_names


@pytest.fixture
def text(demo: Path, models: Path, tmp_path: Path) -> str:
    return short_flow(demo, models, tmp_path / "run")


def flow_of(tmp_path: Path, text: str) -> list[FlowStage]:
    (tmp_path / "run.toml").write_text(text)
    return build_flow(load_config(tmp_path / "run.toml"))


def sources(flow: list[FlowStage], stage: str) -> dict[str, tuple[str, str]]:
    """dataset -> (stage that writes it, "members" or "all")"""
    found = next(item for item in flow if item.name == stage)
    return {source.dataset: (source.stage, source.of) for source in found.sources}


def test_what_each_stage_of_the_demo_reads(text: str, tmp_path: Path) -> None:
    flow = flow_of(tmp_path, text)
    assert sources(flow, "extract") == {}
    assert sources(flow, "sig") == {"wet": ("extract", "members"), "base": ("extract", "members")}
    assert sources(flow, "quality")["meta/lid"] == ("lid", "members")
    assert sources(flow, "dedup.match") == {"route": ("dedup.route", "all")}
    assert sources(flow, "dedup.cluster") == {"links": ("dedup.match", "all")}
    assert sources(flow, "dedup.mark")["sig"] == ("sig", "all") and sources(flow, "dedup.mark")["base"] == ("extract", "members")
    assert sources(flow, "bucket.cuts")["meta/classify.fasttext"] == ("classify.fasttext", "all")
    assert sources(flow, "bucket.assign")["meta/classify.fasttext"] == ("classify.fasttext", "members")
    assert sources(flow, "export.shards")["meta/select"] == ("select", "members")  # it needs select_keep, which no `where` names
    assert sources(flow, "export.shards")["meta/quality"] == ("quality", "members")  # drop_lines
    assert sources(flow, "export.manifest") == {"stats": ("export.shards", "all"), "index": ("export.shards", "all")}


def test_a_stage_comes_after_all_that_it_reads_whatever_the_order_of_tables(text: str, tmp_path: Path) -> None:
    parts = list(tables(text).values())
    wanted = {item.name: set(item.sources) for item in flow_of(tmp_path, text)}
    for seed in range(2):
        random.Random(seed).shuffle(parts)
        flow = flow_of(tmp_path, "\n".join(parts))
        names = [item.name for item in flow]
        assert all(names.index(up) < names.index(item.name) for item in flow for up in item.upstream)
        assert {item.name: set(item.sources) for item in flow} == wanted


def test_the_user_decides_whether_dedup_comes_before_language_or_after(text: str, tmp_path: Path) -> None:
    small = until(text, "extract", "sig", "lid", "dedup")
    after = re.sub(r"(\[stage.dedup\]\n)where = .*\n", r'\1where = "lid_reason IS NULL"\n', small)
    assert "dedup.route" not in [s for s, _ in sources(flow_of(tmp_path, after), "lid").values()]
    assert sources(flow_of(tmp_path, after), "dedup.route")["meta/lid"] == ("lid", "members")
    before = re.sub(r"(\[stage.dedup\]\n)where = .*\n", r"\1", small).replace("[stage.lid]\n", '[stage.lid]\nwhere = "dedup_keep"\n')
    assert sources(flow_of(tmp_path, before), "lid")["meta/dedup"] == ("dedup.mark", "members")
    assert "meta/lid" not in sources(flow_of(tmp_path, before), "dedup.route")


@pytest.mark.parametrize(
    ("where", "groups"),
    [
        ("LID_LABEL = 'en'", None),
        ("lid_label = 'quality_reason'", {"meta/lid"}),  # a word in quotes is no column
        ("\"lid_label\" = 'en' -- AND quality_reason IS NULL", {"meta/lid"}),
        ("lid_label IN ('en', 'zh') AND coalesce(quality_n_words, 0) > 5 OR url LIKE '%a%'", {"meta/lid", "meta/quality"}),
        ("length(host) BETWEEN 3 AND 30 AND NOT (title = '')", set()),
        ("CASE WHEN lid_score > 0.9 THEN true ELSE text_bytes > 9 END", {"meta/lid"}),
    ],
)
def test_dependencies_are_the_columns_that_a_predicate_really_reads(text: str, tmp_path: Path, where: str, groups: set[str] | None) -> None:
    small = until(text, "extract", "lid", "quality") + f'\n[stage.select]\nwhere = """{where}"""\n'
    if groups is None:
        with pytest.raises(ConfigError, match="Did you mean 'lid_label'"):
            flow_of(tmp_path, small)
        return
    assert {name for name in sources(flow_of(tmp_path, small), "select") if name.startswith("meta/")} == groups


def test_two_classifiers_of_one_class_write_two_groups(text: str, tmp_path: Path) -> None:
    again = tables(text)["stage.classify.fasttext"].replace("classify.fasttext", "classify.other")
    flow = flow_of(tmp_path, text.replace("[stage.bucket]", again + "\n[stage.bucket]"))
    assert {"classify.fasttext", "classify.other"} <= {item.name for item in flow}
    other = next(item for item in flow if item.name == "classify.other")
    assert set(other.writes) == {"meta/classify.other"} and set(other.stage.columns()) == {"other_score", "other_reason"}


def test_names_on_the_command_line(text: str, tmp_path: Path) -> None:
    names = [stage.name for stage in flow_of(tmp_path, text)]
    assert chosen_names(names, "dedup") == ["dedup.route", "dedup.match", "dedup.cluster", "dedup.mark", "dedup.report"]
    assert chosen_names(names, "dedup.match") == ["dedup.match"]
    assert chosen_names(names, None) == chosen_names(names, "all") == names
    with pytest.raises(KeyError, match=r"no stage 'dedupe' in this flow; stages: .*\. Did you mean 'dedup'\?"):
        chosen_names(names, "dedupe")
