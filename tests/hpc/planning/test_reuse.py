"""Reuse: what an older version has committed from the same inputs is taken over, once, with its bytes, and nothing else is."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from toy import RAN, Squares, in_child, outputs, pipeline, run_flow, units_run

from hpc.dispatch.gate import run_gate
from hpc.dispatch.launching import prepare
from hpc.fs.points import die_at
from hpc.planning.planner import Flow, plan_pipeline
from hpc.planning.reuse import adopt, reusable_units
from hpc.state.pending import pending_units, retire
from hpc.state.state import StageState
from hpc.upkeep.gc import find_garbage
from hpc.workers.worker import Worker

BEFORE = [7, 0, 3, 10]
AFTER = [7, 0, 4, 10]
"""One unit of four is another."""


@pytest.fixture(autouse=True)
def cleared() -> None:
    RAN.clear()


def expected(sizes: Sequence[int]) -> tuple[list[bytes], list[bytes]]:
    """Computed here, not by the stages."""
    squares = ["".join(f"{i * i}\n" for i in range(n)).encode() for n in sizes]
    return squares, [str(sum(i * i for i in range(n))).encode() for n in sizes]


def written(flow: Flow) -> tuple[list[bytes], list[bytes]]:
    squares, total = (list(outputs(stage.state).values()) for stage in flow.stages)
    return squares, total


def sentinel_of(state: StageState, unit: str) -> dict[str, object]:
    found = state.sentinel(unit)
    assert found is not None
    return found


def inode(state: StageState, unit: str) -> int:
    (template,) = state.plan.outputs.values()
    return (state.run / template.format(unit=unit)).stat().st_ino


def test_only_a_changed_unit_and_what_reads_it_are_run(tmp_path: Path) -> None:
    old = run_flow(pipeline(tmp_path, BEFORE))
    assert written(old) == expected(BEFORE)
    RAN.clear()
    new = run_flow(pipeline(tmp_path, AFTER))
    assert units_run() == {("squares", "002"), ("total", "002")}
    assert written(new) == expected(AFTER) and written(old) == expected(BEFORE)
    for name in ("squares", "total"):
        before, after = old.find(name).state, new.find(name).state
        assert before.fp12 != after.fp12
        for unit in ("000", "001", "003"):
            there, here = sentinel_of(before, unit), sentinel_of(after, unit)
            assert inode(before, unit) == inode(after, unit), "a hard link, no copy"
            assert here["attempt"] == there["attempt"], "who made the bytes"
            assert here["adopted_from"] == before.fp12 and "adopted_from" not in there
            assert here["fingerprint"] == after.plan.fingerprint
        assert "adopted_from" not in sentinel_of(after, "002")


@pytest.mark.parametrize("of", ["members", "all"])
def test_back_to_the_first_version_nothing_is_run(tmp_path: Path, of: str) -> None:
    run_flow(pipeline(tmp_path, BEFORE, of=of))
    run_flow(pipeline(tmp_path, AFTER, of=of))
    RAN.clear()
    flow = run_flow(pipeline(tmp_path, BEFORE, of=of))
    assert not RAN
    assert (tmp_path / "squares" / "current").resolve().name == flow.find("squares").state.fp12


def test_who_reads_all_units_is_run_when_one_has_changed(tmp_path: Path) -> None:
    run_flow(pipeline(tmp_path, BEFORE, of="all"))
    RAN.clear()
    flow = run_flow(pipeline(tmp_path, AFTER, of="all"))
    assert units_run() == {("squares", "002"), ("total", "all")}
    assert list(outputs(flow.find("total").state).values()) == [str(sum(int(n) for n in expected(AFTER)[1])).encode()]


def test_a_stage_behind_a_stage_of_which_all_was_taken_over_is_taken_over_too(tmp_path: Path) -> None:
    """Of the stage before, every commit is the one that was read, also where it was read as a whole."""
    run_flow(pipeline(tmp_path, [*BEFORE, 5], of="members"))
    run_flow(pipeline(tmp_path, BEFORE, of="members"))
    RAN.clear()
    run_flow(pipeline(tmp_path, [*BEFORE, 5], of="members", tail=1))
    assert not RAN


def test_a_plan_knows_what_will_be_taken_over_in_the_whole_chain(tmp_path: Path) -> None:
    """Before anything is: a unit behind one that is taken over waits for nothing."""
    run_flow(pipeline(tmp_path, BEFORE))
    flow = plan_pipeline(pipeline(tmp_path, AFTER))
    for stage in flow.stages:
        assert set(stage.reusable) == {"000", "001", "003"}
    assert {unit: why for unit, why in flow.find("total").pending.items() if why != "not committed"} == {}


def test_what_reads_a_unit_that_will_be_taken_over_again_stays(tmp_path: Path) -> None:
    """A sentinel was lost; the same commit comes back from the older version, so nothing behind it is stale."""
    run_flow(pipeline(tmp_path, BEFORE))
    flow = run_flow(pipeline(tmp_path, AFTER))
    flow.find("squares").state.done_path("000").unlink()
    RAN.clear()
    again = plan_pipeline(pipeline(tmp_path, AFTER))
    assert set(again.find("squares").reusable) == {"000"} and not again.find("total").pending
    run_flow(pipeline(tmp_path, AFTER))
    assert not RAN


def test_another_identity_takes_nothing_over(tmp_path: Path) -> None:
    run_flow(pipeline(tmp_path, BEFORE))
    RAN.clear()
    run_flow(pipeline(tmp_path, BEFORE, version=2))
    assert units_run() == {(stage, f"00{i}") for stage in ("squares", "total") for i in range(4)}


def test_more_units_cost_only_themselves(tmp_path: Path) -> None:
    run_flow(pipeline(tmp_path, BEFORE))
    RAN.clear()
    run_flow(pipeline(tmp_path, [*BEFORE, 5]))
    assert units_run() == {("squares", "004"), ("total", "004")}


def test_a_unit_whose_input_was_committed_anew_since_is_not_taken_over(tmp_path: Path) -> None:
    """Same key, but the old version's total was made from another commit than the one that stands."""
    old = run_flow(pipeline(tmp_path, BEFORE))
    squares = old.find("squares").state
    retire(squares, {"000"})
    Worker(squares, Squares(), ["000"], lambda: False).run()
    run_gate(squares)
    RAN.clear()
    new = plan_pipeline(pipeline(tmp_path, BEFORE, tail=1, version=1))
    assert new.find("total").pending == {"000": "squares 000 was committed again"}
    # in a new version of the upstream stage: 000 there is the second commit, the old total has read the first
    flow = run_flow(pipeline(tmp_path, AFTER))
    assert units_run() == {("squares", "002"), ("total", "000"), ("total", "002")}
    assert written(flow) == expected(AFTER)


