"""How fast a stage goes, and when it will be complete: a range that holds the end in about four of five cases.

The end is played through `DRAWS` times: the units that are left, largest first, are given to the workers there are. Each time
the speed, and how much longer or shorter than expected a unit takes, are drawn from what has been measured:

- speed: declared cost committed per second of the recent past. How sure it is comes from a jackknife over blocks of that time, is
  never taken to be better than the number of commits allows, and is spread by Student's t, so few commits give a wide range;
- where units are long, the speed of one worker is also known from the units themselves (seconds per cost), and the workers from
  their claims. Where both agree they are one measurement; where they disagree, because workers have come or gone or stood still,
  the range covers both;
- no draw ends before the longest unit that is left could.

Chance has a fixed seed: the same files give the same answer.
"""

from __future__ import annotations

import bisect
import heapq
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RECENT = 256
"""Commits (of those whose time is known) that the rate is taken from."""

DRAWS = 64
SIMULATED = 1000
"""Units at the end of the list that are played through one by one; those before them are shared out evenly."""

LONG_UNIT_S = 60.0
"""Units of at least this wall time (median) leave nothing of note between claim and claim: a worker's speed is that of its units."""

AGREE = 4 / 3
"""Speeds within this factor of each other are taken to be the same."""

MIN_PAUSE_S = 600.0
MAX_SPREAD = 5.0
"""Logarithm of the widest range that a draw may take: beyond a factor of 150 nothing is known anyway."""


@dataclass(frozen=True)
class Pace:
    """rate: units per hour. eta_s, low_s, high_s: seconds until the stage is complete, and the 80 % range."""

    rate: float | None = None
    eta_s: float | None = None
    low_s: float | None = None
    high_s: float | None = None


@dataclass(frozen=True)
class Speed:
    """Declared cost per second of the whole stage; `sigma`: its uncertainty, on the logarithm, with `df` degrees of freedom."""

    units_per_s: float
    cost_per_s: float
    sigma: float
    df: int


@dataclass(frozen=True)
class UnitTimes:
    """What units took. `s_per_cost`: seconds of one worker for one declared second; `ratios`: sorted, of a unit's time to the expected."""

    s_per_cost: float
    ratios: Sequence[float]
    median_s: float
    p95_s: float
    longest_s: float

    @property
    def sigma(self) -> float:
        """Uncertainty of `s_per_cost`, on the logarithm."""
        n = len(self.ratios)
        mean = sum(self.ratios) / n
        spread = math.sqrt(sum((ratio - mean) ** 2 for ratio in self.ratios) / max(n - 1, 1)) / max(mean, 1e-9)
        return max(spread, 0.1) / math.sqrt(n) if n > 1 else 1.0


@dataclass(frozen=True)
class Drawn:
    """A speed in declared cost per second that is not known exactly: its logarithm is `log` + `sigma` x Student's t."""

    log: float
    sigma: float
    df: int

    def draw(self, chance: random.Random) -> float:
        t = chance.gauss(0, 1) / math.sqrt(max(chance.gammavariate(self.df / 2, 2 / self.df), 1e-9))
        return math.exp(self.log + max(-MAX_SPREAD, min(MAX_SPREAD, self.sigma * t)))


@dataclass(frozen=True)
class Left:
    """What is left to do. `waiting`: costs of units that nobody works on; `running`: (cost, seconds so far) of those in hand."""

    waiting: Sequence[float]
    running: Sequence[tuple[float, float]]
    workers: int


def effective_costs(costs: Mapping[str, float]) -> Mapping[str, float]:
    """Costs that can be divided by: equal ones where nothing was declared.

    >>> effective_costs({"a": 0.0, "b": 0.0}), effective_costs({"a": 0.0, "b": 2.0})
    ({'a': 1.0, 'b': 1.0}, {'a': 0.0002, 'b': 2.0})
    """
    largest = max(costs.values(), default=0.0)
    if largest <= 0:
        return dict.fromkeys(costs, 1.0)
    smallest = largest * 1e-4
    return {unit: cost if cost > smallest else smallest for unit, cost in costs.items()}


def unit_times(timed: Sequence[tuple[float, float]]) -> UnitTimes | None:
    """From (cost, wall seconds) of committed units; None without any."""
    if not timed:
        return None
    s_per_cost = sum(wall for _, wall in timed) / sum(cost for cost, _ in timed)
    walls = sorted(wall for _, wall in timed)
    ratios = sorted(wall / (cost * s_per_cost) for cost, wall in timed) if s_per_cost > 0 else [1.0]
    return UnitTimes(s_per_cost, ratios, _quantile(walls, 0.5), _quantile(walls, 0.95), walls[-1])


