"""Launches that overlap do not take back each other's commits."""

from __future__ import annotations

from pathlib import Path

from toy import Squares, Total, make_squares, make_total

from hpc.state.attempt import new_attempt
from hpc.state.pending import pending_units, retire, still_pending
from hpc.workers.commit import UnitRun


def never() -> bool:
    return False


def test_a_unit_committed_since_it_was_found_missing_keeps_its_sentinel(tmp_path: Path) -> None:
    """Planned by one launch, meanwhile committed by another."""
    squares = make_squares(tmp_path, [2, 3])
    todo = pending_units(squares, {})
    UnitRun(squares, Squares(), squares.plan.by_id["001"], new_attempt(), never).run()
    left = still_pending(squares, todo)
    assert left == {"000"}
    assert retire(squares, left) == 0
    assert squares.done_units() == {"001"}


def test_a_stale_unit_is_taken_back(tmp_path: Path) -> None:
    """Its sentinel stands, but what it was made from is going to be committed anew."""
    squares = make_squares(tmp_path, [2])
    total = make_total(tmp_path, squares)
    for state, work in ((squares, Squares()), (total, Total())):
        UnitRun(state, work, state.plan.by_id["000"], new_attempt(), never).run()
    todo = pending_units(total, {"squares": {"000"}})
    assert still_pending(total, todo) == {"000"}
    assert retire(total, still_pending(total, todo)) == 1
    assert total.done_units() == set()
