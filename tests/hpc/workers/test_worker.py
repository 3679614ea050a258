"""The worker: whose units it takes, when it tries again, when it waits, and when it leaves."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import Squares, Total, in_child, make_squares, make_total, outputs

from hpc.dispatch.gate import run_gate
from hpc.state.attempt import Attempt, new_attempt
from hpc.state.claims import Heart, read_claim, try_claim
from hpc.state.launch import start_order
from hpc.state.plan import PlannedUnit
from hpc.state.state import MAX_FAILURES, StageState
from hpc.workers import board, worker
from hpc.workers.commit import record_failure
from hpc.workers.worker import EXIT_DONE, EXIT_LEFT, MAX_BACKOFF_S, Worker

FAR = Attempt("0000-far-1", "far-away", 1, "77_3", 1)


def never() -> bool:
    return False


class Recorded(Squares):
    """Remembers in which order units were begun, and can be told to fail some of them some times."""

    def __init__(self, fail: Mapping[str, int] | None = None, error: Exception | None = None) -> None:
        super().__init__()
        self.begun: list[str] = []
        self.fail, self.error = dict(fail or {}), error or RuntimeError("bad input")

    def slice(self, unit: PlannedUnit, inputs: Any, folder: Path, cursor: Any) -> tuple[dict[str, Any], Any]:
        if cursor is None:
            self.begun.append(unit.id)
            if self.fail.get(unit.id, 0) > 0:
                self.fail[unit.id] -= 1
                raise self.error
        return super().slice(unit, inputs, folder, cursor)


class Time:
    """A clock of its own: nobody sleeps, time passes as one asks for it."""

    def __init__(self) -> None:
        self.now, self.slept = 1000.0, []

    def monotonic(self) -> float:
        self.now += 1e-6
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    fake = Time()
    monkeypatch.setattr(worker, "time", fake)
    monkeypatch.setattr(board, "time", fake)
    return fake


# --- whose units ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 30), st.integers(1, 7), st.integers(0, 20))
def test_every_worker_tries_every_unit_once_its_own_share_first(n: int, workers: int, number: int) -> None:
    units = [f"{i:03d}" for i in range(n)]
    order = start_order(units, number, workers)
    assert sorted(order) == units
    if number < workers:
        share = units[number::workers]
        assert order[: len(share)] == share
    elif n:
        # owners come from the front, who joins later from the back
        assert order[0] in {units[i::workers][-1] for i in range(workers) if units[i::workers]}


def test_a_worker_steals_what_the_others_have_not_begun(tmp_path: Path) -> None:
    state, did = make_squares(tmp_path, [9, 8, 7, 6, 5, 4]), Recorded()
    report = Worker(state, did, start_order(state.plan.largest_first, 1, 3), never, poll_s=0.01).run()
    assert did.begun == ["001", "004", "002", "005", "000", "003"]
    assert report.committed == 6 and report.exit_code == EXIT_DONE


def test_two_workers_do_every_unit_once(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [6] * 12)
    log = tmp_path / "begun"

    def work(number: int) -> None:
        did = Recorded()
        Worker(state, did, start_order(state.plan.largest_first, number, 2), never, poll_s=0.01).run()
        (tmp_path / f"begun-{number}").write_text("\n".join(did.begun))

    pids = []
    for number in (0, 1):
        if (pid := os.fork()) == 0:
            work(number)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    begun = [(tmp_path / f"begun-{number}").read_text().split() for number in (0, 1)]
    assert sorted(begun[0] + begun[1]) == [f"{i:03d}" for i in range(12)], "each once"
    assert all(begun) and not log.exists()


def test_claimed_units_are_passed_by(tmp_path: Path) -> None:
    state, did = make_squares(tmp_path, [9, 8, 7]), Recorded()
    heart = Heart(0.02)
    claim = try_claim(state.claim_path("000"), FAR, heart)
    assert claim is not None
    with claim:
        report = Worker(state, did, ["000", "001", "002"], never, poll_s=0.05).run()
        assert did.begun == ["001", "002"]
        assert report.exit_code == EXIT_DONE, "somebody else does the rest: the gate will see"
        assert (read_claim(state.claim_path("000")) or {})["id"] == FAR.id
    heart.stop()


def test_an_idle_worker_leaves_when_all_that_is_left_is_in_living_hands(tmp_path: Path) -> None:
    """It does not hold a core until others have ended."""
    state = make_squares(tmp_path, [3] * 40)
    hearts = []
    for unit in state.plan.units:
        heart = Heart(0.05)
        claim = try_claim(state.claim_path(unit.id), FAR, heart)
        assert claim is not None
        claim.__enter__()
        hearts.append(heart)
    started = time.monotonic()
    report = Worker(state, Squares(), [unit.id for unit in state.plan.units], never, poll_s=0.1).run()
    for heart in hearts:
        heart.stop()
    assert report.exit_code == EXIT_DONE and report.committed == 0
    assert time.monotonic() - started < 20
    assert not state.done_units()


def test_a_unit_whose_holder_is_silent_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpc.state.claims.STALE_S", 0.2)
    state = make_squares(tmp_path, [3, 3])
    assert try_claim(state.claim_path("000"), FAR, Heart(0.01)) is not None
    Worker(state, Squares(), ["000", "001"], never, poll_s=0.05).run()
    assert state.done_units() == {"000", "001"} and not state.claim_path("000").exists()


# --- trying again -----------------------------------------------------------------------------------------------------------


def test_the_pause_before_a_unit_is_tried_again_doubles_and_others_go_on_meanwhile(tmp_path: Path, clock: Time) -> None:
    state = make_squares(tmp_path, [9, 8, 7])
    when: list[tuple[float, str]] = []

    class Timed(Recorded):
        def slice(self, unit: PlannedUnit, inputs: Any, folder: Path, cursor: Any) -> tuple[dict[str, Any], Any]:
            if cursor is None:
                when.append((clock.now, unit.id))
            return super().slice(unit, inputs, folder, cursor)

    asked = {"retry_backoff_s": 10.0, "max_failures": 5}
    report = Worker(state, Timed({"000": 4}), ["000", "001", "002"], never, asked).run()
    assert [unit for _, unit in when] == ["000", "001", "002", "000", "000", "000", "000"]
    tries = [at for at, unit in when if unit == "000"]
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert all(wanted <= pause < wanted + 16 for pause, wanted in zip(pauses, (10, 20, 40, 80), strict=True)), pauses
    assert when[2][0] - when[0][0] < 1, "others did not wait"
    assert report.failed == 4 and report.exit_code == EXIT_DONE and state.done_units() == {"000", "001", "002"}


def test_the_pause_has_a_limit(tmp_path: Path, clock: Time) -> None:
    state = make_squares(tmp_path, [3])
    began = clock.now
    Worker(state, Recorded({"000": 8}), ["000"], never, {"retry_backoff_s": 100.0, "max_failures": 9}).run()
    assert state.is_done("000")
    assert clock.now - began < 100 + 200 + 6 * (MAX_BACKOFF_S + 20)


def test_without_a_pause_a_unit_is_tried_at_once_and_parked_after_its_failures(tmp_path: Path) -> None:
    state, did = make_squares(tmp_path, [9, 8]), Recorded({"000": 99})
    report = Worker(state, did, ["000", "001"], never, {"max_failures": 2}, poll_s=0.01).run()
    assert did.begun == ["000", "001", "000"]
    assert report.parked == {"000"} and report.exit_code == EXIT_LEFT
    assert len(state.failures()["000"]) == 2


def test_stopped_while_it_waits_a_worker_leaves_at_once(tmp_path: Path, clock: Time) -> None:
    state, did = make_squares(tmp_path, [9]), Recorded({"000": 99})
    began = clock.now
    asked = {"retry_backoff_s": 100.0}
    report = Worker(state, did, ["000"], lambda: bool(did.begun) and clock.now > began + 3, asked).run()
    assert report.stopped and clock.now - began < 5
    assert len(did.begun) == 1


# --- memory -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("had", "have", "kind", "tried"),
    [
        (2.0, 2.0, "out_of_memory", False),
        (2.0, 1.0, "out_of_memory", False),
        (2.0, 4.0, "out_of_memory", True),
        (2.0, None, "out_of_memory", True),
        (None, 2.0, "out_of_memory", True),
        (2.0, 2.0, "error", True),
        (2.0, 2.0, "killed", True),
        (2.0, 2.0, "lost", True),
    ],
)
def test_a_unit_that_ran_out_of_memory_is_only_tried_with_more(
    tmp_path: Path, had: float | None, have: float | None, kind: Any, tried: bool
) -> None:
    state, did = make_squares(tmp_path, [9, 8]), Recorded()
    record_failure(state, "000", new_attempt(), "gone", kind=kind, requested={"mem_gb": had})
    report = Worker(state, did, ["000", "001"], never, {"mem_gb": have}, poll_s=0.01).run()
    assert did.begun == (["000", "001"] if tried else ["001"])
    assert ("000" in report.left) is not tried
    if not tried:
        assert "ran out of memory with 2 GB a process, and this launch has" in report.left["000"]
        assert report.exit_code == EXIT_LEFT and not report.parked


def test_a_memory_error_is_not_tried_again_by_the_same_launch(tmp_path: Path) -> None:
    state, did = make_squares(tmp_path, [9, 8]), Recorded({"000": 1}, MemoryError())
    report = Worker(state, did, ["000", "001"], never, {"mem_gb": 2.0}, poll_s=0.01).run()
    assert did.begun == ["000", "001"] and set(report.left) == {"000"}
    Worker(state, did, ["000", "001"], never, {"mem_gb": 4.0}, poll_s=0.01).run()
    assert state.done_units() == {"000", "001"}


# --- overlapping stages -------------------------------------------------------------------------------------------------------


def begin(state: StageState, units: Sequence[str], **more: Any) -> tuple[threading.Thread, Worker]:
    """A worker of an overlapping stage, in a thread."""
    made = Worker(state, Total(), list(units), never, poll_s=0.05, overlap=True, **more)
    thread = threading.Thread(target=made.run)
    thread.start()
    return thread, made


def test_units_begin_as_soon_as_what_they_read_is_committed(tmp_path: Path) -> None:
    squares = make_squares(tmp_path, [4, 3, 2])
    total = make_total(tmp_path, squares)
    Worker(squares, Squares(), ["001"], never, poll_s=0.01).run()
    thread, made = begin(total, ["000", "001", "002"])
    deadline = time.monotonic() + 30
    while not total.is_done("001") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert total.done_units() == {"001"} and squares.success() is None, "the stage before is not complete"
    assert thread.is_alive(), "it waits for the others"
    Worker(squares, Squares(), ["000", "002"], never, poll_s=0.01).run()
    thread.join(timeout=30)
    assert total.done_units() == {"000", "001", "002"} and made.report.exit_code == EXIT_DONE
    assert not made.report.not_ready and not total.failures()


def test_who_reads_all_units_waits_for_the_gate(tmp_path: Path) -> None:
    squares = make_squares(tmp_path, [4, 3])
    total = make_total(tmp_path, squares, "all")
    Worker(squares, Squares(), ["000", "001"], never, poll_s=0.01).run()
    thread, made = begin(total, ["all"])
    time.sleep(0.3)
    assert not total.done_units() and thread.is_alive()
    assert run_gate(squares).complete
    thread.join(timeout=30)
    assert total.done_units() == {"all"} and made.report.exit_code == EXIT_DONE


def test_a_worker_whose_inputs_never_come_leaves(tmp_path: Path, clock: Time) -> None:
    squares = make_squares(tmp_path, [4, 3])
    total = make_total(tmp_path, squares)
    Worker(squares, Squares(), ["001"], never).run()
    began = clock.now
    report = Worker(total, Total(), ["000", "001"], never, overlap=True).run()
    assert total.done_units() == {"001"}
    assert report.not_ready == {"000": "what it reads was not committed in time"} and report.exit_code == EXIT_LEFT
    assert worker.OVERLAP_WAIT_S <= clock.now - began < worker.OVERLAP_WAIT_S + 60
    assert not total.failures(), "no unit is to blame"


def test_a_worker_does_not_wait_for_units_that_are_parked(tmp_path: Path, clock: Time) -> None:
    squares = make_squares(tmp_path, [4, 3])
    total = make_total(tmp_path, squares)
    Worker(squares, Squares(), ["001"], never).run()
    for _ in range(MAX_FAILURES):
        record_failure(squares, "000", new_attempt(), "ValueError: bad input")
    began = clock.now
    report = Worker(total, Total(), ["000", "001"], never, overlap=True).run()
    assert report.not_ready == {"000": "squares 000, which it reads, is parked"} and total.done_units() == {"001"}
    assert clock.now - began < worker.OVERLAP_WAIT_S


def test_without_overlap_a_unit_that_is_not_ready_is_left_at_once(tmp_path: Path, clock: Time) -> None:
    total = make_total(tmp_path, make_squares(tmp_path, [4, 3]))
    report = Worker(total, Total(), ["000", "001"], never).run()
    assert set(report.not_ready) == {"000", "001"} and report.exit_code == EXIT_LEFT and not clock.slept


def test_the_work_is_loaded_once_and_only_if_there_is_something_to_do(tmp_path: Path) -> None:
    loaded = []

    class Heavy(Squares):
        def load(self) -> None:
            loaded.append(1)

    state = make_squares(tmp_path, [3, 3])
    Worker(state, Heavy(), ["000", "001"], never, poll_s=0.01).run()
    Worker(state, Heavy(), ["000", "001"], never, poll_s=0.01).run()
    assert loaded == [1]


def test_a_load_that_fails_is_a_failure_of_the_unit_in_hand(tmp_path: Path) -> None:
    class NoModel(Squares):
        def load(self) -> None:
            raise FileNotFoundError(2, "No such file or directory", "model.bin")

    state = make_squares(tmp_path, [3])
    report = Worker(state, NoModel(), ["000"], never, {"max_failures": 2}, poll_s=0.01).run()
    assert report.parked == {"000"} and len(state.failures()["000"]) == 2


def test_a_worker_in_a_process_of_its_own_says_how_it_ended(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [3, 4])
    status = in_child(lambda: os._exit(Worker(state, Squares(), ["000", "001"], never, poll_s=0.01).run().exit_code))
    assert os.waitstatus_to_exitcode(status) == EXIT_DONE and len(outputs(state)) == 2


def test_a_full_node_local_disk_is_done_without(tmp_path: Path) -> None:
    """The shared filesystem has room: nobody waits, nothing is parked."""
    state = make_squares(tmp_path / "run", [5, 4])
    local = tmp_path / "local"
    local.mkdir()

    class Full(Squares):
        def slice(self, unit: Any, inputs: Any, folder: Path, cursor: Any) -> Any:
            if folder.is_relative_to(local):
                raise OSError(errno.ENOSPC, "No space left on device", str(folder))
            return super().slice(unit, inputs, folder, cursor)

    report = Worker(state, Full(), ["000", "001"], lambda: False, local=local).run()
    assert report.exit_code == EXIT_DONE and state.done_units() == {"000", "001"} and not state.failures()
