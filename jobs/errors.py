"""What the command line says when something is not as it should be.

In: an exception that a verb raised. Out: an exit code and one message, or None where the program itself is at fault, and a
traceback is what its authors need. Exit code 2: the command or a file must be changed first; 1: the machine was in the way.
"""

from __future__ import annotations

import errno
from pathlib import Path

from hpc.errors import UsageError
from hpc.permissions import PermissionsError
from hpc.sbatch import SbatchError
from hpc.site import SiteError
from hpc.work import NoWork
from jobs.config import ConfigError, RunConfig
from jobs.flow import NoSuchStage

ASKED_WRONG = (UsageError, ConfigError, NoSuchStage, SbatchError, SiteError, PermissionsError, NoWork)

__all__ = ["UsageError", "blame_run_dir", "tell"]

FULL = (errno.ENOSPC, errno.EDQUOT)
HINTS = {
    **dict.fromkeys(FULL, "make room and run the same command again"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "expected to read and write there: mend the permissions or choose another place"
    ),
    errno.ENOTDIR: "a file stands where a folder is expected: choose another place",
}


def tell(error: Exception) -> tuple[int, str] | None:
    """Exit code and message; None: not an error of the user or of the machine."""
    if isinstance(error, ASKED_WRONG):
        return 2, str(error)
    if isinstance(error, OSError) and error.errno in HINTS:
        return 1, f"{error.filename or 'run directory'}: {error.strerror}; {HINTS[error.errno]}"
    return None


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
