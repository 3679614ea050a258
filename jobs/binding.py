"""The binding: what hpc's worker asks of a stage, answered by a ccpipe stage class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ccpipe.stage import SlicedStage, Stage, Unit
from hpc.state.plan import PlannedUnit
from hpc.state.work import Counts, Files
from jobs.loading import import_stage


class StageWork:
    """A ccpipe stage, built from what a launch says of it (`hpc.state.work.make_work`)."""

    def __init__(self, stage: str, use: str, config: Mapping[str, Any], base_dir: str) -> None:
        stage_class = import_stage(use, Path(base_dir))
        self.stage: Stage = stage_class(stage, stage_class.Config.model_validate(config, context={"base_dir": base_dir}))
        self.sliced = isinstance(self.stage, SlicedStage)

    def load(self) -> None:
        self.stage.load()

    def run(self, unit: PlannedUnit, inputs: Files, out: Mapping[str, Path]) -> Counts:
        return self.stage.run(as_unit(unit), inputs, out).to_dict()

    def earlier_slices(self, unit: PlannedUnit, slices: Sequence[Path]) -> None:
        assert isinstance(self.stage, SlicedStage)
        self.stage.earlier_slices(as_unit(unit), slices)

    def slice(self, unit: PlannedUnit, inputs: Files, folder: Path, cursor: Any) -> tuple[Counts, Any]:
        assert isinstance(self.stage, SlicedStage)
        counts, following = self.stage.slice(as_unit(unit), inputs, folder, cursor)
        return counts.to_dict(), following

    def join(self, unit: PlannedUnit, inputs: Files, slices: Sequence[Path], out: Mapping[str, Path]) -> None:
        assert isinstance(self.stage, SlicedStage)
        self.stage.join(as_unit(unit), inputs, slices, out)


def as_unit(unit: PlannedUnit) -> Unit:
    """A planned unit in ccpipe's words: member ids are shard numbers."""
    return Unit(unit.id, unit.index, tuple(int(member) for member in unit.members), unit.detail)
