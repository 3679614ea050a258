"""Status of a run, from files alone: plans, sentinels, claims, failures and the records of tasks. The scheduler is never asked.

A complete stage is read from its one `_SUCCESS.json`; of the others a bounded number of files is opened (`hpc/watch/evidence.py`), so that
a hundred thousand units are told in a second or two. What is estimated from a sample says so.

Clocks of two hosts are never compared: a claim is silent by comparison with newer signs of life of its own host. Only where nothing
at all has moved is the clock of this host held against the times of files, and then it is called ours.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hpc.errors import UsageError
from hpc.fs.files import names_in, read_json
from hpc.state.claims import STALE_S
from hpc.state.state import StageState
from hpc.state.work import add_counts
from hpc.watch.causes import FailureGroup, Failures, group_failures
from hpc.watch.efficiency import Committed, Efficiency, efficiency
from hpc.watch.evidence import SENTINELS, Evidence, Held, folded_units, look_closely, plan_costs, read_tasks
from hpc.watch.pace import LONG_UNIT_S, MIN_PAUSE_S, Left, Pace, UnitTimes, effective_costs, estimate, recent_speed, unit_times

STALLED_S = 600.0
"""After so long without any sign of life, by this host's clock, no end is foretold."""

STRAGGLER_FACTOR = 3.0
ENOUGH_COMMITS = 5
"""Committed units whose times must be known before another unit is called slow."""


@dataclass
class Straggler:
    """A unit that takes three times what its cost suggests, and longer than 95 % of those committed. Times in seconds.

    `slices`: pieces of it that are committed; `command`: what to type to look closer.
    """

    unit: str
    host: str
    pid: int
    job: str
    elapsed_s: float
    expected_s: float
    slices: int
    log: str
    command: str


@dataclass
class StageStatus:
    """What is known of one stage.

    done, working, failed: units. `silent`: of those working, how many have missed six of their beats while their host was
    heard of. `parked`: of those failed, how many are not tried again. `states`: the same, each unit in one state only: done, working,
    silent, failed (will be tried again), parked, waiting.

    `rate` in units per hour, `eta_s` in seconds with its 80 % range, all None while unknown. `stalled_s`: seconds, by this host's
    clock, without any sign of life, None while there are some. `workers`: processes at work, as far as known.
    `estimated`: counts and seconds are scaled up from a sample. `s_per_cost`: seconds measured for one declared second.
    """

    stage: str
    fp12: str
    units: int
    done: int = 0
    working: int = 0
    silent: int = 0
    failed: int = 0
    parked: int = 0
    states: dict[str, int] = field(default_factory=dict)
    complete: bool = False
    workers: int = 0
    rate: float | None = None
    eta_s: float | None = None
    eta_low_s: float | None = None
    eta_high_s: float | None = None
    stalled_s: float | None = None
    counts: dict[str, Any] = field(default_factory=dict)
    estimated: bool = False
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0
    s_per_cost: float | None = None
    failures: list[FailureGroup] = field(default_factory=list)
    stragglers: list[Straggler] = field(default_factory=list)
    efficiency: Efficiency | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def causes(self) -> dict[str, int]:
        """Cause -> units whose last failure it is."""
        found: dict[str, int] = {}
        for group in self.failures:
            found[group.cause] = found.get(group.cause, 0) + group.units
        return found


def run_status(run: Path) -> list[StageStatus]:
    """Every stage of the run's flow, in order. Raises FileNotFoundError when `run` is no run directory, `UsageError` without a plan."""
    entries = read_json(run / "flow.json")["stages"]
    return [_status_of(StageState(run, e["stage"], e["fp12"]), e) for e in entries]


def _status_of(state: StageState, entry: Mapping[str, Any]) -> StageStatus:
    try:
        return stage_status(state, entry.get("resources"), _number_of_units(entry))
    except FileNotFoundError:
        if state.plan_path.exists():
            raise
        raise UsageError(
            f"{state.stage}: {state.plan_path} is gone; expected the plan of the stage that flow.json names. Plan the run again: "
            "it is written anew, and what is committed stays"
        ) from None


def _number_of_units(entry: Mapping[str, Any]) -> int | None:
    units = entry.get("units")
    return units if isinstance(units, int) else None


