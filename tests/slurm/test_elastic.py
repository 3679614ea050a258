"""`ccpipe scale` on a real Slurm: tasks that join a running stage take units, and its gate waits for them; lost tasks only slow it down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from cluster import SlurmCluster
from pipeline import PATIENCE_S, Demo, NewRun, Pipeline
from scenarios import COMPLETED, FAILED, Scenarios, depends_on, done_twice, ends, kill_task_of, same, start

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SCENARIOS = Scenarios()
ONE_PROCESS = "[resources.slow]\ncpus = 1\nmem_gb = 0.4\ntasks = 1\n"
ADDED = re.compile(r"^(\S+) +array (\d+): (\d+) more tasks for launch (\S+); gate (\d+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, cluster: SlurmCluster, demo: Demo, extracted: Pipeline, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    yield from SCENARIOS.run(request, lambda name: NewRun(demo, extracted, tmp_path_factory.mktemp(name)))


def scale(pipeline: Pipeline, stage: str, more: str) -> tuple[str, str]:
    """Array and gate that `scale` tells."""
    found = ADDED.search(pipeline.ok("scale", "--stage", stage, more))
    assert found and (found[1], f"+{found[3]}") == (stage, more)
    return found[2], found[5]


def wait_workers(pipeline: Pipeline, n: int) -> None:
    """Wait until `n` processes have begun a slice."""
    pipeline.slurm.wait_until(lambda: len({line["pid"] for line in pipeline.noted()}) >= n, PATIENCE_S, f"{n} workers to take part")


@SCENARIOS.add
def tasks_join(new_run: NewRun) -> None:
    """One task works; two more join, and each takes a unit of its own. The gate waits for both arrays; no slice is done twice."""
    pipeline = new_run(more=ONE_PROCESS, hold_after=2)
    sent = start(pipeline, "--stage", "slow", slices=3)["slow"]
    added, gate = scale(pipeline, "slow", "+2")
    assert gate == sent.gate
    assert depends_on(pipeline, gate) == {sent.arrays[0], added}
    wait_workers(pipeline, 3)
    by_array = {(line["array"], line["element"]): line["unit"] for line in pipeline.noted()}
    assert set(by_array) == {(sent.arrays[0], "0"), (added, "0"), (added, "1")}
    assert len(set(by_array.values())) == 3, "each works on a unit of its own"
    pipeline.hold.unlink()
    assert ends(pipeline, gate) == COMPLETED
    assert done_twice(pipeline) == 0
    same(new_run, pipeline, "slow")


@SCENARIOS.add
def tasks_are_taken_away(new_run: NewRun) -> None:
    """The first task and one of those that joined are cancelled: the one that is left takes over their units behind their slices."""
    pipeline = new_run(more=ONE_PROCESS, hold_after=2)
    sent = start(pipeline, "--stage", "slow", slices=3)["slow"]
    added, gate = scale(pipeline, "slow", "+2")
    wait_workers(pipeline, 3)
    pipeline.slurm.run("scancel", f"{sent.arrays[0]}_0", f"{added}_1")
    for element in (f"{sent.arrays[0]}_0", f"{added}_1"):
        pipeline.slurm.wait_until(
            lambda element=element: pipeline.slurm.all_states(element)[element] == "CANCELLED", PATIENCE_S, f"{element} to go"
        )
    pipeline.hold.unlink()
    assert ends(pipeline, gate) == COMPLETED
    assert done_twice(pipeline) <= 2
    last = {line["unit"]: (line["array"], line["element"]) for line in pipeline.noted()}
    assert set(last.values()) == {(added, "0")}
    same(new_run, pipeline, "slow")


@SCENARIOS.add
def joining_a_stage_that_waits(new_run: NewRun) -> None:
    """Tasks that join a stage whose turn has not come wait as its array does."""
    pipeline = new_run(more=ONE_PROCESS, hold_after=2)
    sent = start(pipeline, slices=3)
    added, gate = scale(pipeline, "after", "+1")
    assert gate == sent["after"].gate
    assert depends_on(pipeline, added) == {sent["slow"].gate}
    assert depends_on(pipeline, gate) == {sent["after"].arrays[0], added}
    pipeline.hold.unlink()
    assert ends(pipeline, gate) == COMPLETED
    same(new_run, pipeline)


@SCENARIOS.add
def joining_behind_the_gate(new_run: NewRun) -> None:
    """The gate has looked and found units missing: tasks that are added then get a gate of their own, and complete the stage."""
    pipeline = new_run(more=ONE_PROCESS, site="rounds = 0", hold_after=2)
    sent = start(pipeline, "--stage", "slow", slices=3)["slow"]
    kill_task_of(pipeline, pipeline.noted()[-1]["pid"])
    assert ends(pipeline, sent.gate) == FAILED
    first, gate = scale(pipeline, "slow", "+1")
    second, same_gate = scale(pipeline, "slow", "+1")
    assert same_gate == gate != sent.gate
    assert depends_on(pipeline, gate) == {first, second}
    pipeline.hold.unlink()
    assert ends(pipeline, gate) == COMPLETED
    assert done_twice(pipeline) <= 1
    same(new_run, pipeline, "slow")


@SCENARIOS.add
def nothing_to_join(new_run: NewRun) -> None:
    """Not submitted, complete, several stages, no number: what was seen, what was expected, what to type."""
    pipeline = new_run(complete=True)
    says = {
        ("--stage", "slow", "+2"): "stage slow is complete; more tasks can join a launch that is under way",
        ("+2",): "scale adds tasks to one running stage, 3 were named; type:",
        ("--stage", "slow", "0"): "expected how many tasks to add, such as +8",
    }
    for words, expected in says.items():
        done = pipeline.ccpipe("scale", *words)
        assert done.returncode in (1, 2) and expected in done.stderr and "Traceback" not in done.stderr, done.stderr
    fresh = new_run("fresh")
    done = fresh.ccpipe("scale", "--stage", "slow", "+2")
    assert done.returncode == 1
    assert "stage slow has not been submitted" in done.stderr and "submit" in done.stderr.partition("Type: ")[2]


@pytest.mark.parametrize("name", SCENARIOS)
def test_elastic(running: dict[str, Future[None]], name: str) -> None:
    running[name].result(timeout=2 * PATIENCE_S)
