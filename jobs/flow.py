"""The flow: the stages of one config as a graph. Dependencies follow from files and columns, and are checked here.

A stage reads the datasets of its row in the stage table, and the columns that its class needs and its `where` names.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pydantic import BaseModel

from ccpipe.meta import BASE_COLUMNS, check_predicate, predicate_columns
from ccpipe.stage import ModelFile, Stage
from hpc.fs.files import read_json_if_exists
from hpc.planning.spec import Source
from hpc.site import Resources, check_resources
from jobs.config import ConfigError, RunConfig, StageTable
from jobs.loading import import_stage
from jobs.stages import FAMILIES, OPEN_FAMILY, TABLE, Row, named

PARTITIONS = Path("state", "partitions.json")
"""Stage -> partitions that were chosen when the run was first planned. Results do not depend on them, so other resources
later must not make the stage, and all behind it, run again."""


class NoSuchStage(KeyError):
    """A stage asked for by a name that the flow does not have; the message offers those it has."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show it in quotes


@dataclass(frozen=True)
class FlowStage:
    """One stage of a flow, ready to be planned."""

    name: str
    use: str
    row: Row
    writes: dict[str, str]
    stage: Stage
    resources: Resources
    sources: tuple[Source, ...] = ()

    @property
    def config(self) -> Any:
        return self.stage.config

    @property
    def upstream(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(source.stage for source in self.sources))


def build_flow(config: RunConfig) -> list[FlowStage]:
    """Stages in the order of work. Raises `ConfigError` naming every problem."""
    problems: list[str] = []
    stages = {table.name: _make(table, config) for table in config.stages}
    writers = {dataset: name for name, flow_stage in stages.items() for dataset in flow_stage.writes}
    columns = _columns(stages, problems)
    linked = {name: _link(flow_stage, writers, columns, problems) for name, flow_stage in stages.items()}
    missing = _missing_models(stages)
    problems += [f"stage {n}: {path} does not exist (a model file of its config)" for n, path in missing]
    problems += [
        problem for name, flow_stage in stages.items() if (problem := check_resources(name, flow_stage.resources, config.site)) is not None
    ]
    without_models = {name for name, _ in missing}
    problems += _checked({name: flow_stage for name, flow_stage in stages.items() if name not in without_models})
    problems += _misfits(stages, {column: kind for column, (_, kind) in columns.items()})
    linked = {name: _settled(item, stages) for name, item in linked.items()}
    try:
        order = list(TopologicalSorter({name: item.upstream for name, item in linked.items()}).static_order())
    except CycleError as error:
        problems.append(f"stages wait for each other: {' -> '.join(error.args[1])}; a `where` names a column that is written later")
    if problems:
        raise ConfigError(config.path, list(dict.fromkeys(problems)))
    return [linked[name] for name in order]


def _make(table: StageTable, config: RunConfig) -> FlowStage:
    place = named(table.name)
    resources = config.resources_of(table.name)
    parameters: Any = table.config
    if "partitions" in type(parameters).model_fields and parameters.partitions is None:
        remembered = read_json_if_exists(config.run_dir / PARTITIONS) or {}
        parameters = parameters.model_copy(update={"partitions": remembered.get(table.name, resources.nodes * resources.cpus)})
    stage = import_stage(table.use, config.folder)(table.name, parameters)
    return FlowStage(table.name, table.use, place.row, place.writes, stage, resources)


def _columns(stages: dict[str, FlowStage], problems: list[str]) -> dict[str, tuple[str, pa.DataType]]:
    """Column -> the dataset that holds it, and its type."""
    found: dict[str, tuple[str, pa.DataType]] = {column: ("base", kind) for column, kind in BASE_COLUMNS.items()}
    for name, flow_stage in stages.items():
        group = next((dataset for dataset in flow_stage.writes if dataset.startswith("meta/")), None)
        if group is None:
            continue
        if group == "meta/base" or not flow_stage.stage.columns():
            problems.append(
                f"stage {name} cannot be an annotator: "
                + ("`base` is the group that extract writes" if group == "meta/base" else f"{flow_stage.use} writes no columns")
                + "; expected a subclass of ccpipe.annotate.Annotator under a name of its own"
            )
        for column, kind in flow_stage.stage.columns().items():
            if column in found:
                problems.append(f"column {column!r} is written by {found[column][0]} and by stage {name}; rename the stage {name}")
            found[column] = (group, kind)
    return found


