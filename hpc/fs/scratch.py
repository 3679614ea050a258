"""Private folders of attempts: on the filesystem of the outputs, so that a rename publishes; or first on the node's own disk.

Node-local scratch (`scratch` in the site profile) takes the many small writes of a unit; what is finished is copied to the shared
filesystem in one pass, under a private name, and published from there like anything else.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from pathlib import Path

log = logging.getLogger("hpc.fs.scratch")

MIN_FREE_BYTES = 1 << 30
"""Below this much room on the node's disk, attempts write to the shared filesystem at once."""

VARIABLE = re.compile(r"\$\{?(\w+)")
"""`$NAME` or `${NAME}`."""


def local_scratch(folder: str | None) -> Path | None:
    """The node's own scratch folder, variables filled in; None where there is none that can be used (said in the log)."""
    if not folder:
        return None
    if unset := [name for name in VARIABLE.findall(folder) if not os.environ.get(name)]:
        log.warning("node-local scratch %s: %s is not set on this node; working on the shared filesystem", folder, unset[0])
        return None
    path = Path(os.path.expandvars(folder))
    if not path.is_absolute():
        log.warning("node-local scratch %s: expected an absolute path; working on the shared filesystem", path)
        return None
    try:
        path.mkdir(parents=True, exist_ok=True)
        Path(tempfile.mkdtemp(prefix=".writable-", dir=path)).rmdir()
        free = shutil.disk_usage(path).free
    except OSError as error:
        log.warning("node-local scratch %s: %s; working on the shared filesystem", path, error)
        return None
    if free < MIN_FREE_BYTES:
        log.warning(
            "node-local scratch %s: %d MB free, expected %d; working on the shared filesystem", path, free >> 20, MIN_FREE_BYTES >> 20
        )
        return None
    return path


def bring(made: Path, folder: Path) -> Path:
    """Move a finished file or folder into `folder` if it is not there already; returns where it is."""
    if made.parent == folder:
        return made
    target = folder / made.name
    if made.is_dir():
        shutil.copytree(made, target)
        shutil.rmtree(made)
    else:
        shutil.copyfile(made, target)
        made.unlink()
    return target
