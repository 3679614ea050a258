"""Status adds up, from files alone, whether a stage is complete, under way, or in trouble."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from toy import Squares, make_squares

import hpc.status
from hpc.attempt import Attempt, new_attempt
from hpc.claims import try_claim
from hpc.commit import record_failure
from hpc.files import replace_json
from hpc.gate import run_gate
from hpc.launch import start_order
from hpc.state import StageState
from hpc.status import run_status, stage_status
from hpc.worker import MAX_FAILURES, Worker


def work(state: StageState, units: list[str]) -> None:
    Worker(state, Squares(), units, lambda: False, poll_s=0.01).run()


def test_counts_of_a_complete_stage_are_the_sum_over_its_units(tmp_path: Path) -> None:
    sizes = [7, 0, 3, 10]
    state = make_squares(tmp_path, sizes)
    work(state, start_order(state.plan.largest_first, 0, 1))
    before = stage_status(state)
    assert run_gate(state).complete
    after = stage_status(state)
    assert not before.complete and after.complete
    for status in (before, after):
        assert (status.done, status.units, status.failed, status.working) == (4, 4, 0, 0)
        assert status.counts["read"] == status.counts["kept"] == sum(sizes)
        assert status.counts["extra"]["sum"] == sum(sum(range(n)) for n in sizes)


def test_a_deleted_sentinel_makes_a_complete_stage_incomplete(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [2, 3])
    work(state, ["000", "001"])
    run_gate(state)
    state.done_path("001").unlink()
    status = stage_status(state)
    assert not status.complete and status.done == 1 and status.counts["read"] == 2


def test_counts_of_a_large_stage_are_scaled_up_and_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred thousand sentinels some are opened; the estimate says that it is one."""
    monkeypatch.setattr(hpc.status, "SAMPLE", 4)
    state = make_squares(tmp_path, [5] * 13)
    work(state, [f"{i:03d}" for i in range(12)])
    status = stage_status(state)
    assert status.estimated and status.counts["read"] == 60


def test_failures_are_grouped_by_cause_and_the_latest_counts(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [1] * 6)
    work(state, ["000"])
    for unit in ("000", "001", "002", "003"):
        record_failure(state, unit, new_attempt(), "worker killed by SIGKILL")
    for _ in range(MAX_FAILURES - 1):
        record_failure(state, "003", new_attempt(), "ValueError: bad\nsecond line")
        time.sleep(0.01)
    record_failure(state, "002", Attempt("0000", "host", 1, "", 0), "OSError: disk")  # an id that sorts first, recorded last
    status = stage_status(state)
    assert status.causes == {"ValueError: bad": 1, "OSError: disk": 1, "worker killed by SIGKILL": 1}
    assert (status.failed, status.parked) == (3, 1)  # 000 was committed in spite of its failure
    assert Path(status.example.partition(": ")[2]).exists()
    assert "OSError: disk" in run_gate(state).missing["002"]


def test_rate_and_eta_come_from_recent_commits_while_somebody_works(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [6] * 12)
    work(state, [f"{i:03d}" for i in range(4)])
    assert stage_status(state).rate is None  # nobody works
    claim = try_claim(state.claim_path("004"), new_attempt())
    assert claim is not None
    now = time.time()
    for i in range(4):  # one commit in ten seconds, the latest just now
        os.utime(state.done_path(f"{i:03d}"), (now - 30 + 10 * i,) * 2)
    status = stage_status(state)
    assert status.working == 1
    assert status.rate == pytest.approx(3600 / 10, rel=0.05)
    assert status.eta_s == pytest.approx(8 * 10, rel=0.05)


def test_a_run_is_told_in_the_order_of_its_flow(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [1])
    replace_json(tmp_path / "flow.json", {"stages": [{"stage": "squares", "fp12": state.fp12}]})
    assert [status.stage for status in run_status(tmp_path)] == ["squares"]
    with pytest.raises(FileNotFoundError):
        run_status(tmp_path / "elsewhere")


def test_status_writes_nothing(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [1, 2])
    work(state, ["000"])
    before = {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))}
    stage_status(state)
    assert {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))} == before
