"""Claims: the living are left alone, the dead are taken over, clocks of two hosts are never compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from toy import Squares, in_child, make_squares

from hpc.state.attempt import Attempt, new_attempt, process_alive
from hpc.state.claims import Heart, Watch, is_surely_dead, read_claim, take_over, try_claim
from hpc.workers.worker import EXIT_STOPPED, Worker

ELSEWHERE = Attempt("0000-far-1", "far-away", 1, "77_3", 1)


def test_a_claim_is_held_by_one_and_free_afterwards(tmp_path: Path) -> None:
    path, me = tmp_path / "claims" / "00001", new_attempt()
    claim = try_claim(path, me)
    assert claim is not None
    with claim:
        assert try_claim(path, new_attempt()) is None
        assert (read_claim(path) or {})["id"] == me.id
    assert read_claim(path) is None


def test_only_one_of_many_processes_gets_a_claim(tmp_path: Path) -> None:
    path, winners = tmp_path / "claim", tmp_path / "winners"
    winners.mkdir()
    children = []
    for _ in range(8):
        if (pid := os.fork()) == 0:
            if try_claim(path, new_attempt()):
                (winners / str(os.getpid())).touch()
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    assert len(list(winners.iterdir())) == 1


def test_a_claim_that_was_taken_over_is_not_removed_by_its_old_holder(tmp_path: Path) -> None:
    path, zombie, heir = tmp_path / "claim", new_attempt(), new_attempt()
    claim = try_claim(path, zombie)
    assert claim is not None
    with claim:
        take_over(path, heir)
    assert (read_claim(path) or {})["id"] == heir.id


def test_the_holder_keeps_its_claim_warm(tmp_path: Path) -> None:
    heart = Heart(0.01)
    claim = try_claim(tmp_path / "claim", new_attempt(), heart)
    assert claim is not None
    with claim:
        before = claim.path.stat().st_mtime_ns
        deadline = time.monotonic() + 5
        while claim.path.stat().st_mtime_ns == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert claim.path.stat().st_mtime_ns > before
        claim.path.unlink()  # somebody cleans up: the heartbeat goes on, and the work with it
        time.sleep(0.05)
    heart.stop()
    assert not claim.path.exists()


@pytest.mark.parametrize("mtime", [0, 4_000_000_000], ids=["1970", "2096"])
def test_dead_is_what_has_not_changed_for_long_by_our_own_clock(tmp_path: Path, mtime: int) -> None:
    """However wrong the other host's clock is: only change counts."""
    path = tmp_path / "claim"
    try_claim(path, ELSEWHERE)
    os.utime(path, (mtime, mtime))
    watch, me = Watch(stale_s=0.05), new_attempt()
    assert watch.judge(path, me) == "unknown"
    assert watch.judge(path, me) == "unknown"
    time.sleep(0.06)
    assert watch.judge(path, me) == "dead"


def test_alive_is_what_moved_while_we_looked(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    try_claim(path, ELSEWHERE)
    watch, me = Watch(stale_s=0.05), new_attempt()
    assert watch.judge(path, me) == "unknown"
    os.utime(path, (5, 5))
    assert watch.judge(path, me) == "alive"
    time.sleep(0.06)
    assert watch.judge(path, me) == "dead"  # its last sign of life is too old as well


def test_a_claim_taken_anew_counts_as_a_sign_of_life(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    try_claim(path, ELSEWHERE)
    watch, me = Watch(stale_s=0.05), new_attempt()
    watch.judge(path, me)
    time.sleep(0.06)
    take_over(path, ELSEWHERE)
    assert watch.judge(path, me) == "alive"
    path.unlink()
    assert watch.judge(path, me) == "free"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"{}"])
