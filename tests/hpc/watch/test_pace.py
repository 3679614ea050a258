"""The range of the end holds the end, and says little where little is known."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable

import pytest

from hpc.watch.pace import Left, Pace, UnitTimes, estimate, longest_left, recent_speed, unit_times


def steady(n: int, every_s: float = 10.0, cost: float = 1.0) -> list[tuple[float, float]]:
    return [(every_s * i, cost) for i in range(n + 1)]


Played = list[tuple[float, float, float]]


def play_stage(chance: random.Random, costs: list[float], workers: int, s_per_cost: float, spread: float) -> Played:
    """(began, ended, cost) of every unit, as workers that take the largest first would work through them."""
    free = [chance.random() for _ in range(workers)]
    heapq.heapify(free)
    played = []
    for cost in sorted(costs, reverse=True):
        began = heapq.heappop(free)
        ended = began + cost * s_per_cost * chance.lognormvariate(0, spread)
        heapq.heappush(free, ended)
        played.append((began, ended, cost))
    return played


def foretold(played: Played, now: float, workers: int) -> Pace:
    """What would have been said at the time `now`."""
    done = [unit for unit in played if unit[1] <= now]
    running = [(cost, now - began) for began, ended, cost in played if began <= now < ended]
    waiting = [cost for began, _, cost in played if began > now]
    speed = recent_speed([(ended, cost) for _, ended, cost in done], 1.0, now)
    return estimate(speed, unit_times([(cost, ended - began) for began, ended, cost in done]), Left(waiting, running, workers))


@pytest.mark.parametrize("unit_s", [5.0, 300.0], ids=["short units", "long units"])
@pytest.mark.parametrize("at", [0.25, 0.5, 0.9])
def test_the_range_holds_the_end_in_about_four_of_five_stages(unit_s: float, at: float) -> None:
    """Sixty stages each, of unequal units whose costs are declared well, but not exactly, looked at when a part of the time is over."""
    held = 0
    for seed in range(60):
        chance = random.Random(seed)
        costs = [chance.lognormvariate(0, 0.6) for _ in range(150)]
        played = play_stage(chance, costs, 8, unit_s, 0.3)
        end = max(ended for _, ended, _ in played)
        pace = foretold(played, at * end, 8)
        assert pace.low_s is not None and pace.high_s is not None
        held += pace.low_s <= (1 - at) * end <= pace.high_s
    assert held >= 0.7 * 60, f"held {held} of 60"


@pytest.mark.parametrize("at", [0.2, 0.5])
def test_the_range_is_narrow_enough_to_be_of_use(at: float) -> None:
    chance = random.Random(7)
    played = play_stage(chance, [chance.lognormvariate(0, 0.6) for _ in range(400)], 8, 300, 0.3)
    end = max(ended for _, ended, _ in played)
    pace = foretold(played, at * end, 8)
    assert pace.low_s is not None and pace.high_s is not None and pace.eta_s is not None
    assert pace.low_s <= pace.eta_s <= pace.high_s
    assert pace.high_s / pace.low_s < 2
    assert pace.eta_s == pytest.approx((1 - at) * end, rel=0.25)


def test_the_range_widens_when_few_commits_are_known() -> None:
    left = Left([1.0] * 100, [], 4)
    widths = []
    for n in (200, 40, 10, 4):
        pace = estimate(recent_speed(steady(n), 1.0, 10.0 * n), None, left)
        assert pace.low_s is not None and pace.high_s is not None
        widths.append(math.log(pace.high_s / pace.low_s))
    assert widths == sorted(widths) and widths[0] < 0.4 and widths[-1] > 1


def test_an_uneven_past_makes_a_wider_range_than_an_even_one() -> None:
    uneven = [(at if at < 1000 else 1000 + (at - 1000) / 5, cost) for at, cost in steady(200)]
    even, other = recent_speed(steady(200), 1.0, 2000.0), recent_speed(uneven, 1.0, uneven[-1][0])
    assert even is not None and other is not None and other.sigma > 2 * even.sigma


def test_the_rate_is_weighted_by_cost() -> None:
    """Small units are committed after the large ones: their number per hour says nothing about the time that is left."""
    speed = recent_speed([(10.0 * i, 5.0) for i in range(101)], 1.0, 1000.0)
    small = estimate(speed, None, Left([1.0] * 500, [], 2))
    large = estimate(speed, None, Left([5.0] * 100, [], 2))
    assert small.eta_s is not None and large.eta_s is not None
    assert small.eta_s == pytest.approx(1000, rel=0.15) and large.eta_s == pytest.approx(small.eta_s, rel=0.15)


def test_commits_of_a_sample_stand_for_all_of_them() -> None:
    speed = recent_speed(steady(50), 30.0, 500.0)
    assert speed is not None and speed.units_per_s == pytest.approx(3.0) and speed.cost_per_s == pytest.approx(3.0)


def test_no_stage_ends_before_its_longest_unit_could() -> None:
    times = unit_times([(1.0, 2.0)] * 50)
    speed = recent_speed(steady(100, every_s=0.02), 1.0, 2.0)
    for left in (Left([1.0] * 10 + [1000.0], [], 100), Left([], [(1000.0, 0.0)], 1)):
        pace = estimate(speed, times, left)
        assert longest_left(times, left) == 2000
        assert pace.low_s is not None and pace.low_s >= 2000
    assert longest_left(times, Left([1.0], [(1000.0, 1990.0)], 1)) == 10


def test_what_a_unit_in_hand_has_behind_it_is_not_left() -> None:
    times = unit_times([(1.0, 100.0)] * 50)
    fresh, old = (estimate(None, times, Left([], [(1.0, so_far)], 1)) for so_far in (0.0, 90.0))
    assert fresh.eta_s is not None and old.eta_s is not None
    assert fresh.eta_s == pytest.approx(100, rel=0.1) and old.eta_s <= 20


def test_more_workers_than_the_past_had_make_the_range_cover_both() -> None:
    """`scale=+8` on a stage of long units: commits tell of it an hour later, claims at once."""
    times, speed = unit_times([(1.0, 600.0)] * 100), recent_speed(steady(100, every_s=150), 1.0, 15_000)  # 4 workers
    left = [1.0] * 400
    same, more = (estimate(speed, times, Left(left, [], workers)) for workers in (4, 16))
    assert same.low_s is not None and same.high_s is not None and more.low_s is not None and more.high_s is not None
    assert same.low_s < 60_000 < same.high_s
    assert more.low_s < 15_600 and more.high_s > 55_000


def test_in_the_long_tail_units_tell_and_not_the_commits_of_many_workers() -> None:
    """A hundred workers committed ten units a minute; the three that are left do not."""
    times, speed = unit_times([(1.0, 600.0)] * 100), recent_speed(steady(100, every_s=6), 1.0, 600)
    pace = estimate(speed, times, Left([1.0], [(1.0, 0.0)] * 3, 3))
    assert pace.low_s is not None and pace.high_s is not None
    assert 1000 < pace.low_s < 1200 < pace.high_s < 1500


def test_what_lies_before_a_pause_is_not_recent() -> None:
    speed = recent_speed([*steady(50), *((100_000 + at, 1.0) for at, _ in steady(20, every_s=5))], 1.0, 100_100, pause_s=600)
    assert speed is not None and speed.units_per_s == pytest.approx(1 / 5)


def test_nothing_is_said_without_workers_or_without_commits() -> None:
    left: Callable[[int], Left] = lambda workers: Left([1.0], [], workers)  # noqa: E731
    assert estimate(recent_speed(steady(9), 1.0, 90), None, left(0)) == Pace()
    assert estimate(None, None, left(1)) == Pace()
    assert recent_speed([], 1.0, 0.0) is None and recent_speed([(1.0, 1.0)], 1.0, 5.0) is None
    assert unit_times([]) is None


def test_units_that_take_no_measurable_time_are_no_trouble() -> None:
    times = unit_times([(1.0, 0.0)] * 5)
    assert times is not None and times.s_per_cost == 0 and isinstance(times, UnitTimes)
    pace = estimate(recent_speed(steady(9), 1.0, 90), times, Left([1.0] * 9, [(1.0, 1.0)], 1))
    assert pace.eta_s == pytest.approx(100, rel=0.5)


def test_the_same_files_give_the_same_answer() -> None:
    made = [estimate(recent_speed(steady(9), 1.0, 90), None, Left([1.0] * 9, [], 1)) for _ in range(2)]
    assert made[0] == made[1]
