"""Packing: tasks last about as long as wished, no limit is ever exceeded, and the reasons say where each number comes from."""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import Squares, make_squares

from hpc.dispatch.gate import run_gate
from hpc.planning.escalation import escalate
from hpc.planning.inodes import budget
from hpc.planning.measured import Measured
from hpc.planning.sizing import makespan, size
from hpc.site import Resources, Site, check_resources
from hpc.workers.worker import Worker

GB = 1 << 30

costs = st.lists(st.floats(0, 1e6), max_size=200)
resources = st.builds(
    Resources,
    cpus=st.integers(1, 64),
    gpus=st.integers(0, 8),
    mem_gb=st.none() | st.floats(0.5, 16),
    task_minutes=st.integers(1, 600),
    max_tasks=st.none() | st.integers(1, 50),
)
sites = st.builds(
    Site,
    max_tasks=st.integers(1, 100),
    max_array_size=st.integers(2, 50),
    node_cpus=st.none() | st.integers(1, 64),
    node_mem_gb=st.none() | st.floats(16, 256),
    max_time_min=st.none() | st.integers(15, 3000),
    throttle=st.none() | st.integers(1, 10),
)
measurements = st.none() | st.builds(
    Measured,
    rate=st.floats(0.01, 100),
    spread=st.floats(1, 10),
    peak_rss_bytes=st.integers(1 << 20, 10 * GB),
    bytes_per_cost=st.just(1.0),
    units=st.just(5),
    max_cost=st.floats(0.1, 1e6),
    source=st.just("5 units of this version"),
)


def measured(rate: float = 1.0, peak_gb: float = 1.0, spread: float = 1.0, max_cost: float = 1e9) -> Measured:
    return Measured(rate, spread, int(peak_gb * GB), 0.0, 41, max_cost, "41 units of this version")


def text(reasons: tuple[str, ...] | list[str]) -> str:
    return " ".join(reasons)


# --- limits ---


@given(costs, resources, sites, measurements)
def test_no_limit_is_ever_exceeded_and_no_task_is_idle(costs: list[float], asked: Resources, site: Site, known: Measured | None) -> None:
    packing = size(costs, asked, site, known)
    if not costs:
        assert packing.tasks == 0
        return
    got = packing.resources
    assert 1 <= packing.tasks <= min(site.max_tasks, asked.max_tasks or site.max_tasks)
    assert packing.arrays == math.ceil(packing.tasks / site.max_array_size)
    assert packing.procs == got.procs <= min(asked.procs, len(costs))
    # an element without a single unit would only start and leave
    assert packing.tasks <= math.ceil(len(costs) / packing.procs)
    assert packing.minutes * 60 >= (known.seconds(max(costs)) if known else max(costs)) - 1e-6
    assert packing.stage_minutes >= packing.minutes - 1e-6
    assert got.mem_gb is not None and got.time_limit_min is not None
    if packing.procs > 1:
        assert got.task_mem_gb <= (site.node_mem_gb or math.inf) + 0.01
    if asked.gpus == 0:
        assert got.cpus <= (site.node_cpus or math.inf)
    assert got.time_limit_min <= (site.max_time_min or math.inf)
    assert got.time_limit_min * 60 > site.signal_s + 60


@given(costs, resources, sites, measurements)
def test_what_is_packed_can_be_sent(costs: list[float], asked: Resources, site: Site, known: Measured | None) -> None:
    """But for a process that is too large for a node by itself, which is the user's number, and the cores of a GPU task."""
    packing = size(costs, asked, site, known)
    problem = check_resources("x", packing.resources, site) if costs else None
    assert problem is None or (packing.procs == 1 and "GB" in problem)


@given(costs.filter(bool), resources)
def test_without_limits_a_task_lasts_about_as_long_as_wished(costs: list[float], asked: Resources) -> None:
    free = asked.model_copy(update={"max_tasks": None})
    packing = size(costs, free, Site(max_tasks=10**9))
    even = sum(costs) / 60 / (packing.tasks * packing.procs)
    assert even <= free.task_minutes + 1e-6 or packing.tasks == math.ceil(len(costs) / packing.procs)


@pytest.mark.parametrize(
    ("n", "minutes", "limits", "tasks", "why"),
    [
        (1000, 60.0, {}, 250, "60 min a task"),
        (8, 600.0, {}, 2, "one unit per process"),
        (10_000, 60.0, {"site": 100}, 100, "the site's max_tasks"),
        (1000, 60.0, {"own": 10}, 10, "resources.max_tasks"),
        (5, 0.0, {}, 1, "60 min a task"),
    ],
)
def test_the_reason_names_the_limit_that_decided(n: int, minutes: float, limits: dict[str, int], tasks: int, why: str) -> None:
    asked = Resources(cpus=4, task_minutes=60, max_tasks=limits.get("own"))
    packing = size([minutes * 60] * n, asked, Site(max_tasks=limits.get("site", 1000)))
    assert packing.tasks == tasks and why in packing.reason


