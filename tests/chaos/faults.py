"""The faults: each a function that disturbs a running round once, and says what it did; None where there is nothing to disturb.

Victims are drawn from the round's random numbers among what is there at that moment, so that a seed gives the same kinds in the same
order, while whom they hit depends on how fast the machine is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from flow_round import FLOOR, QUICK, STALE_S, Job, Round

REPO = Path(__file__).resolve().parents[2]

Fault = Callable[[Round], "str | None"]
FAULTS: dict[str, Fault] = {}


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__.replace("_", " ")] = function
    return function


def _one(round_: Round, gates: bool = False) -> Job | None:
    jobs = round_.running(gates)
    return round_.rng.choice(jobs) if jobs else None


# --- the scheduler ----------------------------------------------------------------------------------------------------


@fault
def preempt_a_node(round_: Round) -> str | None:
    """An urgent job takes the whole node of a running task: requeued in partition `main`, cancelled in `scrap`."""
    if (job := _one(round_)) is None:
        return None
    round_.slurm.preempt(job.node, seconds=round_.rng.uniform(0, 2))
    return f"{job.node} with {job.id} of {job.stage} in {round_.partition}"


@fault
def requeue_an_element(round_: Round) -> str | None:
    if (job := _one(round_, gates=True)) is None:
        return None
    round_.slurm.requeue(job.id)
    return f"{job.id} {job.name}"


@fault
def cancel_an_element(round_: Round) -> str | None:
    if (job := _one(round_, gates=True)) is None:
        return None
    round_.slurm.run("scancel", job.id)
    return f"{job.id} {job.name}"


@fault
def cancel_an_array(round_: Round) -> str | None:
    if (job := _one(round_)) is None:
        return None
    array = job.id.partition("_")[0]
    round_.slurm.run("scancel", array)
    return f"{array} {job.name}"


@fault
def lose_a_gate(round_: Round) -> str | None:
    """A gate is cancelled, in most cases while it waits for its array: what depends on it never starts."""
    gates = [job for job in round_.jobs() if job.is_gate]
    if not gates:
        return None
    gate = round_.rng.choice(gates)
    round_.slurm.run("scancel", gate.id)
    return f"{gate.id} {gate.name}, {gate.state}"


@fault
def end_of_the_time_limit(round_: Round) -> str | None:
    if (job := _one(round_)) is None:
        return None
    round_.slurm.end_time_limit(job.id)
    return f"{job.id} {job.name}"


@fault
def out_of_memory(round_: Round) -> str | None:
    """The controller is told what the kernel's killer would make of the job."""
    if (job := _one(round_)) is None:
        return None
    round_.slurm.end_out_of_memory(job.id)
    return f"{job.id} {job.name}"


@fault
def kill_a_slurmd(round_: Round) -> str | None:
    """A node loses power with all that runs on it, and is back before or after the controller has noticed."""
    slurm, job = round_.slurm, _one(round_)
    if job is None or job.node not in slurm.daemons:
        return None
    slurm.kill_node(job.node)
    seconds = round_.rng.choice([1.0, 12.0])
    round_.after(seconds, lambda: slurm.start_node(job.node))
    return f"{job.node} with {job.id} of {job.stage}, back after {seconds:g} s"


@fault
def kill_the_controller(round_: Round) -> str | None:
    """SIGKILL of slurmctld, which then forgets its last seconds; back at once, or after a while in which nobody gets an answer."""
    slurm = round_.slurm
    daemon = slurm.daemons.pop("slurmctld")
    daemon.kill()
    daemon.wait()
    seconds = round_.rng.uniform(0, 4)
    time.sleep(seconds)
    slurm._spawn("slurmctld", ["slurmctld", "-D"])
    slurm._wait_answer()
    return f"gone for {seconds:.1f} s"


# --- processes --------------------------------------------------------------------------------------------------------


def _signal(round_: Round, pids: list[int], number: signal.Signals) -> str | None:
    if not pids:
        return None
    pid = round_.rng.choice(pids)
    round_.kill(pid, number)
    return f"process {pid}"


@fault
def kill_a_worker(round_: Round) -> str | None:
    return _signal(round_, round_.busy(), signal.SIGKILL)


@fault
def kill_a_task(round_: Round) -> str | None:
    return _signal(round_, round_.tasks(), signal.SIGKILL)


