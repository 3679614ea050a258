"""Escalation: units that ran out of memory or time are given more of it, until the node or the site has no more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hpc.site import Resources, Site

FIELDS = {"out_of_memory": "mem_gb", "time_limit": "time_limit_min"}
"""Kind of failure -> the field of `Resources` that was too small."""


def escalate(resources: Resources, site: Site, kinds: Mapping[str, int]) -> tuple[Resources, list[str]]:
    """More of what attempts ran out of. `resources`: what they had; `kinds`: how the units still missing failed last.

    Where nothing more can be given the resources come back as they were, and the sentences say what could be done instead.
    """
    reasons = []
    for kind, more in (("out_of_memory", _more_memory), ("time_limit", _more_time)):
        if kinds.get(kind):
            resources, reason = more(resources, site)
            reasons.append(f"{_told(kind, kinds[kind])} {reason}")
    return resources, reasons


def after_failures(resources: Resources, site: Site, failures: Sequence[Mapping[str, Any]], kind: str) -> tuple[Resources, list[str]]:
    """Escalated over the most that a failed attempt of this kind was given; as they are where that is more already."""
    failed = [failure for failure in failures if failure.get("kind") == kind]
    if not failed:
        return resources, []
    field = FIELDS[kind]
    now = resources.worker_mem_gb if kind == "out_of_memory" else resources.time_min
    had = max((value for failure in failed if (value := (failure.get("requested") or {}).get(field))), default=now)
    if now > had:
        return resources, [f"{_told(kind, len(failed))} They had {had:g} {'GB a process' if kind == 'out_of_memory' else 'min'}."]
    return escalate(resources.model_copy(update={field: had}), site, {kind: len(failed)})


def _more_memory(resources: Resources, site: Site) -> tuple[Resources, str]:
    had, procs = resources.worker_mem_gb, resources.procs
    node = site.node_mem_gb
    wanted = 2 * had if node is None else min(2 * had, node)
    if wanted <= had:
        return resources, (
            f"A process had the {had:g} GB of a whole node of site {site.name!r}: no more can be given. Use a partition of larger nodes, "
            "or make the units smaller."
        )
    text = f"Each process gets {wanted:g} GB instead of {had:g}."
    fit = procs if node is None else min(procs, int(node / wanted))
    if fit < procs:
        text += f" A node has {node:g} GB: a task starts {fit} process{'es' * (fit > 1)} instead of {procs}."
    return with_procs(resources, fit).model_copy(update={"mem_gb": wanted}), text


def _more_time(resources: Resources, site: Site) -> tuple[Resources, str]:
    had = resources.time_min
    wanted = min(2 * had, site.max_time_min or 2 * had)
    if wanted <= had:
        return resources, (
            f"It was {had} min, the most that site {site.name!r} allows: no more can be given. Units that commit slices go on where they "
            "were; others must be made smaller."
        )
    return resources.model_copy(update={"time_limit_min": wanted}), f"It is {wanted} min instead of {had}."


def with_procs(resources: Resources, procs: int) -> Resources:
    """A task of so many processes, with cores (and GPUs) in proportion.

    >>> with_procs(Resources(cpus=32, gpus=4), 1).cpus
    8
    """
    if procs == resources.procs:
        return resources
    if not resources.gpus:
        return resources.model_copy(update={"cpus": procs})
    return resources.model_copy(update={"gpus": procs, "cpus": max(1, math.ceil(resources.cpus * procs / resources.gpus))})


def _told(kind: str, n: int) -> str:
    return f"{units_of(n)} ran {'out of memory' if kind == 'out_of_memory' else 'into the time limit'}."


def units_of(n: int) -> str:
    return f"{n:,} unit{'s' * (n != 1)}"
