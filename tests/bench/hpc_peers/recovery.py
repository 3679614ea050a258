"""Time from the loss of a worker or task to the moment when somebody else works on the unit that it held.

Units last a minute in slices of 0.1 s; the clock starts at the kill and ends when the unit's claim names another attempt.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import SlurmCluster
from hpc_peers.ours import the_state

from hpc.state.claims import read_claim
from hpc.state.state import StageState

HERE = Path(__file__).parent
LONG, SHORT = "000000", "000001"
"""Units: the one that is lost, and the one after which the other worker looks for more."""

Holder = dict[str, Any]


@dataclass(frozen=True)
class Loss:
    """`measure(folder)` gives seconds."""

    name: str
    measure: Callable[[Path], float]


def losses(slurm: SlurmCluster | None, stale: bool) -> list[Loss]:
    """`stale`: also the slow one, a claim of a dead host at the standard heartbeat, which takes a minute and a half."""
    found = [Loss("worker process SIGKILLed: its task starts another", kill_worker)]
    if slurm is None:
        return found

    def of_slurm(name: str, measure: Callable[[SlurmCluster, Path], float]) -> None:
        def measured(folder: Path) -> float:
            try:
                return measure(slurm, folder)
            finally:
                slurm.reset()

        found.append(Loss(name, measured))

    of_slurm(
        "task SIGKILLed; another task of its host, from the end of its own unit",
        lambda cluster, folder: kill_task(cluster, folder),
    )
    of_slurm(
        "the same, seen from another host; heartbeat 2 s (dead after 12 s)",
        lambda cluster, folder: kill_task(cluster, folder, other_host=True, env={"HPC_HEARTBEAT_S": "2"}),
    )
    if stale:
        of_slurm(
            "the same with the standard heartbeat of 15 s (dead after 90 s)",
            lambda cluster, folder: kill_task(cluster, folder, other_host=True),
        )
    of_slurm("task SIGKILLed, no other alive: the gate sends the next round", lambda cluster, folder: kill_task(cluster, folder, 1))
    of_slurm("node failure (SlurmdTimeout 6 s), no other task alive: Slurm requeues the element", lose_node)
    return found


def kill_worker(folder: Path) -> float:
    """Local executor, two workers with a long unit each."""
    with started(folder, ["local", "--procs", "2"], {"BENCH_UNITS": "2", "BENCH_TASKS": "1", "BENCH_CPUS": "2", "BENCH_UNIT_S": "60"}):
        holder = holder_at_work(folder)
        os.kill(holder["pid"], signal.SIGKILL)
        return seconds_until_taken(folder, holder)


def kill_task(slurm: SlurmCluster, folder: Path, tasks: int = 2, other_host: bool = False, env: Mapping[str, str] | None = None) -> float:
    """A task is killed as by the kernel, nothing is requeued.

    With another task, which has some seconds of its own unit left, the clock starts when that unit is done: a worker that is idle while
    all holders live leaves, and the gate sends the next round. `other_host`: the claim is made to name a host that cannot be looked into.
    """
    submit(slurm, folder, tasks, env or {})
    holder, state = holder_at_work(folder), the_state_of(folder)
    if tasks > 1:
        wait_until(lambda: state.claim_path(SHORT).exists(), 60, f"{SHORT} to be worked on in {folder}")
    if other_host:
        path = state.claim_path(LONG)
        path.write_text(json.dumps(holder | {"host": "elsewhere"}))
    kill_with_parent(holder["pid"])
    if tasks > 1:
        wait_until(lambda: state.is_done(SHORT), 60, f"{SHORT} to be done in {folder}")
    return seconds_until_taken(folder, holder)


def lose_node(slurm: SlurmCluster, folder: Path) -> float:
    submit(slurm, folder, 1, {})
    holder = holder_at_work(folder)
    slurm.kill_node(slurm.node_of(holder["job"]))
    return seconds_until_taken(folder, holder)


def kill_with_parent(worker: int) -> None:
    """The task first, which would otherwise start its worker anew."""
    task = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(task, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)


# --- helpers ----------------------------------------------------------------------------------------------------------


def submit(slurm: SlurmCluster, folder: Path, tasks: int, env: Mapping[str, str]) -> None:
    """So many array elements of one process; the long unit, and a short one for each further element."""
    wanted = {"BENCH_UNITS": str(tasks), "BENCH_TASKS": str(tasks), "BENCH_CPUS": "1", "BENCH_UNIT_S": "60,5"}
    with started(folder, ["submit"], {**slurm.env(), **wanted, **env}) as command:
        if command.wait(120):
            raise RuntimeError(f"submit returned {command.returncode}: {folder.with_suffix('.out').read_text()}")


@contextlib.contextmanager
def started(folder: Path, verb: list[str], env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m hpc VERB` on the flow of the bench; stopped at the end, if it still runs."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "hpc", *verb, "--flow", "null_flow:pipeline"]
    with folder.with_suffix(".out").open("wb") as out:
        environment = os.environ | dict(env) | {"BENCH_RUN": str(folder)}
        process = subprocess.Popen(command, cwd=HERE, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def the_state_of(folder: Path) -> StageState:
    state = the_state(folder)
    if state is None:
        raise RuntimeError(f"{folder} holds no plan; expected the one that the command has just written; see {folder.with_suffix('.out')}")
    return state


def holder_at_work(folder: Path) -> Holder:
    """Wait until the long unit has some slices; who works on it."""

    def slices() -> int:
        state = the_state(folder)
        return len(list(state.slices_path(LONG).glob("*.json"))) if state else 0

    wait_until(lambda: slices() >= 5, 60, f"slices of {LONG} in {folder}")
    path = the_state_of(folder).claim_path(LONG)
    holder = read_claim(path)
    if not holder:
        raise RuntimeError(f"nobody holds {path}; expected the worker whose slices are there")
    return holder


def seconds_until_taken(folder: Path, holder: Holder) -> float:
    """From now until the long unit's claim names another attempt."""
    began, path = time.monotonic(), the_state_of(folder).claim_path(LONG)
    wait_until(lambda: (read_claim(path) or holder).get("id", holder["id"]) != holder["id"], 240, f"{path} to be taken from {holder}")
    return time.monotonic() - began


def wait_until(true: Callable[[], object], timeout_s: float, what: str) -> None:
    """Look a hundred times a second. Raises `TimeoutError`."""
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.01)
