"""Launching on Slurm through submitit; the only module that imports it.

submitit renders the sbatch script and submits it. What it runs on the node is `Replace`, which turns the process into
our own worker by `exec`: from then on signals, exit codes and state are ours, and no result pickle is written or read.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from hpc.sbatch import HOLD, sbatch_options
from hpc.site import Resources, Site


class SlurmError(Exception):
    """Slurm did not take a job."""


@dataclass(frozen=True)
class Replace:
    """Replaces the process that calls it by a command."""

    command: tuple[str, ...]

    def __call__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execvp(self.command[0], self.command)


def submit_array(
    folder: Path,
    logs: Path,
    name: str,
    commands: Sequence[Sequence[str]],
    resources: Resources,
    site: Site,
    dependency: str | None = None,
) -> list[str]:
    """One array element per command, in arrays of at most `site.max_array_size`; returns the job ids of the arrays.

    folder: takes submitit's files; logs: one log per element. Raises `SlurmError` with Slurm's own words.
    """
    jobs = []
    # a throttle is Slurm's for each array: shared out, but no array is throttled to nothing
    arrays = math.ceil(len(commands) / site.max_array_size)
    throttle = max(1, site.throttle // arrays) if site.throttle else None
    for first in range(0, len(commands), site.max_array_size):
        part = [Replace(tuple(command)) for command in commands[first : first + site.max_array_size]]
        # submitit sends an array of one as a plain job
        log = logs / ("%A_%a.log" if len(part) > 1 else "%j.log")
        executor = _executor(folder, log, name, resources, site, dependency)
        executor.update_parameters(array_parallelism=throttle or site.max_array_size)
        jobs.append(_sent(executor.map_array, Replace.__call__, part)[0].job_id.partition("_")[0])
    return jobs


def submit_one(
    folder: Path, logs: Path, name: str, command: Sequence[str], resources: Resources, site: Site, dependency: str | None = None
) -> str:
    """A single job; returns its id. Raises `SlurmError`."""
    executor = _executor(folder, logs / "%j.log", name, resources, site, dependency)
    return str(_sent(executor.submit, Replace(tuple(command))).job_id)


def _executor(folder: Path, log: Path, name: str, resources: Resources, site: Site, dependency: str | None) -> submitit.SlurmExecutor:
    if shutil.which("sbatch") is None:
        raise SlurmError("no sbatch on the path: this is not a Slurm login node. Use `local`, or `sbatch` to get the scripts")
    folder.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    # "exec" makes the worker the batch process, the one that "B:" signals reach
    executor = submitit.SlurmExecutor(folder=folder, python="exec " + shlex.quote(site.python or sys.executable))
    options = sbatch_options(name, resources, site, array=None, log=log, dependency=dependency)
    written_by_submitit = ("job-name", "time", "nodes", "cpus-per-task")
    executor.update_parameters(
        job_name=name,
        time=resources.time_min,
        nodes=1,
        cpus_per_task=resources.cpus,
        use_srun=False,
        stderr_to_stdout=True,
        setup=[HOLD, *site.setup],
        additional_parameters={key: value for key, value in options.items() if key not in written_by_submitit},
    )
    return executor


def _sent(send: Callable[..., Any], *args: Any) -> Any:
    try:
        return send(*args)
    except (RuntimeError, subprocess.CalledProcessError, submitit.core.utils.FailedJobError) as error:
        raise SlurmError(f"Slurm refused the job: {error}") from error
