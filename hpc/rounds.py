"""Rounds: what a gate does about units that are missing. It finds out why, and launches them again, with more memory or time if need be.

A task that was killed as a whole could not say why; its log can, since Slurm writes the reason there. Only where the site lets
compute nodes submit; elsewhere, and after the last round, the gate says what to type.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpc.attempt import new_attempt
from hpc.claims import read_claim
from hpc.commit import Kind, record_failure
from hpc.files import names_in, read_json_if_exists
from hpc.gate import GateReport
from hpc.launch import Launch, load_launch, save_launch, timestamp
from hpc.launching import Sent, send_launch, sent_folder
from hpc.sizing import size
from hpc.state import StageState

log = logging.getLogger("hpc.rounds")

TAIL_BYTES = 64 << 10

SAID_BY_SLURM: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"oom[-_ ]kill|exceeded .*memory limit|out of memory", re.IGNORECASE), "out_of_memory"),
    (re.compile(r"DUE TO TIME LIMIT"), "time_limit"),
    (re.compile(r"DUE TO (PREEMPTION|NODE FAILURE|JOB REQUEUE|REVOCATION)|CANCELLED AT"), "lost"),
)
"""What slurmstepd and slurmd write into the log of a job that they end, and what it means for its units."""

SLURM_LINE = re.compile(r"^(slurmstepd|slurmd|srun|slurm_script)[^:]*: ", re.MULTILINE)


def cause_of_loss(path: Path) -> tuple[Kind, str]:
    """Why a task ended, by the last line that Slurm wrote into its log, and that line; ("lost", "") where it says nothing."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return "lost", ""
    for line in reversed(lines):
        if SLURM_LINE.match(line):
            for pattern, kind in SAID_BY_SLURM:
                if pattern.search(line):
                    return kind, line.strip()
    return "lost", ""


def record_losses(state: StageState, launch: Launch, missing: Iterable[str]) -> dict[str, int]:
    """For units that a task of this launch held as it died: record why, and free their claims. Returns how many by kind.

    Call when all tasks of the launch have ended. Memory and time count as failures of the unit; preemption and dead nodes do not.
    """
    tasks = _tasks_of(state, launch)
    kinds: dict[str, int] = {}
    for unit in missing:
        holder = read_claim(state.claim_path(unit)) or {}
        record = tasks.get(holder.get("job") or holder.get("host", ""))
        if not holder or record is None:
            continue
        kind, line = cause_of_loss(Path(record["log"]))
        kinds[kind] = kinds.get(kind, 0) + 1
        if kind != "lost":
            record_failure(state, unit, new_attempt(), f"lost with its task: {line}", kind=kind, requested=launch.requested)
        state.claim_path(unit).unlink(missing_ok=True)
    return kinds


def _tasks_of(state: StageState, launch: Launch) -> dict[str, dict[str, Any]]:
    """Records of the launch's tasks by job."""
    records = (read_json_if_exists(state.folder / "tasks" / name) for name in sorted(names_in(state.folder / "tasks")))
    return {record["job"]: record for record in records if record and record["launch"] == launch.id and record["job"]}


def next_round(state: StageState, launch: Launch, report: GateReport) -> tuple[Sent | None, list[str]]:
    """Launch what is missing again. Returns what was sent, if anything, and sentences for the log."""
    units = [unit for unit in launch.units if unit in report.missing and unit not in report.parked]
    site = launch.profile
    typed = launch.command.format(verb="retry" if report.parked else "submit") + f" --stage {state.stage}"
    if not units:
        return None, [f"every missing unit is parked; when the cause is mended, type: {typed}"]
    if not site.submit_from_compute:
        return None, [f"site {site.name!r} does not let compute nodes submit; on a login node, type: {typed}"]
    if launch.round >= site.rounds:
        return None, [f"{launch.round} rounds have not completed it (rounds = {site.rounds}); to go on, type: {typed}"]
    costs = [state.plan.by_id[unit].cost for unit in units]
    packing = size(costs, launch.resources, site, None, state.last_failures(set(units)))
    again = replace(
        launch,
        id=f"{launch.id.partition('.r')[0]}.r{launch.round + 1}",
        units=tuple(units),
        tasks=packing.tasks,
        procs=packing.procs,
        created=timestamp(),
        requested=packing.resources.model_dump(),
        round=launch.round + 1,
    )
    if state.launch_path(again.id).exists():  # this gate was requeued, and had come as far as that
        again = load_launch(state, again.id)
        sent = read_json_if_exists(sent_folder(state, again.id) / "sent.json")
        if sent is not None:
            return Sent(state.stage, again.id, len(units), again.tasks, sent["jobs"], sent["gate"]), ["sent already"]
    sent_now = send_launch(state, save_launch(state, again))
    return sent_now, list(packing.reasons)


def hand_over(sent: Sent, me: str | None = None) -> list[str]:
    """Let everything that waits for this gate wait for the new one. Returns sentences for the log."""
    from hpc.slurm import SlurmError, depending_on, set_dependency

    me = me or os.environ.get("SLURM_JOB_ID")
    if not me:
        return []
    said = []
    try:
        waiting: Mapping[str, str] = depending_on(me)
    except SlurmError as error:
        return [f"what waits for this gate will be cancelled: {error}"]
    for job, dependency in waiting.items():
        try:
            set_dependency(job, re.sub(rf"(?<=:){me}(?!\d)", sent.gate, dependency))
            said.append(f"job {job} now waits for gate {sent.gate}")
        except SlurmError as error:
            said.append(f"job {job} will be cancelled, submit it again: {error}")
    return said
