"""What the command line of the jobs says when something is not as it should be: what `hpc.errors` tells, and errors of configs."""

from __future__ import annotations

from pathlib import Path

from hpc import errors
from hpc.errors import FULL, UsageError
from jobs.config import ConfigError, RunConfig
from jobs.flow import NoSuchStage

__all__ = ["UsageError", "blame_run_dir", "tell"]


def tell(error: Exception, run: Path | None = None) -> tuple[int, str] | None:
    """Exit code and message; None: not an error of the user or of the machine."""
    if isinstance(error, (ConfigError, NoSuchStage)):
        return 2, str(error)
    return errors.tell(error, run)


def blame_run_dir(error: OSError | ValueError, config: RunConfig) -> Exception:
    """What to raise for an error of planning: about the run directory where it names that, else the error itself."""
    run = config.run_dir
    if isinstance(error, ValueError):
        # a plan, or another file of the run, that is not what it should be; the message says what to do
        return UsageError(str(error)) if str(error).startswith(str(run)) else error
    place = Path(error.filename or "")
    if error.errno in FULL or error.filename is None or not (place.is_relative_to(run) or run.is_relative_to(place)):
        return error
    return UsageError(
        f"run directory {run}: {error.strerror} ({place}); expected a folder that can be made and written, on a filesystem that all "
        f"nodes share: change `dir` in [run] of {config.path}"
    )
