"""Sending stages to Slurm: a job array for each stage with work to do, a gate behind each array, the next stage behind the gate.

The whole chain can be sent at once, since plans do not depend on results. What is printed by `plan` is what is sent.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hpc.launch import Launch, launch_name, save_launch, timestamp
from hpc.pending import retire, still_pending
from hpc.sbatch import array_spec, render, sbatch_options
from hpc.site import Resources, Site
from jobs.planning import FlowPlan, StagePlan

GATE = Resources(cpus=1, gpus=0, mem_gb=1.0, task_minutes=10, time_limit_min=30, nodes=1, tasks=1, max_tasks=1)
"""A gate reads sentinels for some seconds."""


def gate_resources(site: Site) -> Resources:
    return GATE.model_copy(update={"time_limit_min": min(GATE.time_min, site.max_time_min or GATE.time_min)})


@dataclass(frozen=True)
class Sent:
    """One stage as it was handed to Slurm."""

    stage: str
    launch: str
    units: int
    tasks: int
    jobs: list[str]
    gate: str


def send(flow: FlowPlan, stages: Iterable[StagePlan]) -> Iterator[Sent]:
    """Submit what is pending, in the order of work. Raises `hpc.slurm.SlurmError` or, before anything, `hpc.sbatch.SbatchError`."""
    from hpc.slurm import submit_array, submit_one

    site, gates = flow.config.site, dict[str, str]()
    todo = [stage for stage in stages if stage.pending]
    for stage in todo:
        sbatch_options(job_name(flow, stage), stage.resources, site, array=None, log=stage.state.logs / "%j.log")
    for stage in todo:
        launch = make_launch(flow, stage, launch_name("slurm"))
        folder = stage.state.folder / "launches" / launch.id
        after = [gates[up] for up in stage.stage.upstream if up in gates]
        dependency = f"afterok:{':'.join(after)}" if after else None
        commands = [task_command(flow, stage, launch, task) for task in range(launch.tasks)]
        jobs = submit_array(folder, stage.state.logs, job_name(flow, stage), commands, stage.resources, site, dependency)
        # afterany: the gate judges by sentinels, however the elements ended
        name, ended = job_name(flow, stage, "gate"), f"afterany:{':'.join(jobs)}"
        gate = submit_one(folder / "gate", stage.state.logs, name, gate_command(flow, stage), gate_resources(site), site, ended)
        gates[stage.name] = gate
        yield Sent(stage.name, launch.id, len(launch.units), launch.tasks, jobs, gate)


def make_launch(flow: FlowPlan, stage: StagePlan, name: str) -> Launch:
    """Take back stale sentinels of the pending units and publish the launch."""
    retire(stage.state, still_pending(stage.state, stage.pending))
    packing, requested = stage.packing, stage.resources.model_dump()
    work = stage.work(flow.config.folder)
    return save_launch(
        stage.state, Launch(name, stage.name, tuple(stage.units), packing.tasks, packing.procs, timestamp(), requested, work)
    )


def task_command(flow: FlowPlan, stage: StagePlan, launch: Launch, task: int | str) -> list[str]:
    """Command of one array element. The launch is named, so that a requeued element never works on another list."""
    return [
        *(*python(flow.config.site), "work", "--run", str(flow.run), "--stage", stage.name),
        *("--launch", f"{stage.state.fp12}/{launch.id}", "--task", str(task), "--tasks", str(launch.tasks)),
        *("--procs", str(launch.procs)),
    ]


def gate_command(flow: FlowPlan, stage: StagePlan) -> list[str]:
    return [*python(flow.config.site), "gate", "--run", str(flow.run), "--stage", stage.name, "--fp12", stage.state.fp12]


def python(site: Site) -> list[str]:
    return [site.python or sys.executable, "-m", "jobs.cli"]


def job_name(flow: FlowPlan, stage: StagePlan, kind: str = "") -> str:
    """`cc-2024-10-zh.extract`, `cc-2024-10-zh.extract.gate`"""
    return ".".join(filter(None, [flow.config.run.name, stage.name, kind]))


def scripts(flow: FlowPlan, stages: Sequence[StagePlan]) -> Iterator[tuple[str, str]]:
    """Ready sbatch scripts by name: an array for each pending stage, and its gate. They start the same worker without submitit.

    The array's first element publishes the launch under the array job's number. One array has at most `site.max_array_size`
    elements; fewer elements only take longer. Makes the folders of the logs, without which Slurm starts nothing.
    """
    site = flow.config.site
    for stage in stages:
        if not stage.pending:
            continue
        logs, tasks = stage.state.logs, min(stage.packing.tasks, site.max_array_size)
        logs.mkdir(parents=True, exist_ok=True)
        array = array_spec(0, tasks - 1, site.throttle)
        options = sbatch_options(job_name(flow, stage), stage.resources, site, array=array, log=logs / "%A_%a.log")
        command: list[Any] = [*python(site), "work", "--run", str(flow.run), "--stage", stage.name]
        command += [
            "--fp12",
            stage.state.fp12,
            "--task",
            "$SLURM_ARRAY_TASK_ID",
            "--tasks",
            str(tasks),
            "--procs",
            str(stage.packing.procs),
        ]
        yield f"{stage.name}.sbatch", render(options, site.setup, command)
        gate = sbatch_options(job_name(flow, stage, "gate"), gate_resources(site), site, array=None, log=logs / "gate-%j.log")
        yield f"{stage.name}.gate.sbatch", render(gate, site.setup, gate_command(flow, stage))


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
