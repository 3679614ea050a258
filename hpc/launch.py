"""Launches: one submission of a stage, with the units that were pending then. Written once, so that an array element
that comes back after a requeue works on the list it was started with, whatever was launched since."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hpc.files import publish_once, read_json
from hpc.state import StageState


@dataclass(frozen=True)
class Launch:
    """`units` in order of work (largest first); `tasks` array elements of `procs` processes each.

    `work` is what the stage's own code wants to know: its class, and its config with paths and tuning.
    """

    id: str
    stage: str
    units: tuple[str, ...]
    tasks: int
    procs: int
    created: str
    requested: dict[str, Any]
    work: dict[str, Any]


def save_launch(state: StageState, launch: Launch) -> Launch:
    """Publish a launch, or read the one that has this id already (elements of a plain sbatch array race for it)."""
    if publish_once(state.launch_path(launch.id), asdict(launch)):
        return launch
    return load_launch(state, launch.id)


def timestamp() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def load_launch(state: StageState, launch_id: str) -> Launch:
    value = read_json(state.launch_path(launch_id))
    return Launch(**{**value, "units": tuple(value["units"])})


def launch_name(kind: str) -> str:
    """A readable id: `local-20240131-235959-7f3a`."""
    return f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"


def start_order(units: Sequence[str], worker: int, workers: int) -> list[str]:
    """The units in the order in which worker `worker` of `workers` tries them: its own share first, then everybody else's.

    >>> start_order("abcde", 1, 2)
    ['b', 'd', 'a', 'c', 'e']
    """
    own = list(units[worker::workers])
    mine = set(own)
    return own + [unit for unit in units if unit not in mine]
