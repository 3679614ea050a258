"""The board: how often a worker reads directories, and what old news may lead to."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from toy import Squares, make_squares, make_total

from hpc.dispatch.gate import run_gate
from hpc.state.work import PlainWork, counts
from hpc.workers import board
from hpc.workers.board import MAX_SHARE, MIN_REFRESH_S, Board
from hpc.workers.worker import Worker

UNITS = 2000


class Null(PlainWork):
    """Writes empty files."""

    def run(self, unit: Any, inputs: Any, out: Any) -> dict[str, Any]:
        out["squares"].touch()
        return counts(read=0)


def test_thousands_of_short_units_cost_few_reads_of_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one for each unit: a thousand workers would keep a metadata server busy with nothing else."""
    state = make_squares(tmp_path, [0] * UNITS)
    read: Counter[str] = Counter()
    scandir, listdir = os.scandir, os.listdir

    def count(real: Any) -> Any:
        def counted(path: Any = ".") -> Any:
            read[Path(os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fspath(path)).name] += 1
            return real(path)

        return counted

    monkeypatch.setattr(os, "scandir", count(scandir))
    monkeypatch.setattr(os, "listdir", count(listdir))
    fake = [0.0]

    def monotonic() -> float:
        fake[0] += 1e-4
        return fake[0]

    monkeypatch.setattr(board.time, "monotonic", monotonic)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    report = Worker(state, Null(), list(state.plan.largest_first), lambda: False).run()
    assert report.committed == UNITS and len(state.done_units()) == UNITS
    looks = fake[0] / MIN_REFRESH_S + 2
    for folder in ("done", "claims", "failed"):
        assert 1 <= read[folder] <= looks + 1, f"{folder}: {read[folder]} reads in {fake[0]:.1f} s"
    private = {name: n for name, n in read.items() if "@" in name}
    assert max(private.values(), default=0) <= 2, "its own private folder, to remove it"
    assert read["slices"] + read["retired"] + read["tmp"] <= looks + 3


def test_it_is_read_again_after_a_second_at_most_a_fiftieth_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = make_squares(tmp_path, [1])
    now, costs = [100.0], [0.0]
    monkeypatch.setattr(board.time, "monotonic", lambda: now[0])
    real = type(state).failures

    def slow(self: Any) -> Any:
        now[0] += costs[0]
        return real(self)

    monkeypatch.setattr(type(state), "failures", slow)
    looked: list[float] = []
    look = Board.look

    def noted(self: Board) -> None:
        looked.append(now[0])
        look(self)

    monkeypatch.setattr(Board, "look", noted)
    for cost, between in ((0.0, MIN_REFRESH_S), (0.01, MIN_REFRESH_S), (0.5, 0.5 / MAX_SHARE)):
        here = Board(state)
        costs[0] = cost
        looked.clear()
        here.look()
        ended = now[0]
        for _ in range(3000):
            now[0] += 0.01
            here.look_if_due()
        gaps = [later - ended for later in looked[1:2]]
        assert gaps and between <= gaps[0] <= between + 0.02, (cost, gaps)


def test_what_stages_before_have_committed_is_only_read_where_stages_overlap(tmp_path: Path) -> None:
    squares = make_squares(tmp_path, [2, 3])
    members, whole = make_total(tmp_path, squares), make_total(tmp_path, squares, "all")
    plain = Board(members)
    plain.look()
    assert plain.upstream == {}
    boards = [Board(members, True), Board(whole, True)]

    def ready() -> list[list[bool]]:
        for each in boards:
            each.look()
        return [[each.is_ready(unit) for unit in each.state.plan.units] for each in boards]

    assert ready() == [[False, False], [False]]
    Worker(squares, Squares(), ["001"], lambda: False).run()
    assert ready() == [[False, True], [False]]
    Worker(squares, Squares(), ["000"], lambda: False).run()
    assert ready() == [[True, True], [False]], "who reads all waits for the gate"
    run_gate(squares)
    assert ready() == [[True, True], [True]]


def test_old_news_costs_no_second_run(tmp_path: Path) -> None:
    """Committed by somebody else since the board was read: the unit is not run again."""
    state, late = make_squares(tmp_path, [3, 4]), Squares()
    worker = Worker(state, late, ["000", "001"], lambda: False, poll_s=0.01)

    class Meanwhile(Board):
        def look(self) -> None:
            super().look()
            Worker(state, Squares(), ["000", "001"], lambda: False, poll_s=0.01).run()

    worker.board = Meanwhile(state)
    assert worker.run().committed == 0 and late.slices_run == []
