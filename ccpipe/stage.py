"""What a stage is: a class that turns the files of one unit into new files and returns counts.

A stage knows nothing of temporary names, markers, retries, signals or schedulers. It reads the paths it is given,
writes the paths it is given, and is deterministic: the same inputs and config give the same bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from ccpipe.counts import Counts

Inputs = Mapping[str, Sequence[Path]]
"""Dataset name (`wet`, `base`, `sig`, `meta/lid` ...) -> its files, one for each shard or unit that is read, in order."""

Outputs = Mapping[str, Path]
"""Dataset name -> the file to write. The folder exists, the file does not."""

Cursor = dict[str, Any]
"""Where the next slice begins; plain JSON."""


class ModelFile(str):
    """Path of a model file or folder in a config. Its content is part of the stage's fingerprint.

    A relative path is taken from the folder of the `run.toml` (validation context key `base_dir`).
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_after_validator_function(cls._resolve, core_schema.str_schema(min_length=1))

    @classmethod
    def _resolve(cls, value: str, info: ValidationInfo) -> ModelFile:
        base = (info.context or {}).get("base_dir")
        return cls(Path(base, value).absolute() if base else value)


def tuning(default: Any, description: str, **bounds: Any) -> Any:
    """A config field that changes speed or memory but never the result: it is left out of the fingerprint."""
    return Field(default, description=description, json_schema_extra={"affects_result": False}, **bounds)


class StageConfig(BaseModel):
    """Parameters of a stage: one field each with type, unit, range and default. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    where: str | None = Field(None, description="SQL predicate over earlier columns; only these rows are worked on")


@dataclass(frozen=True)
class Unit:
    """One unit of work. `id` names its files; `shards` are the shards whose files it reads or writes, in input order.

    `index` is the shard number, the group number or the partition number. `detail` carries what the plan knows of
    this unit alone (for `extract`: the WARC files of the shard).
    """

    id: str
    index: int
    shards: tuple[int, ...]
    detail: Mapping[str, Any]


class Stage(ABC):
    """Work on one unit. Construct cheaply: load models in `load`, which runs once per process before the first unit."""

    version: ClassVar[int] = 1
    """Raise it when the same config and inputs give other bytes than before."""

    ignores: ClassVar[frozenset[str]] = frozenset()
    """Keys of a config shared by several phases that change nothing in this one; left out of its fingerprint."""

    reads_where: ClassVar[bool] = True
    """False for a phase that takes the documents which an earlier phase chose: the columns of `where` are no inputs of it."""

    class Config(StageConfig):
        pass

    def __init__(self, name: str, config: Any) -> None:
        self.name = name
        self.config = config

    @classmethod
    def wanted(cls, config: Any) -> bool:
        """Whether a flow with this config has the stage at all; for phases of a family that only some configs need."""
        return True

    @property
    def prefix(self) -> str:
        """First part of every column this stage writes: `edu` for stage `classify.edu`."""
        return self.name.rpartition(".")[2]

    def needs(self) -> tuple[str, ...]:
        """Columns of earlier stages that this stage reads, `where` aside."""
        return ()

    def more_inputs(self) -> Mapping[str, str]:
        """Datasets that the config makes it read beside those of the stage table: dataset -> "members" or "all"."""
        return {}

    def settle(self, writers: Mapping[str, Stage]) -> Mapping[str, Any]:
        """Fields of the config that follow from other stages (dataset -> the stage that writes it); workers get them with the config."""
        return {}

    def columns(self) -> dict[str, pa.DataType]:
        """Columns that this stage adds to the meta: full name -> type."""
        return {}

    def check(self) -> None:  # noqa: B027 - optional hook
        """Raise `ValueError` for what is wrong with the config or its model files. Called before anything is submitted; seconds."""

    def check_inputs(self, types: Mapping[str, pa.DataType], writers: Mapping[str, Stage]) -> None:  # noqa: B027 - optional hook
        """Raise `ValueError` when the columns or files that other stages of this flow write do not fit.

        types: every column of the flow, all of `needs` among them; writers: dataset -> the stage that writes it. Called once,
        when the flow is planned, and not in workers.
        """

    def explain(self) -> list[str]:
        """Lines for the dry run: what the config amounts to. Called after `check_inputs`."""
        return []

    def predict(self, documents: int, shards: int, extra: Mapping[str, int]) -> list[str]:
        """Lines for the dry run: the memory of a process and the disk that this stage will need.

        documents: of the run, counted or, before anything is extracted, expected; extra: further counts of the stages that are complete.
        """
        return []

    def load(self) -> None:  # noqa: B027 - optional hook, most stages have nothing to open
        """Open models. Called once in each process, before the first unit."""

    @abstractmethod
    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        """Read `inputs`, write every file of `out`, account for every document."""


class SlicedStage(Stage):
    """A stage whose units are long: work is committed slice by slice, and a killed unit resumes at the last slice.

    The bytes that `join` writes must not depend on where the slices were cut.
    """

    def earlier_slices(self, unit: Unit, slices: Sequence[Path]) -> None:
        """Called before each slice with the folders of all committed slices in front of it, in order, perhaps of another attempt."""

    @abstractmethod
    def slice(self, unit: Unit, inputs: Inputs, folder: Path, cursor: Cursor | None) -> tuple[Counts, Cursor | None]:
        """Work from `cursor` (None: the beginning) for some seconds, write files into the empty `folder`.

        Returns the counts of this slice alone and the next cursor, or None when the unit is done.
        """

    @abstractmethod
    def join(self, unit: Unit, inputs: Inputs, slices: Sequence[Path], out: Outputs) -> None:
        """Put the slices' files together, in order, into `out`."""

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        raise TypeError(f"{type(self).__name__} works slice by slice: call slice() and join()")
