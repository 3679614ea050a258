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
    try:
        # "<pid> (<name>) <state> ...", where the name may hold anything
        state = Path("/proc", str(pid), "stat").read_text(errors="replace").rpartition(") ")[2][:1]
    except OSError:
        return True  # no /proc here
    return state not in ("Z", "X")
