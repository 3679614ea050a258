"""`[run] overlap = true` on a real Slurm: a shard goes on to the next stage as soon as it is committed, and the results are the same."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from cluster import SlurmCluster
from pipeline import PATIENCE_S, SMALL, Demo, NewRun, Pipeline
from scenarios import (
    COMPLETED,
    FAILED,
    Scenarios,
    depends_on,
    done_twice,
    ends,
    kill_task_of,
    round_of,
    sent_by,
    type_what_it_says,
    wait_gate_says,
)

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SCENARIOS = Scenarios()
LAST = 3


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, cluster: SlurmCluster, demo: Demo, extracted: Pipeline, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    yield from SCENARIOS.run(request, lambda name: NewRun(demo, extracted, tmp_path_factory.mktemp(name)))


def overlapping(new_run: NewRun, extract: str) -> Pipeline:
    """Nothing is extracted yet; stages overlap. `extract`: parameters of the stage."""
    pipeline = Pipeline(new_run.extracted.slurm, new_run.folder / "here")
    own = f'[stage.extract]\nuse = "my_stages:SlowExtract"\n{extract}'
    toml = new_run.demo.slow_toml(f"[resources.extract]\n{SMALL}\ntasks = 1\nmax_failures = 1\n", {"journal": str(pipeline.journal)})
    pipeline.configure(toml.replace("[stage.extract]\n", own).replace("[run]\n", "[run]\noverlap = true\n"))
    return pipeline


def annotated(pipeline: Pipeline) -> set[int]:
    return {line["unit"] for line in pipeline.noted()}


def same_bytes(new_run: NewRun, pipeline: Pipeline) -> None:
    """Paths name the class that wrote them, which is another one here."""
    assert set(pipeline.digests().values()) == set(new_run.extracted.digests().values())


@SCENARIOS.add
def shards_go_ahead(new_run: NewRun) -> None:
    """Shard 0 is annotated while the last shard is still being extracted."""
    journal, hold = new_run.folder / "extracted", new_run.folder / "hold-extract"
    hold.touch()
    pipeline = overlapping(new_run, f'journal = "{journal}"\nhold = "{hold}"\nhold_unit = {LAST}\n')
    sent = pipeline.submit()
    pipeline.slurm.wait_until(lambda: 0 in annotated(pipeline), PATIENCE_S, "shard 0 to be annotated")
    assert f"{LAST:05d}" not in pipeline.sentinels("extract")
    assert "00000" in pipeline.sentinels("extract")
    pipeline.slurm.wait_until(lambda: annotated(pipeline) == {0, 1, 2}, PATIENCE_S, "all shards but the last")
    assert sorted(pipeline.sentinels("extract")) == ["00000", "00001", "00002"]
    hold.unlink()
    for stage in ("extract", "slow", "after"):
        assert ends(pipeline, sent[stage].gate) == COMPLETED
    assert done_twice(pipeline) == 0
    same_bytes(new_run, pipeline)


@SCENARIOS.add
def a_task_is_lost(new_run: NewRun) -> None:
    """The task that extracts the last shard is killed: a round goes on with it, the gates behind wait for the gate of that round, and the
    tasks that wait for the shard get it."""
    journal, hold = new_run.folder / "extracted", new_run.folder / "hold-extract"
    hold.touch()
    pipeline = overlapping(new_run, f'journal = "{journal}"\nhold = "{hold}"\nhold_unit = {LAST}\n')
    sent = pipeline.submit()
    pipeline.slurm.wait_until(lambda: annotated(pipeline) == {0, 1, 2}, PATIENCE_S, "all shards but the last")
    (claim,) = pipeline.claims("extract")
    kill_task_of(pipeline, claim["pid"])
    again = round_of(pipeline, "extract", sent["extract"].gate)
    assert again.units == 1
    said = wait_gate_says(pipeline, "extract", sent["extract"].gate, f"{sent['slow'].gate} now waits")
    assert f"job {sent['slow'].gate} now waits for gate {again.gate}" in said
    assert depends_on(pipeline, sent["slow"].gate) == {again.gate, *sent["slow"].arrays}
    hold.unlink()
    for stage in ("slow", "after"):
        assert ends(pipeline, sent[stage].gate) == COMPLETED
    assert done_twice(pipeline) == 0
    same_bytes(new_run, pipeline)


@SCENARIOS.add
def one_shard_fails(new_run: NewRun) -> None:
    """The others are annotated; every gate names what is missing, and no round is sent for what cannot run yet; mended, all complete."""
    broken = new_run.folder / "broken"
    broken.touch()
    pipeline = overlapping(new_run, f'broken = "{broken}"\n')
    sent = pipeline.submit()
    assert ends(pipeline, sent["extract"].gate) == FAILED
    assert "00001: parked after 1 attempts" in wait_gate_says(pipeline, "extract", sent["extract"].gate, "type: ")
    pipeline.slurm.wait_until(lambda: len(pipeline.sentinels("after")) == 3, PATIENCE_S, "the other shards to be annotated")
    # their tasks would wait ten minutes for the shard that does not come
    pipeline.slurm.run("scancel", *sent["slow"].arrays, *sent["after"].arrays)
    for stage in ("slow", "after"):
        assert ends(pipeline, sent[stage].gate) == FAILED
        said = wait_gate_says(pipeline, stage, sent[stage].gate, "type: ")
        assert f"{stage}: 1 of 4 units are missing:\n  00001: not started" in said
        assert "1 unit cannot run before what they read is complete (extract" in said
    broken.unlink()
    again = sent_by(type_what_it_says(pipeline, wait_gate_says(pipeline, "extract", sent["extract"].gate, "type: ")))
    assert {stage: item.units for stage, item in again.items()} == {"extract": 1, "slow": 1, "after": 1}
    assert ends(pipeline, again["after"].gate) == COMPLETED
    same_bytes(new_run, pipeline)


@pytest.mark.parametrize("name", SCENARIOS)
def test_overlap(running: dict[str, Future[None]], name: str) -> None:
    running[name].result(timeout=2 * PATIENCE_S)
