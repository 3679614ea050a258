"""Rounds: what a gate does about units that are missing. It finds out why, and launches them again, with more memory or time if need be.

A task that was killed as a whole could not say why; its log can, since Slurm writes the reason there. Only where the site lets
compute nodes submit; elsewhere, and after the last round, the gate says what to type.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpc.dispatch.gate import GateReport
from hpc.dispatch.launching import Sent, send_launch, sent_folder
from hpc.fs.files import names_in, read_json_if_exists
from hpc.planning.escalation import units_of
from hpc.planning.sizing import size
from hpc.state.attempt import new_attempt
from hpc.state.claims import read_claim
from hpc.state.launch import Launch, save_launch, timestamp
from hpc.state.state import StageState
from hpc.workers.board import Board
from hpc.workers.commit import Kind, record_failure

log = logging.getLogger("hpc.dispatch.rounds")

TAIL_BYTES = 64 << 10

SAID_BY_SLURM: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"CANCELLED AT .* DUE TO TIME LIMIT", re.IGNORECASE), "time_limit"),
    (re.compile(r"CANCELLED AT .* DUE TO ", re.IGNORECASE), "lost"),
    (re.compile(r"exceeded .*memory limit|exceeded job memory", re.IGNORECASE), "out_of_memory"),
    (re.compile(r"CANCELLED AT "), "lost"),
    (re.compile(r"oom[-_ ]kill", re.IGNORECASE), "out_of_memory"),
)
"""What slurmstepd writes into the log of a job that it ends, and what it means for the units of that job; the first that is found counts.

A job that is killed for its memory without cgroups is said to be cancelled too. With cgroups a task outlives a worker that was
killed for its memory, of which Slurm tells at the very end, whatever has ended the job.
"""

SLURM_LINE = re.compile(r"(?:slurm(?:stepd|d)|\bsrun)[-\w.]*: error: |^\[\d{4}-[\dT:.-]+\] error: ")

LIFE = re.compile(r" task \d+ of \d+, \d+ processes, launch ")
"""What a task logs first (`hpc.entry.run_work`). What stands before the last such line was said of earlier lives of the element."""


def cause_of_loss(path: Path) -> tuple[Kind, str]:
    """Why a task ended, by what Slurm wrote into its log, and that line; ("lost", "") where it says nothing."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return "lost", ""
    lives = [number for number, line in enumerate(lines) if LIFE.search(line)]
    said = [line.strip() for line in lines[lives[-1] if lives else 0 :] if SLURM_LINE.search(line)]
    for pattern, kind in SAID_BY_SLURM:
        for line in said:
            if pattern.search(line):
                return kind, line
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
        # the log tells of the element's last life; a unit that an earlier one held was lost with that
        kind, line = cause_of_loss(Path(record["log"])) if holder.get("restart") == record["restart"] else ("lost", "")
        kinds[kind] = kinds.get(kind, 0) + 1
        if kind != "lost":
            record_failure(state, unit, new_attempt(), f"lost with its task: {line}", kind=kind, requested=launch.requested)
        state.claim_path(unit).unlink(missing_ok=True)
    return kinds


def _tasks_of(state: StageState, launch: Launch) -> dict[str, dict[str, Any]]:
    """Records of the launch's tasks by job; of an element that has come back, that of its last life."""
    found = (read_json_if_exists(state.folder / "tasks" / name) for name in sorted(names_in(state.folder / "tasks")))
    records = [record for record in found if record and record["launch"] == launch.id and record["job"]]
    return {record["job"]: record for record in sorted(records, key=lambda record: int(record["restart"]))}


def next_round(state: StageState, launch: Launch, report: GateReport) -> tuple[Sent | None, list[str]]:
    """Launch what is missing again. Returns what was sent, if anything, and sentences for the log."""
    from hpc.dispatch.slurm import SlurmError

    todo = [unit for unit in state.plan.largest_first if unit in report.missing and unit not in report.parked]
    ready, not_ready = _ready(state, todo)
    mine = set(launch.units)
    units = [unit for unit in ready if unit in mine] if launch.overlap or not not_ready else []
    site = launch.profile
    typed = _typed(state, launch, report)
    if not units and not_ready:
        return None, [f"{not_ready}; when that is complete, type: {typed}"]
    if not units and todo:
        return None, [f"what is missing was not part of this launch; where no other one works on it, type: {typed}"]
    if not units:
        return None, [f"every missing unit is parked; when the cause is mended, type: {typed}"]
    if not site.submit_from_compute:
        return None, [f"site {site.name!r} does not let compute nodes submit; on a login node, type: {typed}"]
    if launch.round >= site.rounds:
        return None, [f"{launch.round} rounds have not completed it (rounds = {site.rounds}); to go on, type: {typed}"]
    again, reasons = _launch_again(state, launch, units)
    sent = read_json_if_exists(sent_folder(state, again.id) / "sent.json")
    if sent is not None:  # this gate was requeued, and had come as far as that
        return Sent(state.stage, again.id, len(again.units), again.tasks, sent["jobs"], sent["gate"]), ["sent already"]
    try:
        return send_launch(state, again), reasons
    except SlurmError as error:
        return None, [f"{error}; the site's profile should say submit_from_compute = false. On a login node, type: {typed}"]


def _launch_again(state: StageState, launch: Launch, units: Sequence[str]) -> tuple[Launch, list[str]]:
    """The launch of the next round, published; if an earlier life of this gate has done so, the one that it made."""
    costs = [state.plan.by_id[unit].cost for unit in units]
    packing = size(costs, launch.resources, launch.profile, None, state.last_failures(set(units)))
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
    return save_launch(state, again), list(packing.reasons)


def _ready(state: StageState, units: Sequence[str]) -> tuple[list[str], str]:
    """Those of the units whose inputs are committed, and a sentence about the others: their tasks were cancelled for want of them."""
    board = Board(state, overlap=True)
    board.look()
    ready = [unit for unit in units if board.is_ready(state.plan.by_id[unit])]
    waiting = [state.plan.by_id[unit] for unit in units if unit not in ready]
    if not waiting:
        return ready, ""
    stages = {item.stage for item in state.plan.inputs for unit in waiting if not board.has_committed(item, unit)}
    return ready, f"{units_of(len(waiting))} cannot run before what they read is complete ({', '.join(sorted(stages))})"


def _typed(state: StageState, launch: Launch, report: GateReport) -> str:
    """What to type: for this stage, or, where jobs wait for this gate and will be cancelled with it, for the whole flow."""
    from hpc.dispatch.slurm import SlurmError, depending_on

    verb = launch.command.replace("{verb}", "retry" if report.parked else "submit")
    me = os.environ.get("SLURM_JOB_ID")
    try:
        alone = me is None or not depending_on(me)
    except SlurmError:
        alone = False  # nobody can be asked: the whole flow is the usual case
    return f"{verb} --stage {state.stage}" if alone else verb


def hand_over(sent: Sent, me: str | None = None) -> list[str]:
    """Let everything that waits for this gate wait for the new one. Returns sentences for the log."""
    from hpc.dispatch.slurm import SlurmError, depending_on, set_dependency

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
