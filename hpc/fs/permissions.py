"""Who may write into a run directory. Its plans and launches say which code runs on the nodes, under the user's name.

Folders and files are made with the user's umask and are never changed by us; this looks at what came of it, and refuses.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from hpc.fs.files import names_in

GROUP_OR_OTHERS = stat.S_IWGRP | stat.S_IWOTH

VERSION = re.compile("[0-9a-f]{12}")
"""Name of a version's folder, below `state`, `tmp` and those of outputs."""

DEPTH = 4
"""So many folders below the run directory a version's folder of outputs is looked for."""

OF_A_VERSION = (
    *("plan.json", "launches", "done", "done.zip", "slices", "failed", "claims", "tasks", "retired", "units.json", "_SUCCESS.json"),
)


class PermissionsError(Exception):
    """Somebody else may write here; the message says where, and what to type."""


def check_private(run: Path, allow_shared: bool, state: Path | None = None) -> None:
    """Refuse a run directory that another user than ourselves and root may have written to. Raises `PermissionsError`.

    Looks at the run directory, its `state` and `tmp`, and of every version of a stage at what decides what is run and what counts as
    done: plan, launches, the folders of sentinels, slices, failures, claims and attempts, and the folders of its outputs, at most
    `DEPTH` folders below the run. One `stat` each, none for each unit: a file can be replaced by those who may write its folder.
    `state`: only the folder of this stage (a task needs no more). `allow_shared` (`shared_state` of the site): nothing is refused.
    """
    if allow_shared:
        return
    for path in dict.fromkeys(_looked_at(run, state)):
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        _check(run, path, found)


def _looked_at(run: Path, state: Path | None) -> Iterator[Path]:
    yield from (run, run / "flow.json", run / "run.resolved.toml", run / "state", run / "tmp")
    if state is None:
        states = _chains(run / "state", VERSION)
        yield from (*_inside(run / "state"), *states, *_chains(run / "tmp", VERSION))
        versions, name = [path for path in states if VERSION.fullmatch(path.name)], VERSION
    else:
        for folder in (state, run / "tmp" / state.relative_to(run / "state")):
            yield from (parent for parent in folder.parents if parent.is_relative_to(run))
            yield folder
        versions, name = [state], re.compile(re.escape(state.name))
    for version in versions:
        yield from (version / inside for inside in OF_A_VERSION)
        yield from _inside(version / "launches")
    for folder in _inside(run):
        if folder.name not in ("state", "tmp"):
            yield from _below([folder], name, DEPTH - 1)


def _chains(folder: Path, name: re.Pattern[str]) -> list[Path]:
    """Folders of versions below `folder`, and those that lead to them."""
    return [path for inner in _inside(folder) for path in _below([inner], name, DEPTH)]


def _below(chain: list[Path], name: re.Pattern[str], depth: int) -> list[Path]:
    """`chain`, folders one in another, and what is below the last one, as far as it leads to a folder of that name."""
    last = chain[-1]
    if name.fullmatch(last.name):
        return chain
    if depth == 0 or last.name == "current":
        return []
    return [path for inner in _inside(last) for path in _below([*chain, inner], name, depth - 1)]


def _inside(folder: Path) -> list[Path]:
    """Names in a folder but hidden ones; none where it is no folder."""
    try:
        return sorted(folder / name for name in names_in(folder))
    except NotADirectoryError:
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
