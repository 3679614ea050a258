"""Slices: committed pieces inside a long unit. A killed unit goes on behind the last one.

A slice is a folder of files and a record that vouches for them, published with exclusive names: `slices/<unit>/00003.json`.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.fs.files import fsync_file, fsync_folder, names_in, publish_once, read_json_if_exists
from hpc.fs.mounts import settled
from hpc.fs.points import reached
from hpc.fs.scratch import bring
from hpc.state.attempt import Attempt
from hpc.state.inputs import Commits
from hpc.state.plan import PlannedUnit
from hpc.state.state import StageState
from hpc.state.work import Clock, Files, Work, check_counts

log = logging.getLogger("hpc.state.slices")

LOG_LINE_S = 60.0
"""A long unit says where it stands, this often."""

Record = dict[str, Any]
"""{"counts", "next": cursor or None, "inputs", "attempt", "seconds", "folder", "files": {name: bytes}}"""


@dataclass(frozen=True)
class SlicedUnit:
    """One attempt on one unit. `scratch`: its private folder beside the outputs; `local`: on the node's own disk, or the same."""

    state: StageState
    work: Work
    unit: PlannedUnit
    attempt: Attempt
    inputs: Files
    commits: Commits
    scratch: Path
    local: Path
    stop: Callable[[], bool]

    def run(self) -> list[Record] | None:
        """All slices of the unit, in order; None when stopped on the way (what is committed stays)."""
        records, told = self.committed(), time.monotonic()
        while not records or records[-1]["next"] is not None:
            if self.stop():
                return None
            record = self._next(records)
            records = [*records, record] if record is not None else self.committed()
            if time.monotonic() - told > LOG_LINE_S:
                told = time.monotonic()
                log.info("%s %s: %d slices committed, next %s", self.state.stage, self.unit.id, len(records), records[-1]["next"])
        return records

    def committed(self) -> list[Record]:
        """Slices that can be built upon: unbroken from the first, from the same inputs, with all their files."""
        records: list[Record] = []
        folder = self.state.slices_path(self.unit.id)
        while (record := read_json_if_exists(folder / f"{len(records):05d}.json")) is not None:
            made = slice_folder(self.state, folder / f"{len(records):05d}.json", record)
            if record["inputs"] != self.commits or not _has_files(made, record["files"]):
                discard_slices(self.state, self.unit.id)
                return []
            records.append(record)
        return records

    def _next(self, records: list[Record]) -> Record | None:
        """Run and commit the slice behind `records`; None when another attempt has committed that one."""
        number, clock = len(records), Clock()
        folder = self.local / f"slice-{number:05d}"
        folder.mkdir()
        self.work.earlier_slices(self.unit, [self.state.run / record["folder"] for record in records])
        counts, cursor = self.work.slice(self.unit, self.inputs, folder, records[-1]["next"] if records else None)
        check_counts(counts, f"{self.state.stage} {self.unit.id} slice {number}")
        reached("slice.written")
        made = {"counts": counts, "next": cursor, "inputs": self.commits, "attempt": self.attempt.id, "seconds": clock.seconds()}
        return self._commit(number, bring(folder, self.scratch), made)

    def _commit(self, number: int, folder: Path, made: Record) -> Record | None:
        files = _force_to_disk(folder)
        fsync_folder(folder.parent)
        reached("slice.synced")
        record = {**made, "folder": folder.relative_to(self.state.run).as_posix(), "files": files}
        if publish_once(self.state.slices_path(self.unit.id) / f"{number:05d}.json", record):
            reached("slice.recorded")
            return record
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _force_to_disk(folder: Path) -> dict[str, int]:
    """fsync all files of a folder and of the folders in it, then these; returns their bytes by path below `folder`."""
    files: dict[str, int] = {}
    for inner, _, names in os.walk(folder, topdown=False, onerror=_raise):
        for path in (Path(inner, name) for name in sorted(names)):
            fsync_file(path)
            files[path.relative_to(folder).as_posix()] = path.stat().st_size
        fsync_folder(Path(inner))
    return files


def _raise(error: OSError) -> None:
    raise error


def _has_files(folder: Path, files: Mapping[str, int]) -> bool:
    return settled(lambda: all((folder / name).stat().st_size == size for name, size in files.items()), folder / "any")


def slice_folder(state: StageState, path: Path, record: Mapping[str, Any]) -> Path:
    """The folder that a record names, which is one below the stage's own folder of attempts, and no link leads out of that.

    What is removed with a slice is what its record says, so nothing else may be said there. Raises `ValueError` with the record's path.
    """
    name = str(record["folder"])
    folder, below = state.run / os.path.normpath(name), Path("tmp", state.stage, state.fp12)
    real = Path(os.path.realpath(state.scratch))
    inside = state.scratch in folder.parents and Path(os.path.realpath(folder.parent)).is_relative_to(real)
    if Path(name).is_absolute() or ".." in Path(name).parts or not inside:
        raise ValueError(
            f"{path}: names the folder {name!r}; expected a folder below {below.as_posix()}; remove {path.parent} to have the unit run anew"
        )
    return folder


def _recorded(state: StageState, unit: str) -> dict[Path, Path]:
    """Folder by record of every slice of a unit. Raises `ValueError`."""
    paths = [state.slices_path(unit) / name for name in sorted(names_in(state.slices_path(unit)))]
    found = ((path, read_json_if_exists(path)) for path in paths)
    return {path: slice_folder(state, path, record) for path, record in found if record is not None}


def slice_folders(state: StageState) -> set[Path]:
    """Folders of all slices that are committed. Raises `ValueError` where a record names one that is not the stage's."""
    return {folder for unit in names_in(state.folder / "slices") for folder in _recorded(state, unit).values()}


def discard_slices(state: StageState, unit: str) -> None:
    """Forget the slices of a unit. Records go first, last to first, so that what remains is always unbroken from the first.

    Raises `ValueError`, before anything is removed, where a record names a folder that is not the stage's.
    """
    for path, folder in sorted(_recorded(state, unit).items(), reverse=True):
        path.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        remove_if_empty(folder.parent)
    remove_if_empty(state.slices_path(unit))


def remove_uncommitted(state: StageState, unit: str, scratch: Path) -> None:
    """Remove what a failed attempt left, but not the slices that it has committed: the next attempt builds upon them."""
    committed = set(_recorded(state, unit).values())
    for path in [scratch / name for name in names_in(scratch)]:
        if path not in committed:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    remove_if_empty(scratch)


def remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise
