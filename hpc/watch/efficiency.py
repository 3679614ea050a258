"""What tasks of a stage used of what they asked for, and what to ask for next time.

From the records of tasks (`tasks/*.json`), which know the whole task: all its workers, idle ones too. A record without an end is
of a task that is running or was killed: what it used is a lower bound. Where there are no records, committed units tell what one
worker process used.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpc.watch.evidence import TaskSeen

GIB = 1 << 30
"""`mem_gb` is asked of Slurm in units of 1024 MB."""

MARGIN = 1.3
"""Suggested requests are the most that was used, times this."""

WORTH = 0.1
"""A request that would change by a smaller part is left alone."""

LOW_CPU, LOW_GPU, LOW_OCCUPANCY = 0.6, 0.5, 0.7

ENOUGH_UNITS = 5
"""Committed units that are believed where no task has ended yet."""


@dataclass
class Efficiency:
    """Used against requested, 0..1 (CPU may be above 1, where processes have more threads than cores), None: not known.

    tasks: records; running and lost: those without an end, by whether they still write. lower_bound: the largest memory or
    time was seen in a task without an end. mem in GiB of a whole task, time in minutes.
    suggested: key of [resources.<stage>] -> value; instead_of: the value that it would replace.
    """

    tasks: int = 0
    running: int = 0
    lost: int = 0
    lower_bound: bool = False
    cpu: float | None = None
    memory: float | None = None
    gpu: float | None = None
    time: float | None = None
    occupancy: float | None = None
    mem_used_gb: float | None = None
    mem_requested_gb: float | None = None
    time_used_min: float | None = None
    time_limit_min: float | None = None
    suggested: dict[str, float] = field(default_factory=dict)
    instead_of: dict[str, float | None] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def toml(self, stage: str) -> str:
        """To paste into the run's config; "" where nothing is to be changed."""
        if not self.suggested:
            return ""
        lines = [f"[resources.{_toml_key(stage)}]"]
        for key, value in self.suggested.items():
            old = self.instead_of.get(key)
            lines.append(f"{key} = {value:g}  # instead of {old:g}" if old is not None else f"{key} = {value:g}")
        return "\n".join(lines)


def _toml_key(name: str) -> str:
    """
    >>> _toml_key("extract"), _toml_key("dedup.match")
    ('extract', '"dedup.match"')
    """
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else '"' + name + '"'


@dataclass(frozen=True)
class Committed:
    """What committed units tell. wall_s and cpu_s: sums over all of them; peak_rss_bytes: the most of one worker process."""

    units: int
    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    requested: Mapping[str, Any]


def efficiency(
    tasks: Sequence[TaskSeen], running: int, committed: Committed, starved: Mapping[str, float] | None = None, complete: bool = False
) -> Efficiency | None:
    """None where nothing has run. `running`: tasks at work now. `starved`: "mem_gb" or "time_limit_min" that were too small for some
    unit: no less is suggested than somewhat more than that."""
    records = [task.record for task in tasks if _number(task.record, "wall_s") > 0]
    if not records and not committed.units:
        return None
    found = _of_tasks(records, running) if records else _of_units(committed)
    if records and complete:
        busy = sum(_number(r, "wall_s") * _number(r, "procs") for r in records)
        found.occupancy = min(1.0, committed.wall_s / busy) if busy else None
    _suggest_memory(found, records, committed, starved or {})
    _suggest_time(found, records, committed, starved or {})
    _suggest_cpus(found, records)
    _remark(found)
    return found


def _of_tasks(records: Sequence[Mapping[str, Any]], running: int) -> Efficiency:
    unended = sum(not record.get("ended") for record in records)
    found = Efficiency(tasks=len(records), running=min(running, unended), lost=max(0, unended - running))
    asked = sum(_number(r, "wall_s") * _number(r, "cpus") for r in records)
    found.cpu = sum(_number(r, "cpu_s") for r in records) / asked if asked else None
    fullest = max(records, key=lambda r: _number(r, "peak_rss_bytes"))
    found.mem_used_gb = _number(fullest, "peak_rss_bytes") / GIB
    found.mem_requested_gb = _number(fullest, "mem_gb") or None
    parts = [(_number(r, "peak_rss_bytes") / GIB, _number(r, "mem_gb")) for r in records if _number(r, "mem_gb")]
    found.memory = max((used / asked_gb for used, asked_gb in parts), default=None)
    longest = max(records, key=lambda r: _number(r, "wall_s"))
    found.time_used_min, found.time_limit_min = _number(longest, "wall_s") / 60, _number(longest, "time_min") or None
    limits = [_number(r, "wall_s") / 60 / _number(r, "time_min") for r in records if _number(r, "time_min")]
    found.time = max(limits, default=None)
    found.lower_bound = not (fullest.get("ended") and longest.get("ended"))
    gpus = [(r["gpu_busy"], _number(r, "wall_s") * _number(r, "gpus")) for r in records if r.get("gpu_busy") is not None]
    weight = sum(share for _, share in gpus)
    found.gpu = sum(busy * share for busy, share in gpus) / weight if weight else None
    return found


