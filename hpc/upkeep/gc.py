"""Garbage: old versions of stages, and what killed processes have left. Found by what sentinels name; removed only when asked to.

Kept: every version that the run is planned at now, the version that a `current` link shows until a newer one is complete, and
everything that somebody works on. What is left of a removed version elsewhere (hard links of units taken over) stays as it is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path

from hpc.fs.files import names_in, read_json, read_link
from hpc.fs.permissions import VERSION
from hpc.state.attempt import Attempt, new_attempt, process_alive
from hpc.state.claims import STALE_S, Watch, read_claim
from hpc.state.plan import Plan
from hpc.state.slices import slice_folders
from hpc.state.state import StageState
from hpc.upkeep.removal import Garbage, Ledger, stamp_of

POLL_S = 1.0

HIDDEN_S = 2.0
"""A file under a private name that does not change for so long is nobody's: gates and planners write such files without a claim."""


def find_garbage(run: Path, say: Callable[[str], None] = lambda line: None, everything: bool = False) -> list[Garbage]:
    """Everything that can go, in the order in which to remove it. Waits, if claims are there, until it is known who lives.

    `say` is told of old versions that are kept, and why. `everything`: also those whose jobs may still wait in the queue. Raises
    `ValueError` with the path of a record that is not what it should be.
    """
    planned = {(entry["stage"], entry["fp12"]) for entry in read_json(run / "flow.json")["stages"]}
    versions = [StageState(run, folder.parent.relative_to(run / "state").as_posix(), folder.name) for folder in _versions(run / "state")]
    dead, ledger = _dead_claims(versions, say), Ledger()
    found: list[Garbage] = []
    for state in versions:
        if (state.stage, state.fp12) in planned:
            found += [ledger.measure(path, why) for path, why in _leftovers(state, dead[state.folder])]
        elif _busy(state, dead[state.folder]) or _is_shown(state):
            continue
        elif kept := _kept(state, everything):
            say(f"{state.folder}  kept: {kept}")
        else:
            why = f"old version of {state.stage}" if any(stage == state.stage for stage, _ in planned) else None
            found += _old_version(state, why or f"{state.stage} is no longer in the flow", ledger)
    return [item for item in found if item.stamp != (0, 0)]


def _versions(folder: Path) -> Iterator[Path]:
    """Folders with a plan, and the name of a version; names of stages may have slashes in them."""
    for name in sorted(names_in(folder)):
        inner = folder / name
        if inner.is_symlink() or not inner.is_dir():
            continue
        if VERSION.fullmatch(name):
            if (inner / "plan.json").exists():
                yield inner
        else:
            yield from _versions(inner)


def _kept(state: StageState, everything: bool) -> str | None:
    """Why an old version that nobody works on stays."""
    plan = _plan(state)
    if plan and (strange := [name for name in plan.outputs.values() if not _is_inside(state, name)]):
        return f"its plan names {strange[0]}, expected FOLDER/{state.fp12}/FILE inside of {state.run}; look at it, and remove it by hand"
    if not everything and state.success() is None and any((state.folder / "launches").glob("*/sent.json")):
        return "submitted, not complete; cancel its jobs and remove it with --all"
    return None


def _is_inside(state: StageState, template: str) -> bool:
    """Whether outputs of this name are in a folder of the version's own, and no `..` and no link leads out of the run."""
    parts = Path(template).parts
    if Path(template).is_absolute() or ".." in parts or state.fp12 not in parts[1:-1]:
        return False
    folder = state.run.joinpath(*parts[: parts.index(state.fp12)])
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(state.run))


def _plan(state: StageState) -> Plan | None:
    try:
        return state.plan
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


# --- who lives --------------------------------------------------------------------------------------------------------


Dead = Mapping[str, tuple[int, int] | None]
"""Unit -> the claim of a process that is gone; a claim of that unit with another stamp is somebody else's."""


def _dead_claims(versions: list[StageState], say: Callable[[str], None]) -> dict[Path, Dead]:
    """By folder of a version. A claim is dead when its process is, or when it has stopped beating; one that cannot be told lives."""
    me, watches = new_attempt(), {state.folder: Watch() for state in versions}
    dead: dict[Path, dict[str, tuple[int, int] | None]] = {state.folder: {} for state in versions}
    open_claims = [(state, unit) for state in versions for unit in sorted(names_in(state.folder / "claims"))]
    deadline, told = time.monotonic() + 2 * STALE_S, False
    while open_claims:
        left = []
        for state, unit in open_claims:
            path = state.claim_path(unit)
            stamp = stamp_of(path)
            verdict = "alive" if _is_at_work_here(path, me) else watches[state.folder].judge(path, me)
            if verdict == "dead":
                dead[state.folder][unit] = stamp
            elif verdict == "unknown":
                left.append((state, unit))
        open_claims = left
        if not open_claims or time.monotonic() > deadline:
            break
        if not told:
            told = True
            say(f"{len(open_claims)} claims: looking for up to {STALE_S:.0f} s whether their holders live")
        time.sleep(POLL_S)
    return dict(dead)


