"""Plans: what a stage is to do, written once. A plan names the units, where outputs go and which stages' outputs come in.

Everything that changes a result is in the fingerprint; a plan with another fingerprint lives in another folder.
The fingerprint is derived from inputs (config, versions, model digests, what the units read), so a whole chain can be planned
before its first stage has run. Each unit has a key of its own, made of the same: units of two versions with equal keys have
equal outputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hpc.fs.files import publish_once, read_json, to_json

FORMAT = 2
FP_CHARS = 12
"""Characters of the fingerprint in folder names."""


@dataclass(frozen=True)
class PlannedUnit:
    """`members` are the units of an upstream stage that an input `of="members"` means.

    `cost`: declared core-seconds (GPU-seconds of a GPU stage); orders units, largest first. `detail`: what the stage is told of this
    unit alone, such as the files that it reads. `key`: hex digest of all that decides the unit's outputs.
    """

    id: str
    index: int
    cost: float
    members: tuple[str, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""


@dataclass(frozen=True)
class InputFrom:
    """A dataset that an earlier stage wrote. `of`: "members" reads the unit's members, "all" every unit of that stage."""

    dataset: str
    stage: str
    fingerprint: str
    of: str


@dataclass(frozen=True)
class Plan:
    """`identity` is what the fingerprint is made of. `outputs`: dataset -> path below the run folder, with `{unit}` in it."""

    stage: str
    fingerprint: str
    identity: Mapping[str, Any]
    units: tuple[PlannedUnit, ...]
    inputs: tuple[InputFrom, ...]
    outputs: Mapping[str, str]

    @property
    def fp12(self) -> str:
        return self.fingerprint[:FP_CHARS]

    @cached_property
    def by_id(self) -> dict[str, PlannedUnit]:
        return {unit.id: unit for unit in self.units}

    @cached_property
    def largest_first(self) -> tuple[str, ...]:
        """Unit ids in the order of work: falling cost, then id."""
        return tuple(unit.id for unit in sorted(self.units, key=lambda unit: (-unit.cost, unit.id)))


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Hex SHA-256 of everything that changes a result.

    >>> fingerprint({"b": 1, "a": 2}) == fingerprint({"a": 2, "b": 1})
    True
    """
    return hashlib.sha256(to_json(identity)).hexdigest()


def save_plan(path: Path, plan: Plan) -> None:
    """Write the plan unless it stands there already, perhaps with other expected costs: those change no result.

    Raises `ValueError` when another plan has the name.
    """
    if not path.exists() and publish_once(path, {"format": FORMAT, **asdict(plan)}):
        return
    if _without_costs(load_plan(path)) != _without_costs(plan):
        raise ValueError(
            f"{path} holds another plan of fingerprint {plan.fp12}; expected the same units, inputs and outputs. "
            f"Remove the folder {path.parent} to start it over"
        )


def _without_costs(plan: Plan) -> bytes:
    return to_json(asdict(replace(plan, units=tuple(replace(unit, cost=0.0) for unit in plan.units))))


def load_plan(path: Path) -> Plan:
    value = read_json(path)
    if value.pop("format", None) != FORMAT:
        raise ValueError(f"{path}: not a plan of format {FORMAT}; it was written by another version: plan the stage again")
    value["units"] = tuple(PlannedUnit(**{**unit, "members": tuple(unit["members"])}) for unit in value["units"])
    value["inputs"] = tuple(InputFrom(**item) for item in value["inputs"])
    return Plan(**value)