def _of_units(committed: Committed) -> Efficiency:
    """One worker process stands for all: how many there were in a task, and what they did between units, is not known."""
    found = Efficiency(cpu=committed.cpu_s / committed.wall_s if committed.wall_s > 0 and not committed.requested.get("gpus") else None)
    asked = committed.requested.get("mem_gb")
    if asked:
        procs = _procs(committed.requested)
        found.mem_used_gb, found.mem_requested_gb = procs * committed.peak_rss_bytes / GIB, procs * float(asked)
        found.memory = committed.peak_rss_bytes / GIB / float(asked)
    return found


def _procs(requested: Mapping[str, Any]) -> int:
    return int(requested.get("gpus") or requested.get("cpus") or 1)


# --- suggestions ------------------------------------------------------------------------------------------------------


def _suggest_memory(found: Efficiency, records: Sequence[Mapping[str, Any]], committed: Committed, starved: Mapping[str, float]) -> None:
    """`mem_gb` is per worker process; the limit is the task's, so what counts is the task's peak, shared out."""
    shares = [(_number(r, "peak_rss_bytes") / GIB / r["procs"], _number(r, "mem_gb") / r["procs"]) for r in records if _number(r, "procs")]
    if not shares and committed.peak_rss_bytes:
        shares = [(committed.peak_rss_bytes / GIB, float(committed.requested.get("mem_gb") or 0))]
    if not shares or not _trusted(records, committed):
        return
    now = _usual([asked for _, asked in shares if asked])
    wanted = _round_up(MARGIN * max(used for used, _ in shares))
    _offer(found, "mem_gb", max(wanted, _more_than(starved.get("mem_gb"))), now)


def _suggest_time(found: Efficiency, records: Sequence[Mapping[str, Any]], committed: Committed, starved: Mapping[str, float]) -> None:
    """From tasks that came to their own end; one that was told to leave, or is running, says only that it is not too little."""
    finished = [r for r in records if r.get("ended") and not r.get("signal")]
    if not finished or found.running:
        return
    longest = max(_number(r, "wall_s") for r in records) / 60
    now = _usual([_number(r, "time_min") for r in records if _number(r, "time_min")])
    wanted = float(max(15, 5 * math.ceil(MARGIN * longest / 5)))
    _offer(found, "time_limit_min", max(wanted, math.ceil(_more_than(starved.get("time_limit_min")))), now)


def _suggest_cpus(found: Efficiency, records: Sequence[Mapping[str, Any]]) -> None:
    """Only where cores are not what decides the number of processes: those of GPU tasks."""
    shared = [r for r in records if _number(r, "gpus") and _number(r, "cpus") > 1 and r.get("ended")]
    if shared:
        used = max(_number(r, "cpu_s") / _number(r, "wall_s") / _number(r, "gpus") for r in shared)
        gpus = _usual([_number(r, "gpus") for r in shared]) or 1
        _offer(found, "cpus", float(max(1, math.ceil(MARGIN * used * gpus))), _usual([_number(r, "cpus") for r in shared]))


def _offer(found: Efficiency, key: str, wanted: float, now: float | None) -> None:
    if now is not None and abs(wanted - now) <= WORTH * now:
        return
    found.suggested[key], found.instead_of[key] = wanted, now


def _more_than(starved: float | None) -> float:
    """Half as much again as what was too little."""
    return 1.5 * starved if starved else 0.0


def _trusted(records: Sequence[Mapping[str, Any]], committed: Committed) -> bool:
    return any(record.get("ended") for record in records) or committed.units >= ENOUGH_UNITS


def _remark(found: Efficiency) -> None:
    if found.cpu is not None and found.cpu < LOW_CPU and found.gpu is None:
        found.remarks.append(
            f"cores were busy {found.cpu:.0%} of the time: expected above {LOW_CPU:.0%}. "
            + (
                "Workers waited for work: ask for fewer tasks, or make smaller units"
                if found.occupancy is not None and found.occupancy < LOW_OCCUPANCY
                else "Workers waited for files: fewer cpus would be about as fast, or set scratch in the site profile"
            )
        )
    if found.gpu is not None and found.gpu < LOW_GPU:
        found.remarks.append(
            f"GPUs were busy {found.gpu:.0%} of the time: expected above {LOW_GPU:.0%}. "
            "Set a larger batch, more cpus for a GPU, or fewer gpus"
        )
    if found.lost:
        found.remarks.append(f"{found.lost} of {found.tasks} tasks were killed before they could write their end: they used at least this")


def _usual(values: Sequence[float]) -> float | None:
    """The most frequent value, the largest of those equally frequent."""
    counts = Counter(values)
    return max(counts, key=lambda value: (counts[value], value)) if counts else None


def _round_up(gb: float) -> float:
    """
    >>> _round_up(1.1501), _round_up(0.02), _round_up(12.2)
    (1.2, 0.1, 13.0)
    """
    return math.ceil(round(gb * 10, 6)) / 10 if gb < 10 else float(math.ceil(gb))


def _number(record: Mapping[str, Any], key: str) -> float:
    return float(record.get(key) or 0)
