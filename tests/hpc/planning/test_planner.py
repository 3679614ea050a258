"""Keys and fingerprints: what makes which units stale, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import pipeline

from hpc.planning.planner import make_plan, plan_pipeline
from hpc.planning.spec import Source, StageSpec
from hpc.state.plan import Plan, PlannedUnit, save_plan

WORK = {"factory": "toy:Squares"}
Details = dict[str, Mapping[str, Any]]

values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
tables = st.dictionaries(st.text(max_size=3), values, max_size=4)


@st.composite
def readers(draw: st.DrawFn) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Units of a first stage, and reader -> members of a second."""
    first = [f"u{i}" for i in range(draw(st.integers(1, 6)))]
    some = st.lists(st.sampled_from(first), max_size=4, unique=True).map(tuple)
    return first, {f"r{i}": draw(some) for i in range(draw(st.integers(1, 4)))}


def chain(first: Sequence[str], reads: Mapping[str, tuple[str, ...]], details: Details, version: Any = 1) -> dict[str, Plan]:
    """Three stages: `a`; `b` reads members of a; `c` reads all of a."""
    plans: dict[str, Plan] = {}
    a = [PlannedUnit(unit, i, 1.0, (), details.get(unit, {})) for i, unit in enumerate(first)]
    b = [PlannedUnit(unit, i, 1.0, members, details.get(unit, {})) for i, (unit, members) in enumerate(reads.items())]
    for spec in (
        StageSpec("a", {"version": version}, a, {"x": "a/{fp}/{unit}"}, WORK),
        StageSpec("b", {}, b, {"y": "b/{fp}/{unit}"}, WORK, (Source("x", "a"),)),
        StageSpec("c", {}, [PlannedUnit("all", 0, 1.0)], {"z": "c/{fp}/{unit}"}, WORK, (Source("x", "a", "all"),)),
        StageSpec("d", {}, [PlannedUnit("all", 0, 1.0, tuple(reads))], {"w": "d/{fp}/{unit}"}, WORK, (Source("y", "b"),)),
    ):
        plans[spec.name] = make_plan(spec, plans)
    return plans


def keys(plans: Mapping[str, Plan]) -> dict[tuple[str, str], str]:
    return {(stage, unit.id): unit.key for stage, plan in plans.items() for unit in plan.units}


def changed(before: Mapping[str, Plan], after: Mapping[str, Plan]) -> set[tuple[str, str]]:
    old, new = keys(before), keys(after)
    return {name for name in old if new[name] != old[name]}


@given(readers(), tables, tables)
def test_another_identity_changes_every_key_of_the_stage_and_of_what_reads_it(
    shape: tuple[list[str], dict[str, tuple[str, ...]]], old: dict[str, Any], new: dict[str, Any]
) -> None:
    first, reads = shape
    before, after = chain(first, reads, {}, old), chain(first, reads, {}, new)
    if json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True):
        assert before == after
        return
    idle = {("b", reader) for reader, members in reads.items() if not members}
    everything = set(keys(before)) - idle
    if len(idle) == len(reads):
        everything -= {("d", "all")}  # reads only units that read nothing
    assert changed(before, after) == everything


@given(readers(), st.data())
def test_another_detail_changes_the_key_of_that_unit_and_of_exactly_those_that_read_it(
    shape: tuple[list[str], dict[str, tuple[str, ...]]], data: st.DataObject
) -> None:
    first, reads = shape
    unit = data.draw(st.sampled_from(first))
    before, after = chain(first, reads, {}), chain(first, reads, {unit: {"size": 7}})
    dependants = {("b", reader) for reader, members in reads.items() if unit in members}
    further = {("d", "all")} if dependants else set()
    assert changed(before, after) == {("a", unit), ("c", "all")} | dependants | further


@given(readers(), st.data())
def test_more_units_change_no_key_but_of_those_that_read_all(
    shape: tuple[list[str], dict[str, tuple[str, ...]]], data: st.DataObject
) -> None:
    first, reads = shape
    before, after = chain(first, reads, {}), chain([*first, "zz"], reads, {})
    assert changed(before, after) == {("c", "all")}
    assert before["a"].fingerprint != after["a"].fingerprint
    # the stage that reads members of it lives in another folder, with the keys that it had
    assert before["b"].fingerprint != after["b"].fingerprint


