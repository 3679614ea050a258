"""Launches: one submission of a stage, with the units that were pending then. Written once, so that an array element
that comes back after a requeue works on the list it was started with, whatever was launched since."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hpc.files import publish_once, read_json
from hpc.state import StageState


@dataclass(frozen=True)
class Launch:
    """`units` in order of work (largest first); `tasks` array elements of `procs` processes each."""

    id: str
    stage: str
    units: tuple[str, ...]
    tasks: int
    procs: int
    created: str
    requested: dict[str, Any]


def new_launch(state: StageState, units: Sequence[str], tasks: int, procs: int, requested: dict[str, Any], launch_id: str) -> Launch:
    """Publish a launch, or read the one that has this id already (elements of a plain sbatch array race for it)."""
    created = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    launch = Launch(launch_id, state.stage, tuple(units), tasks, procs, created, requested)
    if publish_once(state.launch_path(launch_id), asdict(launch)):
        return launch
    return load_launch(state, launch_id)


def load_launch(state: StageState, launch_id: str) -> Launch:
    value = read_json(state.launch_path(launch_id))
    return Launch(**{**value, "units": tuple(value["units"])})


def launch_name(kind: str) -> str:
    """A readable id: `local-20240131-235959-7f3a`."""
    import uuid

    return f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"


def start_order(units: Sequence[str], worker: int, workers: int) -> list[str]:
    """The units in the order in which worker `worker` of `workers` tries them: its own share first, then everybody else's.

    >>> start_order("abcde", 1, 2)
    ['b', 'd', 'a', 'c', 'e']
    """
    own = list(units[worker::workers])
    mine = set(own)
    return own + [unit for unit in units if unit not in mine]