def recent_speed(commits: Sequence[tuple[float, float]], scale: float, until: float, pause_s: float = MIN_PAUSE_S) -> Speed | None:
    """From (time, cost) of commits, each standing for `scale` of them. `until`: the end of the recent past, by the same clock.

    What lies before a pause (nothing committed for `pause_s`) is not recent. None while there are fewer than two commits.
    """
    latest = _since_pause(sorted(commits)[-RECENT:], pause_s)
    if len(latest) < 2:
        return None
    start, counted = latest[0][0], latest[1:]
    span = max(until, counted[-1][0]) - start
    total = sum(cost for _, cost in counted)
    if span <= 0 or total <= 0:
        return None
    enough = total**2 / sum(cost * cost for _, cost in counted)
    blocks = max(2, min(16, len(counted) // 4))
    sigma = max(_jackknife(counted, start, span, blocks), 1 / math.sqrt(enough))
    return Speed(scale * len(counted) / span, scale * total / span, sigma, blocks - 1)


def _since_pause(commits: list[tuple[float, float]], pause_s: float) -> list[tuple[float, float]]:
    for i in range(len(commits) - 1, 0, -1):
        if commits[i][0] - commits[i - 1][0] > pause_s:
            return commits[i:]
    return commits


def _jackknife(commits: Sequence[tuple[float, float]], start: float, span: float, blocks: int) -> float:
    """Standard error of the logarithm of the speed: how it changes when one block of time is left out."""
    sums = [0.0] * blocks
    for at, cost in commits:
        sums[min(blocks - 1, int(blocks * (at - start) / span))] += cost
    total = sum(sums)
    logs = [math.log(max(total - part, total * 1e-3) * blocks / (total * (blocks - 1))) for part in sums]
    mean = sum(logs) / blocks
    return math.sqrt((blocks - 1) / blocks * sum((value - mean) ** 2 for value in logs))


def estimate(speed: Speed | None, times: UnitTimes | None, left: Left) -> Pace:
    """Rate and the range of the end. Empty where nobody works, or where nothing has been committed to conclude from."""
    if left.workers < 1:
        return Pace()
    rate = 3600 * speed.units_per_s if speed else None
    draw_speeds = _speeds(speed, times, left)
    if not draw_speeds:
        return Pace(rate)
    chance = random.Random(0)
    ratios = times.ratios if times else [1.0]
    floor = longest_left(times, left)
    tail = sorted(left.waiting)[:SIMULATED]
    head = sum(left.waiting) - sum(tail)
    ends = []
    for i in range(DRAWS):
        per_worker = draw_speeds[i % len(draw_speeds)].draw(chance) / left.workers
        ends.append(max(floor, _play(chance, per_worker, ratios, left, head, tail)))
    ends.sort()
    return Pace(rate, _quantile(ends, 0.5), _quantile(ends, 0.1), _quantile(ends, 0.9))


def _speeds(speed: Speed | None, times: UnitTimes | None, left: Left) -> list[Drawn]:
    """What the speed of all workers together may be; draws are made from each in turn."""
    by_commits = Drawn(math.log(speed.cost_per_s), speed.sigma, speed.df) if speed else None
    by_units = None
    if times is not None and times.s_per_cost > 0 and times.median_s >= LONG_UNIT_S:
        by_units = Drawn(math.log(left.workers / times.s_per_cost), times.sigma, max(len(times.ratios) - 1, 1))
    if by_commits is None or by_units is None:
        return [drawn for drawn in (by_commits, by_units) if drawn is not None]
    if len(left.waiting) < 2 * left.workers:  # the long tail: commits of the past tell nothing of the few workers left
        return [by_units]
    if abs(by_commits.log - by_units.log) > math.log(AGREE):
        return [by_commits, by_units]
    return [_both(by_commits, by_units)]


def _both(one: Drawn, other: Drawn) -> Drawn:
    """Two measurements of the same, each with the weight of its certainty; never surer than their difference allows."""
    weights = 1 / one.sigma**2, 1 / other.sigma**2
    log = (weights[0] * one.log + weights[1] * other.log) / sum(weights)
    return Drawn(log, math.hypot(1 / math.sqrt(sum(weights)), (one.log - other.log) / 2), max(one.df, other.df))


def _play(chance: random.Random, per_worker: float, ratios: Sequence[float], left: Left, head: float, tail: Sequence[float]) -> float:
    """Seconds until the last worker is done. `tail`: the smallest of the waiting units, rising; `head`: cost of all before them."""
    share = head / (left.workers * per_worker)
    free = [share + _rest(chance, cost / per_worker, so_far, ratios) for cost, so_far in left.running]
    free += [share] * (left.workers - len(free))
    heapq.heapify(free)
    n = len(ratios)
    for cost in reversed(tail):
        heapq.heapreplace(free, free[0] + cost / per_worker * ratios[int(n * chance.random())])
    return max(free)


def _rest(chance: random.Random, expected_s: float, so_far_s: float, ratios: Sequence[float]) -> float:
    """Seconds that a unit in hand still takes. One that took longer than any before it may take as long again."""
    first = bisect.bisect_right(ratios, so_far_s / expected_s)
    if first < len(ratios):
        return expected_s * ratios[first + int((len(ratios) - first) * chance.random())] - so_far_s
    return so_far_s * chance.random()


def longest_left(times: UnitTimes | None, left: Left) -> float:
    """Seconds of the longest unit that is left, at the seconds per cost of those committed: no stage ends before."""
    if times is None:
        return 0.0
    waiting = max(left.waiting, default=0.0) * times.s_per_cost
    return max([waiting, *(cost * times.s_per_cost - so_far for cost, so_far in left.running)], default=0.0)


def _quantile(ranked: Sequence[float], q: float) -> float:
    """
    >>> _quantile([1.0, 2.0, 3.0, 4.0, 5.0], 0.5), _quantile([1.0, 2.0], 0.5)
    (3.0, 1.5)
    """
    at = q * (len(ranked) - 1)
    low = int(at)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (at - low) * (ranked[high] - ranked[low])
