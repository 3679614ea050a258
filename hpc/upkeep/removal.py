"""Removing garbage: what each piece frees, and taking it away, unless somebody else has taken its name since."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Garbage:
    """Something that can go. `bytes`: what its removal frees, when all before it have gone (files with other names left count as
    none); `inodes` likewise. `stamp`: which file or folder had the name. `after`: what must have gone before."""

    path: Path
    why: str
    bytes: int
    inodes: int
    stamp: tuple[int, int] = (0, 0)
    after: tuple[Path, ...] = ()

    def remove(self) -> str | None:
        """Remove it, unless somebody else has taken the name since: an output committed meanwhile, a claim taken over.

        Returns why it could not be removed, as far as it could not; None where nothing was in the way.
        """
        if stamp_of(self.path) != self.stamp:
            return None
        if left := next((path for path in self.after if os.path.lexists(path)), None):
            return f"cannot remove {self.path}: {left} is still there; run gc again when that is gone"
        try:
            _remove(self.path)
        except OSError as error:
            return f"cannot remove {self.path}: {error.strerror} ({error.filename}); mend that and run gc again"
        return None


def _remove(path: Path) -> None:
    """Remove a file, or as much of a folder as can be; its plan, by which a version is found, last. Raises the first OSError."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    errors: list[OSError] = []
    for inner in sorted(path.iterdir(), key=lambda inner: inner.name == "plan.json"):
        if inner.name == "plan.json" and errors:
            break
        if inner.is_dir() and not inner.is_symlink():
            shutil.rmtree(inner, onerror=lambda function, name, info: errors.append(info[1]))  # type: ignore[arg-type]
        else:
            _unlink(inner, errors)
    errors = [error for error in errors if not isinstance(error, FileNotFoundError)]
    if errors:
        raise errors[0]
    path.rmdir()


def _unlink(path: Path, errors: list[OSError]) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        errors.append(error)


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Which file or folder has the name, (device, inode); None where nothing has."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@dataclass
class Ledger:
    """Counts the names of each file that go, since a file is freed with its last one."""

    gone: Counter[tuple[int, int]] = field(default_factory=Counter)

    def measure(self, path: Path, why: str, after: tuple[Path, ...] = ()) -> Garbage:
        """Bytes and inodes that are freed; 0 inodes where there is nothing to remove."""
        total = inodes = 0
        for inner in [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]:
            try:
                found = inner.lstat()
            except FileNotFoundError:
                continue
            is_folder = inner.is_dir() and not inner.is_symlink()
            self.gone[found.st_dev, found.st_ino] += 1
            last_name = is_folder or self.gone[found.st_dev, found.st_ino] == found.st_nlink
            total += found.st_blocks * 512 if last_name and not is_folder else 0
            inodes += last_name
        return Garbage(path, why, total, inodes, stamp_of(path) or (0, 0), after)
