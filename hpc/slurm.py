"""Launching on Slurm through submitit; the only module that imports it.

submitit renders the sbatch script and submits it. What it runs on the node is `Replace`, which turns the process into
our own worker by `exec`: from then on signals, exit codes and state are ours, and no result pickle is written or read.
"""

from __future__ import annotations

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

from hpc.sbatch import sbatch_options
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
    folder: Path, name: str, commands: Sequence[Sequence[str]], resources: Resources, site: Site, dependency: str | None = None
) -> list[str]:
    """One array element per command, in arrays of at most `site.max_array_size`; returns the job ids of the arrays.

    folder: takes submitit's files and the logs. Raises `SlurmError` with Slurm's own words.
    """
    jobs = []
    for first in range(0, len(commands), site.max_array_size):
        part = commands[first : first + site.max_array_size]
        executor = _executor(folder, name, resources, site, dependency)
        found = _sent(executor.map_array, Replace.__call__, [Replace(tuple(command)) for command in part])
        jobs.append(found[0].job_id.partition("_")[0])
    return jobs


def submit_one(folder: Path, name: str, command: Sequence[str], resources: Resources, site: Site, dependency: str | None = None) -> str:
    """A single job; returns its id. Raises `SlurmError`."""
    executor = _executor(folder, name, resources, site, dependency)
    return str(_sent(executor.submit, Replace(tuple(command))).job_id)


def _executor(folder: Path, name: str, resources: Resources, site: Site, dependency: str | None) -> submitit.SlurmExecutor:
    if shutil.which("sbatch") is None:
        raise SlurmError("no sbatch on the path: this is not a Slurm login node. Use `local`, or `sbatch` to get the scripts")
    folder.mkdir(parents=True, exist_ok=True)
    executor = submitit.SlurmExecutor(folder=folder, python=shlex.quote(site.python or sys.executable))
    options = sbatch_options(name, resources, site, array=None, log="", dependency=dependency)
    # the batch shell execs nothing under submitit, so the warning signal goes to the steps: no "B:"
    own = {"array", "output", "open-mode", "job-name", "signal", "time", "nodes", "cpus-per-task", "ntasks"}
    executor.update_parameters(
        job_name=name,
        time=resources.time_min,
        nodes=1,
        ntasks_per_node=1,
        cpus_per_task=resources.cpus,
        signal_delay_s=site.signal_s,
        stderr_to_stdout=True,
        array_parallelism=site.throttle or 100_000,
        setup=list(site.setup) or None,
        # Slurm 22.05 and later do not hand --cpus-per-task of sbatch on to srun
        srun_args=[f"--cpus-per-task={resources.cpus}"],
        additional_parameters={key: value for key, value in options.items() if key not in own},
    )
    return executor


def _sent(send: Callable[..., Any], *args: Any) -> Any:
    try:
        return send(*args)
    except (RuntimeError, subprocess.CalledProcessError, submitit.core.utils.FailedJobError) as error:
        raise SlurmError(f"Slurm refused the job: {error}") from error
