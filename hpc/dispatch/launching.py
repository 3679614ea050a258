"""Sending stages to Slurm: a job array for each stage with work to do, a gate behind each array, the next stage behind the gate.

The whole chain can be sent at once, since plans do not depend on results. What `sbatch` prints is what `submit` sends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpc.dispatch.gate import run_gate, show_current
from hpc.dispatch.sbatch import TASK_ID, array_spec, python_of, render, sbatch_options
from hpc.fs.files import publish_once
from hpc.planning.planner import Flow, StagePlan
from hpc.planning.reuse import adopt
from hpc.site import Resources, Site
from hpc.state.launch import Launch, launch_name, save_launch, timestamp
from hpc.state.pending import retire, still_pending
from hpc.state.state import StageState
from hpc.state.work import make_work

GATE = Resources.model_validate({"cpus": 1, "mem_gb": 1.0, "task_minutes": 10, "time_limit_min": 30, "tasks": 1, "max_tasks": 1})
"""A gate reads sentinels for some seconds."""


@dataclass(frozen=True)
class Sent:
    """One stage as it was handed to Slurm. `adopted`: units taken over from an older version, which are not run."""

    stage: str
    launch: str
    units: int
    tasks: int
    jobs: list[str] = field(default_factory=list)
    gate: str = ""
    adopted: int = 0


def send(flow: Flow, stages: Iterable[StagePlan]) -> Iterator[Sent]:
    """Submit what is pending, in the order of work. Raises `SlurmError` or, before anything is sent, `hpc.dispatch.sbatch.SbatchError`."""
    gates: dict[str, str] = {}
    arrays: dict[str, list[str]] = {}
    chosen = list(stages)
    for stage in chosen:
        sbatch_options(job_name(flow.name, stage.name), stage.resources, flow.site, array=None, log=stage.state.logs / "%j.log")
    for stage in chosen:
        if not stage.pending:
            see_through(stage.state)
            continue
        units, adopted = prepare(stage)
        if not units:
            run_gate(stage.state)
            yield Sent(stage.name, "", 0, 0, adopted=adopted)
            continue
        launch = make_launch(flow, stage, launch_name("slurm"), units)
        before = [up for up in stage.upstream if up in gates]
        overlaps = launch.overlap and all(up in arrays for up in before)
        complete = ":".join(gates[up] for up in before)
        if before and overlaps:
            started = ":".join(job for up in before for job in arrays[up])
            # afterany: where the stage before cannot be completed, this gate too says what is missing
            sent = send_launch(stage.state, launch, [f"after:{started}"], [f"afterany:{complete}"])
        else:
            sent = send_launch(stage.state, launch, [f"afterok:{complete}"] if before else [])
        gates[stage.name], arrays[stage.name] = sent.gate, sent.jobs
        yield replace(sent, adopted=adopted)


def see_through(state: StageState) -> None:
    """For a stage whose units are all committed: what its gate would do, where the gate was lost, or another version is shown."""
    if state.success() is None:
        run_gate(state)
    else:
        show_current(state)


def prepare(stage: StagePlan) -> tuple[list[str], int]:
    """Take back stale sentinels, take over what an older version has. Returns the units to run, in order, and how many were adopted.

    Raises `NoWork` where no worker could build what does the work, as far as that can be seen from here.
    """
    if stage.importable:
        make_work(stage.spec.work)
    retire(stage.state, still_pending(stage.state, stage.pending))
    adopted = adopt(stage.state, stage.reusable)
    return [unit for unit in stage.units if unit not in adopted], len(adopted)


def make_launch(flow: Flow, stage: StagePlan, name: str, units: Sequence[str], tasks: int | None = None) -> Launch:
    """Publish a launch of these units; `tasks` as packed, unless said."""
    packing = stage.packing
    tasks = tasks or min(max(packing.tasks, 1), math.ceil(len(units) / packing.procs))
    launch = Launch(
        name,
        stage.name,
        tuple(units),
        tasks,
        packing.procs,
        timestamp(),
        packing.resources.model_dump(),
        dict(stage.spec.work),
        flow.site.model_dump(mode="json"),
        job_name(flow.name, stage.name),
        flow.command,
        0,
        stage.spec.overlap,
    )
    return save_launch(stage.state, launch)


def send_launch(state: StageState, launch: Launch, after: Sequence[str] = (), gate_after: Sequence[str] = ()) -> Sent:
    """Send the arrays of a launch and their gate. `after`, `gate_after`: dependencies such as "afterok:17". Raises `SlurmError`."""
    from hpc.dispatch.slurm import SlurmError, send_script

    folder, jobs, gate = sent_folder(state, launch.id), [], ""
    try:
        for script in array_scripts(state, launch, 0, launch.tasks, ",".join(after) or None):
            jobs.append(send_script(folder, script))
        # afterany: the gate judges by sentinels, however the elements ended
        ended = ",".join([f"afterany:{':'.join(jobs)}", *gate_after])
        gate = send_script(folder, gate_script(state, launch, ended))
    except SlurmError as error:
        if not jobs:
            raise
        raise SlurmError(
            f"{error}. Array {', '.join(jobs)} of stage {state.stage} is queued, but has no gate: it works, and nothing sees it through. "
            f"Cancel it (scancel {' '.join(jobs)}), or, when it has ended, submit again"
        ) from error
    finally:
        if jobs:
            publish_once(folder / "sent.json", {"jobs": jobs, "gate": gate, "tasks": launch.tasks})
    return Sent(state.stage, launch.id, len(launch.units), launch.tasks, jobs, gate)


def sent_folder(state: StageState, launch: str) -> Path:
    """Scripts of a launch, and the numbers of its jobs."""
    return state.folder / "launches" / launch


def array_scripts(state: StageState, launch: Launch, first: int, tasks: int, dependency: str | None) -> Iterator[str]:
    """Scripts for elements `first`, `first + 1`, ... of a launch: arrays of at most `site.max_array_size`."""
    site = launch.profile
    state.logs.mkdir(parents=True, exist_ok=True)  # without its folder Slurm starts nothing, and says nothing
    # a throttle is Slurm's for each array: shared out, but no array is throttled to nothing
    arrays = math.ceil(tasks / site.max_array_size)
    throttle = max(1, site.throttle // arrays) if site.throttle else None
    for begin in range(0, tasks, site.max_array_size):
        n = min(site.max_array_size, tasks - begin)
        array, log = array_spec(0, n - 1, throttle), state.logs / "%A_%a.log"
        options = sbatch_options(launch.name, launch.resources, site, array=array, log=log, dependency=dependency)
        yield render(options, site, task_command(state, launch, first + begin), launch.resources.gpus)


def task_command(state: StageState, launch: Launch, first: int) -> list[str]:
    """Command of the elements of an array. The launch is named, so that a requeued element never works on another list."""
    return [
        *(*worker_python(launch.profile), "work", "--run", str(state.run), "--stage", state.stage),
        *("--launch", f"{state.fp12}/{launch.id}", "--first", str(first), "--task", TASK_ID, "--tasks", str(launch.tasks)),
        *("--procs", str(launch.procs)),
        *_trust(launch),
    ]


def gate_script(state: StageState, launch: Launch, dependency: str | None) -> str:
    site = launch.profile
    options = sbatch_options(
        f"{launch.name}.gate", gate_resources(site), site, array=None, log=state.logs / "gate-%j.log", dependency=dependency
    )
    command = [*worker_python(site), "gate", "--run", str(state.run), "--stage", state.stage, "--fp12", state.fp12, "--launch", launch.id]
    command += _trust(launch)
    return render(options, site, command)


def _trust(launch: Launch) -> list[str]:
    """Said in the script, which Slurm keeps, not in the run directory, which others may write to."""
    return ["--shared-state"] if launch.site.get("shared_state") else []


def gate_resources(site: Site) -> Resources:
    return GATE.model_copy(update={"time_limit_min": min(GATE.time_min, site.max_time_min or GATE.time_min)})


def worker_python(site: Site) -> list[str]:
    return [python_of(site), "-m", "hpc"]


def job_name(run: str, stage: str) -> str:
    """`cc-2024-10-zh.extract`"""
    return f"{run}.{stage}"


def scripts(flow: Flow, stages: Sequence[StagePlan]) -> Iterator[tuple[str, str]]:
    """Ready sbatch scripts by name: an array for each pending stage, and its gate. They start the same worker without submitit.

    The array's first element publishes the launch under the array job's number. One array has at most `site.max_array_size`
    elements; fewer elements only take longer. Makes the folders of the logs, without which Slurm starts nothing.
    """
    for stage in stages:
        if stage.pending:
            launch = _unsent(flow, stage)
            (script,) = array_scripts(stage.state, launch, 0, launch.tasks, None)
            named = f"--launch {stage.state.fp12}/{launch.id}"
            yield f"{stage.name}.sbatch", script.replace(named, f"--fp12 {stage.state.fp12}")
            yield f"{stage.name}.gate.sbatch", gate_script(stage.state, launch, None).replace(f" --launch {launch.id}", "")


def _unsent(flow: Flow, stage: StagePlan) -> Launch:
    packing = stage.packing
    tasks = min(packing.tasks, flow.site.max_array_size)
    site: dict[str, Any] = flow.site.model_dump(mode="json")
    name = job_name(flow.name, stage.name)
    return Launch("UNSENT", stage.name, (), tasks, packing.procs, "", packing.resources.model_dump(), {}, site, name, flow.command)


def forgive(stages: Iterable[StagePlan]) -> int:
    """Let parked units be tried again: their failures are kept, but no longer counted. Returns the units freed."""
    freed = 0
    for stage in stages:
        failures = stage.state.failures()
        for unit in set(failures) & set(stage.pending):
            for path in failures[unit]:
                target = path.parent / "forgiven" / path.name
                target.parent.mkdir(exist_ok=True)
                path.rename(target)
            freed += 1
    return freed
