"""Packing: how many array elements a stage needs, what each asks for, and why. Units are small, tasks last about `task_minutes`.

In: expected seconds of each unit, declared or measured; what the user asked for; what the site allows; how units failed before.
Out: a `Packing` with concrete resources, and the reasoning in full sentences, which `plan` prints. Numbers that the user gave win over
measurements; where these contradict them, a sentence says so.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpc.planning.escalation import after_failures, units_of, with_procs
from hpc.planning.inodes import budget
from hpc.planning.measured import Measured
from hpc.site import DEFAULT_MEM_GB, Resources, Site
from hpc.state.plan import Plan

GB = float(1 << 30)

MEMORY_MARGIN = 1.5
MEMORY_STEP_GB = 0.25
MIN_MEM_GB = 0.5

MEASURED_MARGIN = 2.0
"""The time limit over the expected time, where that was measured: nodes differ, and so do filesystems at noon."""

DECLARED_MARGIN = 3.0
START_MIN = 10
"""Minutes on top of every time limit: a slow start, loading models, the warning before the end."""

MIN_TIME_MIN = 15

LIKE_PROBED = 2.0
"""A measured memory peak is taken for units up to so many times as large as those measured; beyond, it is only a lower bound."""

MAX_SIMULATED = 100_000
"""Units up to which the schedule is played through; the bound used for more is exact enough with so many."""


@dataclass(frozen=True)
class Packing:
    """`tasks` array elements of `procs` processes in `arrays` arrays; `resources` with nothing left open, for one element.

    minutes: how long one element is expected to last when all run at once. stage_minutes: the whole stage, with at most the site's
    `throttle` elements at once; waiting for nodes not included. hours: work of all processes, core-hours or GPU-hours.
    """

    tasks: int
    procs: int
    minutes: float
    resources: Resources
    arrays: int = 1
    stage_minutes: float = 0.0
    hours: float = 0.0
    reasons: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The gist: units and tasks."""
        return " ".join(self.reasons[:2])


def size(
    costs_s: Sequence[float],
    resources: Resources,
    site: Site,
    measured: Measured | None = None,
    failures: Iterable[Mapping[str, Any]] = (),
    plan: Plan | None = None,
) -> Packing:
    """Tasks for units of these declared costs (core-seconds; GPU-seconds of a GPU stage).

    failures: the last failure record of each unit still missing: what ran out of memory or time is given more. plan: adds the budget
    of inodes.
    """
    if not costs_s:
        return Packing(0, resources.procs, 0.0, _spelled_out(resources), 0, reasons=("Nothing is to be done.",))
    failures = list(failures)
    seconds = sorted((measured.seconds(cost) if measured else cost for cost in costs_s), reverse=True)
    given, notes = _with_memory(resources, measured, max(costs_s))
    had_gb = given.task_mem_gb
    given, more_memory = after_failures(given, site, failures, "out_of_memory")
    given, fitted = _fit_node(given, site)
    given, trimmed = _trim(given, len(seconds), keep_memory=resources.mem_gb is None and measured is None and not more_memory)
    if more_memory and given.task_mem_gb < had_gb:  # fewer processes must not leave the task with less than the one that failed had
        given = given.model_copy(update={"mem_gb": round(had_gb / given.procs, 2)})
        more_memory.append(f"The {had_gb:g} GB of the task that failed stay with the {given.procs} left.")
    margin = max(MEASURED_MARGIN, measured.spread) if measured else DECLARED_MARGIN
    tasks, why, target = _tasks(seconds, given, site, margin)
    minutes = (makespan(seconds, tasks * given.procs) + (measured.startup_s if measured else 0.0)) / 60
    given, timed = _with_time(given, site, measured, minutes, margin, target)
    given, more_time = after_failures(given, site, failures, "time_limit")
    packed = Packing(tasks, given.procs, minutes, given, math.ceil(tasks / site.max_array_size), hours=sum(seconds) / 3600)
    stage_minutes, running = _throttled(packed, seconds, site)
    reasons = [_work(packed, seconds, measured), _packed(packed, why, seconds[0])]
    reasons += [*fitted, *trimmed, *notes, *more_memory, *timed, *more_time, *running]
    if plan is not None:
        reasons.append(budget(plan, tasks, given.procs).text())
    return Packing(tasks, given.procs, minutes, given, packed.arrays, stage_minutes, packed.hours, tuple(reasons))


