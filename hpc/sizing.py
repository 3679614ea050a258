"""Packing: how many array elements a stage needs, and why. Units are small, tasks last about `task_minutes`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpc.site import Resources, Site


@dataclass(frozen=True)
class Packing:
    """`tasks` elements of `procs` processes; `minutes` is the estimate for one task, `reason` says how it came about."""

    tasks: int
    procs: int
    minutes: float
    reason: str


def pack(costs_s: Sequence[float], resources: Resources, site: Site) -> Packing:
    """Tasks for units of these costs (core-seconds, or GPU-seconds for GPU stages)."""
    procs, units = resources.procs, len(costs_s)
    if not units:
        return Packing(0, procs, 0.0, "nothing to do")
    total_min = sum(costs_s) / 60
    by_time = math.ceil(total_min / (resources.task_minutes * procs))
    by_units = math.ceil(units / procs)
    limits = {
        "resources.tasks" if resources.tasks else f"{resources.task_minutes} min a task": resources.tasks or max(1, by_time),
        f"one unit per process ({units} units / {procs} procs)": by_units,
        "the site's max_tasks": site.max_tasks,
        "resources.max_tasks": resources.max_tasks or site.max_tasks,
    }
    why, tasks = min(limits.items(), key=lambda item: item[1])
    minutes = max(total_min / (tasks * procs), max(costs_s) / 60)
    reason = f"{units} units, {_spent(total_min, 'GPU' if resources.gpus else 'core')} expected; {tasks} tasks because of {why}"
    return Packing(tasks, procs, minutes, reason)


def _spent(minutes: float, what: str) -> str:
    """
    >>> _spent(0.25, "core"), _spent(90, "GPU")
    ('0.2 core-minutes', '1.5 GPU-hours')
    """
    return f"{minutes:.1f} {what}-minutes" if minutes < 60 else f"{minutes / 60:,.1f} {what}-hours"
