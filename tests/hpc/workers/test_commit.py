"""The commit protocol: what is promised whatever dies, and whoever comes second."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from toy import Squares, Total, die_at_call, in_child, make_squares, make_total, outputs

from hpc.dispatch import gate
from hpc.dispatch.gate import run_gate
from hpc.fs.files import publish_once
from hpc.state.attempt import new_attempt
from hpc.state.claims import try_claim
from hpc.state.inputs import LostInput, NotReady
from hpc.state.launch import start_order
from hpc.state.pending import pending_units, retire
from hpc.state.state import MAX_FAILURES, StageState
from hpc.state.work import BrokenStage, check_counts
from hpc.workers.commit import UnitRun, publish_unit
from hpc.workers.worker import Worker

SIZES = [7, 0, 3, 10]


def never() -> bool:
    return False


def work_through(state: StageState, work: object = None, number: int = 0, of: int = 1) -> Worker:
    worker = Worker(state, work or Squares(), start_order(state.plan.largest_first, number, of), never, poll_s=0.01)
    worker.run()
    return worker


@pytest.fixture
def undisturbed(tmp_path: Path) -> dict[str, bytes]:
    """What a run that nothing happens to writes."""
    state = make_squares(tmp_path / "undisturbed", SIZES)
    work_through(state)
    return outputs(state)


def test_independent_truth(undisturbed: dict[str, bytes]) -> None:
    expected = ["".join(f"{i * i}\n" for i in range(n)).encode() for n in SIZES]
    assert [undisturbed[path] for path in sorted(undisturbed)] == expected


def test_killed_before_any_filesystem_call_the_next_worker_finishes(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    """SIGKILL before the k-th system call, for every k: the same bytes, one sentinel per unit, no slice done twice."""
    call = 0
    while True:
        call += 1
        state = make_squares(tmp_path / str(call), SIZES)

        def die(state: StageState = state, call: int = call) -> None:
            die_at_call(call)
            work_through(state)

        status = in_child(die)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            break
        assert os.WIFSIGNALED(status), f"call {call}: status {status}"
        committed = {(p.parent.name, int(p.stem)) for p in state.folder.glob("slices/*/*.json") if not p.name.startswith(".")}
        second = Squares()
        worker = work_through(state, second)
        assert worker.report.exit_code == 0
        assert outputs(state) == undisturbed, f"killed before call {call}"
        again = {(unit, first // 3) for unit, first in second.slices_run}
        assert not again & committed, f"committed slices {again & committed} were run again after a kill before call {call}"
        assert run_gate(state).complete
        assert not state.scratch.exists()
    assert call > 100  # every step of the protocol was a crash point


def test_random_kills_of_many_workers(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    """Five workers at once, killed at random: the next five finish, the bytes are the same."""
    for seed in range(5):
        choose = random.Random(seed)
        state = make_squares(tmp_path / str(seed), SIZES)
        for _ in range(3):
            pids = []
            for number in range(5):
                pid = os.fork()
                if pid == 0:
                    work_through(state, number=number, of=5)
                    os._exit(0)
                pids.append(pid)
            for pid in choose.sample(pids, 3):
                time.sleep(choose.random() * 0.004)
                os.kill(pid, signal.SIGKILL)
            for pid in pids:
                os.waitpid(pid, 0)
        assert work_through(state).report.exit_code == 0
        assert outputs(state) == undisturbed
        assert len(list(state.folder.glob("done/*.json"))) == len(SIZES)


def test_loser_of_a_race_validates_and_leaves(tmp_path: Path) -> None:
    """A zombie that wakes up after another attempt has committed changes nothing."""
    state = make_squares(tmp_path, [4])
    unit = state.plan.units[0]

    class Overtaken(Squares):
        def join(self, unit, inputs, slices, out):  # type: ignore[no-untyped-def]
            super().join(unit, inputs, slices, out)
            assert UnitRun(state, Squares(), unit, new_attempt(), never).run() == "committed"

    assert UnitRun(state, Overtaken(), unit, new_attempt(), never).run() == "lost"
    assert len(outputs(state)) == 1


def test_two_attempts_with_different_bytes_are_an_error(tmp_path: Path) -> None:
    """The winner's files stand, and the loser says so."""
    state = make_squares(tmp_path, [2])
    unit = state.plan.units[0]

    class Overtaken(Squares):
        def join(self, unit, inputs, slices, out):  # type: ignore[no-untyped-def]
            super().join(unit, inputs, slices, out)
            out["squares"].write_text("something else")

    class Racing(Overtaken):
        def join(self, unit, inputs, slices, out):  # type: ignore[no-untyped-def]
            super().join(unit, inputs, slices, out)
            assert UnitRun(state, Squares(), unit, new_attempt(), never).run() == "committed"

    Worker(state, Racing(), ["000"], never, poll_s=0.01, max_failures=1).run()
    assert outputs(state) == {state.plan.outputs["squares"].format(unit="000"): b"0\n1\n"}
    state.done_path("000").unlink()
    work_through(state)  # a committed unit, and then an attempt that gets as far as publishing other bytes
    other = tmp_path / "other.txt"
    other.write_text("something else")
    with pytest.raises(BrokenStage, match=r"different bytes.*The committed ones stand"):
        publish_unit(state, unit, {"squares": other}, {"counts": {"read": 0, "kept": 0, "dropped": {}, "extra": {}}})
    assert outputs(state) == {state.plan.outputs["squares"].format(unit="000"): b"0\n1\n"}


