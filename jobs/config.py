"""The run.toml: one file defines the flow. Read, checked and spelled out here, before anything is submitted.

[run]              name, dir, inputs, shard_bytes, site
[stage.NAME]       use, where and the parameters of that stage's class
[resources.NAME]   cpus, gpus, mem_gb, task_minutes ... of a stage, of a family, or of "default"
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError

from ccpipe.stage import StageConfig
from hpc.site import Resources, Site, SiteError, describe, load_site
from jobs.loading import UseError, import_stage
from jobs.stages import FAMILIES, OPEN_FAMILY, ROWS, SECTIONS

M = TypeVar("M", bound=BaseModel)


class ConfigError(Exception):
    """Everything that is wrong with a config, one line each."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(f"{path} has {len(problems)} problem{'s' * (len(problems) > 1)}:\n" + "\n".join(f"  - {p}" for p in problems))


class RunSection(BaseModel):
    """[run]"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the corpus; letters, digits, . _ -")
    dir: str = Field(min_length=1, description="run directory, on the shared filesystem")
    inputs: list[str] = Field(min_length=1, description="WARC files: paths, globs, or @file with one path per line")
    shard_bytes: ByteSize = Field(ByteSize(8 << 30), ge=1, description="input bytes of one shard, such as '8 GiB'")
    site: str | None = Field(None, description="site profile TOML")
    overlap: bool = Field(False, description="a shard's stage may start when the shards that it reads are committed, gates or not")


@dataclass(frozen=True)
class StageTable:
    """One stage as configured: its class, and its parameters, validated."""

    name: str
    use: str
    config: StageConfig


@dataclass(frozen=True)
class RunConfig:
    """A whole run.toml, validated as far as one can without looking at the input files."""

    path: Path
    text: str
    run: RunSection
    stages: tuple[StageTable, ...]
    resources: dict[str, Resources]
    site: Site
    folder: Path

    @property
    def run_dir(self) -> Path:
        return (self.folder / self.run.dir).absolute()

    def resources_of(self, stage: str) -> Resources:
        """The most specific table: the stage's, its family's, or the default."""
        for name in (stage, stage.partition(".")[0], "default"):
            if name in self.resources:
                return self.resources[name]
        return Resources()  # type: ignore[call-arg]  # every field has a default


def load_config(path: Path) -> RunConfig:
    """Read and validate a run.toml. Raises `ConfigError` naming every problem found."""
    path = path.absolute()
    try:
        text = path.read_text(encoding="utf-8")
        value = tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(path, ["no such file; `ccpipe init` writes a commented run.toml to start from"]) from None
    except OSError as error:
        raise ConfigError(path, [f"{error.strerror}; expected a run.toml"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(path, [f"not TOML: {error}"]) from None
    problems = [
        f"unknown table [{key}]; valid tables: run, stage, resources{_hint(key, ['run', 'stage', 'resources'])}"
        for key in value
        if key not in ("run", "stage", "resources")
    ]
    run = _model(RunSection, value.get("run", {}), "run", problems)
    stages = _stages(_table(value, "stage", problems), path.parent, problems)
    tables = _named_tables(_table(value, "resources", problems))
    resources = {name: _model(Resources, table, f"resources.{name}", problems) for name, table in tables.items()}
    known = {"default", *SECTIONS, *ROWS, *(table.name for table in stages)}
    problems += [
        f"[resources.{n}] is for no stage of this flow; valid names: {', '.join(sorted(known))}" for n in resources if n not in known
    ]
    site = Site()  # type: ignore[call-arg]
    if run is not None:
        try:
            site = load_site(path.parent / run.site if run.site else None)
        except SiteError as error:
            problems.append(str(error))
    if problems or run is None:
        raise ConfigError(path, problems)
    usable = {name: table for name, table in resources.items() if table is not None}
    return RunConfig(path, text, run, tuple(stages), usable, site, path.parent)


def load_run_dir(path: Path) -> Path:
    """The run directory that a run.toml names, or the folder itself where `path` is a run directory."""
    if path.is_dir():
        return path.absolute()
    if path.name == "run.toml" and (path.parent / "flow.json").exists():
        return path.parent.absolute()
    return load_config(path).run_dir


def _model(model: type[M], value: Any, where: str, problems: list[str], base_dir: Path | None = None) -> M | None:
    try:
        return model.model_validate(value, context={"base_dir": base_dir})
    except ValidationError as error:
        problems.append(f"[{where}] {describe(error, model)}")
        return None


def _table(value: dict[str, Any], key: str, problems: list[str]) -> dict[str, Any]:
    found = value.get(key, {})
    if isinstance(found, dict):
        return found
    problems.append(f"{key} = {found!r}: expected tables [{key}.NAME]")
    return {}


def _named_tables(value: dict[str, Any]) -> dict[str, Any]:
    """[resources.dedup.match] is the table of stage `dedup.match`, beside the keys of [resources.dedup] itself."""
    found: dict[str, Any] = {}
    for name, table in value.items():
        inner = {key: part for key, part in table.items() if isinstance(part, dict)} if isinstance(table, dict) else {}
        own = {key: part for key, part in table.items() if key not in inner} if inner else table
        if own or not inner:
            found[name] = own
        found |= {f"{name}.{key}": part for key, part in inner.items()}
    return found


def _stages(value: dict[str, Any], folder: Path, problems: list[str]) -> list[StageTable]:
    """Every stage of the flow; a family's table becomes one stage for each phase."""
    found: list[StageTable] = []
    for section, table in value.items():
        if not isinstance(table, dict):
            problems.append(f"stage.{section} = {table!r}: expected a table [stage.{section}]")
        elif section == OPEN_FAMILY:
            for member, inner in table.items():
                if not isinstance(inner, dict):
                    problems.append(f"[stage.{OPEN_FAMILY}] {member}: classifiers have names: write [stage.{OPEN_FAMILY}.NAME]")
                else:
                    found += _stage(f"{OPEN_FAMILY}.{member}", inner, folder, problems)
        else:
            for name in FAMILIES.get(section, (section,)):
                found += _stage(name, table, folder, problems)
    if not found and not problems:
        problems.append(f"no [stage.*] table; a flow has at least [stage.extract]. Stages: {', '.join(SECTIONS)}")
    return found


def _stage(name: str, table: dict[str, Any], folder: Path, problems: list[str]) -> list[StageTable]:
    section = next((family for family, phases in FAMILIES.items() if name in phases), name)
    parameters = dict(table)
    row = ROWS.get(name)
    # a family's phases keep their classes
    use = row.use if row and section != name else parameters.pop("use", row.use if row else None)
    if use is None:
        hint = _hint(name, list(SECTIONS))
        problems.append(f'[stage.{name}] has no use = "package.module:Class", and {name!r} is not a stage with a default{hint}')
        return []
    if not name.replace(".", "").isidentifier():
        problems.append(f"[stage.{name}]: a stage name is the prefix of its columns; use letters, digits and _")
        return []
    try:
        stage_class = import_stage(str(use), folder)
    except UseError as error:
        problems.append(f"[stage.{name}] {error}")
        return []
    before = len(problems)
    config = _model(stage_class.Config, parameters, f"stage.{section}", problems, folder)
    if config is None and problems[before:] and problems[-1] in problems[:before]:
        problems.pop()  # phases of one family share a table and its mistakes
    return [StageTable(name, str(use), config)] if config is not None and stage_class.wanted(config) else []


def _hint(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1)
    return f". Did you mean {close[0]!r}?" if close else ""
