"""The board: what the state folder of a stage says, as one worker has last read it.

Directories are read again at most every second and for at most a fiftieth of the time, so that a thousand workers on a stage of a
hundred thousand units do not keep the metadata server busy. What is on the board may be old: a claim is still taken by creating
it exclusively, and who has taken one looks whether the unit has been committed meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from hpc.fs.files import names_in, read_json_if_exists
from hpc.state.inputs import upstream_state
from hpc.state.plan import InputFrom, PlannedUnit
from hpc.state.state import MAX_FAILURES, StageState

MIN_REFRESH_S = 1.0
MAX_SHARE = 0.02
"""Of a worker's time, for reading directories."""


@dataclass
class Board:
    """`overlap`: also what stages before this one have committed, since units may begin as soon as theirs are."""

    state: StageState
    overlap: bool = False
    done: set[str] = field(default_factory=set)
    claimed: set[str] = field(default_factory=set)
    failures: Mapping[str, list[Path]] = field(default_factory=dict)
    upstream: dict[str, set[str]] = field(default_factory=dict)
    given_up: dict[str, set[str]] = field(default_factory=dict)
    _next_look: float = 0.0

    def look(self) -> None:
        """Read everything now."""
        began = time.monotonic()
        self.done = self.state.done_units()
        self.claimed = set(names_in(self.state.folder / "claims"))
        self.failures = self.state.failures()
        if self.overlap:
            self.upstream = self._upstream()
            self.given_up = self._given_up()
        spent = time.monotonic() - began
        self._next_look = began + spent + max(MIN_REFRESH_S, spent / MAX_SHARE)

    def look_if_due(self) -> None:
        if time.monotonic() >= self._next_look:
            self.look()

    def is_ready(self, unit: PlannedUnit) -> bool:
        """Whether the units that it reads are committed; only asked where stages overlap, elsewhere a gate has seen to it."""
        return all(self.has_committed(item, unit) for item in self.state.plan.inputs)

    def has_committed(self, item: InputFrom, unit: PlannedUnit) -> bool:
        """Whether one of the inputs of a unit is committed."""
        found = self.upstream[item.stage]
        return bool(found) if item.of == "all" else found.issuperset(unit.members)

    def never_ready(self, unit: PlannedUnit) -> str | None:
        """Which unit that it reads is parked, so that waiting for it is in vain; None where there is none."""
        for stage, parked in self.given_up.items():
            if parked and (hit := parked.intersection(unit.members) or (parked if not unit.members else set())):
                return f"{stage} {min(hit)}"
        return None

    def _given_up(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for item in self.state.plan.inputs:
            failures = upstream_state(self.state.run, item).failures()
            done = self.upstream[item.stage]
            limit = self._limits.get(item.stage, MAX_FAILURES)
            found[item.stage] = {unit for unit, paths in failures.items() if len(paths) >= limit and unit not in done}
        return found

    @cached_property
    def _limits(self) -> dict[str, int]:
        """Stage -> failures after which its units are parked, as planned."""
        flow = read_json_if_exists(self.state.run / "flow.json") or {"stages": []}
        return {entry["stage"]: int(entry["resources"].get("max_failures", MAX_FAILURES)) for entry in flow["stages"]}

    def _upstream(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for item in self.state.plan.inputs:
            before = upstream_state(self.state.run, item)
            if item.of == "all":
                found[item.stage] = {"*"} if before.success() is not None else set()
            elif item.stage not in found:
                found[item.stage] = before.done_units()
        return found
