"""Give a finished file its name, provided that nobody has that name yet. Three ways, tried in this order on each filesystem:

1. `link()`: makes the name or fails. Every POSIX filesystem, NFS, Lustre, GPFS.
2. `renameat2(RENAME_NOREPLACE)`: the same in one step, where there are no hard links.
3. A folder as a gate, where there is neither (exFAT and much of FUSE); see `_by_folder`.

The first two may be mixed by several nodes on one filesystem. The third excludes only those who use it too: the nodes must
agree, and they do where they mount the filesystem alike. `doctor` prints which one is in use.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import time
import uuid
from pathlib import Path

UNSUPPORTED = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.EINVAL, errno.ENOTTY})
"""What filesystems answer to a call that they do not know. A real lack of permission comes back from the next way as well."""

RENAME_NOREPLACE = 1
RENAMEAT2_NUMBERS = {"x86_64": 316, "aarch64": 276, "ppc64le": 357, "s390x": 347, "riscv64": 276}
"""For a C library that does not know the call (glibc before 2.28); from the kernel's syscall tables."""
AT_FDCWD = -100

GATE_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.EPERM, errno.EACCES, errno.EBUSY, errno.EISDIR})
"""Somebody is in the gate; or it is empty, on a filesystem that renames no folder over another."""
GATE_WAIT_S = 60.0
"""Each publisher holds the gate for a few system calls; a gate that nobody can pass for this long is an error."""

_known: dict[int, int] = {}
"""st_dev -> index of the first way that works there, for this process."""


def take_name(beside: Path, path: Path) -> bool:
    """Name the file `beside`, which is in the folder of `path`, `path`; False when that name is taken, whose file then stands.

    `beside` may be left, renamed or gone afterwards. Raises OSError.
    """
    device = path.parent.stat().st_dev
    number = _known.get(device, 0)
    while True:
        try:
            made = WAYS[number](beside, path)
        except OSError as error:
            if error.errno not in UNSUPPORTED or number + 1 == len(WAYS):
                raise
            number += 1
            continue
        _known[device] = number
        return made


def way_in_use(folder: Path) -> str:
    """ "link", "renameat2" or "folder": what `take_name` uses in `folder`. Makes and removes a file to find out."""
    beside, path = (folder / f".way.{uuid.uuid4().hex}" for _ in range(2))
    beside.touch()
    try:
        take_name(beside, path)
    finally:
        beside.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    return NAMES[_known[folder.stat().st_dev]]


def _by_link(beside: Path, path: Path) -> bool:
    try:
        os.link(beside, path)
    except FileExistsError:
        # NFS: the first reply may be lost; the server made the link, the repeated request found it
        return beside.stat().st_nlink > 1
    return True


def _by_renameat2(beside: Path, path: Path) -> bool:
    try:
        renameat2(beside, path, RENAME_NOREPLACE)
    except FileExistsError:
        return False
    return True


def renameat2(source: Path, target: Path, flags: int) -> None:
    """The system call. Raises OSError, with ENOSYS where neither the C library nor the kernel has it."""
    library = ctypes.CDLL(None, use_errno=True)
    names = (AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags)
    ctypes.set_errno(errno.ENOSYS)
    if hasattr(library, "renameat2"):
        result = library.renameat2(*names)
    elif (number := RENAMEAT2_NUMBERS.get(platform.machine())) is not None:
        result = library.syscall(number, *names)
    else:
        result = -1
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(source), None, str(target))


def _by_folder(beside: Path, path: Path) -> bool:
    """Publish through the folder `.<name>.gate`, which holds at most one file: that of the publisher whose turn it is.

    A publisher puts its file, under a name that is never used again, into a folder of its own and renames that folder to the
    gate. A folder cannot be renamed over one that is not empty, so one publisher is inside at a time, and comes in with its
    finished file. Whoever sees a file in the gate finishes for its owner: if `path` is not there, the file is renamed to it,
    otherwise it is removed. While a file is in the gate nobody but its owner can make `path`, and leaving the gate and making
    `path` are one rename: so `path` is never replaced, never half there, and no lock is ever broken.

    On disk if the process dies: before it is in the gate, a folder `.<name>.<random>` that nobody reads; inside, a file that the
    next publisher of this name publishes, exactly as if its owner had lived a moment longer; after, an empty gate, which is
    open. Nothing of this depends on clocks or on who is alive.
    """
    token = uuid.uuid4().hex
    mine, gate = path.with_name(f".{path.name}.{token}"), path.with_name(f".{path.name}.gate")
    data = beside.read_bytes()
    mine.mkdir()
    try:
        os.rename(beside, mine / token)
        deadline = time.monotonic() + GATE_WAIT_S
        while not path.exists():
            try:
                os.rename(mine, gate)
            except FileNotFoundError:
                pass  # a reply was lost: it is in the gate, or has passed it
            except OSError as error:
                _pass_gate(gate, path)
                if error.errno not in GATE_TAKEN or time.monotonic() > deadline:
                    raise
                time.sleep(0.001)
                continue
            return _pass_gate(gate, path) == token or _has(path, data)
        return False
    finally:
        with contextlib.suppress(OSError):
            (mine / token).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            mine.rmdir()


def _pass_gate(gate: Path, path: Path) -> str | None:
    """Finish for whoever is in the gate; the name of the file that we have renamed to `path`, if it was us who did so."""
    moved = None
    with contextlib.suppress(FileNotFoundError):
        for inside in gate.iterdir():
            if path.exists():
                inside.unlink()
            else:
                os.rename(inside, path)
                moved = inside.name
    with contextlib.suppress(OSError):
        gate.rmdir()
    return moved


def _has(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except FileNotFoundError:
        return False


WAYS = (_by_link, _by_renameat2, _by_folder)
NAMES = ("link", "renameat2", "folder")
