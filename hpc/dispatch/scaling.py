"""A running stage gets more tasks: they join its latest launch, and its gate waits for them too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpc.dispatch.launching import Sent, array_scripts, gate_script, sent_folder
from hpc.fs.files import publish_once, read_json_if_exists
from hpc.planning.planner import Flow, StagePlan
from hpc.state.launch import Launch, launches, load_launch
from hpc.state.state import StageState


class NotRunning(Exception):
    """There is no launch of the stage that more tasks could join."""


def scale(flow: Flow, stage: StagePlan, more: int) -> Sent:
    """Add tasks to the latest launch of a stage: they take units that nobody has begun. Raises `NotRunning`, `SlurmError`.

    No more are added than there are units left for, nor than the site lets a stage have.
    """
    from hpc.dispatch.slurm import send_script

    found = _latest_sent(stage.state)
    if found is None or not stage.pending:
        why = "is complete" if not stage.pending else "has not been submitted"
        raise NotRunning(
            f"stage {stage.name} {why}; more tasks can join a launch that is under way. Type: {flow.typed('submit', stage.name)}"
        )
    launch, sent = found
    folder = sent_folder(stage.state, launch.id)
    more = min(more, math.ceil(len(stage.pending) / launch.procs), flow.site.max_tasks)
    number, first = _reserve(folder, more)
    first += launch.tasks
    before = _still_waits_for(sent["jobs"])
    jobs = [send_script(folder, script) for script in array_scripts(stage.state, launch, first, more, before)]
    joined = [read_json_if_exists(path) for path in sorted(folder.glob("joined-*.json"))]
    latest = next((found for found in reversed(joined) if found), sent)
    gate = _gate_waits_for(stage.state, launch, str(latest["gate"]), jobs)
    publish_once(folder / f"joined-{number:03d}.json", {"jobs": jobs, "gate": gate, "tasks": more})
    return Sent(stage.name, launch.id, len(stage.pending), more, jobs, gate)


def _reserve(folder: Path, more: int) -> tuple[int, int]:
    """Numbers for tasks that join: which addition it is, and how many joined before. Two additions at once get different ones."""
    number = joined = 0
    while not publish_once(folder / f"scaled-{number:03d}.json", {"tasks": more}):
        joined += int((read_json_if_exists(folder / f"scaled-{number:03d}.json") or {}).get("tasks", 0))
        number += 1
    return number, joined


def _latest_sent(state: StageState) -> tuple[Launch, dict[str, Any]] | None:
    for path in reversed(launches(state)):
        sent = read_json_if_exists(sent_folder(state, path.stem) / "sent.json")
        if sent is not None:
            return load_launch(state, path.stem), sent
    return None


def _still_waits_for(jobs: Sequence[str]) -> str | None:
    """What the arrays of a launch wait for, if they wait: tasks that join them must not begin earlier."""
    from hpc.dispatch.slurm import SlurmError, dependency_of

    for job in jobs:
        try:
            return dependency_of(job) or None
        except SlurmError:
            continue  # it has begun, or ended
    return None


def _gate_waits_for(state: StageState, launch: Launch, gate: str, jobs: Sequence[str]) -> str:
    """The gate of the launch waits for the new arrays too; where it has looked already, there is another one."""
    from hpc.dispatch.slurm import SlurmError, dependency_of, send_script, set_dependency

    ended = f"afterany:{':'.join(jobs)}"
    try:
        for _ in range(3):  # another addition may have set it between the two calls
            before = dependency_of(gate)
            set_dependency(gate, ",".join(filter(None, [before, ended])))
            if all(job in dependency_of(gate) for job in jobs):
                break
        return gate
    except SlurmError:
        return send_script(sent_folder(state, launch.id), gate_script(state, launch, ended))