def makespan(seconds: Sequence[float], slots: int) -> float:
    """When the last of these pieces of work ends, if `slots` processes take them in this order. Expects falling lengths.

    >>> makespan([5.0, 4.0, 3.0, 3.0, 3.0], 2)
    10.0
    """
    if len(seconds) <= slots:
        return max(seconds, default=0.0)
    if len(seconds) > MAX_SIMULATED:
        return sum(seconds) / slots + seconds[0] * (slots - 1) / slots  # Graham's bound for list scheduling
    ends = [0.0] * slots
    for length in seconds:
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends)


# --- memory and processes ---


def _with_memory(resources: Resources, measured: Measured | None, largest_cost: float) -> tuple[Resources, list[str]]:
    """The memory of a process: the user's number, else by measurement, else the default."""
    if measured is None or not measured.peak_rss_bytes:
        words = "as asked for" if resources.mem_gb is not None else "the default, since nothing is measured yet"
        return resources.model_copy(update={"mem_gb": resources.worker_mem_gb}), [
            f"Memory: {resources.worker_mem_gb:g} GB a process, {words}."
        ]
    peak = measured.peak_rss_bytes / GB
    enough = max(MIN_MEM_GB, math.ceil(peak * MEMORY_MARGIN / MEMORY_STEP_GB) * MEMORY_STEP_GB)
    seen = f"the peak of {measured.source} was {peak:.2f} GB"
    if resources.mem_gb is not None:
        return resources, [_judged(resources.mem_gb, peak, enough, seen)]
    if largest_cost > LIKE_PROBED * measured.max_cost and enough < DEFAULT_MEM_GB:
        return resources.model_copy(update={"mem_gb": DEFAULT_MEM_GB}), [
            f"Memory: {DEFAULT_MEM_GB:g} GB a process, the default; {seen}, but units now are up to "
            f"{largest_cost / max(measured.max_cost, 1e-9):,.0f} times as large, and may need more."
        ]
    return resources.model_copy(update={"mem_gb": enough}), [f"Memory: {enough:g} GB a process; {seen}, times {MEMORY_MARGIN:g}."]


def _judged(asked: float, peak: float, enough: float, seen: str) -> str:
    text = f"Memory: {asked:g} GB a process, as asked for; {seen}"
    if asked < peak:
        return f"{text}: too little, attempts would be killed. Set mem_gb = {enough:g}, or leave it out."
    return f"{text}: mem_gb = {enough:g} would do." if asked > 2 * enough else f"{text}."


def _fit_node(resources: Resources, site: Site) -> tuple[Resources, list[str]]:
    """Fewer processes where so many do not fit on a node."""
    notes, given = [], resources
    if site.node_cpus and given.cpus > site.node_cpus:
        given = given.model_copy(update={"cpus": site.node_cpus})
        notes.append(f"A node of site {site.name!r} has {site.node_cpus} cores: a task asks for these, not for {resources.cpus}.")
    if site.node_mem_gb and given.task_mem_gb > site.node_mem_gb:
        procs = max(1, int(site.node_mem_gb / given.worker_mem_gb))
        notes.append(
            f"A node of site {site.name!r} has {site.node_mem_gb:g} GB: a task starts {procs} process{'es' * (procs > 1)} of "
            f"{given.worker_mem_gb:g} GB, not {given.procs}."
        )
        given = with_procs(given, procs)
    if site.exclusive and site.node_cpus and given.cpus < site.node_cpus:
        notes.append(f"Nodes are exclusive: {site.node_cpus - given.cpus} of their {site.node_cpus} cores stay idle.")
    return given, notes


def _trim(resources: Resources, units: int, keep_memory: bool) -> tuple[Resources, list[str]]:
    """No more processes than units. Where nothing is known of the memory, what all would have had stays with those that are left."""
    if units >= resources.procs:
        return resources, []
    fewer = with_procs(resources, units)
    note = f"A task asks for {_cores(fewer)} instead of {_cores(resources)}, since there are no more units than that."
    if keep_memory:
        fewer = fewer.model_copy(update={"mem_gb": round(resources.task_mem_gb / units, 2)})
        note += f" The memory of all stays with {'it' if units == 1 else 'them'}: {fewer.mem_gb:g} GB a process."
    return fewer, [note]


def _cores(resources: Resources) -> str:
    what, n = ("GPU", resources.gpus) if resources.gpus else ("core", resources.cpus)
    return f"{n} {what}{'s' * (n > 1)}"


# --- tasks and time ---


