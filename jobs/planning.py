"""Planning: a flow and a manifest become plans, one for each stage, with what is pending and how it is packed.

The fingerprint of a stage is made of its class and version, its config as far as that changes results, the digests of
its model files, and the fingerprints of the stages it reads: so a whole chain is planned before its first stage has run.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel

from ccpipe.stage import Stage
from hpc.files import file_digest, read_json_if_exists, replace_json, replace_text, tree_digest
from hpc.manifest import InputFile, Manifest, ManifestError, expand_inputs, freeze
from hpc.pending import Pending, pending_units
from hpc.plan import FP_CHARS, InputFrom, Plan, PlannedUnit, fingerprint, save_plan
from hpc.site import Resources
from hpc.sizing import Packing, pack
from hpc.state import StageState
from jobs.config import ConfigError, RunConfig
from jobs.flow import PARTITIONS, FlowStage, build_flow, model_files

GB = 1e9


@dataclass(frozen=True)
class StagePlan:
    """A stage ready to launch: its state folder, the units that must run and why, and how they would be packed."""

    stage: FlowStage
    state: StageState
    plan: Plan
    pending: Pending
    packing: Packing

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def resources(self) -> Resources:
        return self.stage.resources

    @cached_property
    def units(self) -> list[str]:
        """Pending units in the order of work."""
        return [unit for unit in self.plan.largest_first if unit in self.pending]

    def work(self, base_dir: Path) -> dict[str, Any]:
        """What a worker needs to build the stage again."""
        config = self.stage.config.model_dump(mode="json")
        return {"stage": self.name, "use": self.stage.use, "config": config, "base_dir": str(base_dir)}


@dataclass(frozen=True)
class FlowPlan:
    """All stages of a run, in the order of work. `notice` is something the user should know."""

    config: RunConfig
    manifest: Manifest
    stages: tuple[StagePlan, ...]
    notice: str | None

    @property
    def run(self) -> Path:
        return self.config.run_dir


def plan_flow(config: RunConfig) -> FlowPlan:
    """Plan every stage; writes the run directory's manifest, configs and plans, nothing else. Raises `ConfigError`."""
    flow = _flow(config)
    run = config.run_dir
    try:
        manifest, notice = freeze(run, config.run.inputs, config.folder, int(config.run.shard_bytes))
    except ManifestError as error:
        raise ConfigError(config.path, [f"[run] inputs: {error}"]) from None
    digests = ModelDigests(run / "state" / "model-digests.json")
    fingerprints: dict[str, str] = {}
    pending: dict[str, set[str]] = {}
    planned = []
    for stage in flow:
        plan = _plan_stage(stage, manifest, fingerprints, digests)
        fingerprints[stage.name] = plan.fingerprint
        state = StageState(run, stage.name, plan.fingerprint[:FP_CHARS])
        save_plan(state.plan_path, plan)
        todo = pending_units(state, pending)
        pending[stage.name] = set(todo)
        costs = [plan.by_id[unit].cost for unit in todo]
        planned.append(StagePlan(stage, state, plan, todo, pack(costs, stage.resources, config.site)))
    digests.save()
    whole = FlowPlan(config, manifest, tuple(planned), notice)
    _save_configs(whole)
    return whole


def _flow(config: RunConfig) -> list[FlowStage]:
    """The stages; where they have problems, those of the inputs are told with them."""
    try:
        return build_flow(config)
    except ConfigError as error:
        problems = error.problems
    try:
        if not (config.run_dir / "manifest.jsonl").exists():
            expand_inputs(config.run.inputs, config.folder)
    except ManifestError as error:
        problems = [*problems, f"[run] inputs: {error}"]
    raise ConfigError(config.path, problems)


def _plan_stage(stage: FlowStage, manifest: Manifest, fingerprints: dict[str, str], digests: ModelDigests) -> Plan:
    inputs = tuple(InputFrom(s.dataset, s.stage, fingerprints[s.stage], s.of) for s in stage.sources)
    upstream = {s.dataset: fingerprints[s.stage] for s in stage.sources} or {"manifest": manifest.fingerprint}
    identity = {
        "stage": stage.name,
        "use": stage.use,
        "version": stage.stage.version,
        "code": own_code(type(stage.stage)),
        "config": affecting_config(stage.config, stage.stage.ignores),
        "models": {key: digests.digest(Path(path)) for key, path in model_files(stage.config).items()},
        "inputs": upstream,
    }
    fp = fingerprint(identity)
    outputs = {dataset: template.replace("{fp}", fp[:FP_CHARS]) for dataset, template in stage.writes.items()}
    return Plan(stage.name, fp, identity, _units(stage, manifest), inputs, outputs)


def own_code(stage_class: type[Stage]) -> str | None:
    """Digest of the module of a user's class: whoever edits it need not think of raising `version`. None for ours."""
    if stage_class.__module__.partition(".")[0] == "ccpipe":
        return None
    return file_digest(Path(inspect.getfile(stage_class)))


