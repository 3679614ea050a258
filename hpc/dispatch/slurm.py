"""Sending scripts to Slurm through submitit; the only module that imports it.

submitit keeps a script in a folder, sends it and reads the job's number. It usually renders the script too, and has each element
unpickle a function from that folder; ours says in plain words what it runs (`exec python -m hpc work ...`), so that nothing
which another user could have written there is ever unpickled, and signals and exit codes are the worker's own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import submitit

SLURM_TIMEOUT_S = 60


class SlurmError(Exception):
    """Slurm did not take a job."""


class ScriptExecutor(submitit.SlurmExecutor):  # type: ignore[misc]  # submitit is not typed for mypy here
    """Sends a script as it is."""

    def __init__(self, folder: Path, script: str) -> None:
        super().__init__(folder=folder)
        self.script = script

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        return self.script


def send_script(folder: Path, script: str) -> str:
    """Submit a script; returns the job's number. `folder` keeps a copy. Raises `SlurmError` with Slurm's own words."""
    if shutil.which("sbatch") is None:
        raise SlurmError("no sbatch on the path: this is not a Slurm login node. Use `local`, or `sbatch` to get the scripts")
    folder.mkdir(parents=True, exist_ok=True)
    before = _hide_job_variables()
    try:
        return str(ScriptExecutor(folder, script)._submit_command("").job_id)
    except OSError as error:
        raise SlurmError(f"cannot keep a script in {folder}: {error}; make room or mend the folder, and type the same again") from error
    except (RuntimeError, subprocess.CalledProcessError, submitit.core.utils.FailedJobError) as error:
        raise SlurmError(f"Slurm refused the job: {error}") from error
    finally:
        os.environ.update(before)
        for left in folder.glob(".submission_file_*"):  # a link to the script that is kept, or what a full disk has cut short
            left.unlink(missing_ok=True)


def _hide_job_variables() -> dict[str, str]:
    """Take the variables of the job that we are in out of the environment, since sbatch reads them as options; returns them."""
    names = [name for name in os.environ if name.startswith("SBATCH_") or (name.startswith("SLURM_") and name != "SLURM_CONF")]
    return {name: os.environ.pop(name) for name in names}


STATE_OF_DEPENDENCY = re.compile(r"\([a-z]+\)")
"""squeue adds "(unfulfilled)" to each part of a dependency."""


def depending_on(job: str) -> dict[str, str]:
    """Our queued jobs that wait for `job`: number -> its whole dependency, such as "afterok:17,afterany:18". One call of squeue."""
    out = _asked(["squeue", "--user", str(os.geteuid()), "--states=PENDING", "--noheader", "--format=%F|%E"])
    found = {}
    for line in out.splitlines():
        number, _, said = line.partition("|")
        dependency = STATE_OF_DEPENDENCY.sub("", said.strip())
        if re.search(rf":{job}(_|\W|$)", dependency):
            found[number.strip()] = dependency
    return found


def dependency_of(job: str) -> str:
    """What a queued job or array waits for, "" for nothing. Raises `SlurmError` where none of it is queued any more."""
    out = _asked(["squeue", f"--jobs={job}", "--states=PENDING", "--noheader", "--format=%E"]).split()
    if not out:
        raise SlurmError(f"job {job} is not in the queue; expected it to wait there")
    # elements of an array that have come back have lines of their own
    return next((STATE_OF_DEPENDENCY.sub("", said) for said in out if said != "(null)"), "")


def set_dependency(job: str, dependency: str) -> None:
    """Let a queued job wait for something else. Raises `SlurmError`."""
    _asked(["scontrol", "update", f"JobId={job}", f"Dependency={dependency}"])


def _asked(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(list(command), capture_output=True, text=True, timeout=SLURM_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        raise SlurmError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