def stage_status(state: StageState, resources: Mapping[str, Any] | None = None, units: int | None = None) -> StageStatus:
    """`resources`: what the stage asks for now; `units`: how many there are, where that is known without the plan."""
    success = state.success()
    if success is not None:
        units = len(plan_costs(state.plan_path)) if units is None else units
        if _still_complete(state, units):
            return _complete(state, units, success, resources or {})
    evidence = look_closely(state)
    status = StageStatus(state.stage, state.fp12, len(evidence.costs), done=len(evidence.done))
    failures = group_failures(state, evidence.done, (resources or {}).get("max_failures"))
    status.failures = list(failures.groups)
    _count_states(status, evidence, failures)
    _add_sentinels(status, evidence)
    _add_pace(status, state, evidence, failures)
    starved = _starved(failures)
    status.efficiency = efficiency(evidence.tasks, len(evidence.running()), _committed(status, evidence, resources or {}), starved)
    return status


# --- complete stages --------------------------------------------------------------------------------------------------


def _still_complete(state: StageState, units: int) -> bool:
    """Whether all sentinels that were summed up are still there, without reading the names in an archive where that is not needed."""
    loose = sum(1 for _ in names_in(state.folder / "done"))
    folded = folded_units(state.archive_path)
    if folded is None:
        return loose == units
    if folded == units and not loose and not _retired_since(state):
        return True
    return len(state.done_units()) == units


def _retired_since(state: StageState) -> bool:
    """Whether sentinels may have been taken back since the stage was folded; both times are those of the filesystem."""
    try:
        return (state.folder / "retired").stat().st_mtime_ns >= state.archive_path.stat().st_mtime_ns
    except FileNotFoundError:
        return False


def _complete(state: StageState, units: int, success: Mapping[str, Any], resources: Mapping[str, Any]) -> StageStatus:
    status = StageStatus(state.stage, state.fp12, units, done=units, complete=True, states={**_NO_STATES, "done": units})
    status.counts = dict(success["counts"])
    status.wall_s, status.cpu_s = success["seconds"]["wall"], success["seconds"]["cpu"]
    status.peak_rss_bytes = success["peak_rss_bytes"]
    committed = Committed(units, status.wall_s, status.cpu_s, status.peak_rss_bytes, resources)
    status.efficiency = efficiency(read_tasks(state), 0, committed, complete=True)
    return status


# --- stages under way -------------------------------------------------------------------------------------------------

_NO_STATES = dict.fromkeys(("done", "working", "silent", "failed", "parked", "waiting"), 0)


def _count_states(status: StageStatus, evidence: Evidence, failures: Failures) -> None:
    silent = {claim.unit for claim in evidence.silent()}
    in_hand = set(evidence.in_hand)
    failed, parked = set(failures.failed) & evidence.costs.keys(), set(failures.parked) & evidence.costs.keys()
    status.working, status.silent, status.failed, status.parked = len(in_hand), len(silent), len(failed), len(parked)
    states = {
        "done": len(evidence.done),
        "working": len(in_hand - silent),
        "silent": len(silent),
        "failed": len(failed - parked - in_hand),
        "parked": len(parked - in_hand),
    }
    status.states = {**states, "waiting": status.units - sum(states.values())}


def _add_sentinels(status: StageStatus, evidence: Evidence) -> None:
    opened = evidence.sentinels()
    if not opened:
        return
    scale = status.done / len(opened)
    status.estimated = status.done > SENTINELS
    status.counts = _scaled(add_counts([s["counts"] for s in opened]), scale)
    status.wall_s = scale * sum(s["seconds"]["wall"] for s in opened)
    status.cpu_s = scale * sum(s["seconds"]["cpu"] for s in opened)
    status.peak_rss_bytes = max(s["peak_rss_bytes"] for s in opened)


def _scaled(counts: dict[str, Any], scale: float) -> dict[str, Any]:
    return {key: _scaled(value, scale) if isinstance(value, dict) else round(value * scale) for key, value in counts.items()}


def _committed(status: StageStatus, evidence: Evidence, resources: Mapping[str, Any]) -> Committed:
    return Committed(status.done if evidence.sentinels() else 0, status.wall_s, status.cpu_s, status.peak_rss_bytes, resources)


def _starved(failures: Failures) -> dict[str, float]:
    """What was too little for some unit, by key of the resources; taken from the last failures of units that are still missing."""
    found: dict[str, float] = {}
    for group in failures.groups:
        key = {"out_of_memory": "mem_gb", "time_limit": "time_limit_min"}.get(group.kind)
        if key and (had := group.requested.get(key)):
            found[key] = max(found.get(key, 0.0), float(had))
    return found


