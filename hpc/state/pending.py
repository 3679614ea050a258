"""What is left to do: units without a sentinel, or whose sentinel was made from inputs that have since been committed anew."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from typing import Any

from hpc.fs.files import publish_once
from hpc.fs.points import reached
from hpc.state.inputs import NotReady, read_success, upstream_state
from hpc.state.plan import InputFrom, PlannedUnit
from hpc.state.slices import discard_slices
from hpc.state.state import StageState

Pending = dict[str, str]
"""Unit id -> why it must run."""

NOT_COMMITTED = "not committed"


def pending_units(state: StageState, upstream: Mapping[str, Set[str]]) -> Pending:
    """Units to run, in plan order. `upstream`: stage -> units of that stage that are going to run again first."""
    done = state.done_units()
    commits = Commits(state)
    # a stage folded after the one before it was: one look tells that nothing has changed behind its back
    settled = commits.all_as_read()
    found: Pending = {}
    for unit in state.plan.units:
        why = None if unit.id in done else NOT_COMMITTED
        why = why or _waits_for(state.plan.inputs, unit, upstream) or (None if settled else commits.changed(unit))
        if why:
            found[unit.id] = why
    return found


def _waits_for(inputs: tuple[InputFrom, ...], unit: PlannedUnit, upstream: Mapping[str, Set[str]]) -> str | None:
    for item in inputs:
        again = upstream.get(item.stage, frozenset())
        hit = next(iter(sorted(again)), None) if item.of == "all" else next((m for m in unit.members if m in again), None)
        if hit is not None:
            return f"{item.stage} {hit} runs first"
    return None


class Commits:
    """Which commit each upstream unit has now; every sentinel is read once."""

    def __init__(self, state: StageState) -> None:
        self.state = state
        self.now: dict[str, str | None] = {}

    def all_as_read(self) -> bool:
        """Whether the complete stage has read exactly what stages before it hold now, judged by their `_SUCCESS.json`."""
        success = self.state.success()
        if success is None:
            return False
        for item in self.state.plan.inputs:
            before = upstream_state(self.state.run, item).success()
            if before is None or success.get("read", {}).get(item.stage) != before["commit"]:
                return False
        return True

    def changed(self, unit: PlannedUnit) -> str | None:
        """Why the unit's sentinel no longer fits its inputs, or None."""
        sentinel = self.state.sentinel(unit.id)
        return NOT_COMMITTED if sentinel is None else self.differs(unit, sentinel)

    def differs(self, unit: PlannedUnit, sentinel: Mapping[str, Any]) -> str | None:
        """Which input of a sentinel has another commit now, or None."""
        for item in self.state.plan.inputs:
            for name in ["*"] if item.of == "all" else unit.members:
                now = self._commit(item, name)
                if now is None or sentinel["inputs"].get(f"{item.stage}/{name}") != now:
                    return f"{item.stage} {name} {'was committed again' if now else 'is not committed'}"
        return None

    def _commit(self, item: InputFrom, name: str) -> str | None:
        key = f"{item.stage}/{name}"
        if key not in self.now:
            self.now[key] = self._read(item, name)
        return self.now[key]

    def _read(self, item: InputFrom, name: str) -> str | None:
        upstream = upstream_state(self.state.run, item)
        if name == "*":
            try:
                return str(read_success(upstream)["commit"])
            except NotReady:
                return None
        sentinel: dict[str, Any] | None = upstream.sentinel(name)
        return str(sentinel["attempt"]["id"]) if sentinel else None


def still_pending(state: StageState, pending: Pending) -> set[str]:
    """What is left of units found pending some time ago: another launch may have committed some for the first time since."""
    done = state.done_units()
    return {unit for unit, why in pending.items() if why != NOT_COMMITTED or unit not in done}


def retire(state: StageState, units: Set[str]) -> int:
    """Take back the sentinels of units that are to run again; returns how many there were. The old ones are kept in `retired/`."""
    again = sorted(units & state.done_units())
    if units:
        state.success_path.unlink(missing_ok=True)
    for unit in again:
        sentinel = state.sentinel(unit)
        if sentinel is None:
            continue
        target = state.retired_path(unit, sentinel["attempt"]["id"])
        target.parent.mkdir(exist_ok=True)
        if state.done_path(unit).exists():
            os.rename(state.done_path(unit), target)
        else:  # folded: the archive stays as it is, and this file says that the member no longer counts
            publish_once(target, sentinel)
        reached("retire.moved")
        discard_slices(state, unit)
    return len(again)
