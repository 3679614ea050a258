"""Reuse: units of an older version of a stage whose key is the same are taken over into the new version, not computed again.

In: pending units, and the other versions of the stage. Out: the outputs under the new version's names (hard links: no bytes), and
a sentinel of the new version that says where they come from. The old version can then be removed like any other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from hpc.fs.files import link_or_copy, make_folder, names_in, publish_once, sync_folders
from hpc.fs.points import reached
from hpc.state.pending import NOT_COMMITTED, Commits, Pending
from hpc.state.state import StageState

log = logging.getLogger("hpc.planning.reuse")


def other_versions(state: StageState) -> Iterator[StageState]:
    """Other planned versions of the stage, the one planned last first. Plans of another format are left out."""
    folder = state.folder.parent
    plans = [folder / name / "plan.json" for name in names_in(folder) if name != state.fp12]
    there = [path for path in plans if path.is_file()]
    for path in sorted(there, key=lambda path: (-path.stat().st_mtime_ns, str(path))):
        other = StageState(state.run, state.stage, path.parent.name)
        try:
            other.plan  # noqa: B018 - read now, to leave out what cannot be read
        except (ValueError, TypeError, KeyError):
            continue
        yield other


def reusable_units(state: StageState, pending: Pending) -> dict[str, StageState]:
    """Pending unit -> an older version that has committed the same unit from the same inputs.

    A unit whose sentinel was taken back here is run: `redo` asks for that, and the older sentinel may be the very one in `retired/`.
    """
    taken_back = {name.rpartition("@")[0] for name in names_in(state.folder / "retired")}
    wanted = {state.plan.by_id[unit].key: unit for unit, why in pending.items() if why == NOT_COMMITTED and unit not in taken_back}
    found: dict[str, StageState] = {}
    for other in other_versions(state) if wanted else ():
        hits = [unit.id for unit in other.plan.units if unit.key and wanted.get(unit.key) == unit.id and unit.id not in found]
        done = other.done_units() if hits else set()
        found |= {unit: other for unit in hits if unit in done}
        if len(found) == len(wanted):
            break
    return found


def adopt(state: StageState, reusable: Mapping[str, StageState]) -> set[str]:
    """Take the units over; returns those that are committed now. The others are run like any pending unit.

    Not taken over: units whose inputs were committed by other attempts since, and those whose outputs are gone.
    """
    commits = Commits(state)
    adopted: set[str] = set()
    for unit, other in reusable.items():
        if state.is_done(unit):  # somebody was faster: their files stand
            adopted.add(unit)
            continue
        sentinel = other.sentinel(unit)
        if sentinel is None or commits.differs(state.plan.by_id[unit], sentinel):
            continue
        if (outputs := _linked(state, unit, sentinel)) is None:
            continue
        reached("adopt.linked")
        published = {**sentinel, "fingerprint": state.plan.fingerprint, "outputs": outputs, "adopted_from": other.fp12}
        publish_once(state.done_path(unit), published)
        reached("adopt.published")
        adopted.add(unit)
    if adopted:
        log.info("%s: %d units taken over from older versions", state.stage, len(adopted))
    return adopted


def _linked(state: StageState, unit: str, sentinel: Mapping[str, Any]) -> dict[str, dict[str, Any]] | None:
    """The outputs under this version's names; None where one is not as the old sentinel says."""
    outputs: dict[str, dict[str, Any]] = {}
    for dataset, entry in sentinel["outputs"].items():
        source = state.run / entry["path"]
        if not source.is_file() or source.stat().st_size != entry["bytes"] or dataset not in state.plan.outputs:
            return None
        final = state.plan.outputs[dataset].format(unit=unit)
        target = state.run / final
        make_folder(target.parent)
        link_or_copy(source, target, sync_folder=False)
        outputs[dataset] = {**entry, "path": final}
    sync_folders({(state.run / entry["path"]).parent for entry in outputs.values()})
    return outputs
