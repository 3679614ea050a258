"""Packing: tasks last about as long as wished, and no limit is ever exceeded."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.site import Resources, Site
from hpc.sizing import pack

costs = st.lists(st.floats(0, 1e6), max_size=200)
resources = st.builds(
    Resources,
    cpus=st.integers(1, 64),
    gpus=st.integers(0, 8),
    task_minutes=st.integers(1, 600),
    max_tasks=st.none() | st.integers(1, 50),
)
sites = st.builds(Site, max_tasks=st.integers(1, 100))


@given(costs, resources, sites)
def test_tasks_stay_within_every_limit_and_none_is_idle(costs: list[float], resources: Resources, site: Site) -> None:
    packing = pack(costs, resources, site)
    if not costs:
        assert packing.tasks == 0
        return
    assert 1 <= packing.tasks <= min(site.max_tasks, resources.max_tasks or site.max_tasks)
    assert packing.procs == (resources.gpus or resources.cpus)
    # an element without a single unit would only start and leave
    assert packing.tasks <= math.ceil(len(costs) / packing.procs)
    assert packing.minutes * 60 >= max(costs) - 1e-6


@given(costs.filter(bool), resources)
def test_without_limits_a_task_lasts_about_as_long_as_wished(costs: list[float], resources: Resources) -> None:
    free = resources.model_copy(update={"max_tasks": None})
    packing = pack(costs, free, Site(max_tasks=10**9))
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
    resources = Resources(cpus=4, task_minutes=60, max_tasks=limits.get("own"))
    packing = pack([minutes * 60] * n, resources, Site(max_tasks=limits.get("site", 1000)))
    assert packing.tasks == tasks and why in packing.reason
