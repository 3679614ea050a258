"""A fingerprint changes with everything that changes a result, and with nothing else; a whole chain is planned before it runs."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flows import plan, run_here, short_flow, tables, until

from hpc.fs.files import read_json
from hpc.state.pending import pending_units
from jobs import planning
from jobs.planning import FlowPlan, find

CHAIN = ["extract", "sig", "lid", "quality", "dedup.route", "dedup.match", "dedup.cluster", "dedup.mark", "dedup.report", "select"]

OWN = """
from ccpipe.annotate import Annotator

class Length(Annotator):
    version = {version}
    def new_columns(self):
        import pyarrow as pa
        return {{"n": pa.int64()}}
    def annotate(self, docs):
        return {{"n": [len(text) for text in docs.texts()]}}
"""


@pytest.fixture
def text(demo: Path, models: Path, tmp_path: Path) -> str:
    """extract, sig, lid, quality behind lid, dedup behind both, select behind dedup; a copy of the model to change."""
    (tmp_path / "models").mkdir()
    shutil.copy(models / "lid.176.ftz", tmp_path / "models")
    flow = short_flow(demo, models, tmp_path / "run").replace(f"{models}/lid.176.ftz", f"{tmp_path}/models/lid.176.ftz")
    return until(flow, "extract", "sig", "lid", "quality", "dedup") + '\n[stage.select]\nwhere = "dedup_keep"\n'


def fingerprints(flow: FlowPlan) -> dict[str, str]:
    return {stage.name: stage.plan.fingerprint for stage in flow.stages}


def changed(tmp_path: Path, text: str, change: Callable[[str], str]) -> set[str]:
    """Stages whose fingerprint is another one after the change."""
    before = fingerprints(plan(tmp_path, text))
    after = fingerprints(plan(tmp_path, change(text)))
    return {stage for stage in before if before[stage] != after.get(stage)}


def under(table: str, line: str) -> Callable[[str], str]:
    return lambda text: text.replace(f"[{table}]\n", f"[{table}]\n{line}\n")


DEDUP = {"dedup.route", "dedup.match", "dedup.cluster", "dedup.mark", "dedup.report"}


@pytest.mark.parametrize(
    ("table", "line", "stages"),
    [
        ("stage.extract", "min_text_chars = 11", {*CHAIN}),
        ("stage.sig", "shingle = 4", {"sig", *DEDUP, "select"}),
        ("stage.lid", "min_score = 0.6", {"lid", "quality", *DEDUP, "select"}),
        ("stage.lid", 'where = "text_bytes > 0"', {"lid", "quality", *DEDUP, "select"}),
        ("stage.quality", "min_words = 51", {"quality", *DEDUP, "select"}),
        ("stage.dedup", "bands = 14\nrows = 8", {*DEDUP, "select"}),
        ("stage.dedup", 'keep = "component"', {"dedup.cluster", "dedup.mark", "dedup.report", "select"}),
        ("stage.dedup", "measure_similarity = false", {"dedup.mark", "dedup.report", "select"}),
    ],
)
def test_a_parameter_changes_its_stage_and_all_that_reads_from_it(
    tmp_path: Path, text: str, table: str, line: str, stages: set[str]
) -> None:
    assert changed(tmp_path, text, under(table, line)) == stages


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("stage.extract", "slice_bytes = 4096"),
        ("stage.sig", "batch_bytes = 4096"),
        ("stage.lid", "slice_rows = 5"),
        ("stage.quality", "batch_bytes = 99"),
        ("stage.dedup", "memory_mb = 99"),
        ("stage.lid", "min_score = 0.5"),  # the default, spelled out
        ("stage.lid", 'use = "ccpipe.lid:FastTextLid"'),  # likewise
        ("resources.default", "mem_gb = 5\ntask_minutes = 7\nmax_tasks = 3"),
        ("resources.default", "gpus = 1\ntime_limit_min = 5"),
        ("run", "# nothing but a comment"),
    ],
)
def test_tuning_and_resources_change_no_fingerprint(tmp_path: Path, text: str, table: str, line: str) -> None:
    assert changed(tmp_path, text, under(table, line)) == set()


def test_the_order_of_tables_changes_nothing_at_all(tmp_path: Path, text: str) -> None:
    plan(tmp_path, text)
    before = {path: path.read_bytes() for path in (tmp_path / "run/state").glob("*/*/plan.json")}
    parts = list(tables(text).values())
    for seed in range(2):
        random.Random(seed).shuffle(parts)
        plan(tmp_path, "\n".join(parts))
        assert {path: path.read_bytes() for path in (tmp_path / "run/state").glob("*/*/plan.json")} == before


def test_a_model_is_its_bytes_not_its_path_nor_its_date(tmp_path: Path, text: str) -> None:
    model = tmp_path / "models/lid.176.ftz"
    before = fingerprints(plan(tmp_path, text))
    os.utime(model, (1, 1))
    assert fingerprints(plan(tmp_path, text)) == before
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(model, tmp_path / "elsewhere/lid.bin")
    moved = text.replace("models/lid.176.ftz", "elsewhere/lid.bin")
    assert fingerprints(plan(tmp_path, moved)) == before
    with (tmp_path / "elsewhere/lid.bin").open("ab") as file:
        file.write(b"\0")
    after = fingerprints(plan(tmp_path, moved))
    assert {stage for stage in before if before[stage] != after[stage]} == {"lid", "quality", *DEDUP, "select"}


def test_a_model_folder_is_what_is_in_it(tmp_path: Path, text: str, demo: Path) -> None:
    """Extraction's block list is a folder: a changed file in it changes the stage, its address does not."""
    shutil.copytree(demo / "blocklist", tmp_path / "lists")
    before = fingerprints(plan(tmp_path, text))
    moved = text.replace(f"{demo}/blocklist", f"{tmp_path}/lists")
    assert fingerprints(plan(tmp_path, moved)) == before
    (tmp_path / "lists/adult/domains").write_text("one-more.test\n")
    assert fingerprints(plan(tmp_path, moved))["extract"] != before["extract"]


