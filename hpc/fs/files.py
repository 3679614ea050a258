"""Durable files on a shared filesystem: write, fsync, publish. Every other module of `hpc` writes through these few functions.

What is published is complete: contents are fsynced before the name appears, the folder is fsynced after. A full disk, a quota or
a broken one (ENOSPC, EDQUOT, EIO) at write, fsync or close raises and leaves no new name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hpc.fs.exclusive import UNSUPPORTED, take_name

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
    """Force the contents to disk. Raises OSError (ENOSPC, EDQUOT, EIO) where the filesystem only now finds out.

    After an error the file must be written anew: the kernel reports it once, and a second fsync would succeed on lost data.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        error.filename = str(path)  # fsync knows only a descriptor
        raise
    finally:
        os.close(descriptor)


def fsync_folder(path: Path) -> None:
    """Force the names in a folder to disk."""
    fsync_file(path)


def sync_folders(folders: Iterable[Path]) -> None:
    """Force the names in folders to disk, each folder once: after several `move_into_place(..., sync_folder=False)`."""
    for folder in sorted(set(folders)):
        fsync_folder(folder)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, as far as they are missing, and force their names to disk."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        fsync_folder(path.parent)


def seal(path: Path) -> tuple[int, str]:
    """Force a finished file to disk, then measure it: bytes and hex digest, of what the disk has taken. Raises OSError."""
    with path.open("rb") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            error.filename = str(path)
            raise
        return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, DIGEST).hexdigest()


def _beside(path: Path) -> Path:
    """A name in the folder of `path` that nobody has or will have."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def _remove(path: Path) -> None:
    """Remove a private file; one that cannot be removed is litter, not an error."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _write_beside(path: Path, data: bytes) -> Path:
    """Write and fsync a uniquely named file in the folder of `path`, which is made if it is missing."""
    beside = _beside(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        descriptor = os.open(beside, flags, 0o666)
    except FileNotFoundError:
        make_folder(path.parent)
        descriptor = os.open(beside, flags, 0o666)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException as error:
        _remove(beside)
        if isinstance(error, OSError):
            error.filename = str(path)  # write, fsync and close know only a descriptor
        raise
    return beside


def publish_once(path: Path, value: Any, *, sync_folder: bool = True) -> bool:
    """Publish JSON under a name that nobody has yet. False: somebody was first, their file stands.

    A reader never sees half a file, on whatever filesystem (`hpc.fs.exclusive`). Raises OSError, and then the name is not there.
    `sync_folder=False`: for many short units; the file is on disk, its name follows with the next `sync_folders`. Until then a
    crash of the machine can lose the name, as if the unit had not been run.
    """
    return publish_text_once(path, to_json(value).decode(), sync_folder=sync_folder)


def publish_text_once(path: Path, text: str, *, sync_folder: bool = True) -> bool:
    """`publish_once` for a text file. Two fsyncs: the file before it has its name, the folder after.

    On disk if the process dies: before `take_name` a private file `.<name>.<random>`, which nobody reads; in it see there; after
    it the published file, complete, of which only a crash of the machine could still lose the name.
    """
    beside = _write_beside(path, text.encode())
    try:
        if not take_name(beside, path):
            return False
    finally:
        _remove(beside)
    try:
        if sync_folder:
            fsync_folder(path.parent)
    except OSError:
        _remove(path)  # who gets an error has not published
        raise
    return True


def replace_json(path: Path, value: Any) -> None:
    """Publish JSON, taking the place of an older file of this name in one step."""
    replace_text(path, to_json(value).decode())


def replace_text(path: Path, text: str) -> None:
    """`replace_json` for a text file."""
    beside = _write_beside(path, text.encode())
    try:
        os.rename(beside, path)
    except BaseException:
        _remove(beside)
        raise
    fsync_folder(path.parent)


def move_into_place(source: Path, target: Path, *, sync_file: bool = True, sync_folder: bool = True) -> None:
    """fsync a finished file and give it its final name; the folder is fsynced too. Raises OSError, before the rename where it can.

    `sync_file=False`: `seal` has done it. `sync_folder=False`: several files go to one folder, and `sync_folders` follows.
    """
    if sync_file:
        fsync_file(source)
    _rename_to(source, target)
    if sync_folder:
        fsync_folder(target.parent)


def _rename_to(source: Path, target: Path) -> None:
    """Rename; the folder of `target` is made if it is missing."""
    try:
        os.rename(source, target)
    except FileNotFoundError:
        if target.parent.is_dir():
            raise
        make_folder(target.parent)
        os.rename(source, target)


def link_or_copy(source: Path, target: Path, *, sync_folder: bool = True) -> bool:
    """Give a committed file a second name: a hard link, or where that is impossible a copy, fsynced. True: it is a link.

    A file that had the name `target` is replaced in one step; its contents, which may have other names, are not touched. Raises
    OSError, and then `target` is as it was before.
    """
    make_folder(target.parent)
    beside, real = _beside(target), Path(os.path.realpath(source))
    try:
        linked = _try_link(real, beside)
        if not linked:
            shutil.copyfile(real, beside)
            fsync_file(beside)
        os.rename(beside, target)
    finally:
        _remove(beside)  # also where `target` was this very file: rename() does nothing between two links of one file
    if sync_folder:
        fsync_folder(target.parent)
    return linked


def _try_link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in UNSUPPORTED | {errno.EACCES}:
            raise
        return False
    return True


def point_link(link: Path, target: str) -> None:
    """Make the symbolic link `link` point to `target` (relative), in one step; where there are no symbolic links, a text file
    of that name that holds the target. `read_link` reads both.
    """
    with contextlib.suppress(OSError):
        if read_link(link) == target:
            return
    beside = _beside(link)
    try:
        os.symlink(target, beside)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        replace_text(link, target + "\n")
        return
    try:
        os.rename(beside, link)
    finally:
        _remove(beside)
    fsync_folder(link.parent)


def read_link(link: Path) -> str:
    """Where a link made by `point_link` points. Raises `FileNotFoundError`."""
    try:
        return os.readlink(link)
    except OSError as error:
        if error.errno not in UNSUPPORTED:  # EINVAL: no symbolic link, so the text file
            raise
        return link.read_text().removesuffix("\n")


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
