"""Launches: one submission of a stage, with the units that were pending then. Written once, so that an array element
that comes back after a requeue works on the list it was started with, whatever was launched since."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hpc.fs.files import publish_once, read_json
from hpc.site import Resources, Site
from hpc.state.state import StageState


@dataclass(frozen=True)
class Launch:
    """`units` in order of work (largest first); `tasks` array elements of `procs` processes each.

    `requested`: resources, every one filled in. `work`: how a worker builds the object that does the work (`hpc.state.work.make_work`).
    `site`: the profile, and `command`: what a user types, both for the gate, which may launch again. `round`: 0, and one more each
    time that a gate does so. `overlap`: units may begin as soon as what they read is committed.
    """

    id: str
    stage: str
    units: tuple[str, ...]
    tasks: int
    procs: int
    created: str
    requested: dict[str, Any]
    work: dict[str, Any]
    site: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    command: str = ""
    round: int = 0
    overlap: bool = False

    @property
    def resources(self) -> Resources:
        return Resources.model_validate(self.requested)

    @property
    def profile(self) -> Site:
        return Site.model_validate(self.site)

    @property
    def scratch(self) -> str | None:
        """The site's node-local scratch folder, variables not filled in."""
        found: str | None = self.site.get("scratch")
        return found


def save_launch(state: StageState, launch: Launch) -> Launch:
    """Publish a launch, or read the one that has this id already (elements of a plain sbatch array race for it)."""
    if publish_once(state.launch_path(launch.id), asdict(launch)):
        return launch
    return load_launch(state, launch.id)


def timestamp() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def load_launch(state: StageState, launch_id: str) -> Launch:
    value: Mapping[str, Any] = read_json(state.launch_path(launch_id))
    return Launch(**{**value, "units": tuple(value["units"])})


def launches(state: StageState) -> list[Path]:
    """Files of all launches of this version, the latest last."""
    folder = state.folder / "launches"
    return sorted(folder.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name)) if folder.is_dir() else []


def launch_name(kind: str) -> str:
    """A readable id: `local-20240131-235959-7f3a`."""
    return f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"


def start_order(units: Sequence[str], worker: int, workers: int) -> list[str]:
    """The units in the order in which worker `worker` of `workers` tries them: its own share first, then its neighbours'.

    Workers that joined later (`worker >= workers`) have no share; they begin with the last units of somebody's, since owners come
    from the front.

    >>> start_order("abcde", 1, 2)
    ['b', 'd', 'a', 'c', 'e']
    >>> start_order("abcde", 2, 2)
    ['e', 'c', 'a', 'd', 'b']
    """
    shares = [list(units[(worker + i) % workers :: workers]) for i in range(workers)]
    return [unit for share in shares for unit in (share if worker < workers else reversed(share))]
