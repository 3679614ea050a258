"""The binding gives ccpipe's stages what hpc's worker asks for, and nothing is lost in between."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flows import plan, short_flow

from ccpipe.stage import ModelFile, SlicedStage, Unit
from hpc.state.plan import PlannedUnit
from hpc.state.work import make_work
from jobs.binding import StageWork, as_unit
from jobs.flow import model_files


def test_every_stage_of_the_flow_is_built_again_from_what_its_launch_says(demo: Path, models: Path, tmp_path: Path) -> None:
    """The launch is JSON: paths, numbers and nested models come back as they were."""
    flow = plan(tmp_path, short_flow(demo, models, tmp_path / "run"))
    for item in flow.stages:
        stage = flow.described[item.name].stage
        work = make_work(json.loads(json.dumps(item.spec.work)))
        assert isinstance(work, StageWork)
        assert work.stage.name == item.name and type(work.stage) is type(stage)
        assert work.stage.config == stage.config
        assert work.sliced == isinstance(stage, SlicedStage)
        assert model_files(work.stage.config) == model_files(stage.config)
        assert all(isinstance(path, ModelFile) for path in vars(work.stage.config).values() if path in model_files(stage.config).values())


def test_a_unit_in_the_words_of_ccpipe() -> None:
    planned = PlannedUnit("g00001", 1, 3.5, ("00004", "00012"), {"n_shards": 13})
    assert as_unit(planned) == Unit("g00001", 1, (4, 12), {"n_shards": 13})


@pytest.mark.parametrize(("stage", "knows"), [("dedup.mark", {"n_shards": 9}), ("export.shards", {}), ("lid", {})])
def test_units_know_their_own_shard_and_those_that_read_all_how_many(
    stage: str, knows: dict[str, int], demo: Path, models: Path, tmp_path: Path
) -> None:
    flow = plan(tmp_path, short_flow(demo, models, tmp_path / "run"))
    units = next(item for item in flow.stages if item.name == stage).plan.units
    assert [as_unit(unit).shards for unit in units] == [(i,) for i in range(9)]
    assert all(unit.detail == knows for unit in units)
