"""Planning: stages, as somebody describes them, become plans, with what is pending and how it is packed into tasks.

In: a `Pipeline`, a list of `StageSpec` in the order of work. Out: a `Flow`, one `StagePlan` for each stage. Written: the plans,
and `flow.json`, from which workers, gates and `status` know the run.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hpc.fs.files import read_json_if_exists, replace_json, to_json
from hpc.fs.permissions import check_private
from hpc.planning.measured import measure
from hpc.planning.reuse import reusable_units
from hpc.planning.sizing import Packing, size
from hpc.planning.spec import Pipeline, StageSpec, check_pipeline
from hpc.site import Resources, Site
from hpc.state.pending import Pending, pending_units
from hpc.state.plan import FP_CHARS, InputFrom, Plan, PlannedUnit, fingerprint, save_plan
from hpc.state.state import StageState

KEY_CHARS = 32


@dataclass(frozen=True)
class StagePlan:
    """A stage ready to launch: its state folder, the units that must run and why, and how they would be packed.

    `reusable`: of the pending units, those that an older version has committed from the same inputs.
    """

    spec: StageSpec
    state: StageState
    plan: Plan
    pending: Pending
    packing: Packing
    reusable: Mapping[str, StageState]
    site: Site

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def upstream(self) -> tuple[str, ...]:
        return self.spec.upstream

    @property
    def resources(self) -> Resources:
        return self.spec.resources

    @property
    def importable(self) -> bool:
        """Whether the nodes run this very Python, so that what cannot be imported here cannot be there."""
        return not (self.site.python or self.site.container or self.site.conda)

    @cached_property
    def units(self) -> list[str]:
        """Pending units in the order of work."""
        return [unit for unit in self.plan.largest_first if unit in self.pending]


@dataclass(frozen=True)
class Flow:
    """All stages of a run, in the order of work."""

    name: str
    run: Path
    site: Site
    stages: tuple[StagePlan, ...]
    command: str

    def typed(self, verb: str, stage: str = "", *more: str) -> str:
        """What a user types for a verb."""
        words = [self.command.replace("{verb}", verb), *(["--stage", shlex.quote(stage)] if stage else []), *more]
        return " ".join(words)

    def find(self, name: str) -> StagePlan:
        return next(stage for stage in self.stages if stage.name == name)


def plan_pipeline(pipeline: Pipeline) -> Flow:
    """Plan every stage. Raises `UsageError` for a pipeline that cannot be, `ValueError` for a plan that contradicts the one on disk,
    `PermissionsError` for a run directory that others may write to."""
    check_pipeline(pipeline)
    run, site = pipeline.run.absolute(), pipeline.site
    check_private(run, site.shared_state)
    made: dict[str, Plan] = {}
    pending: dict[str, set[str]] = {}
    stages = []
    for spec in pipeline.stages:
        plan = made[spec.name] = make_plan(spec, made)
        state = StageState(run, spec.name, plan.fp12)
        save_plan(state.plan_path, plan)
        todo = pending_units(state, pending)
        reusable = reusable_units(state, todo)
        pending[spec.name] = set(todo) - set(reusable)
        stages.append(StagePlan(spec, state, plan, todo, _packed(spec, state, set(todo) - set(reusable), site), reusable, site))
    flow = Flow(pipeline.name, run, site, tuple(stages), pipeline.command or f"python -m hpc {{verb}} --run {shlex.quote(str(run))}")
    _save_flow(flow, pipeline.notes)
    return flow


def _packed(spec: StageSpec, state: StageState, units: set[str], site: Site) -> Packing:
    """How the units are packed: by what they really took, where that is known, and with more of what they ran out of."""
    plan = state.plan
    costs = [unit.cost for unit in plan.units if unit.id in units]
    measured = measure(state.run, spec.name, plan.fp12, {unit.id: unit.cost for unit in plan.units}) if units else None
    return size(costs, spec.resources, site, measured, state.last_failures(units), plan)


def make_plan(spec: StageSpec, before: Mapping[str, Plan]) -> Plan:
    """The plan of a stage; `before`: plans of the stages that it reads."""
    inputs = tuple(InputFrom(s.dataset, s.stage, before[s.stage].fingerprint, s.of) for s in spec.sources)
    units = tuple(replace(unit, key=unit_key(spec, unit, before)) for unit in spec.units)
    identity = {
        "stage": spec.name,
        **spec.identity,
        "inputs": {item.dataset: item.fingerprint for item in inputs},
        "units": hashlib.sha256(to_json([unit.key for unit in units])).hexdigest(),
    }
    fp = fingerprint(identity)
    outputs = {dataset: template.replace("{fp}", fp[:FP_CHARS]) for dataset, template in spec.outputs.items()}
    return Plan(spec.name, fp, identity, units, inputs, outputs)


def unit_key(spec: StageSpec, unit: PlannedUnit, before: Mapping[str, Plan]) -> str:
    """Digest of all that decides a unit's outputs: the stage's identity, the unit's own detail, the keys of what it reads."""
    reads = {}
    for source in spec.sources:
        upstream = before[source.stage]
        every = upstream.identity["units"]
        reads[source.dataset] = every if source.of == "all" else [upstream.by_id[member].key for member in unit.members]
    value = [spec.name, spec.identity, dict(spec.outputs), unit.id, unit.index, unit.members, unit.detail, reads]
    return hashlib.sha256(to_json(value)).hexdigest()[:KEY_CHARS]


def _save_flow(flow: Flow, notes: Mapping[str, Any]) -> None:
    """flow.json, for workers, gates and status."""
    stages = [
        {
            "stage": item.name,
            "fp12": item.state.fp12,
            "units": len(item.plan.units),
            "upstream": list(item.upstream),
            "resources": item.resources.model_dump(),
            "work": dict(item.spec.work),
            "overlap": item.spec.overlap,
        }
        for item in flow.stages
    ]
    value = {
        **notes,
        "run": flow.name,
        "command": flow.command,
        "site": flow.site.model_dump(mode="json"),
        "stages": stages,
    }
    if read_json_if_exists(flow.run / "flow.json") != value:
        replace_json(flow.run / "flow.json", value)
