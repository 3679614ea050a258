"""What was asked for and cannot be done, and what a command line says of it.

In: an exception that a verb raised. Out: an exit code and one message, or None where the program itself is at fault, and a
traceback is what its authors need. Exit code 2: the command or a file must be changed first; 1: the machine was in the way.
"""

from __future__ import annotations

import errno
from pathlib import Path

from hpc.dispatch.sbatch import SbatchError
from hpc.fs.permissions import PermissionsError
from hpc.site import SiteError
from hpc.state.work import NoWork


class UsageError(Exception):
    """Something was asked for that cannot be done. The message: what was seen, what was expected, what to type next."""


ASKED_WRONG: tuple[type[Exception], ...] = (UsageError, SbatchError, SiteError, PermissionsError, NoWork)

FULL = (errno.ENOSPC, errno.EDQUOT)
"""No room, or no more room for us: what is committed stays, and the rest can be done when there is."""

HINTS = {
    **dict.fromkeys(FULL, "make room and run the same command again"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "expected to read and write there: mend the permissions or choose another place"
    ),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file stands where a folder is expected: choose another place"),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "the disk or its server fails: run the same command again when that is mended"),
}


def tell(error: Exception, run: Path | None = None) -> tuple[int, str] | None:
    """Exit code and message; None: not an error of the user or of the machine.

    `run`: the run directory. An error about a file in it, cut off or of another version, is one of that file.
    """
    if isinstance(error, ASKED_WRONG):
        return 2, str(error)
    if isinstance(error, OSError) and error.errno in HINTS:
        return 1, f"{error.filename or run or 'run directory'}: {error.strerror}; {HINTS[error.errno]}"
    if run is None:
        return None
    if isinstance(error, FileNotFoundError) and Path(error.filename or "").is_relative_to(run):
        return 2, f"{error.filename} is missing; expected it in a run that is planned: plan the run again"
    if isinstance(error, ValueError) and str(error).startswith(f"{run}/"):
        return 2, str(error)
    return None
