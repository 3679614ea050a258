"""Durable files on a shared filesystem: write, fsync, publish. Every other module of `hpc` writes through these few functions.

What is published is complete: contents are fsynced before the name appears, the folder is fsynced after.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DIGEST = "sha256"
"""Digest of outputs; the one that `sha256sum` prints."""


def to_json(value: Any) -> bytes:
    """One canonical JSON text: sorted keys, UTF-8, a newline at the end. Equal values give equal bytes."""
    return (json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1) + "\n").encode()


def read_json(path: Path) -> Any:
    """Raises `ValueError` with the path when the file is not JSON."""
    data = path.read_bytes()
    try:
        return json.loads(data)
    except ValueError as error:
        raise ValueError(f"{path}: {len(data)} bytes that are not JSON ({error}); remove the file to have it made again") from None


def read_json_if_exists(path: Path) -> Any | None:
    try:
        return read_json(path)
    except FileNotFoundError:
        return None


def fsync_file(path: Path) -> None:
    """Force the contents to disk. Raises OSError (ENOSPC, EDQUOT, EIO) where the filesystem only now finds out."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(path: Path) -> None:
    """Force the names in a folder to disk."""
    fsync_file(path)


def _write_beside(path: Path, data: bytes) -> Path:
    """Write and fsync a uniquely named file in the folder of `path`."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # write and fsync know only a descriptor
        raise
    return beside


def publish_once(path: Path, value: Any) -> bool:
    """Publish JSON under a name that nobody has yet. False: somebody was first, their file stands.

    `link()` either makes the name or fails, on every POSIX filesystem and over NFS; a reader never sees half a file.
    """
    return publish_text_once(path, to_json(value).decode())


def publish_text_once(path: Path, text: str) -> bool:
    """`publish_once` for a text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _write_beside(path, text.encode())
    try:
        os.link(beside, path)
    except FileExistsError:
        if beside.stat().st_nlink < 2:
            return False
        # NFS: the first reply was lost, the server made the link, the repeated request found it
    finally:
        beside.unlink(missing_ok=True)
    fsync_folder(path.parent)
    return True


def replace_json(path: Path, value: Any) -> None:
    """Publish JSON, taking the place of an older file of this name in one step."""
    replace_text(path, to_json(value).decode())


def replace_text(path: Path, text: str) -> None:
    """`replace_json` for a text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _write_beside(path, text.encode())
    try:
        os.rename(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def move_into_place(source: Path, target: Path) -> None:
    """fsync a finished file and give it its final name; the folder is fsynced too."""
    fsync_file(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(source, target)
    fsync_folder(target.parent)


def point_link(link: Path, target: str) -> None:
    """Make the symbolic link `link` point to `target` (relative), in one step."""
    if link.is_symlink() and os.readlink(link) == target:
        return
    beside = link.with_name(f".{link.name}.{uuid.uuid4().hex}")
    os.symlink(target, beside)
    os.rename(beside, link)
    fsync_folder(link.parent)


def file_digest(path: Path) -> str:
    """Hex digest of the contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, DIGEST).hexdigest()


def tree_digest(path: Path) -> str:
    """Hex digest of a file, or of a folder's files with their names; what a model path stands for."""
    if path.is_file():
        return file_digest(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return hashlib.sha256(to_json([[p.relative_to(path).as_posix(), file_digest(p)] for p in files])).hexdigest()


def names_in(folder: Path) -> Iterator[str]:
    """Published names in a folder (temporary ones begin with a dot); nothing when it does not exist. One directory read."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry.name for entry in entries if not entry.name.startswith("."))
    except FileNotFoundError:
        return