def test_a_stage_of_a_new_version_is_another_stage(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ccpipe.lid import FastTextLid

    before = fingerprints(plan(tmp_path, text))
    monkeypatch.setattr(FastTextLid, "version", FastTextLid.version + 1)
    after = fingerprints(plan(tmp_path, text))
    assert {stage for stage in before if before[stage] != after[stage]} == {"lid", "quality", *DEDUP, "select"}


def test_another_class_is_another_stage(tmp_path: Path, text: str) -> None:
    (tmp_path / "length_v1.py").write_text(OWN.format(version=1))
    (tmp_path / "length_v2.py").write_text(OWN.format(version=1))
    own = text + '\n[stage.length]\nuse = "length_v1:Length"\n'
    assert changed(tmp_path, own, lambda t: t.replace("length_v1", "length_v2")) == {"length"}


def test_other_inputs_change_every_stage(tmp_path: Path, text: str) -> None:
    def elsewhere(flow: str) -> str:
        return re.sub(r"input/\*\.warc\.gz", "input/*-0000[0-4].warc.gz", flow).replace(f'"{tmp_path}/run"', f'"{tmp_path}/other"')

    assert changed(tmp_path, text, elsewhere) == set(CHAIN)


def test_every_plan_of_the_chain_exists_before_anything_has_run(tmp_path: Path, text: str) -> None:
    flow = plan(tmp_path, text)
    assert [stage.name for stage in flow.stages if not stage.state.plan_path.exists()] == []
    assert all(len(stage.pending) == len(stage.plan.units) for stage in flow.stages)
    by_name = fingerprints(flow)
    for stage in flow.stages:
        assert stage.state.plan == stage.plan  # it reads back as it was made
        assert all(item.fingerprint == by_name[item.stage] for item in stage.plan.inputs)
    entries = read_json(flow.run / "flow.json")["stages"]
    assert [(entry["stage"], entry["fp12"]) for entry in entries] == [(stage.name, stage.plan.fp12) for stage in flow.stages]


def test_partitions_are_nodes_times_cores_unless_they_are_given(tmp_path: Path, text: str) -> None:
    flow = plan(tmp_path, text + "\n[resources.dedup]\nnodes = 3\ncpus = 4\n")
    assert len(find(flow.stages, "dedup.match").plan.units) == 12
    given = plan(tmp_path, text.replace("[stage.dedup]\n", "[stage.dedup]\npartitions = 5\n") + "\n[resources.dedup]\nnodes = 3\n")
    assert [unit.id for unit in find(given.stages, "dedup.match").plan.units] == [f"p{i:05d}" for i in range(5)]


def test_other_resources_later_do_not_cut_the_partitions_anew(tmp_path: Path, text: str) -> None:
    """The result does not depend on P, so a second node must not send dedup and the GPUs behind it round again."""
    first = plan(tmp_path, text + "\n[resources.dedup]\nnodes = 3\ncpus = 4\n")
    later = plan(tmp_path, text + "\n[resources.dedup]\nnodes = 30\ncpus = 8\n")
    assert fingerprints(later) == fingerprints(first)
    assert len(find(later.stages, "dedup.match").plan.units) == 12


def test_edited_code_of_a_user_is_another_stage(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who changes a line of their annotator has to think of raising a version."""
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "edited.py"
    module.write_text("from ccpipe.lid import FastTextLid\n\n\nclass Own(FastTextLid):\n    pass\n")
    own = text.replace("[stage.lid]\n", '[stage.lid]\nuse = "edited:Own"\n')
    before = fingerprints(plan(tmp_path, own))
    assert fingerprints(plan(tmp_path, own)) == before
    module.write_text(module.read_text() + "# edited\n")
    after = fingerprints(plan(tmp_path, own))
    assert {name for name in before if before[name] != after[name]} == {"lid", "quality", *DEDUP, "select"}


def test_units_are_the_shards_and_groups_of_them(tmp_path: Path, text: str) -> None:
    flow = plan(tmp_path, text.replace("[stage.dedup]\n", "[stage.dedup]\ngroup_shards = 4\n"))
    shards = [f"{i:05d}" for i in range(9)]
    extract, route, mark = (find(flow.stages, name).plan.units for name in ("extract", "dedup.route", "dedup.mark"))
    assert [unit.id for unit in extract] == [unit.id for unit in mark] == shards
    assert [w["path"] for unit in extract for w in unit.detail["warcs"]] == [file.path for file in flow.manifest.files]
    assert [(unit.id, unit.members) for unit in route] == [
        ("g00000", tuple(shards[:4])),
        ("g00001", tuple(shards[4:8])),
        ("g00002", tuple(shards[8:])),
    ]


def test_a_plan_outlives_new_figures_of_what_units_cost(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage table's seconds per GB are corrected between two versions: runs in progress go on."""
    before = plan(tmp_path, text)
    stored = before.stages[0].state.plan_path.read_bytes()
    units = planning._units
    monkeypatch.setattr(planning, "_units", lambda *args: tuple(replace(unit, cost=2 * unit.cost + 1) for unit in units(*args)))
    after = plan(tmp_path, text)
    assert fingerprints(after) == fingerprints(before)
    assert before.stages[0].state.plan_path.read_bytes() == stored


def test_planning_twice_writes_nothing_new(tmp_path: Path, text: str) -> None:
    flow = plan(tmp_path, text)
    before = {path: path.stat().st_mtime_ns for path in flow.run.rglob("*")}
    again = plan(tmp_path, text)
    assert {path: path.stat().st_mtime_ns for path in flow.run.rglob("*")} == before
    assert fingerprints(again) == fingerprints(flow)


def test_a_changed_threshold_leaves_what_comes_before_it_done(tmp_path: Path, text: str) -> None:
    """A researcher's change: nothing is extracted again; the old columns stay beside the new."""
    small = until(text, "extract", "lid", "quality")
    flow = plan(tmp_path, small)
    assert run_here(flow)[0]
    old = find(flow.stages, "quality")
    again = plan(tmp_path, small.replace("[stage.quality]\n", "[stage.quality]\nmin_words = 20\n"))
    assert {stage.name: len(stage.pending) for stage in again.stages} == {"extract": 0, "lid": 0, "quality": 9}
    assert run_here(again)[0]
    assert pending_units(old.state, {}) == {}
    back = plan(tmp_path, small)
    assert all(not stage.pending for stage in back.stages)
    current = flow.run / "meta/quality/current"
    assert current.resolve().name == find(again.stages, "quality").state.fp12
    assert run_here(back)[0] and current.resolve().name == old.state.fp12


def test_the_resolved_config_spells_out_every_default(tmp_path: Path, text: str) -> None:
    flow = plan(tmp_path, text)
    assert (flow.run / "run.toml").read_text() == text
    resolved = (flow.run / "run.resolved.toml").read_text()
    for line in ("min_words = 50", "similarity = 0.8", "max_array_size = 1001", "partitions = 2", "shards = 9"):
        assert line in resolved