def _link(flow_stage: FlowStage, writers: dict[str, str], columns: dict[str, tuple[str, pa.DataType]], problems: list[str]) -> FlowStage:
    """Fill in where everything that the stage reads comes from."""
    wanted: dict[str, str] = {**flow_stage.row.reads, **flow_stage.stage.more_inputs()}
    for column in _wanted_columns(flow_stage, columns, problems):
        if column in columns:
            wanted.setdefault(columns[column][0], flow_stage.row.columns or "members")
        else:
            hint = difflib.get_close_matches(column.lower(), columns, n=1)
            problems.append(
                f"stage {flow_stage.name} reads column {column!r}, which no stage of this flow writes"
                + (f". Did you mean {hint[0]!r}?" if hint else f"; columns: {', '.join(sorted(columns))}")
            )
    sources = []
    for dataset, of in wanted.items():
        if dataset not in writers:
            problems.append(f"stage {flow_stage.name} reads {dataset}, which no stage of this flow writes; add {_table_for(dataset)}")
        elif writers[dataset] != flow_stage.name:
            sources.append(Source(dataset, writers[dataset], of))
        else:
            problems.append(f"stage {flow_stage.name} reads its own column group {dataset}; its `where` can only name earlier columns")
    return replace(flow_stage, sources=tuple(sources))


def _wanted_columns(flow_stage: FlowStage, columns: dict[str, tuple[str, pa.DataType]], problems: list[str]) -> tuple[str, ...]:
    """Columns of `needs` and of `where`; the predicate is bound against the types that the flow will have."""
    if flow_stage.row.columns is None:
        return ()
    where = flow_stage.config.where if flow_stage.stage.reads_where else None
    try:
        named_in_where = predicate_columns(where)
        if where and all(column in columns for column in named_in_where):
            check_predicate(where, {column: kind for column, (_, kind) in columns.items()})
    except duckdb.Error as error:
        section = flow_stage.name.partition(".")[0] if flow_stage.name.partition(".")[0] in FAMILIES else flow_stage.name
        problems.append(f'[stage.{section}] where = "{where}": {str(error).splitlines()[0]}; columns: {", ".join(sorted(columns))}')
        return ()
    return tuple(dict.fromkeys((*flow_stage.stage.needs(), *named_in_where)))


def _table_for(dataset: str) -> str:
    row = next((row for row in TABLE if dataset in {d.replace("{stage}", row.stage) for d in row.writes}), None)
    return f"[stage.{row.stage.partition('.')[0]}]" if row else f"a stage that writes {dataset}"


def _missing_models(stages: dict[str, FlowStage]) -> list[tuple[str, str]]:
    return [
        (name, path) for name, flow_stage in stages.items() for path in model_files(flow_stage.config).values() if not Path(path).exists()
    ]


def _checked(stages: dict[str, FlowStage]) -> Iterator[str]:
    """What the stages themselves find wrong with their configs and models."""
    for name, flow_stage in stages.items():
        try:
            flow_stage.stage.check()
        except (ValueError, OSError) as error:
            yield f"stage {name}: {error}"


def _misfits(stages: dict[str, FlowStage], types: dict[str, pa.DataType]) -> Iterator[str]:
    """What the stages find wrong with each other. Stages that miss a column or a dataset have been told already."""
    writers = {dataset: flow_stage.stage for flow_stage in stages.values() for dataset in flow_stage.writes}
    for name, flow_stage in stages.items():
        if set(flow_stage.stage.needs()) <= types.keys() and flow_stage.row.reads.keys() <= writers.keys():
            try:
                flow_stage.stage.check_inputs(types, writers)
            except ValueError as error:
                yield f"stage {name}: {error}"


def _settled(flow_stage: FlowStage, stages: dict[str, FlowStage]) -> FlowStage:
    """With the fields of its config that follow from what other stages write."""
    writers = {dataset: other.stage for other in stages.values() for dataset in other.writes}
    found = flow_stage.stage.settle(writers)
    if found:
        flow_stage.stage.config = flow_stage.config.model_copy(update=dict(found))
    return flow_stage


def model_files(config: BaseModel) -> dict[str, str]:
    """Every model path in a config, by its dotted key."""
    return dict(_walk_models("", config))


def _walk_models(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, ModelFile):
        yield key, str(value)
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _walk_models(f"{key}.{name}".lstrip("."), getattr(value, name))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _walk_models(f"{key}.{name}".lstrip("."), inner)
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from _walk_models(f"{key}.{i}", inner)


def chosen_names(names: Sequence[str], wanted: str | None) -> list[str]:
    """The stages that a name on the command line means: a stage, a family, or all. Raises `NoSuchStage`.

    >>> chosen_names(["sig", "dedup.route", "dedup.match"], "dedup")
    ['dedup.route', 'dedup.match']
    """
    if not wanted or wanted == "all":
        return list(names)
    chosen = [name for name in names if name == wanted or name.partition(".")[0] == wanted]
    if not chosen:
        families = {family for name in names if (family := name.partition(".")[0]) in (*FAMILIES, OPEN_FAMILY)}
        offered = sorted({*names, *families})
        hint = difflib.get_close_matches(wanted, offered, n=1)
        raise NoSuchStage(
            f"no stage {wanted!r} in this flow; stages: {', '.join(offered)}" + (f". Did you mean {hint[0]!r}?" if hint else "")
        )
    return chosen
