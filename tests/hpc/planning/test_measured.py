"""Measuring: seconds for a declared second come from what was committed, this version before others, a probe last, and cheaply."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import make_squares

from hpc.fs.files import publish_once, replace_json
from hpc.planning.measured import ENOUGH, SAMPLE, Measured, from_sentinels, measure
from hpc.state.fold import write_archive
from hpc.state.plan import PlannedUnit
from hpc.state.state import StageState


def sentinel(seconds: float, rss: int = 100, n_bytes: int = 10) -> dict[str, Any]:
    return {
        "seconds": {"wall": seconds, "cpu": seconds},
        "peak_rss_bytes": rss,
        "outputs": {"squares": {"path": "x", "bytes": n_bytes, "digest": ""}},
        "attempt": {"id": "a"},
    }


def commit(state: StageState, units: Sequence[PlannedUnit], rate: float) -> None:
    """Sentinels of units that took `rate` seconds for a declared one."""
    for unit in units:
        publish_once(state.done_path(unit.id), sentinel(rate * unit.cost, rss=1000 + unit.index, n_bytes=int(8 * unit.cost)))


def costs(state: StageState) -> dict[str, float]:
    return {unit.id: unit.cost for unit in state.plan.units}


def measured_of(state: StageState) -> Measured | None:
    return measure(state.run, state.stage, state.fp12, costs(state))


def test_nothing_committed_is_nothing_measured(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [1, 2, 3, 4])
    assert measured_of(state) is None
    commit(state, state.plan.units[: ENOUGH - 1], 2.0)
    assert measured_of(state) is None


def test_units_of_this_version_say_what_a_declared_second_is_worth(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [10, 20, 30, 40, 50])
    commit(state, state.plan.units[1:4], 2.5)
    found = measured_of(state)
    assert found is not None
    assert (found.rate, found.units, found.max_cost, found.peak_rss_bytes) == (pytest.approx(2.5), 3, 40, 1003)
    assert found.bytes_per_cost == pytest.approx(8) and found.seconds(100) == pytest.approx(250)
    assert found.source == "3 units of this version"


def test_a_stage_of_one_unit_is_measured_by_it(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [10])
    commit(state, state.plan.units, 3.0)
    found = measured_of(state)
    assert found is not None and found.rate == pytest.approx(3) and found.source == "1 unit of this version"


def test_the_version_committed_to_last_stands_in_for_one_without_units(tmp_path: Path) -> None:
    """Each with its own declared costs."""
    old, newer, now = (make_squares(tmp_path, [10, 20, 30], version) for version in (1, 2, 3))
    commit(newer, newer.plan.units, 4.0)
    commit(old, old.plan.units, 9.0)
    os.utime(old.folder / "done", (1, 1))
    found = measured_of(now)
    assert found is not None and found.rate == pytest.approx(4) and newer.fp12 in found.source
    commit(now, now.plan.units, 1.0)
    assert "this version" in (measured_of(now) or found).source


def test_a_version_with_an_unreadable_plan_is_passed_over(tmp_path: Path) -> None:
    old, now = make_squares(tmp_path, [10, 20, 30], 1), make_squares(tmp_path, [10, 20, 30], 2)
    commit(old, old.plan.units, 4.0)
    old.plan_path.write_text('{"format": 0}')
    assert measured_of(now) is None


def test_a_probe_is_asked_last(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [10, 20, 30])
    probed = {"rate": 7.0, "spread": 1.2, "peak_rss_bytes": 5, "bytes_per_cost": 1.0, "units": 8, "max_cost": 3.0}
    entry = {"measured": {**probed, "source": "a probe of 1.2 % of the input", "fixed_s": 0.5, "startup_s": 2.0}}
    replace_json(tmp_path / "probe" / "measured.json", {"stages": {"squares": entry, "gpu": {"measured": None}}})
    found = measured_of(state)
    assert found is not None and found.seconds(2.0) == 14.5 and found.source == "a probe of 1.2 % of the input"
    assert measure(tmp_path, "gpu", "0" * 12, {}) is None and measure(tmp_path, "other", "0" * 12, {}) is None
    commit(state, state.plan.units, 1.0)
    assert (measured_of(state) or found).rate == pytest.approx(1)


def test_of_many_units_a_few_hundred_sentinels_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = make_squares(tmp_path, [7] * 3000)
    write_archive(state.archive_path, {unit.id: sentinel(2.0 * unit.cost) for unit in state.plan.units})
    opened: list[str] = []
    original = StageState.sentinel
    monkeypatch.setattr(StageState, "sentinel", lambda self, unit: opened.append(unit) or original(self, unit))
    found = measured_of(state)
    assert found is not None and found.rate == pytest.approx(2) and len(opened) == len(set(opened)) == SAMPLE
    assert max(opened) > "2900"


def test_a_complete_stage_is_measured_by_its_sums(tmp_path: Path) -> None:
    """The sample alone would say 2."""
    state = make_squares(tmp_path, [10] * 1000)
    write_archive(state.archive_path, {unit.id: sentinel(20.0) for unit in state.plan.units})
    replace_json(state.success_path, {"seconds": {"wall": 30_000.0, "cpu": 1.0}, "peak_rss_bytes": 12345})
    found = measured_of(state)
    assert found is not None and (found.rate, found.peak_rss_bytes, found.units) == (pytest.approx(3), 12345, 1000)


def test_a_stage_that_declares_no_cost_is_not_measured(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [0, 0, 0])
    commit(state, state.plan.units, 1.0)
    assert measured_of(state) is None


@given(st.lists(st.tuples(st.floats(0.1, 1e4), st.floats(0.01, 1e4)), min_size=1, max_size=50))
def test_nine_in_ten_units_stay_within_the_spread(pairs: list[tuple[float, float]]) -> None:
    found = from_sentinels([(cost, sentinel(seconds)) for cost, seconds in pairs], "some")
    assert found is not None and found.spread >= 1
    assert sum(cost for cost, _ in pairs) * found.rate == pytest.approx(sum(seconds for _, seconds in pairs))
    inside = sum(seconds <= found.seconds(cost) * found.spread * (1 + 1e-9) for cost, seconds in pairs)
    assert inside >= 0.9 * len(pairs) - 1e-9
