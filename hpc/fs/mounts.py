"""Which filesystem a path is on, how much room it has, and how to wait for what another node wrote there.

On a network filesystem a node may see for some time what its attribute cache remembers: a file that another node has
finished can be absent or have an old size here. `settled` looks again until that time is over, and only there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ATTRIBUTE_CACHE_S = 75.0
"""NFS keeps attributes of folders for up to 60 s (nfs(5): acdirmax), and a quarter more for what lies between."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
FORGET_S = 600.0
"""A folder in which the whole wait was in vain is not waited for again by this process for so long: a thousand lost files must
not cost a thousand times 75 s."""

# fmt: off
SHARED = frozenset([
    "9p", "afs", "beegfs", "ceph", "cifs", "fhgfs", "fuse", "gfs2", "glusterfs", "gpfs", "lustre", "nfs", "nfs3", "nfs4", "ocfs2",
    "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "virtiofs", "wekafs",
])
# fmt: on
"""Filesystem types that other machines write to as well, besides every `fuse.*`."""
OBJECT_STORES = ("s3fs", "gcsfuse", "goofys", "rclone", "mountpoint-s3", "blobfuse", "geesefs", "s3ql")
"""FUSE mounts of object stores, in which a rename copies and is not one step."""


@dataclass(frozen=True)
class Mount:
    """`point`: where it is mounted; `kind`: filesystem type as in /proc/self/mountinfo; `source`: device or server; `options`."""

    point: Path
    kind: str
    source: str
    options: frozenset[str]

    @property
    def is_shared(self) -> bool:
        return self.kind in SHARED or self.kind.startswith("fuse.")

    @property
    def is_object_store(self) -> bool:
        return self.kind.startswith("fuse.") and self.kind.removeprefix("fuse.").startswith(OBJECT_STORES)


def mounts(table: Path = Path("/proc/self/mountinfo")) -> list[Mount]:
    """What is mounted, in the order of the kernel's table; [] where there is none (not Linux)."""
    try:
        text = os.fsdecode(table.read_bytes())
    except FileNotFoundError:
        return []
    return [_parse(line) for line in text.splitlines()]


def _parse(line: str) -> Mount:
    r"""One line of mountinfo (proc_pid_mountinfo(5)): any number of optional fields ends with a lone `-`.

    >>> _parse(r"36 35 98:0 /mnt1 /mnt/my\040disk rw,noatime master:1 - nfs4 server:/export rw,vers=4.2").point.as_posix()
    '/mnt/my disk'
    """
    before, _, after = line.partition(" - ")
    fields, (kind, source, *superblock) = before.split(" "), after.split(" ")
    options = frozenset(fields[5].split(",")) | frozenset(superblock[-1].split(",") if superblock else ())
    return Mount(Path(_unescape(fields[4])), kind, _unescape(source), options)


def _unescape(text: str) -> str:
    r"""Space, tab, newline and backslash stand as three octal digits.

    >>> _unescape(r"a\040b\134040")
    'a b\\040'
    """
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def mount_of(path: Path, table: Path = Path("/proc/self/mountinfo")) -> Mount | None:
    """The mount that a path is on, or will be on once it exists: the longest mount point above it, of equals the last.

    None where the kernel tells nothing.
    """
    real = Path(os.path.realpath(path))
    above = [mount for mount in mounts(table) if real.is_relative_to(mount.point)]
    # max() takes the first of equals, and the later mount hides the earlier
    return max(reversed(above), key=lambda mount: len(mount.point.parts), default=None)


def is_shared(path: Path) -> bool:
    """Whether other nodes may write there, so that what they did may be seen late. Unknown filesystems count as local."""
    mount = mount_of(path)
    return mount is not None and mount.is_shared


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write, without regard to quotas (which no portable call tells)."""
    found = os.statvfs(_existing(path))
    return found.f_bavail * found.f_frsize


def free_inodes(path: Path) -> int | None:
    """Files that this user may still make, without regard to quotas; None where the filesystem does not count (btrfs, some FUSE)."""
    found = os.statvfs(_existing(path))
    return found.f_favail if found.f_files else None


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


_in_vain: dict[Path, float] = {}
"""Folder -> when (monotonic) a whole wait for a file in it ended without success."""


def settled(check: Callable[[], bool], path: Path) -> bool:
    """What `check` says about `path`, once this node cannot be looking at an old picture of it any more.

    `check`: is the file there, with the size that its sentinel vouches for? True at once is believed. False is believed at once
    on a local filesystem; on a shared one the file is opened and its folder listed (NFS asks the server on open: close-to-open
    consistency), and `check` is called again after growing pauses, for at most `ATTRIBUTE_CACHE_S`. An OSError of `check` that
    says "not there" or "stale handle" counts as False; others are raised.
    """
    if _holds(check):
        return True
    if not is_shared(path):
        return False
    began, pause = time.monotonic(), FIRST_PAUSE_S
    patient = began - _in_vain.get(path.parent, -FORGET_S) >= FORGET_S
    while True:
        _revalidate(path)
        if _holds(check):
            return True
        left = began + ATTRIBUTE_CACHE_S - time.monotonic()
        if not patient:
            return False
        if left <= 0:
            _in_vain[path.parent] = time.monotonic()
            return False
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE_S)


def _holds(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
            return False
        raise


def _revalidate(path: Path) -> None:
    """Have the client ask the server about a file and its folder. Whatever goes wrong is for the next look to find."""
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for _ in entries:
            pass
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDONLY))
