"""Folding: the sentinels of a complete stage in one archive, `done.zip`, instead of a file for each unit.

Members are called like the loose files (`00012.json`) and hold the same bytes: `unzip -p done.zip 00012.json`. The archive is
published before any loose sentinel is removed, and is never changed: a sentinel in it is taken back by a file in `retired/`.
"""

from __future__ import annotations

import hashlib
import json
import struct
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc.fs.files import move_into_place, to_json

FOLD_UNITS = 100
"""Stages of fewer units keep their sentinels as files: there is nothing to save, and a person sees them."""

FIXED_DATE = (1980, 1, 1, 0, 0, 0)
"""The first that a ZIP can hold: the archive must not depend on when it was made."""

BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, ValueError, NotImplementedError, RuntimeError, OverflowError)
"""What reading a damaged archive can end in."""


@dataclass
class Archive:
    """An open `done.zip`, read once in each process while the file stays the same."""

    path: Path
    stamp: tuple[int, int, int]
    units: frozenset[str]
    _zip: zipfile.ZipFile = field(repr=False)

    def read(self, unit: str) -> dict[str, Any] | None:
        if unit not in self.units:
            return None
        try:
            found: dict[str, Any] = json.loads(self._zip.read(f"{unit}.json"))
        except BROKEN as error:
            raise _not_as_written(self.path, error) from None
        return found


def _not_as_written(path: Path, why: object) -> ValueError:
    return ValueError(f"{path}: not the archive of sentinels that was written there ({why}); restore it, or remove it")


def _comment(members: Iterable[zipfile.ZipInfo]) -> bytes:
    """Comment of the archive: a ZIP has checksums of its members, but none of the list of them."""
    listed = [[m.filename, m.compress_type, m.header_offset, m.compress_size, m.file_size, m.CRC] for m in members]
    return f"list sha256 {hashlib.sha256(to_json(listed)).hexdigest()}".encode()


_archives: dict[Path, Archive] = {}


def open_archive(path: Path) -> Archive | None:
    """The archive at `path`; None where there is none. Raises `ValueError` for a file that is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
    known = _archives.get(path)
    if known is None or known.stamp != stamp:
        try:
            archive = zipfile.ZipFile(path)
        except BROKEN as error:
            raise _not_as_written(path, error) from None
        if archive.comment != _comment(archive.infolist()):
            archive.close()
            raise _not_as_written(path, "its list of units is damaged")
        units = frozenset(name.removesuffix(".json") for name in archive.namelist())
        known = _archives[path] = Archive(path, stamp, units, archive)
    return known


def write_archive(path: Path, sentinels: Mapping[str, Any]) -> None:
    """Publish an archive of these sentinels in their order, in one step, taking the place of an older one."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for unit, sentinel in sentinels.items():
                member = zipfile.ZipInfo(f"{unit}.json", FIXED_DATE)
                member.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(member, to_json(sentinel))
            archive.comment = _comment(archive.infolist())
        move_into_place(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _archives.pop(path, None)


def remove_loose(folder: Path, units: Iterable[str]) -> None:
    """Remove loose sentinels that the archive holds, and their folder when nothing is left in it."""
    for unit in units:
        (folder / f"{unit}.json").unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError:
        return  # others have written there, or there never was one