def test_arrays_and_throttle_are_told() -> None:
    packing = size([3600.0] * 10_000, Resources(cpus=4), Site(max_tasks=10_000, max_array_size=1001, throttle=100))
    assert (packing.tasks, packing.arrays) == (2500, 3)
    assert packing.stage_minutes == pytest.approx(60 * 10_000 / 400)
    assert "3 arrays" in text(packing.reasons) and "At most 100 of the 2500 tasks" in text(packing.reasons)


# --- the schedule ---


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.integers(1, 12))
def test_the_schedule_is_that_of_workers_that_take_the_next_unit_when_they_are_free(lengths: list[float], workers: int) -> None:
    """Played through minute by minute in a way that shares nothing with the heap."""
    ordered = sorted(lengths, reverse=True)
    free_at = [0.0] * workers
    for length in ordered:
        first = min(range(workers), key=lambda w: free_at[w])
        free_at[first] += length
    assert makespan(ordered, workers) == pytest.approx(max(free_at))


def test_one_long_unit_decides_how_long_a_task_lasts() -> None:
    """By the mean alone it would be 21 minutes."""
    packing = size([7200.0] + [60.0] * 100, Resources(cpus=8, tasks=1), Site())
    assert packing.minutes == pytest.approx(120)


# --- measurements ---


def test_measured_seconds_take_the_place_of_declared_ones() -> None:
    declared = size([600.0] * 100, Resources(cpus=4), Site())
    twice_as_slow = size([600.0] * 100, Resources(cpus=4), Site(), measured(rate=2.0))
    assert twice_as_slow.hours == pytest.approx(2 * declared.hours) and twice_as_slow.tasks > declared.tasks
    assert "as declared" in declared.reasons[0] and "41 units of this version" in twice_as_slow.reasons[0]


@pytest.mark.parametrize(("peak_gb", "gb"), [(0.1, 0.5), (1.0, 1.5), (1.1, 1.75), (8.0, 12.0)])
def test_memory_is_the_measured_peak_and_half_as_much_again(peak_gb: float, gb: float) -> None:
    assert size([60.0] * 8, Resources(), Site(), measured(peak_gb=peak_gb)).resources.mem_gb == gb


def test_a_peak_of_small_units_is_only_a_lower_bound_for_large_ones() -> None:
    packing = size([600.0] * 8, Resources(), Site(), measured(peak_gb=0.2, max_cost=1.0))
    assert packing.resources.mem_gb == 2.0 and "600 times as large" in text(packing.reasons)


@pytest.mark.parametrize(("known", "minutes", "margin"), [(None, 30, 3), (measured(), 30, 2), (measured(spread=3.5), 30, 3.5)])
def test_the_time_limit_has_a_margin_that_depends_on_what_is_known(known: Measured | None, minutes: int, margin: float) -> None:
    packing = size([minutes * 60.0], Resources(cpus=1), Site(), known)
    assert packing.resources.time_limit_min == math.ceil(minutes * margin) + 10


def test_a_time_limit_leaves_room_behind_the_warning() -> None:
    assert size([1.0], Resources(), Site()).resources.time_limit_min == 15
    assert (size([1.0], Resources(), Site(signal_s=1800)).resources.time_limit_min or 0) * 60 > 1860


def test_tasks_are_shorter_where_the_site_allows_little_time() -> None:
    packing = size([600.0] * 1000, Resources(cpus=4, task_minutes=600), Site(max_time_min=130))
    assert packing.minutes <= 40 and packing.resources.time_limit_min == 130 and "within the site's 130" in text(packing.reasons)


@pytest.mark.parametrize(
    ("asked", "known", "says"),
    [
        ({"mem_gb": 1.0}, measured(peak_gb=1.4), "too little, attempts would be killed. Set mem_gb = 2.25"),
        ({"mem_gb": 16.0}, measured(peak_gb=1.0), "mem_gb = 1.5 would do"),
        ({"time_limit_min": 20}, measured(), "set time_limit_min = 210"),
    ],
)
def test_what_the_user_asked_for_stands_and_what_speaks_against_it_is_told(asked: dict[str, Any], known: Measured, says: str) -> None:
    packing = size([6000.0] * 8, Resources(**asked), Site(), known)
    assert {key: getattr(packing.resources, key) for key in asked} == asked
    assert says in text(packing.reasons)


# --- nodes ---


def test_fewer_processes_start_where_the_node_has_too_little_memory() -> None:
    packing = size([60.0] * 500, Resources(cpus=64, mem_gb=8.0), Site(node_cpus=64, node_mem_gb=256))
    assert packing.procs == packing.resources.cpus == 32 and "32 processes of 8 GB, not 64" in text(packing.reasons)


def test_gpu_tasks_keep_the_cores_of_each_gpu() -> None:
    packing = size([60.0] * 500, Resources(cpus=32, gpus=4, mem_gb=100), Site(node_mem_gb=256))
    assert (packing.procs, packing.resources.gpus, packing.resources.cpus) == (2, 2, 16)


def test_a_single_unit_takes_a_single_core_and_the_memory_of_all_while_nothing_is_measured() -> None:
    packing = size([60.0], Resources(cpus=8), Site())
    assert (packing.tasks, packing.procs, packing.resources.cpus, packing.resources.mem_gb) == (1, 1, 1, 16.0)
    assert size([60.0], Resources(cpus=8), Site(), measured()).resources.mem_gb == 1.5
    assert size([60.0], Resources(cpus=8, mem_gb=3), Site()).resources.mem_gb == 3