@pytest.mark.parametrize("damage", ["gone", "shorter", "longer"])
def test_outputs_that_are_not_as_committed_are_not_taken_over(tmp_path: Path, damage: str) -> None:
    old = run_flow(pipeline(tmp_path, BEFORE)).find("squares").state
    path = tmp_path / old.plan.outputs["squares"].format(unit="003")
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] if damage == "shorter" else path.read_bytes() + b"x")
    RAN.clear()
    flow = run_flow(pipeline(tmp_path, AFTER))
    assert {unit for stage, unit in units_run() if stage == "squares"} == {"002", "003"}
    assert written(flow) == expected(AFTER)


def test_the_new_version_is_whole_after_the_old_one_was_removed(tmp_path: Path) -> None:
    old = run_flow(pipeline(tmp_path, BEFORE))
    new = run_flow(pipeline(tmp_path, AFTER))
    for item in find_garbage(tmp_path):
        item.remove()
    assert not any(stage.state.folder.exists() for stage in old.stages)
    assert not (tmp_path / "squares" / old.find("squares").state.fp12).exists()
    assert written(new) == expected(AFTER)
    RAN.clear()
    run_flow(pipeline(tmp_path, AFTER))
    assert not RAN


def test_what_was_taken_back_is_not_taken_over_again(tmp_path: Path) -> None:
    """`redo` means: run it again, also where an older version has the same bytes."""
    run_flow(pipeline(tmp_path, BEFORE))
    flow = run_flow(pipeline(tmp_path, AFTER))
    state = flow.find("squares").state
    first = sentinel_of(state, "000")["attempt"]
    retire(state, {"000"})
    assert not plan_pipeline(pipeline(tmp_path, AFTER)).find("squares").reusable
    RAN.clear()
    flow = run_flow(pipeline(tmp_path, AFTER))
    assert units_run() == {("squares", "000"), ("total", "000")}
    assert sentinel_of(state, "000")["attempt"] != first
    assert written(flow) == expected(AFTER)


