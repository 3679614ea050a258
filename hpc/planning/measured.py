"""What units of a stage really took: from the sentinels of this version, else of the version before, else of a probe.

A plan declares what each unit is expected to cost; a measurement says how many seconds of wall time one declared second is
worth. Declared costs are never corrected in the plan: measuring changes how work is packed, never what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpc.fs.files import names_in, read_json_if_exists
from hpc.state.plan import load_plan
from hpc.state.state import StageState

SAMPLE = 200
"""Sentinels opened at most, evenly spread over the units."""

ENOUGH = 3
"""Units that must be committed before their times are trusted; all of them in a smaller stage."""

PROBE = Path("probe", "measured.json")
"""Below the run folder: what `estimate` has measured on a sample of the input."""


@dataclass(frozen=True)
class Measured:
    """What one process needs for a unit: `fixed_s + rate * declared cost`, in seconds of wall time.

    rate: seconds for one declared second. spread: 90th percentile of (seconds of a unit / seconds by `rate`), at least 1.
    peak_rss_bytes: the most that a worker process held. bytes_per_cost: output bytes for one declared second.
    units: how many were measured; max_cost: declared cost of the largest. source: where from, in words.
    startup_s: what a process needs before its first unit, 0 where it is not known.
    """

    rate: float
    spread: float
    peak_rss_bytes: int
    bytes_per_cost: float
    units: int
    max_cost: float
    source: str
    fixed_s: float = 0.0
    startup_s: float = 0.0

    def seconds(self, cost: float) -> float:
        """
        >>> Measured(0.5, 1.0, 0, 0.0, 8, 10.0, "8 units", fixed_s=1.0).seconds(10.0)
        6.0
        """
        return self.fixed_s + self.rate * cost


def measure(run: Path, stage: str, fp12: str, plan_costs: Mapping[str, float]) -> Measured | None:
    """The best measurement there is of a stage, None where there is none. `plan_costs`: unit -> declared cost of this version.

    Opens at most `SAMPLE` sentinels of one version, whatever the number of units.
    """
    state = StageState(run, stage, fp12)
    if (found := _of_version(state, plan_costs, "of this version")) is not None:
        return found
    for other in _other_versions(run, stage, fp12):
        costs = _costs(other)
        if costs is not None and (found := _of_version(other, costs, f"of version {other.fp12}")) is not None:
            return found
    return _of_probe(run, stage)


def _other_versions(run: Path, stage: str, fp12: str) -> Iterator[StageState]:
    """Other versions of a stage, the one that was committed to last first."""
    states = [StageState(run, stage, name) for name in names_in(run / "state" / stage) if name != fp12]
    found = sorted(((_last_commit(state), state.fp12, state) for state in states), reverse=True)
    return (state for when, _, state in found if when)


def _last_commit(state: StageState) -> int:
    """Time of the last commit by the clock of the filesystem, nanoseconds; 0 where there is none."""
    times = [0]
    for path in (state.success_path, state.folder / "done.zip", state.folder / "done"):
        try:
            times.append(path.stat().st_mtime_ns)
        except FileNotFoundError:
            continue
    return max(times)


def _costs(state: StageState) -> dict[str, float] | None:
    """Declared costs of another version; None where its plan is gone or of an older format."""
    try:
        return {unit.id: unit.cost for unit in load_plan(state.plan_path).units}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _of_version(state: StageState, costs: Mapping[str, float], words: str) -> Measured | None:
    done = sorted(state.done_units() & costs.keys())
    if len(done) < min(ENOUGH, max(len(costs), 1)):
        return None
    sample = [(costs[unit], sentinel) for unit in _spread_out(done, SAMPLE) if (sentinel := state.sentinel(unit)) is not None]
    if not sample:
        return None
    success = state.success() if len(done) == len(costs) else None
    units = len(done) if success else len(sample)
    source = f"{units:,} unit{'s' * (units > 1)} {words}"
    if success is None and len(sample) < len(done):
        source += f" ({len(done):,} are committed)"
    found = from_sentinels(sample, source, success, sum(costs.values()) if success else None)
    return replace(found, units=units) if found else None


def from_sentinels(
    sample: Sequence[tuple[float, Mapping[str, Any]]],
    source: str,
    success: Mapping[str, Any] | None = None,
    total_cost: float | None = None,
) -> Measured | None:
    """Sums over (declared cost, sentinel); where the whole stage has been summed up, `success` and its declared `total_cost`.

    None where nothing was declared to cost anything: then nothing can be concluded for other units.
    """
    cost, wall = sum(cost for cost, _ in sample), sum(float(s["seconds"]["wall"]) for _, s in sample)
    if cost <= 0:
        return None
    rate = float(success["seconds"]["wall"]) / total_cost if success and total_cost else wall / cost
    peak = max(int(s["peak_rss_bytes"]) for _, s in sample)
    written = sum(int(output["bytes"]) for _, s in sample for output in s["outputs"].values())
    return Measured(
        rate=rate,
        spread=_spread([float(s["seconds"]["wall"]) / (rate * c) for c, s in sample if rate * c > 0]),
        peak_rss_bytes=max(peak, int(success["peak_rss_bytes"])) if success else peak,
        bytes_per_cost=written / cost,
        units=len(sample),
        max_cost=max(cost for cost, _ in sample),
        source=source,
    )


def _spread(ratios: Sequence[float]) -> float:
    """The 90th percentile, at least 1.

    >>> _spread([1.0] * 8 + [1.5, 9.0])
    1.5
    """
    ranked = sorted(ratios)
    return max(1.0, ranked[(9 * len(ranked) - 1) // 10]) if ranked else 1.0


def _spread_out(items: Sequence[str], at_most: int) -> list[str]:
    """
    >>> _spread_out("abcdef", 3)
    ['a', 'c', 'e']
    """
    n = min(len(items), at_most)
    return [items[i * len(items) // n] for i in range(n)]


def _of_probe(run: Path, stage: str) -> Measured | None:
    """What `estimate` left; a GPU stage that ran without a GPU there has no entry that could be used."""
    value = read_json_if_exists(run / PROBE)
    entry = (value or {}).get("stages", {}).get(stage)
    return Measured(**entry["measured"]) if entry and entry.get("measured") else None