# --- escalation ---


def failure(kind: str, **requested: Any) -> dict[str, Any]:
    return {"kind": kind, "requested": requested}


def test_memory_is_doubled_over_what_failed() -> None:
    more, reasons = escalate(Resources(cpus=4, mem_gb=3.0), Site(), Counter(out_of_memory=2, error=7))
    assert (more.mem_gb, more.cpus) == (6.0, 4) and "2 units ran out of memory" in reasons[0] and len(reasons) == 1


def test_processes_make_room_for_each_other_down_to_one_and_then_there_is_no_more() -> None:
    given, site = Resources(cpus=4, mem_gb=2.0), Site(node_mem_gb=10)
    seen = []
    for _ in range(4):
        given, reasons = escalate(given, site, {"out_of_memory": 1})
        seen.append((given.mem_gb, given.cpus))
    assert seen == [(4.0, 2), (8.0, 1), (10.0, 1), (10.0, 1)]
    assert "no more can be given" in reasons[0]


def test_time_is_doubled_up_to_the_limit_of_the_site() -> None:
    given, site = Resources(time_limit_min=60), Site(max_time_min=200)
    limits = []
    for _ in range(3):
        given, reasons = escalate(given, site, {"time_limit": 1})
        limits.append(given.time_limit_min)
    assert limits == [120, 200, 200] and "no more can be given" in reasons[0]


def test_units_that_failed_are_given_more_than_the_largest_request_among_them() -> None:
    failures = [failure("out_of_memory", mem_gb=2.0), failure("out_of_memory", mem_gb=4.0), failure("error", mem_gb=64.0), {}]
    packing = size([60.0] * 8, Resources(), Site(), measured(), failures)
    assert packing.resources.mem_gb == 8.0 and "2 units ran out of memory" in text(packing.reasons)
    late = size([60.0] * 8, Resources(), Site(), measured(), [failure("time_limit", time_limit_min=40)])
    assert late.resources.time_limit_min == 80


def test_a_request_raised_by_hand_is_not_doubled_again() -> None:
    packing = size([60.0] * 8, Resources(mem_gb=9.0), Site(), None, [failure("out_of_memory", mem_gb=2.0)])
    assert packing.resources.mem_gb == 9.0


def test_fewer_processes_do_not_leave_a_task_with_less_than_the_one_that_ran_out_of_memory() -> None:
    """Ten processes shared 20 GB, one unit is left: twice its share would be 4."""
    packing = size([60.0], Resources(cpus=10, mem_gb=2.0), Site(), None, [failure("out_of_memory", mem_gb=2.0)])
    assert packing.procs == 1 and packing.resources.task_mem_gb == 20
    assert any("20 GB of the task that failed" in reason for reason in packing.reasons)


def test_a_lone_unit_that_ran_out_of_memory_gets_twice_what_it_had_and_not_more() -> None:
    first = size([60.0], Resources(cpus=4), Site()).resources
    again = size([60.0], Resources(cpus=4), Site(), None, [failure("out_of_memory", **first.model_dump())]).resources
    assert (first.mem_gb, again.mem_gb) == (8.0, 16.0)


# --- inodes ---


def count(run: Path) -> int:
    return sum(len(folders) + len(files) for _, folders, files in os.walk(run))


@pytest.mark.parametrize("units", [5, 130])
def test_the_inode_budget_holds_and_is_not_far_off(tmp_path: Path, units: int) -> None:
    """Counted while a unit is being joined, at the end and after the gate; nothing is left out, little is put in."""
    state = make_squares(tmp_path, [6] * units)
    seen: list[int] = []

    class Counting(Squares):
        def join(self, *args: Any) -> None:
            super().join(*args)
            seen.append(count(tmp_path))

    assert Worker(state, Counting(), state.plan.largest_first, lambda: False).run().committed == units
    ended = count(tmp_path)
    assert run_gate(state).complete
    kept = count(tmp_path)
    expected = budget(state.plan, tasks=1, procs=1, folded=state.archive_path.exists(), slices=2)
    slack = 20
    assert expected.running - slack <= max(seen) <= expected.running
    assert 6 <= max(seen) - ended <= expected.running - expected.ended <= 12
    assert expected.ended - slack <= ended <= expected.ended
    assert expected.kept - slack <= kept <= expected.kept
    assert f"{expected.kept:,} after the gate" in expected.text()


def test_a_folded_stage_keeps_less_than_three_inodes_per_unit() -> None:
    from hpc.state.plan import Plan, PlannedUnit

    units = tuple(PlannedUnit(f"{i:06d}", i, 1.0) for i in range(10_000))
    plan = Plan("x", "f" * 64, {}, units, (), {"text": "x/{unit}.txt"})
    packing = size([1.0] * 10_000, Resources(cpus=4), Site(), plan=plan)
    assert budget(plan, 1000, 4).per_unit < 3 - 1 and packing.reasons[-1].startswith("Inodes: ")
