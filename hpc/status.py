"""Status of a run, from files alone: plans, sentinels, claims and failures. The scheduler is never asked.

Complete stages are read from their one `_SUCCESS.json`; of the others at most `SAMPLE` sentinels are opened.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hpc.claims import STALE_S
from hpc.commit import add_counts
from hpc.files import read_json, read_json_if_exists
from hpc.plan import Plan
from hpc.state import StageState, latest
from hpc.worker import MAX_FAILURES

SAMPLE = 500
"""Sentinels opened of an incomplete stage; counts of a larger one are scaled up and marked as estimates."""

RECENT = 64
"""Commits that the rate is taken from."""


@dataclass
class StageStatus:
    """One line of the table. `silent`: of those working, how many have not been heard of for a while.

    `rate` in units per hour, `eta_s` in seconds, both None while unknown.
    """

    stage: str
    fp12: str
    units: int
    done: int = 0
    working: int = 0
    silent: int = 0
    failed: int = 0
    parked: int = 0
    complete: bool = False
    rate: float | None = None
    eta_s: float | None = None
    counts: dict[str, Any] = field(default_factory=dict)
    estimated: bool = False
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0
    causes: dict[str, int] = field(default_factory=dict)
    example: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def run_status(run: Path) -> list[StageStatus]:
    """Every stage of the run's flow, in order. Raises FileNotFoundError when `run` is no run directory."""
    return [stage_status(StageState(run, entry["stage"], entry["fp12"])) for entry in read_json(run / "flow.json")["stages"]]


def stage_status(state: StageState) -> StageStatus:
    plan = state.plan
    status = StageStatus(state.stage, state.fp12, len(plan.units))
    times = _times(state.folder / "done")
    status.done = len(times)
    success = state.success() if status.done == status.units else None
    if success is not None:
        status.complete = True
        status.counts = success["counts"]
        status.wall_s, status.cpu_s = success["seconds"]["wall"], success["seconds"]["cpu"]
        status.peak_rss_bytes = success["peak_rss_bytes"]
        return status
    claims = _times(state.folder / "claims")
    status.working = sum(unit not in times for unit in claims)
    status.silent = sum(unit not in times and time.time() - beat > STALE_S for unit, beat in claims.items())
    _add_failures(status, state, times)
    _add_sentinels(status, state, sorted(times))
    _add_pace(status, plan, times)
    return status


def _times(folder: Path) -> dict[str, float]:
    """Unit -> when its file was last touched, by the clock of the filesystem; one directory read."""
    try:
        with os.scandir(folder) as entries:
            return {e.name.removesuffix(".json"): e.stat().st_mtime for e in entries if not e.name.startswith(".")}
    except FileNotFoundError:
        return {}


def _add_failures(status: StageStatus, state: StageState, done: dict[str, float]) -> None:
    causes: Counter[str] = Counter()
    for unit, attempts in state.failures().items():
        if unit in done:
            continue
        status.failed += 1
        status.parked += len(attempts) >= MAX_FAILURES
        path = latest(attempts)
        last = read_json_if_exists(path)
        if last is not None:
            causes[last["cause"].splitlines()[0][:160]] += 1
            status.example = status.example or f"{unit}: {path}"
    status.causes = dict(causes.most_common())


def _add_sentinels(status: StageStatus, state: StageState, done: list[str]) -> None:
    step = max(1, len(done) // SAMPLE)
    opened = [s for unit in done[::step] if (s := state.sentinel(unit)) is not None]
    if not opened:
        return
    scale = len(done) / len(opened)
    status.estimated = step > 1
    status.counts = _scaled(add_counts([s["counts"] for s in opened]), scale)
    status.wall_s = scale * sum(s["seconds"]["wall"] for s in opened)
    status.cpu_s = scale * sum(s["seconds"]["cpu"] for s in opened)
    status.peak_rss_bytes = max(s["peak_rss_bytes"] for s in opened)


def _scaled(counts: dict[str, Any], scale: float) -> dict[str, Any]:
    return {key: _scaled(value, scale) if isinstance(value, dict) else round(value * scale) for key, value in counts.items()}


def _add_pace(status: StageStatus, plan: Plan, times: dict[str, float]) -> None:
    """Rate over the latest commits, weighted by what units cost; nothing is said of a stage that nobody works on."""
    latest = sorted(times, key=lambda unit: times[unit])[-RECENT:]
    if len(latest) < 2 or status.working == status.silent:
        return
    span = time.time() - times[latest[0]]
    known = [unit for unit in latest[1:] if unit in plan.by_id]
    if span <= 0 or not known:
        return
    status.rate = 3600 * len(known) / span
    per_second = sum(plan.by_id[unit].cost for unit in known) / span
    left = sum(unit.cost for unit in plan.units if unit.id not in times)
    status.eta_s = left / per_second if per_second > 0 else None
