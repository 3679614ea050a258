"""Pipelines as somebody describes them, and what they must be before they are planned: names that can be names of files, outputs that
do not meet, inputs that exist."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from hpc.errors import UsageError
from hpc.site import Resources, Site
from hpc.state.plan import PlannedUnit

NAME = re.compile(r"\w[\w.-]*")
"""Of stages and units: they become names of files, and parts of names with an @ behind them."""


@dataclass(frozen=True)
class Source:
    """One dataset that a stage reads: who writes it, and of which units ("members" or "all")."""

    dataset: str
    stage: str
    of: str = "members"


@dataclass(frozen=True)
class StageSpec:
    """A stage as it is described. `identity`: all that changes a result beside what is read: parameters, versions, model digests.

    `outputs`: dataset -> path below the run folder, with `{fp}` (one whole folder name) and `{unit}` in it. `work`: how a worker builds
    the object that does the work: {"factory": "package.module:callable", "args": {...}, "path": folder to import from}.
    `overlap`: units may begin as soon as the units that they read are committed.
    """

    name: str
    identity: Mapping[str, Any]
    units: Sequence[PlannedUnit]
    outputs: Mapping[str, str]
    work: Mapping[str, Any]
    sources: tuple[Source, ...] = ()
    resources: Resources = field(default_factory=lambda: Resources.model_validate({}))
    overlap: bool = False

    @property
    def upstream(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(source.stage for source in self.sources))


@dataclass(frozen=True)
class Pipeline:
    """Stages in the order of work, and where. `command`: the words that a user types before a verb's options, with `{verb}` in them.

    `notes` are kept in flow.json beside what hpc writes there.
    """

    name: str
    run: Path
    stages: Sequence[StageSpec]
    site: Site = field(default_factory=lambda: Site.model_validate({}))
    command: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)


def check_pipeline(pipeline: Pipeline) -> None:
    """Raises `UsageError` with everything that is wrong, one line each."""
    problems = list(_problems(pipeline))
    if problems:
        raise UsageError(f"the flow {pipeline.name!r} cannot be planned:\n" + "\n".join(f"  - {problem}" for problem in problems))


def _problems(pipeline: Pipeline) -> Iterator[str]:
    before: dict[str, StageSpec] = {}
    templates: dict[str, str] = {}
    for spec in pipeline.stages:
        if not NAME.fullmatch(spec.name):
            yield f"stage {spec.name!r}: expected a name of letters, digits, . _ -"
        if spec.name in before:
            yield f"two stages are called {spec.name!r}; expected different names"
        yield from _units(spec)
        yield from _outputs(spec, templates)
        yield from _sources(spec, before)
        before[spec.name] = spec


def _units(spec: StageSpec) -> Iterator[str]:
    seen: set[str] = set()
    for unit in spec.units:
        if not NAME.fullmatch(unit.id):
            yield f"stage {spec.name}: unit {unit.id!r}: expected an id of letters, digits, . _ -"
        if unit.id in seen:
            yield f"stage {spec.name}: two units are called {unit.id!r}; expected different ids"
        seen.add(unit.id)


def _outputs(spec: StageSpec, templates: dict[str, str]) -> Iterator[str]:
    for dataset, template in spec.outputs.items():
        where = f"stage {spec.name}: output {dataset!r} = {template!r}"
        path = PurePosixPath(template)
        fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
        if path.is_absolute() or ".." in path.parts:
            yield f"{where}: expected a path below the run directory"
        if path.parts.count("{fp}") != 1 or "{fp}" in path.name:
            yield f"{where}: expected {{fp}} as the name of one of its folders"
        if fields - {"fp", "unit"}:
            yield f"{where}: unknown {', '.join(sorted(fields - {'fp', 'unit'}))}; expected {{fp}} and {{unit}} alone"
        if len(spec.units) > 1 and "{unit}" not in path.name:
            yield f"{where}: {len(spec.units)} units would write one file; expected {{unit}} in its name"
        if template in templates:
            yield f"{where}: stage {templates[template]} writes there too; expected a path of its own"
        templates[template] = spec.name


def _sources(spec: StageSpec, before: dict[str, StageSpec]) -> Iterator[str]:
    for source in spec.sources:
        upstream = before.get(source.stage)
        if upstream is None:
            yield f"stage {spec.name} reads {source.stage!r}, which no stage before it is; stages before it: {', '.join(before) or 'none'}"
            continue
        if source.dataset not in upstream.outputs:
            yield f"stage {spec.name} reads {source.dataset!r} of {source.stage}; it writes {', '.join(upstream.outputs)}"
        if source.of not in ("members", "all"):
            yield f"stage {spec.name} reads {source.of!r} units of {source.stage}; expected members or all"
        known = {unit.id for unit in upstream.units}
        lost = [member for unit in spec.units for member in unit.members if member not in known] if source.of == "members" else []
        if lost:
            yield f"stage {spec.name}: member {lost[0]!r} is no unit of {source.stage}"
