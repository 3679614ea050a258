"""Real small filesystems to run tests on: tmpfs, ext4 on a loop device, exFAT (no links of any kind), a disk that fails.

Each is a context manager that mounts on a new folder and unmounts on leaving. Where the machine cannot, the test is skipped
with the reason and what to type. Needs root; exFAT needs the packages exfat-fuse and exfatprogs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.fs import exclusive

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
NEEDS = {"mkfs.ext4": "e2fsprogs", "mkfs.exfat": "exfatprogs", "mount.exfat-fuse": "exfat-fuse", "losetup": "mount"}


def _run(*command: str | Path) -> str:
    """Output of a command; the test is skipped where it is not installed or not allowed."""
    words = [str(word) for word in command]
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    program = shutil.which(words[0], path=f"{os.environ['PATH']}:{SBIN}")
    if program is None:
        pytest.skip(f"no {words[0]} here; type: apt-get install {NEEDS.get(words[0], 'mount')}")
    done = subprocess.run([program, *words[1:]], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


@contextlib.contextmanager
def _mounted(folder: Path, *command: str | Path) -> Iterator[Path]:
    folder.mkdir(parents=True)
    exclusive._known.clear()  # the number of a device that another filesystem had a moment ago may come again
    _run(*command, folder)
    try:
        yield folder
    finally:
        # lazily, if something is still open there: the next test must not suffer
        if subprocess.run(["umount", folder], capture_output=True).returncode:
            subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def _loop(image: Path) -> Iterator[str]:
    device = _run("losetup", "--find", "--show", image)
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True, env=os.environ | {"PATH": f"{os.environ['PATH']}:{SBIN}"})


@contextlib.contextmanager
def tmpfs(folder: Path, kib: int = 1024, inodes: int = 1000) -> Iterator[Path]:
    with _mounted(folder, "mount", "-t", "tmpfs", "-o", f"size={kib}k,nr_inodes={inodes}", "tmpfs"):
        yield folder


@contextlib.contextmanager
def ext4(folder: Path, mib: int = 8) -> Iterator[Path]:
    """A small ext4 on a loop device. Space is given out when data is written back, so fsync may be the call that fails."""
    image = folder.with_name(f"{folder.name}.img")
    with _image(image, mib), _loop(image) as device, _mounted(folder, "mount", device):
        yield folder


@contextlib.contextmanager
def failing_ext4(folder: Path, backing_kib: int = 3072, mib: int = 64) -> Iterator[Path]:
    """An ext4 whose disk takes no more than a few megabytes, though it says otherwise: then writes are lost, and fsync gives EIO.

    The image is a file with holes on a small tmpfs. Without a journal, so that the error is not one of all calls from then on; with
    blocks as large as pages of memory, since a loop device calls a write that was done in part a success.
    """
    disk = folder.with_name(f"{folder.name}.disk")
    with tmpfs(disk, backing_kib):
        image = disk / "image"
        with image.open("wb") as file:
            file.truncate(mib << 20)
        _run("mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "^has_journal", "-E", "nodiscard", "-N", "256", image)
        with _loop(image) as device, _mounted(folder, "mount", "-o", "errors=continue", device):
            yield folder


@contextlib.contextmanager
def exfat(folder: Path, mib: int = 16) -> Iterator[Path]:
    """exFAT through FUSE: no hard links, no symbolic links, no renameat2."""
    image = folder.with_name(f"{folder.name}.img")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(mib << 20)
    _run("mkfs.exfat", image)
    with _loop(image) as device, _mounted(folder, "mount.exfat-fuse", device):
        yield folder
    image.unlink()


@contextlib.contextmanager
def _image(image: Path, mib: int) -> Iterator[None]:
    image.parent.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(mib << 20)
    _run("mkfs.ext4", "-q", "-F", "-m", "0", image)
    yield
    image.unlink()


def fill(folder: Path, leave_bytes: int = 0) -> Path:
    """Write a file that takes all the room there is, then give back about `leave_bytes`; returns the file. Remove it to make room."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 14, 1 << 10, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
                    os.fsync(file.fileno())
    if leave_bytes:
        os.truncate(path, max(path.stat().st_size - leave_bytes, 0))
    return path


def fill_inodes(folder: Path) -> list[Path]:
    """Make empty files until no more can be made; returns them."""
    made: list[Path] = []
    with contextlib.suppress(OSError):
        while True:
            path = folder / f"inode{len(made)}"
            path.touch()
            made.append(path)
    return made
