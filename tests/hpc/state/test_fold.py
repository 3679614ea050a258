"""Folding: one file instead of a sentinel for each unit, and nobody who asks can tell the difference."""

from __future__ import annotations

import os
import random
import shutil
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy import RAN, Squares, in_child, make_squares, outputs, pipeline, run_flow, units_run

import hpc.state.state
from hpc.dispatch import gate
from hpc.dispatch.gate import run_gate
from hpc.fs.points import die_at
from hpc.state.attempt import new_attempt
from hpc.state.fold import FOLD_UNITS, open_archive, write_archive
from hpc.state.pending import pending_units, retire
from hpc.state.state import StageState
from hpc.upkeep.gc import find_garbage
from hpc.workers import commit
from hpc.workers.commit import UnitRun
from hpc.workers.worker import Worker

SIZES = [i % 5 for i in range(FOLD_UNITS)]


def work(state: StageState) -> Squares:
    did = Squares()
    report = Worker(state, did, list(state.plan.largest_first), lambda: False, poll_s=0.01).run()
    assert report.exit_code == 0
    return did


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> StageState:
    state = make_squares(tmp_path_factory.mktemp("original") / "run", SIZES)
    work(state)
    return state


@pytest.fixture
def committed(tmp_path: Path, original: StageState) -> StageState:
    """A stage of FOLD_UNITS units of which all are committed, before its gate."""
    shutil.copytree(original.run, tmp_path / "run")
    return StageState(tmp_path / "run", original.stage, original.fp12)


def said(state: StageState) -> dict[str, Any]:
    """What the state answers about every unit, asked in three ways."""
    every = [unit.id for unit in state.plan.units]
    done = state.done_units()
    assert {unit for unit in every if state.is_done(unit)} == done
    assert {unit for unit in every if state.sentinel(unit) is not None} == done
    return {unit: state.sentinel(unit) for unit in sorted(done)}


def loose(state: StageState) -> list[str]:
    folder = state.folder / "done"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def inodes(run: Path) -> int:
    return sum(len(folders) + len(files) for _, folders, files in os.walk(run))


def test_a_complete_stage_is_folded_and_answers_as_before(committed: StageState) -> None:
    before = said(committed)
    assert len(before) == len(loose(committed)) == FOLD_UNITS
    assert run_gate(committed).complete
    assert not (committed.folder / "done").exists()
    assert all(path.is_file() for path in (committed.archive_path, committed.units_path, committed.success_path))
    assert said(committed) == before
    assert said(StageState(committed.run, "squares", committed.fp12)) == before
    assert pending_units(committed, {}) == {}
    with zipfile.ZipFile(committed.archive_path) as archive:  # any other tool can read it
        assert [name.removesuffix(".json") for name in archive.namelist()] == [unit.id for unit in committed.plan.units]
    for unit in ("nothing", "", "../../plan"):
        assert committed.sentinel(unit) is None and not committed.is_done(unit)


def test_a_stage_of_few_units_is_not_folded(tmp_path: Path) -> None:
    state = make_squares(tmp_path, SIZES[1:])
    work(state)
    assert run_gate(state).complete
    assert not state.archive_path.exists() and len(loose(state)) == FOLD_UNITS - 1


def test_a_folded_stage_holds_at_most_three_inodes_for_each_unit(committed: StageState) -> None:
    """With one output, and without logs and launches: counted, not calculated."""
    assert inodes(committed.run) > 2 * FOLD_UNITS
    run_gate(committed)
    assert inodes(committed.run) <= FOLD_UNITS + 20
    assert inodes(committed.run) <= 3 * FOLD_UNITS


def test_the_archive_depends_on_the_sentinels_alone(tmp_path: Path) -> None:
    sentinels = {f"{i:03d}": {"stage": "x", "n": i} for i in range(5)}
    paths = [tmp_path / "one.zip", tmp_path / "two.zip"]
    for path in paths:
        write_archive(path, sentinels)
        os.utime(path, (0, 0))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_same_gate_twice_writes_nothing_new(committed: StageState) -> None:
    run_gate(committed)
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in committed.folder.rglob("*")}
    run_gate(committed)
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in committed.folder.rglob("*")} == before


def test_one_unit_taken_back_is_run_alone_and_folded_again(committed: StageState) -> None:
    run_gate(committed)
    before = said(committed)
    bytes_before = outputs(committed)
    assert retire(committed, {"007"}) == 1
    assert not committed.success_path.exists()
    assert set(said(committed)) == set(before) - {"007"}
    assert set(pending_units(committed, {})) == {"007"}
    assert {unit for unit, _ in work(committed).slices_run} == {"007"}
    assert loose(committed) == ["007.json"]
    after = said(committed)
    assert run_gate(committed).complete and not loose(committed)
    assert said(committed) == after
    assert {unit for unit in after if after[unit] != before[unit]} == {"007"}
    assert outputs(committed) == bytes_before


