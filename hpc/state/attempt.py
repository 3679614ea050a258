"""Who runs: the identity of one execution of a unit, globally unique and readable."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Attempt:
    """`job` is "<array job>_<element>" under Slurm, else ""; `restart` counts requeues of that element."""

    id: str
    host: str
    pid: int
    job: str
    restart: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def scheduler_job(env: Mapping[str, str] = os.environ) -> str:
    """The scheduler's name of this task: "<array job>_<element>", "<job>", or "" outside a job."""
    job = env.get("SLURM_ARRAY_JOB_ID") or env.get("SLURM_JOB_ID", "")
    element = env.get("SLURM_ARRAY_TASK_ID")
    return f"{job}_{element}" if job and element else job


def new_attempt() -> Attempt:
    host, pid, job = socket.gethostname(), os.getpid(), scheduler_job()
    restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    parts = [uuid.uuid4().hex[:16], host, str(pid), *([f"{job}r{restart}"] if job else [])]
    return Attempt("-".join(parts), host, pid, job, restart)


def process_alive(pid: int) -> bool:
    """Whether a process of this host exists and can still work: one that has ended and waits for its parent to notice cannot."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _state(pid) not in ("Z", "X")


def process_runs(pid: int, since: float) -> bool:
    """Whether the process that had this id at `since` (seconds since 1970, this host's clock) is known to be at work: it is
    not stopped by a signal or a debugger, and it is not another one that has got the number later. False where there is no /proc.
    """
    return process_alive(pid) and _state(pid) in ("R", "S", "D") and _started(pid) <= since + CLOCK_STEP_S


CLOCK_STEP_S = 2.0
"""The kernel tells the time of boot in whole seconds."""


def _started(pid: int) -> float:
    """When a process was started, seconds since 1970; infinity where that cannot be read."""
    try:
        ticks = int(Path("/proc", str(pid), "stat").read_text(errors="replace").rpartition(") ")[2].split()[19])
        boot = int(Path("/proc/stat").read_text().partition("btime ")[2].split()[0])
        return boot + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return float("inf")


def _state(pid: int) -> str:
    """The kernel's letter for what a process does; "" where it cannot be read."""
    try:
        # "<pid> (<name>) <state> ...", where the name may hold anything
        return Path("/proc", str(pid), "stat").read_text(errors="replace").rpartition(") ")[2][:1]
    except OSError:
        return ""