def affecting_config(config: BaseModel, ignores: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The config without tuning fields, keys that the stage ignores, and model paths (their digests stand for them)."""
    tuning = {name for name, field in type(config).model_fields.items() if (field.json_schema_extra or {}) == {"affects_result": False}}
    value = config.model_dump(mode="json", exclude=tuning | ignores)
    models = set(model_files(config))

    def strip(key: str, inner: Any) -> Any:
        if key in models:
            return "<model>"
        if isinstance(inner, dict):
            return {name: strip(f"{key}.{name}".lstrip("."), part) for name, part in inner.items()}
        if isinstance(inner, list):
            return [strip(f"{key}.{i}", part) for i, part in enumerate(inner)]
        return inner

    stripped: dict[str, Any] = strip("", value)
    return stripped


# --- units ------------------------------------------------------------------------------------------------------------


def _units(stage: FlowStage, manifest: Manifest) -> tuple[PlannedUnit, ...]:
    """The units of a stage, with their expected cost in core-seconds (GPU-seconds)."""
    shards = manifest.shards()
    sizes = [sum(file.bytes for file in shard) for shard in shards]
    rate = stage.row.s_per_gb / GB
    kind = stage.row.units
    if kind == "shard":
        return tuple(PlannedUnit(shard_id(i), i, size * rate, (shard_id(i),), _detail(stage, shards, i)) for i, size in enumerate(sizes))
    if kind == "group":
        size = stage.config.group_shards
        groups = [range(first, min(first + size, len(sizes))) for first in range(0, len(sizes), size)]
        return tuple(
            PlannedUnit(f"g{g:05d}", g, sum(sizes[i] for i in group) * rate, tuple(shard_id(i) for i in group))
            for g, group in enumerate(groups)
        )
    if kind == "partition":
        parts = stage.config.partitions
        return tuple(PlannedUnit(f"p{p:05d}", p, sum(sizes) * rate / parts) for p in range(parts))
    return (PlannedUnit("all", 0, sum(sizes) * rate, (), {"n_shards": len(sizes)}),)


def _detail(stage: FlowStage, shards: list[list[InputFile]], shard: int) -> dict[str, Any]:
    if not stage.row.reads:
        return {"warcs": [{"path": file.path, "bytes": file.bytes} for file in shards[shard]]}
    return {"n_shards": len(shards)}


def shard_id(shard: int) -> str:
    return f"{shard:05d}"


# --- files of the run directory ---------------------------------------------------------------------------------------


class ModelDigests:
    """Digests of model files, remembered by path, size and time of change: a 5 GB model is read once, not at every plan."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, list[Any]] = read_json_if_exists(path) or {}
        self.changed = False

    def digest(self, model: Path) -> str:
        stamp = [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in sorted([model, *model.rglob("*")])]
        known = self.known.get(str(model))
        if known is None or known[0] != stamp:
            known = self.known[str(model)] = [stamp, tree_digest(model)]
            self.changed = True
        return str(known[1])

    def save(self) -> None:
        if self.changed:
            replace_json(self.path, self.known)


def _save_configs(flow: FlowPlan) -> None:
    """run.toml as given, run.resolved.toml with every default, flow.json for workers and status."""
    partitions = {s.name: s.stage.config.partitions for s in flow.stages if "partitions" in type(s.stage.config).model_fields}
    if read_json_if_exists(flow.run / PARTITIONS) != partitions:
        replace_json(flow.run / PARTITIONS, partitions)
    _replace_if_changed(flow.run / "run.toml", flow.config.text)
    _replace_if_changed(flow.run / "run.resolved.toml", tomli_w.dumps(resolved(flow)))
    stages = [
        {
            "stage": item.name,
            "fp12": item.state.fp12,
            "units": len(item.plan.units),
            "upstream": list(item.stage.upstream),
            "resources": item.resources.model_dump(),
            "work": item.work(flow.config.folder),
        }
        for item in flow.stages
    ]
    value = {"run": flow.config.run.name, "config": str(flow.config.path), "shards": flow.manifest.n_shards, "stages": stages}
    if read_json_if_exists(flow.run / "flow.json") != value:
        replace_json(flow.run / "flow.json", value)


def resolved(flow: FlowPlan) -> dict[str, Any]:
    """Every setting of every stage, defaults spelled out."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): clean(inner) for key, inner in value.items() if inner is not None}
        return [clean(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    config = flow.config
    return {
        "run": clean({**config.run.model_dump(mode="json"), "shards": flow.manifest.n_shards}),
        "site": clean(config.site.model_dump(mode="json")),
        "stage": {s.name: clean({"use": s.stage.use, **s.stage.config.model_dump(mode="json")}) for s in flow.stages},
        "resources": {s.name: clean(s.resources.model_dump(mode="json")) for s in flow.stages},
    }


def _replace_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        replace_text(path, text)


def find(stages: Sequence[StagePlan], name: str) -> StagePlan:
    return next(stage for stage in stages if stage.name == name)