def test_the_retired_sentinel_stays_as_long_as_it_is_needed(tmp_path: Path) -> None:
    """Until the archive is written anew it is what hides the old sentinel; afterwards gc removes it."""
    flow = run_flow(pipeline(tmp_path, SIZES))
    state = flow.find("squares").state

    def garbage() -> list[str]:
        return [item.path.parent.name for item in find_garbage(tmp_path)]

    retire(state, {"007"})
    assert garbage() == ["squares"] or "retired" not in garbage()
    work(state)
    assert "retired" not in garbage()
    assert run_gate(state).complete
    found = [item for item in find_garbage(tmp_path) if item.path.parent.name == "retired"]
    assert [item.path.name.partition("@")[0] for item in found] == ["007"]
    found[0].remove()
    assert len(state.done_units()) == FOLD_UNITS and state.is_done("007")


def test_a_unit_can_be_taken_back_again_and_again(committed: StageState) -> None:
    attempts = set()
    for _ in range(3):
        run_gate(committed)
        sentinel = committed.sentinel("007")
        assert sentinel is not None
        attempts.add(sentinel["attempt"]["id"])
        assert retire(committed, {"007"}) == 1 and retire(committed, {"007"}) == 0
        work(committed)
    run_gate(committed)
    assert len(attempts) == 3 and len(committed.done_units()) == FOLD_UNITS
    assert len(list((committed.folder / "retired").iterdir())) == 3


def test_readers_see_every_unit_while_a_stage_is_folded(committed: StageState, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks at any moment between the first and the last file removed."""
    ended, missed, asked = threading.Event(), [], []
    every = {unit.id for unit in committed.plan.units}

    def hammer(ask: Callable[[StageState], set[str]]) -> None:
        state = StageState(committed.run, committed.stage, committed.fp12)
        times = 0
        while not ended.is_set() or not times:
            lost = every - ask(state)
            times += 1
            if lost:
                missed.append(lost)
        asked.append(times)

    ways: list[Callable[[StageState], set[str]]] = [
        lambda state: state.done_units(),
        lambda state: {unit for unit in every if state.is_done(unit)},
        lambda state: {unit for unit in every if state.sentinel(unit) is not None},
    ]
    threads = [threading.Thread(target=hammer, args=(way,)) for way in ways]
    for thread in threads:
        thread.start()
    for _ in range(3):
        sentinels = said(committed)
        assert run_gate(committed).complete
        assert set(said(committed)) == every and set(sentinels) == every
        # folded once more from the beginning: the loose files back first; the archive is written once more
        (committed.folder / "done").mkdir()
        for unit, sentinel in sentinels.items():
            gate.replace_json(committed.done_path(unit), sentinel)
    ended.set()
    for thread in threads:
        thread.join()
    assert not missed and len(asked) == 3


@pytest.mark.parametrize("ask", ["done_units", "sentinel"])
def test_a_stage_that_is_folded_between_two_looks_of_a_reader_is_whole(
    committed: StageState, monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    """The worst moment, every time: the gate works right after the reader's first look."""
    folded = []

    def then_fold(name: str) -> None:
        real = getattr(hpc.state.state, name)

        def looked(*args: Any) -> Any:
            found = real(*args)
            found = list(found) if name == "names_in" else found
            if not folded:
                folded.append(name)
                run_gate(StageState(committed.run, committed.stage, committed.fp12))
            return found

        monkeypatch.setattr(hpc.state.state, name, looked)

    for name in ("names_in", "open_archive", "read_json_if_exists"):
        then_fold(name)
    if ask == "done_units":
        assert len(committed.done_units()) == FOLD_UNITS
    else:
        assert committed.sentinel("007") is not None
    assert folded and not loose(committed)


RECOVERED = ["gate.units", "gate.success", "fold.archived", "fold.unlinked"]


@pytest.mark.parametrize("point", RECOVERED)
@pytest.mark.parametrize("again", [False, True], ids=["first fold", "folded again"])
def test_killed_while_folding_the_next_gate_finishes(committed: StageState, point: str, again: bool) -> None:
    if again:
        run_gate(committed)
        retire(committed, {"007"})
        work(committed)
    before, bytes_before = said(committed), outputs(committed)

    def die() -> None:
        die_at(point)
        run_gate(committed)

    assert os.WIFSIGNALED(in_child(die))
    assert said(committed) == before
    assert not pending_units(committed, {})
    assert run_gate(committed).complete
    assert said(committed) == before and not loose(committed)
    assert outputs(committed) == bytes_before


def test_killed_in_the_middle_of_removing_loose_sentinels(committed: StageState, monkeypatch: pytest.MonkeyPatch) -> None:
    before = said(committed)

    def die() -> None:
        unlink, left = Path.unlink, [FOLD_UNITS // 2]

        def unlink_some(path: Path, missing_ok: bool = False) -> None:
            if path.parent.name == "done":
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), 9)
            unlink(path, missing_ok=missing_ok)

        Path.unlink = unlink_some  # type: ignore[method-assign]
        run_gate(committed)

    assert os.WIFSIGNALED(in_child(die))
    assert 0 < len(loose(committed)) < FOLD_UNITS
    assert said(committed) == before
    assert retire(committed, {"000", "099"}) == 2  # one of them still loose, one only folded, or both
    assert set(said(committed)) == set(before) - {"000", "099"}
    work(committed)
    assert run_gate(committed).complete and not loose(committed) and len(said(committed)) == FOLD_UNITS


