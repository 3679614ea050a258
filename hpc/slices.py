"""Slices: committed pieces inside a long unit. A killed unit goes on behind the last one.

A slice is a folder of files and a record that vouches for them, published with exclusive names: `slices/<unit>/00003.json`.
"""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.attempt import Attempt
from hpc.files import fsync_file, fsync_folder, names_in, publish_once, read_json_if_exists
from hpc.inputs import Commits
from hpc.mounts import settled
from hpc.plan import PlannedUnit
from hpc.points import reached
from hpc.scratch import bring
from hpc.state import StageState
from hpc.work import Clock, Files, Work, check_counts

log = logging.getLogger("hpc.slices")

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
            if record["inputs"] != self.commits or not _has_files(self.state.run / record["folder"], record["files"]):
                discard_slices(self.state, self.unit.id)
                return []
            records.append(record)
        return records

    def _next(self, records: list[Record]) -> Record | None:
        """Run and commit the slice behind `records`; None when another attempt has committed that one."""
        number, clock = len(records), Clock()
        folder = self.local / f"slice-{number:05d}"
        folder.mkdir()
        counts, cursor = self.work.slice(self.unit, self.inputs, folder, records[-1]["next"] if records else None)
        check_counts(counts, f"{self.state.stage} {self.unit.id} slice {number}")
        reached("slice.written")
        made = {"counts": counts, "next": cursor, "inputs": self.commits, "attempt": self.attempt.id, "seconds": clock.seconds()}
        return self._commit(number, bring(folder, self.scratch), made)

    def _commit(self, number: int, folder: Path, made: Record) -> Record | None:
        files = {name: (folder / name).stat().st_size for name in sorted(names_in(folder))}
        for name in files:
            fsync_file(folder / name)
        fsync_folder(folder)
        fsync_folder(folder.parent)
        reached("slice.synced")
        record = {**made, "folder": folder.relative_to(self.state.run).as_posix(), "files": files}
        if publish_once(self.state.slices_path(self.unit.id) / f"{number:05d}.json", record):
            reached("slice.recorded")
            return record
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _has_files(folder: Path, files: Mapping[str, int]) -> bool:
    return settled(lambda: all((folder / name).stat().st_size == size for name, size in files.items()), folder / "any")


def discard_slices(state: StageState, unit: str) -> None:
    """Forget the slices of a unit. Records go first, last to first, so that what remains is always unbroken from the first."""
    names = sorted(names_in(state.slices_path(unit)), reverse=True)
    for name in names:
        record = read_json_if_exists(state.slices_path(unit) / name)
        (state.slices_path(unit) / name).unlink(missing_ok=True)
        if record is not None:
            shutil.rmtree(state.run / record["folder"], ignore_errors=True)
            remove_if_empty((state.run / record["folder"]).parent)
    remove_if_empty(state.slices_path(unit))


def remove_uncommitted(state: StageState, unit: str, scratch: Path) -> None:
    """Remove what a failed attempt left, but not the slices that it has committed: the next attempt builds upon them."""
    records = (read_json_if_exists(state.slices_path(unit) / name) for name in names_in(state.slices_path(unit)))
    committed = {state.run / record["folder"] for record in records if record is not None}
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