@given(tables)
def test_the_order_of_tables_is_irrelevant(table: dict[str, Any]) -> None:
    backwards = dict(reversed(list(table.items())))
    first, reads = ["u0", "u1"], {"r0": ("u1", "u0")}
    assert chain(first, reads, {"u0": table}, table) == chain(first, reads, {"u0": backwards}, backwards)


@given(readers(), tables, tables, st.data())
def test_the_fingerprint_changes_exactly_when_the_identity_or_a_key_does(
    shape: tuple[list[str], dict[str, tuple[str, ...]]], old: dict[str, Any], new: dict[str, Any], data: st.DataObject
) -> None:
    first, reads = shape
    unit = data.draw(st.sampled_from(first))
    before, after = chain(first, reads, {unit: old}, 1), chain(first, reads, {unit: new}, data.draw(st.sampled_from([1, 2])))
    for stage in before:
        moved = {name for name in changed(before, after) if name[0] == stage}
        # of what is read, the fingerprint stands in the identity
        same = before[stage].identity == after[stage].identity
        assert (before[stage].fingerprint == after[stage].fingerprint) is same
        if moved:
            assert not same
        if stage == "a":
            assert same is not bool(moved)


def test_the_order_of_members_is_part_of_the_key() -> None:
    """Files are read in that order."""
    one, two = chain(["u0", "u1"], {"r0": ("u0", "u1")}, {}), chain(["u0", "u1"], {"r0": ("u1", "u0")}, {})
    assert changed(one, two) == {("b", "r0"), ("d", "all")}


def test_other_costs_are_the_same_plan(tmp_path: Path) -> None:
    described = pipeline(tmp_path, [3, 4])
    first = plan_pipeline(described)
    cheaper = [replace(unit, cost=0.5) for unit in described.stages[0].units]
    second = plan_pipeline(replace(described, stages=[replace(described.stages[0], units=cheaper), described.stages[1]]))
    assert [stage.plan.fingerprint for stage in first.stages] == [stage.plan.fingerprint for stage in second.stages]


def test_another_plan_of_the_same_fingerprint_is_refused(tmp_path: Path) -> None:
    plan = plan_pipeline(pipeline(tmp_path, [3])).stages[0].plan
    with pytest.raises(ValueError, match=r"holds another plan of fingerprint .*expected the same units.*Remove the folder"):
        save_plan(tmp_path / "state" / "squares" / plan.fp12 / "plan.json", replace(plan, outputs={"squares": "elsewhere/{unit}"}))


def files(run: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in run.rglob("*")}


def test_planning_twice_writes_nothing_new(tmp_path: Path) -> None:
    plan_pipeline(pipeline(tmp_path, [3, 0, 5]))
    before = files(tmp_path)
    plan_pipeline(pipeline(tmp_path, [3, 0, 5]))
    assert files(tmp_path) == before


def test_flow_json_says_how_to_work_without_the_description(tmp_path: Path) -> None:
    plan_pipeline(pipeline(tmp_path, [3, 0, 5], note="kept"))
    flow = json.loads((tmp_path / "flow.json").read_text())
    assert flow["note"] == "kept" and flow["run"] == "toy" and "{verb}" in flow["command"]
    assert [(entry["stage"], entry["units"], entry["upstream"]) for entry in flow["stages"]] == [
        ("squares", 3, []),
        ("total", 3, ["squares"]),
    ]
    assert all(entry["work"]["factory"].startswith("toy:") and entry["resources"]["cpus"] for entry in flow["stages"])


def test_a_unit_that_waits_for_another_is_pending_with_the_reason(tmp_path: Path) -> None:
    flow = plan_pipeline(pipeline(tmp_path, [3, 4]))
    assert flow.find("total").pending == {"000": "not committed", "001": "not committed"}
    assert flow.find("squares").units == ["001", "000"]  # largest first