@pytest.mark.parametrize("times", [1, 2])
def test_killed_while_taking_back_folded_units(committed: StageState, times: int) -> None:
    run_gate(committed)
    bytes_before = outputs(committed)

    def die() -> None:
        die_at("retire.moved", times)
        retire(committed, {"003", "007"})

    assert os.WIFSIGNALED(in_child(die))
    assert set(pending_units(committed, {})) == {"003", "007"} if times == 2 else {"003"}
    assert not committed.success_path.exists()
    work(committed)
    assert run_gate(committed).complete and outputs(committed) == bytes_before


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "member"])
def test_a_broken_archive_is_an_error_that_says_what_to_do(committed: StageState, damage: str) -> None:
    """Never an answer: units would be run again, or taken for done."""
    run_gate(committed)
    data = committed.archive_path.read_bytes()
    broken = {"empty": b"", "cut": data[: len(data) // 2], "text": b"not a zip\n" * 100, "member": data[:60] + b"\xff" * 60 + data[120:]}
    committed.archive_path.unlink()
    committed.archive_path.write_bytes(broken[damage])
    with pytest.raises(ValueError, match=r"done\.zip: not the archive of sentinels that was written there .*; restore it, or remove it"):
        committed.done_units()
        committed.sentinel("000")
    with pytest.raises(ValueError, match=r"done\.zip"):
        run_gate(committed)


def test_whatever_byte_is_damaged_the_answer_is_right_or_an_error(tmp_path: Path) -> None:
    sentinels = {f"{i:03d}": {"unit": f"{i:03d}", "attempt": {"id": "x" * i}} for i in range(4)}
    path, choose = tmp_path / "done.zip", random.Random(1)
    write_archive(path, sentinels)
    data, errors = path.read_bytes(), 0
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << choose.randrange(8)
        path.unlink()
        path.write_bytes(damaged)
        try:
            archive = open_archive(path)
            assert archive is not None
            assert archive.units == sentinels.keys(), f"byte {at}"
            assert {unit: archive.read(unit) for unit in sentinels} == sentinels, f"byte {at}"
        except ValueError as error:
            assert "restore it, or remove it" in str(error)
            errors += 1
    assert errors > len(data) // 2


def test_without_its_archive_the_stage_runs_again(committed: StageState) -> None:
    """What the message offers: removing it loses the commits, no bytes."""
    run_gate(committed)
    bytes_before = outputs(committed)
    committed.archive_path.unlink()
    assert len(pending_units(committed, {})) == FOLD_UNITS
    work(committed)
    assert run_gate(committed).complete and outputs(committed) == bytes_before


def test_a_flow_of_folded_stages_is_planned_and_reused_like_any_other(tmp_path: Path) -> None:
    run_flow(pipeline(tmp_path, SIZES))
    RAN.clear()
    flow = run_flow(pipeline(tmp_path, [*SIZES[:-1], 9]))
    assert units_run() == {("squares", "099"), ("total", "099")}
    assert all(not loose(stage.state) and stage.state.archive_path.exists() for stage in flow.stages)
    assert open_archive(tmp_path / "nowhere.zip") is None


def test_a_zombie_that_wakes_up_after_the_stage_was_folded_commits_nothing(tmp_path: Path) -> None:
    """Frozen between its last look and its sentinel, while others committed the unit and the gate folded the stage."""
    state = make_squares(tmp_path, [2] * FOLD_UNITS)
    unit = state.plan.units[0]
    real = commit.publish_once

    def frozen(path: Path, value: Any, **more: Any) -> bool:
        commit.publish_once = real  # type: ignore[attr-defined]
        Worker(state, Squares(), [u.id for u in state.plan.units], lambda: False).run()
        assert run_gate(state).complete and not state.done_path(unit.id).exists()
        return real(path, value, **more)

    commit.publish_once = frozen  # type: ignore[attr-defined]
    try:
        assert UnitRun(state, Squares(), unit, new_attempt(), lambda: False).run() == "lost"
    finally:
        commit.publish_once = real  # type: ignore[attr-defined]
    before = (state.success() or {})["commit"]
    assert not state.done_path(unit.id).exists()
    assert run_gate(state).complete and (state.success() or {})["commit"] == before
