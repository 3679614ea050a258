"""Garbage: old versions of stages, and what killed processes have left. Found by what sentinels name; removed only when asked to.

Kept: every version that the run is planned at now, the version that a `current` link shows until a newer one is complete, and
everything that somebody works on. What is left of a removed version elsewhere (hard links of units taken over) stays as it is.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.attempt import new_attempt
from hpc.claims import STALE_S, Watch
from hpc.files import names_in, read_json, read_json_if_exists, read_link
from hpc.plan import Plan
from hpc.state import StageState

POLL_S = 1.0


@dataclass(frozen=True)
class Garbage:
    """Something that can go. `bytes`: what its removal frees (files with other names left count as none); `inodes` likewise."""

    path: Path
    why: str
    bytes: int
    inodes: int

    def remove(self) -> None:
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)


def find_garbage(run: Path, say: Callable[[str], None] = lambda line: None) -> list[Garbage]:
    """Everything that can go, in the order in which to remove it. Waits, if claims are there, until it is known who lives."""
    planned = {(entry["stage"], entry["fp12"]) for entry in read_json(run / "flow.json")["stages"]}
    versions = [version for stage in sorted(names_in(run / "state")) for version in _versions(run, stage)]
    alive = _alive(versions, say)
    found: list[Garbage] = []
    for state in versions:
        busy = alive[state.folder]
        if (state.stage, state.fp12) in planned:
            found += _leftovers(state, busy)
        elif not busy and not _is_shown(state):
            found += _old_version(state, any(stage == state.stage for stage, _ in planned))
    return [item for item in found if item.inodes]


def _versions(run: Path, stage: str) -> Iterator[StageState]:
    folder = run / "state" / stage
    for name in sorted(names_in(folder)) if folder.is_dir() else ():
        if (folder / name).is_dir():
            yield StageState(run, stage, name)


def _plan(state: StageState) -> Plan | None:
    try:
        return state.plan
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


# --- who lives --------------------------------------------------------------------------------------------------------


def _alive(versions: list[StageState], say: Callable[[str], None]) -> dict[Path, set[str]]:
    """Folder of a version -> its units that somebody works on. A claim is dead when its process is, or when it has stopped beating."""
    me, watches = new_attempt(), {state.folder: Watch() for state in versions}
    alive: dict[Path, set[str]] = {state.folder: set() for state in versions}
    open_claims = [(state, unit) for state in versions for unit in sorted(names_in(state.folder / "claims"))]
    deadline, told = time.monotonic() + 2 * STALE_S, False
    while open_claims:
        left = []
        for state, unit in open_claims:
            verdict = watches[state.folder].judge(state.claim_path(unit), me)
            if verdict == "alive":
                alive[state.folder].add(unit)
            elif verdict == "unknown":
                left.append((state, unit))
        open_claims = left
        if open_claims and not told:
            told = True
            say(f"{len(open_claims)} claims: looking for up to {STALE_S:.0f} s whether their holders live")
        if open_claims and time.monotonic() > deadline:
            for state, unit in open_claims:
                alive[state.folder].add(unit)
            break
        if open_claims:
            time.sleep(POLL_S)
    return alive


def _is_shown(state: StageState) -> bool:
    """Whether a `current` link shows this version."""
    plan = _plan(state)
    return plan is not None and any(
        _link_target(state.run / folder / "current") == state.fp12 for folder in _output_folders(plan, state.fp12)
    )


def _link_target(link: Path) -> str | None:
    try:
        return read_link(link)
    except OSError:
        return None


def _output_folders(plan: Plan, fp12: str) -> set[Path]:
    """Folders, below the run folder, in which a version's own folder lies."""
    found = set()
    for template in plan.outputs.values():
        parts = Path(template).parts
        found.add(Path(*parts[: parts.index(fp12)]))
    return found


# --- what can go ------------------------------------------------------------------------------------------------------


