"""Coming back: a task that leaves before its time limit puts itself into the queue again.

Slurm counts whoever leaves after the warning signal as finished, whatever the exit code (docs/slurm-facts.md); only a
requeue brings the element back. After SIGTERM Slurm has decided already, and a requeue would undo an `scancel`.
"""

from __future__ import annotations

import logging
import os
import subprocess

log = logging.getLogger("hpc.workers.requeue")

MAX_RESTARTS = 100
"""Requeues of one element before it stays away: a warning that always comes before the first slice must not go on for ever."""


def requeue_self() -> bool:
    """Ask Slurm for another run of this element. False where that is not possible: the gate will then name what is missing."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return False
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) >= MAX_RESTARTS:
        log.error("job %s has come back %d times; what is left will be named by the gate", job, MAX_RESTARTS)
        return False
    try:
        answer = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.error("scontrol requeue %s: %s; what is left will be named by the gate", job, error)
        return False
    if answer.returncode:
        log.error("Slurm does not requeue job %s: %s; what is left will be named by the gate", job, answer.stderr.strip())
        return False
    log.warning("job %s is back in the queue for what is left", job)
    return True