def _tasks(seconds: Sequence[float], resources: Resources, site: Site, margin: float) -> tuple[int, str, float]:
    """How many elements, the limit that decided, and the target for one of them, minutes."""
    target = float(resources.task_minutes)
    if site.max_time_min and resources.time_limit_min is None:
        target = min(target, max(1.0, (site.max_time_min - START_MIN) / margin))
    units, procs = len(seconds), resources.procs
    by_time = resources.tasks or max(1, math.ceil(sum(seconds) / 60 / (target * procs)))
    limits = {
        "resources.tasks" if resources.tasks else f"{target:g} min a task": by_time,
        f"one unit per process ({units} units / {procs} procs)": math.ceil(units / procs),
        "the site's max_tasks": site.max_tasks,
        "resources.max_tasks": resources.max_tasks or site.max_tasks,
    }
    why, tasks = min(limits.items(), key=lambda item: item[1])
    return tasks, why, target


def _with_time(
    resources: Resources, site: Site, measured: Measured | None, minutes: float, margin: float, target: float
) -> tuple[Resources, list[str]]:
    """The time limit: the user's number, else the expected time with a margin."""
    expected = f"{duration(minutes)} expected"
    if (asked := resources.time_limit_min) is not None:
        if minutes > asked and measured:
            late = (
                f"longer than that by the time that {measured.source} took: set time_limit_min = {math.ceil(minutes * margin) + START_MIN}"
            )
            return resources, [f"Time limit: {asked} min, as asked for; {expected}, {late}, or leave it out."]
        return resources, [f"Time limit: {asked} min, as asked for; {expected}."]
    wanted = max(MIN_TIME_MIN, math.ceil(minutes * margin) + START_MIN, (site.signal_s + 60) // 60 + 1)
    limit = min(wanted, site.max_time_min or wanted)
    trust = "measured" if measured else "only declared"
    note = f"Time limit: {limit} min; {expected}, times {margin:.2g} since it is {trust}, and {START_MIN} min."
    if limit < wanted:
        note += f" That would be {wanted} min, site {site.name!r} allows {limit}: tasks that reach it commit their slices and " + (
            "come back." if site.requeue else "end; launch again what is left."
        )
    elif target < resources.task_minutes:
        note += f" Tasks are made shorter than {resources.task_minutes} min to stay within the site's {site.max_time_min}."
    return resources.model_copy(update={"time_limit_min": limit}), [note]


def _throttled(packed: Packing, seconds: Sequence[float], site: Site) -> tuple[float, list[str]]:
    """Minutes of the whole stage, and what is to be said about arrays and throttle."""
    notes = []
    if packed.arrays > 1:
        notes.append(f"{packed.arrays} arrays, since Slurm takes {site.max_array_size} elements in one (MaxArraySize).")
    if not site.throttle or site.throttle >= packed.tasks:
        return packed.minutes, notes
    minutes = makespan(seconds, site.throttle * packed.procs) / 60
    notes.append(
        f"At most {site.throttle} of the {packed.tasks} tasks run at once (throttle), so the stage lasts about {duration(minutes)}; "
        "those that run take over what the others have not begun."
    )
    return minutes, notes


def _spelled_out(resources: Resources) -> Resources:
    return resources.model_copy(update={"mem_gb": resources.worker_mem_gb, "time_limit_min": resources.time_min})


# --- words ---


def _work(packed: Packing, seconds: Sequence[float], measured: Measured | None) -> str:
    what = "GPU" if packed.resources.gpus else "core"
    source = f"by the time that {measured.source} took" if measured else "as declared; nothing is measured yet"
    return f"{units_of(len(seconds))}, {_spent(packed.hours * 60, what)} expected {source}."


def _packed(packed: Packing, why: str, longest_s: float) -> str:
    return (
        f"{packed.tasks} task{'s' * (packed.tasks > 1)} of {packed.procs} process{'es' * (packed.procs > 1)} because of {why}; "
        f"{duration(packed.minutes)} each, largest units first, the longest {duration(longest_s / 60)}."
    )


def duration(minutes: float) -> str:
    """
    >>> duration(0.25), duration(42), duration(200)
    ('15 s', '42 min', '3.3 h')
    """
    if minutes < 1:
        return f"{minutes * 60:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:,.1f} h"


def _spent(minutes: float, what: str) -> str:
    """
    >>> _spent(0.25, "core"), _spent(90, "GPU")
    ('0.2 core-minutes', '1.5 GPU-hours')
    """
    return f"{minutes:.1f} {what}-minutes" if minutes < 60 else f"{minutes / 60:,.1f} {what}-hours"
