"""Units that need more time or memory than their task has, on a real Slurm: the next round asks for more, until the site has no more."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace

import pytest
from cluster import SlurmCluster, has_memory_cgroups
from pipeline import PATIENCE_S, Demo, NewRun, Pipeline
from scenarios import COMPLETED, Scenarios, done_twice, ends, failures, launches, option_of, round_of, same, start
from scenarios import wait_gate_says as gate_says

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SCENARIOS = Scenarios()
AT_ONCE = 1_000_000
"""Documents in a slice: units that know no slices."""


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, cluster: SlurmCluster, demo: Demo, extracted: Pipeline, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    yield from SCENARIOS.run(request, lambda name: NewRun(demo, extracted, tmp_path_factory.mktemp(name)))


@SCENARIOS.add
def longer_than_the_time_limit(new_run: NewRun) -> None:
    """4 min, then 8, as much as the site has, then 8 again with the word that no more can be given; the unit is committed once it fits."""
    resources = "[resources.slow]\ncpus = 1\nmem_gb = 0.4\ntasks = 1\ntime_limit_min = 4\n"
    pipeline = new_run(more=resources, site="max_time_min = 8\nsignal_s = 10", slice_rows=AT_ONCE)
    sent = start(pipeline, "--stage", "slow", slices=1)["slow"]
    assert option_of(pipeline, sent.arrays[0], "TimeLimit") == "00:04:00"
    for number, said in ((1, "1 unit ran into the time limit. It is 8 min instead of 4."), (2, "It was 8 min, the most that site")):
        pipeline.slurm.end_time_limit(f"{sent.arrays[0]}_0")
        assert ends(pipeline, sent.arrays[0]) == {"TIMEOUT"}
        before, sent = sent, round_of(pipeline, "slow", sent.gate)
        assert said in gate_says(pipeline, "slow", before.gate, said)
        assert "lost with their tasks: 1 units (time limit)" in gate_says(pipeline, "slow", before.gate, "lost with")
        assert [failure["kind"] for failure in failures(pipeline, "slow")] == ["time_limit"] * number
        assert option_of(pipeline, sent.arrays[0], "TimeLimit") == "00:08:00"
        pipeline.slurm.wait_until(lambda n=number: len(pipeline.noted()) == n + 1, PATIENCE_S, "the unit to begin again")
    assert "no more can be given" in gate_says(pipeline, "slow", before.gate, "no more")
    pipeline.hold.unlink()
    assert ends(pipeline, sent.gate) == COMPLETED
    same(new_run, pipeline, "slow")


def _too_large(new_run: NewRun) -> Pipeline:
    """Unit 1 takes 800 MB where a task of two processes has 819 in all; each process of the next round has twice as much."""
    resources = "[resources.slow]\ncpus = 2\nmem_gb = 0.4\ntasks = 1\nretry_backoff_s = 0.1\n"
    pipeline = new_run(more=resources, slice_rows=AT_ONCE, hog_mb=800)
    sent = pipeline.submit("--stage", "slow")["slow"]
    assert option_of(pipeline, sent.arrays[0], "MinMemoryNode") == "819M"
    gates = [sent.gate]
    while ends(pipeline, gates[-1]) != COMPLETED:
        sent = round_of(pipeline, "slow", gates[-1])
        gates.append(sent.gate)
        asked = launches(pipeline, "slow")[-1]["requested"]
        assert option_of(pipeline, sent.arrays[0], "MinMemoryNode") == f"{round(asked['mem_gb'] * asked['cpus'] * 1024)}M"
    asked = [launch["requested"]["mem_gb"] for launch in launches(pipeline, "slow")]
    assert asked[:2] == [0.4, 0.8] and asked in ([0.4, 0.8], [0.4, 0.8, 1.6])
    assert "1 unit ran out of memory. Each process gets 0.8 GB instead of 0.4." in gate_says(
        pipeline, "slow", gates[0], "ran out of memory"
    )
    assert {failure["kind"] for failure in failures(pipeline, "slow")} == {"out_of_memory"}
    same(new_run, pipeline, "slow")
    return pipeline


@SCENARIOS.add
def larger_than_the_memory(new_run: NewRun) -> None:
    """Slurm samples memory and kills the whole job: why stands in its log, and is believed."""
    pipeline = _too_large(new_run)
    assert all("exceeded memory limit" in failure["cause"] for failure in failures(pipeline, "slow"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_limits(running: dict[str, Future[None]], name: str) -> None:
    running[name].result(timeout=2 * PATIENCE_S)


@pytest.mark.skipif(not has_memory_cgroups(), reason="needs writable memory cgroups (version 1)")
def test_one_worker_out_of_memory(extracted: Pipeline, demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The kernel kills one worker of a task: the others go on and commit their units, no other unit is blamed."""
    with SlurmCluster.start(n_nodes=1, gpus_per_node=0, memory_cgroups=True) as slurm:
        new_run = NewRun(demo, replace(extracted, slurm=slurm), tmp_path_factory.mktemp("cgroups"))
        pipeline = _too_large(new_run)
        (first, *_) = launches(pipeline, "slow")
        for sentinel in pipeline.sentinels("slow").values():
            alone = sentinel["unit"] == "00001"
            assert (sentinel["requested"]["mem_gb"] == first["requested"]["mem_gb"]) != alone
        assert {failure["unit"] for failure in failures(pipeline, "slow")} == {"00001"}
        assert "worker killed by SIGKILL: out of memory" in failures(pipeline, "slow")[0]["cause"]
        assert done_twice(pipeline) == len(failures(pipeline, "slow"))
