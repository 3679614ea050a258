"""Planning: a flow and a manifest become plans, one for each stage. Here it is said what each stage is; hpc/planning does the rest.

The identity of a stage is made of its class and version, its config as far as that changes results, and the digests of its
model files; what it reads is added by hpc.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel

from ccpipe.stage import Stage
from hpc.fs.files import file_digest, read_json_if_exists, replace_json, replace_text, tree_digest
from hpc.fs.permissions import check_private
from hpc.planning.planner import Flow, StagePlan, plan_pipeline
from hpc.planning.spec import Pipeline, Source, StageSpec
from hpc.state.manifest import InputFile, Manifest, ManifestError, expand_inputs, freeze, refreeze
from hpc.state.plan import PlannedUnit
from jobs.config import ConfigError, RunConfig
from jobs.flow import PARTITIONS, FlowStage, build_flow, model_files

GB = 1e9

DOCUMENTS_PER_GB = 35_000
"""Responses in one GB of Common Crawl's WARC files, about; for predictions before anything is counted."""

FACTORY = "jobs.binding:StageWork"
"""What workers build from a launch."""

__all__ = ["FlowPlan", "StagePlan", "find", "plan_flow"]


@dataclass(frozen=True)
class FlowPlan(Flow):
    """All stages of a run, in the order of work, and what they were planned from. `notice` is something the user should know."""

    config: RunConfig
    manifest: Manifest
    described: dict[str, FlowStage]
    notice: str | None

    def explain(self, stage: str) -> list[str]:
        """What the stage itself has to say in a dry run."""
        described = self.described[stage].stage
        documents, source, extra = self.known_counts()
        sizes = described.predict(documents, self.manifest.n_shards, extra)
        return described.explain() + ([f"For {documents:,} documents, {source}:", *sizes] if sizes else [])

    def known_counts(self) -> tuple[int, str, dict[str, int]]:
        """Documents of the run, where that number is from, and the further counts of the stages that are complete."""
        done = {stage.name: success["counts"] for stage in self.stages if (success := stage.state.success())}
        extra = {key: value for counts in done.values() for key, value in counts.get("extra", {}).items()}
        writer = next((name for name, stage in self.described.items() if "base" in stage.writes), "")
        if writer in done:
            return int(done[writer]["kept"]), f"counted by {writer}", extra
        expected = round(sum(file.bytes for file in self.manifest.files) / GB * DOCUMENTS_PER_GB)
        return expected, f"expected of {DOCUMENTS_PER_GB:,} a GB of input", extra


def plan_flow(config: RunConfig, take_inputs: bool = False) -> FlowPlan:
    """Plan every stage; writes the run directory's manifest, configs and plans, nothing else. Raises `ConfigError`.

    `take_inputs`: the frozen manifest takes in the inputs as they are now.
    """
    flow = _flow(config)
    run = config.run_dir
    check_private(run, config.site.shared_state)
    manifest, notice = _manifest(config, take_inputs)
    digests = ModelDigests(run / "state" / "model-digests.json")
    specs = [_spec(stage, manifest, digests, config) for stage in flow]
    digests.save()
    command = f"ccpipe {{verb}} --config {shlex.quote(str(config.path))}"
    notes = {"config": str(config.path), "shards": manifest.n_shards}
    planned = plan_pipeline(Pipeline(config.run.name, run, specs, config.site, command, notes))
    described = {stage.name: stage for stage in flow}
    whole = FlowPlan(planned.name, planned.run, planned.site, planned.stages, planned.command, config, manifest, described, notice)
    _save_configs(whole)
    return whole


def _manifest(config: RunConfig, take_inputs: bool) -> tuple[Manifest, str | None]:
    run, shard_bytes = config.run_dir, int(config.run.shard_bytes)
    try:
        if take_inputs and (run / "manifest.jsonl").exists():
            manifest, changes = refreeze(run, config.run.inputs, config.folder, shard_bytes)
            return manifest, f"inputs taken in: {changes.text()}"
        return freeze(run, config.run.inputs, config.folder, shard_bytes)
    except ManifestError as error:
        raise ConfigError(config.path, [f"[run] inputs: {error}"]) from None


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


def _spec(stage: FlowStage, manifest: Manifest, digests: ModelDigests, config: RunConfig) -> StageSpec:
    """A stage in the words of hpc."""
    identity = {
        "use": stage.use,
        "version": stage.stage.version,
        "code": own_code(type(stage.stage)),
        "config": affecting_config(stage.config, stage.stage.ignores),
        "models": {
            key: digests.digest(Path(path))
            for key, path in model_files(stage.config).items()
            if key.partition(".")[0] not in stage.stage.ignores
        },
    }
    base_dir = str(config.folder)
    args = {"stage": stage.name, "use": stage.use, "config": stage.config.model_dump(mode="json"), "base_dir": base_dir}
    return StageSpec(
        stage.name,
        identity,
        _units(stage, manifest),
        stage.writes,
        {"factory": FACTORY, "args": args, "path": base_dir},
        tuple(Source(source.dataset, source.stage, source.of) for source in stage.sources),
        stage.resources,
        config.run.overlap,
    )


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
    """What the stage is told of one shard; part of the unit's key, so nothing that other shards change belongs here."""
    if not stage.row.reads:
        return {"warcs": [{"path": file.path, "bytes": file.bytes, "version": file.version} for file in shards[shard]]}
    return {"n_shards": len(shards)} if "all" in stage.row.reads.values() else {}


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
    """run.toml as given, run.resolved.toml with every default."""
    partitions = {
        name: stage.config.partitions for name, stage in flow.described.items() if "partitions" in type(stage.config).model_fields
    }
    if read_json_if_exists(flow.run / PARTITIONS) != partitions:
        replace_json(flow.run / PARTITIONS, partitions)
    _replace_if_changed(flow.run / "run.toml", flow.config.text)
    _replace_if_changed(flow.run / "run.resolved.toml", tomli_w.dumps(resolved(flow)))


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
        "stage": {name: clean({"use": stage.use, **stage.config.model_dump(mode="json")}) for name, stage in flow.described.items()},
        "resources": {s.name: clean(s.resources.model_dump(mode="json")) for s in flow.stages},
    }


def _replace_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        replace_text(path, text)


def find(stages: Sequence[StagePlan], name: str) -> StagePlan:
    return next(stage for stage in stages if stage.name == name)