def test_a_claim_that_says_nothing_is_judged_by_its_age(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "claim"
    path.write_bytes(content)
    watch, me = Watch(stale_s=0.02), new_attempt()
    assert watch.judge(path, me) == "unknown"
    time.sleep(0.03)
    assert watch.judge(path, me) == "dead"


def test_a_dead_process_of_this_host_is_known_at_once_also_before_its_parent_has_noticed(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    pid = os.fork()
    if pid == 0:
        try_claim(path, new_attempt())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it has ended; nobody has collected it
    assert not process_alive(pid)
    assert Watch().judge(path, new_attempt()) == "dead"
    os.waitpid(pid, 0)
    assert not process_alive(pid)
    assert process_alive(os.getpid()) and process_alive(1)


@pytest.mark.parametrize(
    ("job", "restart", "dead"),
    [("77_3", 2, True), ("77_3", 1, False), ("77_3", 0, False), ("77_4", 2, False), ("78_3", 2, False), ("", 2, False)],
)
def test_an_earlier_life_of_the_same_array_element_is_dead(job: str, restart: int, dead: bool) -> None:
    me = Attempt("1111-here-2", "here", 2, job, restart)
    assert is_surely_dead(ELSEWHERE.to_dict(), me) is dead


def test_two_who_take_over_at_once_leave_one_whole_claim(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    for _ in range(20):
        try_claim(path, ELSEWHERE)
        children = []
        for _ in range(4):
            if (pid := os.fork()) == 0:
                take_over(path, new_attempt())
                os._exit(0)
            children.append(pid)
        assert {os.waitpid(pid, 0)[1] for pid in children} == {0}
        assert (read_claim(path) or {}).get("pid") in children
        assert [entry.name for entry in tmp_path.iterdir()] == ["claim"]


def test_a_worker_that_waits_for_the_last_unit_notices_its_end_at_once(tmp_path: Path) -> None:
    """Default poll interval: waiting for a short unit must not cost seconds."""
    state = make_squares(tmp_path, [3])
    claim = try_claim(state.claim_path("000"), ELSEWHERE)
    assert claim is not None
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        time.sleep(0.2)
        state.claim_path("000").unlink()
        os._exit(0)
    Worker(state, Squares(), ["000"], lambda: False).run()
    os.waitpid(pid, 0)
    assert state.is_done("000")
    assert time.monotonic() - started < 1.0


def test_a_claim_that_cannot_be_written_is_a_failure_of_the_unit_not_of_the_worker(tmp_path: Path) -> None:
    """A full disk: nothing can be written, not even why. The worker ends, with work left, and leaves no claim behind."""
    state = make_squares(tmp_path, [3, 3])

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    def work_on_a_full_disk() -> None:
        os.fsync = os.link = os.write = full  # type: ignore[assignment]
        worker = Worker(state, Squares(), ["000", "001"], lambda: False, full_patience_s=0.0)
        os._exit(worker.run().exit_code)

    assert os.waitstatus_to_exitcode(in_child(work_on_a_full_disk)) == EXIT_STOPPED
    assert not state.done_units() and not list(state.folder.glob("claims/*"))
    Worker(state, Squares(), ["000", "001"], lambda: False).run()
    assert state.done_units() == {"000", "001"}


def test_a_process_of_this_host_that_runs_is_alive_at_once_and_one_that_is_stopped_must_beat(tmp_path: Path) -> None:
    """A worker with nothing left to do need not wait for a heartbeat of its neighbour."""
    holder = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        held = replace(new_attempt(), pid=holder.pid)
        assert try_claim(tmp_path / "claim", held) is not None
        assert Watch().judge(tmp_path / "claim", new_attempt()) == "alive"
        holder.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        watch = Watch(stale_s=0.05)
        assert watch.judge(tmp_path / "claim", new_attempt()) == "unknown"
        time.sleep(0.1)
        assert watch.judge(tmp_path / "claim", new_attempt()) == "dead"
    finally:
        holder.kill()
        holder.wait()


def test_a_process_that_has_got_the_number_of_a_dead_one_keeps_no_claim_alive(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    assert try_claim(path, new_attempt()) is not None  # ours, so its process runs
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "began": said["began"] - 10**7}))  # but was not there when the claim was made
    watch = Watch(stale_s=0.02)
    assert watch.judge(path, new_attempt()) == "unknown"
    time.sleep(0.05)
    assert watch.judge(path, new_attempt()) == "dead"