def _is_at_work_here(path: Path, me: Attempt) -> bool:
    """A process of this host has the claim, and is alive, be it frozen."""
    holder = read_claim(path) or {}
    return holder.get("host") == me.host and process_alive(int(holder.get("pid", 0)))


def _busy(state: StageState, dead: Dead) -> set[str]:
    """Units that somebody has claimed at this moment."""
    return {unit for unit in names_in(state.folder / "claims") if unit not in dead or stamp_of(state.claim_path(unit)) != dead[unit]}


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
        if fp12 in parts:
            found.add(Path(*parts[: parts.index(fp12)]))
    return found


# --- what can go ------------------------------------------------------------------------------------------------------


Found = Iterator[tuple[Path, str]]
"""What can go, and why."""


def _old_version(state: StageState, why: str, ledger: Ledger) -> list[Garbage]:
    plan = _plan(state)
    paths = [state.run / folder / state.fp12 for folder in sorted(_output_folders(plan, state.fp12))] if plan else []
    before = (*paths, state.scratch)
    # the state comes last: from its plan the outputs are found
    return [*(ledger.measure(path, why) for path in before), ledger.measure(state.folder, why, before)]


def _leftovers(state: StageState, dead: Dead) -> Found:
    """What killed processes have left in a version that stays.

    First all names are read, then the claims, then the sentinels: who has begun meanwhile has a claim, and who has ended a sentinel.
    """
    plan = _plan(state)
    if plan is None:
        return
    folders = sorted({(state.run / template).parent for template in plan.outputs.values() if _is_inside(state, template)})
    outputs = [path for folder in folders for path in _files_in(folder)]
    attempts = sorted(state.scratch.iterdir()) if state.scratch.is_dir() else []
    hidden = _unchanged([path for folder in (state.folder, *folders) for path in _hidden(folder)])
    busy = _busy(state, dead)
    named = _named_files(state)
    for path in outputs:
        if path not in named and not _may_be_of(path, plan, state, busy):
            yield path, "no sentinel names it"
    kept = slice_folders(state)
    for path in attempts:
        if path.name.partition("@")[0] not in busy:
            yield from ((part, "left by an attempt that ended") for part in _without_slices(path, kept))
    if not busy:
        yield from ((path, "left by a write that was cut short") for path in hidden)
        yield from ((state.claim_path(unit), "claim of a process that is gone") for unit in sorted(dead))
    yield from _superseded(state)


def _without_slices(attempt: Path, kept: Set[Path]) -> list[Path]:
    """A private folder, or what is in it beside slices that records name."""
    inside = sorted(attempt.iterdir()) if attempt.is_dir() and not attempt.is_symlink() else []
    return [part for part in inside if part not in kept] if any(part in kept for part in inside) else [attempt]


def _named_files(state: StageState) -> set[Path]:
    sentinels = (state.sentinel(unit) for unit in state.done_units())
    return {state.run / entry["path"] for sentinel in sentinels if sentinel for entry in sentinel["outputs"].values()}


def _files_in(folder: Path) -> list[Path]:
    """Published files; names with a dot are looked at by `_hidden`."""
    return sorted(path for name in names_in(folder) if not (path := folder / name).is_dir())


def _may_be_of(path: Path, plan: Plan, state: StageState, units: Set[str]) -> bool:
    """Whether an output of one of these units has this name."""
    return bool(units) and any(state.run / template.format(unit=unit) == path for template in plan.outputs.values() for unit in units)


def _hidden(folder: Path) -> list[Path]:
    return sorted(folder.rglob(".*"))


def _unchanged(paths: list[Path]) -> list[Path]:
    """Those that nobody writes, renames or removes while we look."""

    def look(path: Path) -> tuple[int, int, int] | None:
        try:
            found = path.lstat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    before = {path: look(path) for path in paths}
    if before:
        time.sleep(HIDDEN_S)
    return [path for path, seen in before.items() if seen is not None and look(path) == seen]


def _superseded(state: StageState) -> Found:
    """Sentinels taken back, once the unit has been committed again and the archive no longer holds the old one."""
    archive = state.archive()
    for name in sorted(names_in(state.folder / "retired")):
        unit, _, attempt = name.removesuffix(".json").rpartition("@")
        folded = archive.read(unit) if archive else None
        if state.is_done(unit) and (folded is None or folded["attempt"]["id"] != attempt):
            yield state.folder / "retired" / name, "sentinel of a unit that was committed again"