def _old_version(state: StageState, in_flow: bool) -> Iterator[Garbage]:
    why = f"old version of {state.stage}" if in_flow else f"{state.stage} is no longer in the flow"
    plan = _plan(state)
    for folder in sorted(_output_folders(plan, state.fp12)) if plan else ():
        yield _measure(state.run / folder / state.fp12, why)
    yield _measure(state.scratch, why)
    yield _measure(state.folder, why)  # last: from its plan the outputs are found


def _leftovers(state: StageState, busy: set[str]) -> Iterator[Garbage]:
    """What killed processes have left in a version that stays."""
    plan = _plan(state)
    if plan is None:
        return
    named = _named_files(state)
    for folder in sorted({(state.run / template).parent for template in plan.outputs.values()}):
        for path in _files_in(folder):
            if path not in named and _unit_of(path, plan, state) not in busy:
                yield _measure(path, "no sentinel names it")
    kept = _slice_folders(state)
    for path in sorted(state.scratch.iterdir()) if state.scratch.is_dir() else ():
        if path.name.partition("@")[0] in busy:
            continue
        inside = sorted(path.iterdir()) if path.is_dir() else []
        if not any(part in kept for part in inside):
            yield _measure(path, "left by an attempt that ended")
        else:
            yield from (_measure(part, "left by an attempt that ended") for part in inside if part not in kept)
    if not busy:
        for folder in (state.folder, *sorted({(state.run / template).parent for template in plan.outputs.values()})):
            for path in _hidden(folder):
                yield _measure(path, "left by a write that was cut short")
        for unit in sorted(names_in(state.folder / "claims")):
            yield _measure(state.claim_path(unit), "claim of a process that is gone")
    yield from _superseded(state)


def _named_files(state: StageState) -> set[Path]:
    sentinels = (state.sentinel(unit) for unit in state.done_units())
    return {state.run / entry["path"] for sentinel in sentinels if sentinel for entry in sentinel["outputs"].values()}


def _files_in(folder: Path) -> list[Path]:
    """Published files; names with a dot are looked at by `_hidden`."""
    return sorted(path for name in names_in(folder) if not (path := folder / name).is_dir())


def _unit_of(path: Path, plan: Plan, state: StageState) -> str | None:
    """The unit whose output has this name."""
    for template in plan.outputs.values():
        before, _, after = Path(template).name.partition("{unit}")
        name = path.name
        if (state.run / template).parent == path.parent and name.startswith(before) and name.endswith(after):
            return name[len(before) : len(name) - len(after)]
    return None


def _slice_folders(state: StageState) -> set[Path]:
    found = set()
    for unit in names_in(state.folder / "slices"):
        for name in names_in(state.slices_path(unit)):
            record: Mapping[str, Any] | None = read_json_if_exists(state.slices_path(unit) / name)
            if record:
                found.add(state.run / record["folder"])
    return found


def _hidden(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob(".*")):
        # submitit keeps the scripts that it sent under names with a dot
        if path.name.startswith(".") and "launches" not in path.relative_to(folder).parts[:-1]:
            yield path


def _superseded(state: StageState) -> Iterator[Garbage]:
    """Sentinels taken back, once the unit has been committed again and the archive no longer holds the old one."""
    archive = state.archive()
    for name in sorted(names_in(state.folder / "retired")):
        unit, _, attempt = name.removesuffix(".json").rpartition("@")
        folded = archive.read(unit) if archive else None
        if state.is_done(unit) and (folded is None or folded["attempt"]["id"] != attempt):
            yield _measure(state.folder / "retired" / name, "sentinel of a unit that was committed again")


def _measure(path: Path, why: str) -> Garbage:
    """Bytes and inodes that are freed; 0 inodes where there is nothing."""
    total = inodes = 0
    for inner in [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]:
        try:
            found = inner.lstat()
        except FileNotFoundError:
            continue
        last_name = inner.is_dir() or found.st_nlink == 1
        total += found.st_blocks * 512 if last_name and not inner.is_dir() else 0
        inodes += last_name
    return Garbage(path, why, total, inodes if path.exists() or path.is_symlink() else 0)
