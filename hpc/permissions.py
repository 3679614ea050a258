"""Who may write into a run directory. Its plans and launches say which code runs on the nodes, under the user's name.

Folders and files are made with the user's umask and are never changed by us; this looks at what came of it, and refuses.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

GROUP_OR_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class PermissionsError(Exception):
    """Somebody else may write here; the message says where, and what to type."""


def check_private(run: Path, allow_shared: bool, state: Path | None = None) -> None:
    """Refuse a run directory that another user than ourselves and root may have written to. Raises `PermissionsError`.

    Looks at the run directory, its `state`, the stages' folders, plans and launches, as far as they exist: one `stat` each.
    `state`: only the folder of this stage (a task needs no more). `allow_shared` (`shared_state` of the site): nothing is refused.
    """
    if allow_shared:
        return
    for path in _looked_at(run, state):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        _check(run, path, found)


def _looked_at(run: Path, state: Path | None) -> Iterator[Path]:
    yield from (run, run / "flow.json", run / "run.resolved.toml", run / "state")
    stages = [state.parent] if state else _inside(run / "state")
    for stage in stages:
        yield stage
        for version in [state] if state else _inside(stage):
            yield from (version, version / "plan.json", version / "launches")
            yield from _inside(version / "launches")


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _check(run: Path, path: Path, found: os.stat_result) -> None:
    us = os.geteuid()
    if found.st_uid not in (us, 0):
        raise PermissionsError(
            f"{path} belongs to {_user(found.st_uid)}; expected {_user(us)}, since what stands there decides which code runs. "
            f"Choose another [run] dir, or set shared_state = true in the site profile if you trust them"
        )
    writable = found.st_mode & GROUP_OR_OTHERS
    if writable & stat.S_IWGRP and _is_own_group(found.st_gid, us):
        writable &= ~stat.S_IWGRP
    if writable:
        who = "everybody" if writable & stat.S_IWOTH else f"the group {_group(found.st_gid)}"
        mode = f"mode {stat.S_IMODE(found.st_mode):o}"
        raise PermissionsError(
            f"{path} can be written by {who} ({mode}); expected by {_user(us)} alone, since what stands there decides which code "
            f"runs. Type: umask 022; chmod -R go-w {shlex.quote(str(run))}   or set shared_state = true in the site profile"
        )


def _is_own_group(gid: int, uid: int) -> bool:
    """Whether a group is the user's private one, of the same name and without other members, as many systems make them (umask 002)."""
    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    return user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
