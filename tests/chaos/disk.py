"""A small filesystem under the run directory that can be filled to the last byte: a tmpfs, or an ext4 in a file."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SIZE_MB = 48
"""A campaign's run directory takes a few MB, thousands of 4 KB blocks; to fill the rest must not take seconds."""


@dataclass
class Disk:
    """`kind`: "tmpfs", "ext4", or "plain" where nothing can be mounted (containers without the right): that one is never filled."""

    folder: Path
    kind: str

    @property
    def ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Take every free byte; called again, also those that were freed in the meantime."""
        with contextlib.suppress(OSError), self.ballast.open("ab") as file:
            free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_bsize
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), max(free, 1))
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while os.write(file.fileno(), bytes(size)):
                        pass

    def free(self) -> None:
        self.ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path, kind: str) -> Iterator[Disk]:
    """Mount at `folder`; on leaving, unmount (what is on it is gone then)."""
    folder.mkdir(parents=True)
    image = folder.with_name(f"{folder.name}.ext4")
    mounted = _mount(folder, image, kind)
    try:
        yield Disk(folder, kind if mounted else "plain")
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)
        image.unlink(missing_ok=True)


def _mount(folder: Path, image: Path, kind: str) -> bool:
    if kind == "tmpfs":
        return _runs("mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=755", "none", folder)
    if kind == "ext4":
        with image.open("wb") as file:
            file.truncate(SIZE_MB << 20)
        # no blocks kept for root: its writes too must fail
        return _runs("mkfs.ext4", "-q", "-m", "0", "-N", "16384", image) and _runs("mount", "-o", "loop", image, folder)
    return False


def _runs(*command: str | Path) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