def test_a_failure_keeps_the_slices_committed_before_it(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    """A full disk or a broken record late in a long unit must not cost what was done."""
    state = make_squares(tmp_path / "run", SIZES)

    class FailsOnce(Squares):
        failed = False

        def slice(self, unit, inputs, folder, cursor):  # type: ignore[no-untyped-def]
            if unit.id == "003" and cursor == {"at": 6} and not self.failed:
                FailsOnce.failed = True
                (folder / "half").write_text("x")
                raise OSError(28, "No space left on device")
            return super().slice(unit, inputs, folder, cursor)

    work = FailsOnce()
    assert work_through(state, work).report.exit_code == 0
    assert sorted(first for unit, first in work.slices_run if unit == "003") == [0, 3, 6, 9]
    assert outputs(state) == undisturbed
    assert run_gate(state).complete and not state.scratch.exists()


def test_two_attempts_with_other_slice_cuts_go_on_from_each_other(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    state = make_squares(tmp_path / "run", SIZES)
    unit = state.plan.by_id["003"]
    overtaken: list[bool] = []

    class Slow(Squares):
        def slice(self, unit, inputs, folder, cursor):  # type: ignore[no-untyped-def]
            result = super().slice(unit, inputs, folder, cursor)
            if not overtaken:
                overtaken.append(True)
                ahead = Coarse()
                UnitRun(state, ahead, unit, new_attempt(), lambda: bool(ahead.slices_run)).run()
            return result

    class Coarse(Squares):
        size = 4

    assert UnitRun(state, Slow(), unit, new_attempt(), never).run() == "committed"
    work_through(state)
    assert outputs(state) == undisturbed


def test_a_lost_reply_of_link_is_no_lost_race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over NFS a repeated request can find the link that its first try made."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(17, "File exists", str(target))

    monkeypatch.setattr(os, "link", twice)
    assert publish_once(tmp_path / "a.json", {})
    monkeypatch.setattr(os, "link", link)
    assert not publish_once(tmp_path / "a.json", {})


def test_a_gate_that_looked_too_early_does_not_take_back_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = make_squares(tmp_path, [2, 3])
    look = gate._look

    def look_early(state: StageState, max_failures: int) -> gate.GateReport:
        report = look(state, max_failures)
        monkeypatch.setattr(gate, "_look", look)
        work_through(state)
        assert run_gate(state).complete
        return report

    monkeypatch.setattr(gate, "_look", look_early)
    assert not run_gate(state).complete
    assert state.success_path.exists()


def test_counts_that_do_not_add_up_are_an_error() -> None:
    with pytest.raises(BrokenStage, match="read 3, but kept 1 \\+ dropped 1"):
        check_counts({"read": 3, "kept": 1, "dropped": {"x": 1}, "extra": {}}, "stage 1")


def test_stop_keeps_the_slices_and_the_next_worker_resumes_after_them(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    state = make_squares(tmp_path / "run", SIZES)
    first = Squares()
    Worker(state, first, list(state.plan.largest_first), lambda: len(first.slices_run) >= 2).run()
    assert len(first.slices_run) == 2 and not state.done_units()
    second = Squares()
    work_through(state, second)
    assert not set(first.slices_run) & set(second.slices_run)
    assert outputs(state) == undisturbed


def test_a_unit_that_keeps_failing_is_parked_and_the_rest_completes(tmp_path: Path) -> None:
    state = make_squares(tmp_path, SIZES)

    class Poison(Squares):
        def slice(self, unit, inputs, folder, cursor):  # type: ignore[no-untyped-def]
            if unit.id == "002":
                raise RuntimeError("bad input at byte 17")
            return super().slice(unit, inputs, folder, cursor)

    worker = work_through(state, Poison())
    assert state.done_units() == {"000", "001", "003"}
    assert worker.report.exit_code == 3
    report = run_gate(state)
    assert not report.complete
    assert f"parked after {MAX_FAILURES} attempts" in report.missing["002"] and "bad input at byte 17" in report.missing["002"]
    assert not state.success_path.exists()


def test_claims_of_the_living_are_respected_and_of_the_dead_taken_over(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [3, 3])

    def hold_forever() -> None:
        claim = try_claim(state.claim_path("000"), new_attempt())
        assert claim is not None
        os.kill(os.getpid(), signal.SIGKILL)

    in_child(hold_forever)
    assert state.claim_path("000").exists()
    work_through(state)
    assert state.done_units() == {"000", "001"}
    assert not state.claim_path("000").exists()


def test_units_wait_for_what_they_read(tmp_path: Path) -> None:
    squares = make_squares(tmp_path, [2, 3])
    total = make_total(tmp_path, squares)
    with pytest.raises(NotReady, match="waits for squares 000"):
        UnitRun(total, Total(), total.plan.units[0], new_attempt(), never).run()
    worker = work_through(total, Total())
    assert set(worker.report.not_ready) == {"000", "001"} and not total.failures()


def test_a_file_lost_after_its_sentinel_is_named(tmp_path: Path) -> None:
    squares = make_squares(tmp_path, [2, 3])
    work_through(squares)
    total = make_total(tmp_path, squares)
    (tmp_path / squares.plan.outputs["squares"].format(unit="001")).unlink()
    with pytest.raises(LostInput, match=r"001.txt has no file; its sentinel says \d+ bytes"):
        UnitRun(total, Total(), total.plan.units[1], new_attempt(), never).run()


@pytest.mark.parametrize("of", ["members", "all"])
def test_a_deleted_sentinel_runs_that_unit_and_what_depends_on_it(tmp_path: Path, of: str) -> None:
    squares = make_squares(tmp_path, [2, 3, 4])
    total = make_total(tmp_path, squares, of)
    for state, work in ((squares, Squares()), (total, Total())):
        work_through(state, work)
        assert run_gate(state).complete
        assert pending_units(state, {}) == {}
    squares.done_path("001").unlink()
    todo = pending_units(squares, {})
    assert set(todo) == {"001"}
    dependent = {"001"} if of == "members" else {"all"}
    assert set(pending_units(total, {"squares": set(todo)})) == dependent
    retire(squares, todo.keys())
    work_through(squares)
    run_gate(squares)
    # also when somebody looks only now: the sentinel of `total` names another commit
    again = pending_units(total, {})
    assert set(again) == dependent
    retire(total, again.keys())
    work_through(total, Total())
    assert run_gate(total).complete and pending_units(total, {}) == {}


def test_current_points_to_the_last_complete_version(tmp_path: Path) -> None:
    first = make_squares(tmp_path, [2], version=1)
    work_through(first)
    run_gate(first)
    second = make_squares(tmp_path, [2], version=2)
    run_gate(second)
    assert (tmp_path / "squares" / "current").resolve().name == first.fp12
    work_through(second)
    run_gate(second)
    assert (tmp_path / "squares" / "current").resolve().name == second.fp12


def test_a_copied_run_whose_current_is_a_folder_is_no_obstacle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`cp -rL` makes folders of links; they are not ours to remove."""
    state = make_squares(tmp_path, [2])
    work_through(state)
    (tmp_path / "squares" / "current").mkdir()
    assert run_gate(state).complete
    assert "current is a folder" in caplog.text and (tmp_path / "squares" / "current").is_dir()


def test_stop_inside_a_task_of_no_slices_leaves_no_garbage(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [5])
    calls = iter([False, True])
    Worker(state, Squares(), ["000"], lambda: next(calls, True)).run()
    assert not state.done_units() and not list(state.folder.glob("slices/*/*"))
    work_through(state)
    assert run_gate(state).complete