def test_a_folded_unit_that_was_taken_over_can_be_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive, `retired/` and the older version all hold a sentinel of the same attempt."""
    monkeypatch.setattr("hpc.dispatch.gate.FOLD_UNITS", 2)
    run_flow(pipeline(tmp_path, BEFORE))
    state = run_flow(pipeline(tmp_path, AFTER)).find("squares").state
    assert state.archive_path.exists()
    retire(state, {"000"})
    flow = run_flow(pipeline(tmp_path, AFTER))
    assert len(state.done_units()) == 4 and not list(state.folder.glob("done/*"))
    assert written(flow) == expected(AFTER)


@pytest.mark.parametrize("time", [1, 2])
@pytest.mark.parametrize("point", ["adopt.linked", "adopt.published"])
def test_killed_while_taking_over_the_next_launch_finishes(tmp_path: Path, point: str, time: int) -> None:
    old = run_flow(pipeline(tmp_path, BEFORE))

    def die() -> None:
        die_at(point, time)
        run_flow(pipeline(tmp_path, AFTER))

    assert os.WIFSIGNALED(in_child(die)), f"{point} was not reached {time} times"
    RAN.clear()
    new = run_flow(pipeline(tmp_path, AFTER))
    assert units_run() == {("squares", "002"), ("total", "002")}
    assert written(new) == expected(AFTER) and written(old) == expected(BEFORE)
    for stage in new.stages:
        assert sorted(path.name for path in (stage.state.folder / "done").iterdir()) == [f"00{i}.json" for i in range(4)]
    for item in find_garbage(tmp_path):
        item.remove()
    assert written(new) == expected(AFTER)


def test_a_copy_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_flow(pipeline(tmp_path, BEFORE))

    def fail(*args: object) -> None:
        raise OSError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", fail)
        patch.setattr("hpc.fs.exclusive._known", {})
        new = run_flow(pipeline(tmp_path, AFTER))
    assert written(new) == expected(AFTER)


def test_a_worker_that_was_faster_is_not_disturbed(tmp_path: Path) -> None:
    """Committed by somebody between planning and taking over: that sentinel stands, and its bytes."""
    run_flow(pipeline(tmp_path, BEFORE))
    stage = plan_pipeline(pipeline(tmp_path, AFTER)).find("squares")
    Worker(stage.state, Squares(), ["000"], lambda: False).run()
    first, path = sentinel_of(stage.state, "000"), tmp_path / stage.plan.outputs["squares"].format(unit="000")
    before = path.stat().st_ino
    adopt(stage.state, stage.reusable)
    assert sentinel_of(stage.state, "000") == first and "adopted_from" not in first
    assert path.stat().st_ino == before
    assert path.read_bytes() == expected(AFTER)[0][0]


def test_a_version_of_another_format_is_left_out(tmp_path: Path) -> None:
    old = run_flow(pipeline(tmp_path, BEFORE)).find("squares").state
    value = json.loads(old.plan_path.read_text())
    for broken in ("{", json.dumps({**value, "format": 1}), json.dumps({"format": 2}), "[]"):
        old.plan_path.write_text(broken)
        stage = plan_pipeline(pipeline(tmp_path, AFTER)).find("squares")
        assert not stage.reusable, broken


def test_two_who_take_over_at_once_leave_one_sentinel(tmp_path: Path) -> None:
    run_flow(pipeline(tmp_path, BEFORE))
    stage = plan_pipeline(pipeline(tmp_path, AFTER)).find("squares")
    children = []
    for _ in range(4):
        if (pid := os.fork()) == 0:
            code = 1
            try:
                code = 0 if prepare(stage)[1] == 3 else 2
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    assert sorted(path.name for path in (stage.state.folder / "done").iterdir()) == ["000.json", "001.json", "003.json"]
    assert set(pending_units(stage.state, {})) == {"002"}
    assert reusable_units(stage.state, pending_units(stage.state, {})) == {}