@fault
def terminate_a_task(round_: Round) -> str | None:
    """SIGTERM, as before a kill."""
    return _signal(round_, round_.tasks(), signal.SIGTERM)


@fault
def warn_a_task(round_: Round) -> str | None:
    """SIGUSR1, as some minutes before the time limit."""
    return _signal(round_, round_.tasks(), signal.SIGUSR1)


@fault
def freeze_a_worker(round_: Round) -> str | None:
    """SIGSTOP until its claim is stale and has been taken over, then SIGCONT: the zombie goes on where it was."""
    if not (workers := round_.busy()):
        return None
    pid, seconds = round_.rng.choice(workers), STALE_S + round_.rng.uniform(1, 5)
    round_.freeze(pid, seconds)
    return f"process {pid} for {seconds:.1f} s"


# --- files ------------------------------------------------------------------------------------------------------------


@fault
def fill_the_disk(round_: Round) -> str | None:
    if round_.disk.kind == "plain" or round_.filled or not round_.workers():
        return None
    seconds = round_.rng.uniform(1, 5)
    round_.filled = True
    round_.disk.fill()

    def free() -> None:
        round_.filled = False
        round_.disk.free()

    round_.after(seconds, free)
    return f"{round_.disk.kind} for {seconds:.1f} s"


@fault
def delete_a_claim(round_: Round) -> str | None:
    if not (claims := round_.claims()):
        return None
    claim = round_.rng.choice(claims)
    claim.unlink(missing_ok=True)
    return f"{claim.parents[2].name} {claim.name}"


# --- people -----------------------------------------------------------------------------------------------------------


@fault
def launch_twice(round_: Round) -> str | None:
    """A running stage is submitted twice more, both at once."""
    if (job := _one(round_)) is None:
        return None
    command = [sys.executable, "-m", "jobs.cli", "submit", "--stage", job.stage]
    environment = round_.slurm.env() | QUICK
    both = [
        subprocess.Popen(command, cwd=round_.pipeline.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        _, stderr = process.communicate(timeout=120)
        if "Traceback" in stderr and not round_.disturbed(stderr):
            round_.violations.append(f"submit --stage {job.stage}, twice at once: {stderr[-1500:]}")
    return f"{job.stage}, exit codes {[process.returncode for process in both]}"


@fault
def edit_a_tuning_key(round_: Round) -> str | None:
    """Slices of another size, planned anew: nothing is computed again, and nobody who works is disturbed."""
    round_.configure(slice_rows=round_.rng.randint(1, 5))
    return _plan(round_, "slice_rows")


@fault
def edit_a_threshold(round_: Round) -> str | None:
    """A new version of `after` is submitted beside the old one, with what it waits for; then the old config is put back."""
    round_.configure(floor=2 * FLOOR)
    sent = round_.ccpipe("submit")
    round_.threshold_edited = round_.threshold_edited or not sent.returncode
    round_.configure()
    _plan(round_, "back")
    return f"after at floor {2 * FLOOR}, {_said(sent)}"


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """`done`, or what the command line said of its failure."""
    lines = (done.stdout + done.stderr).strip().splitlines() or [""]
    return "done" if not done.returncode else f"exit code {done.returncode}: {lines[-1][:200]}"


def _plan(round_: Round, what: str) -> str | None:
    done = round_.ccpipe("plan")
    if done.returncode and not round_.disturbed(done.stdout + done.stderr):
        round_.violations.append(f"plan ({what}) returned {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
    return None if done.returncode else what


@fault
def scale_up(round_: Round) -> str | None:
    """`ccpipe scale --stage S +2`: more tasks for a running stage."""
    if not can("scale") or (job := _one(round_)) is None:
        return None
    done = round_.ccpipe("scale", "--stage", job.stage, "+2")
    return f"{job.stage}, {_said(done)}"


@fault
def look_at_the_status(round_: Round) -> str | None:
    """Not a fault: somebody looks, in the middle of it all."""
    done = round_.ccpipe("status", "--json")
    if done.returncode and not round_.disturbed(done.stderr):
        round_.violations.append(f"status --json returned {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
    return "status --json"


@cache
def can(verb: str) -> bool:
    """Whether the command line has this verb."""
    command = [sys.executable, "-m", "jobs.cli", verb, "--help"]
    return subprocess.run(command, cwd=REPO, env=os.environ, capture_output=True).returncode == 0