# --- pace and stragglers ----------------------------------------------------------------------------------------------


def _add_pace(status: StageStatus, state: StageState, evidence: Evidence, failures: Failures) -> None:
    """Nothing is foretold for a stage that nobody works on."""
    live, running = evidence.live(), evidence.running()
    quiet = time.time() - evidence.newest
    if (evidence.in_hand or running) and quiet > STALE_S:
        status.stalled_s = quiet
    costs = effective_costs(evidence.costs)
    times = _unit_times(evidence, costs)
    if times is not None:
        status.s_per_cost = times.s_per_cost
        status.stragglers = _stragglers(state, evidence, live, costs, times)
    status.workers = _workers(evidence, live, times)
    if not status.workers or quiet > STALLED_S:
        return
    pace = _pace(status, evidence, live, costs, times, failures)
    status.rate, status.eta_s, status.eta_low_s, status.eta_high_s = pace.rate, pace.eta_s, pace.low_s, pace.high_s


def _workers(evidence: Evidence, live: Sequence[Held], times: UnitTimes | None) -> int:
    """Processes at work. Each has a claim nearly all of the time where units are long; else tasks know how many there are."""
    claims = len(live) + (len(evidence.in_hand) - len(evidence.held) if live else 0)
    if claims and times is not None and times.median_s >= LONG_UNIT_S:
        return claims
    return max(claims, sum(int(task.record.get("procs") or 0) for task in evidence.running()))


def _unit_times(evidence: Evidence, costs: Mapping[str, float]) -> UnitTimes | None:
    return unit_times([(costs[c.unit], c.sentinel["seconds"]["wall"]) for c in evidence.commits if c.sentinel is not None])


def _pace(
    status: StageStatus,
    evidence: Evidence,
    live: Sequence[Held],
    costs: Mapping[str, float],
    times: UnitTimes | None,
    failures: Failures,
) -> Pace:
    commits = [(commit.at, costs[commit.unit]) for commit in evidence.commits if commit.at]
    pause = max(MIN_PAUSE_S, 2 * times.longest_s) if times else MIN_PAUSE_S
    scale = status.done / len(commits) if commits else 1.0
    speed = recent_speed(commits, scale, _until(evidence, live, commits, pause), pause)
    in_hand = {claim.unit for claim in live}
    out = in_hand | set(failures.parked)
    waiting = [cost for unit, cost in costs.items() if unit not in evidence.done and unit not in out]
    return estimate(speed, times, Left(waiting, [(costs[claim.unit], claim.elapsed_s or 0.0) for claim in live], status.workers))


def _until(evidence: Evidence, live: Sequence[Held], commits: Sequence[tuple[float, float]], pause_s: float) -> float:
    """The end of the recent past, all by the clock of the filesystem: when anything was last written (tasks do so every minute), or the
    last commit where all who work now began long after it."""
    last = max((at for at, _ in commits), default=0.0)
    since = evidence.newest_written - last
    resumed = since > pause_s and all(claim.elapsed_s is not None and claim.elapsed_s < since for claim in live)
    return last if resumed else evidence.newest_written


def _stragglers(
    state: StageState, evidence: Evidence, live: Sequence[Held], costs: Mapping[str, float], times: UnitTimes
) -> list[Straggler]:
    """The slowest first."""
    if len(times.ratios) < ENOUGH_COMMITS:
        return []
    logs = {str(task.record.get("job")): str(task.record.get("log", "")) for task in sorted(evidence.tasks, key=lambda task: task.at)}
    found = []
    for claim in live:
        elapsed, expected = claim.elapsed_s, costs[claim.unit] * times.s_per_cost
        # younger than a beat: the filesystem's clock may still stand in its time of change
        if elapsed is None or elapsed <= max(STRAGGLER_FACTOR * expected, times.p95_s, claim.beat_s):
            continue
        log = logs.get(claim.job) or (str(state.logs / f"{claim.job}.log") if claim.job else "")
        slices = sum(1 for _ in names_in(state.slices_path(claim.unit)))
        command = f"less {shlex.quote('+/' + claim.unit)} {shlex.quote(log)}" if log else f"ssh {claim.host} ps -fp {claim.pid}"
        found.append(Straggler(claim.unit, claim.host, claim.pid, claim.job, elapsed, expected, slices, log, command))
    return sorted(found, key=lambda straggler: (straggler.expected_s - straggler.elapsed_s, straggler.unit))
