"""Gates on a real Slurm: what is missing is launched again and dependants follow; where that cannot be, what the gate says is enough."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from cluster import SlurmCluster
from pipeline import PATIENCE_S, Demo, NewRun, Pipeline
from scenarios import (
    CANCELLED,
    COMPLETED,
    FAILED,
    Scenarios,
    depends_on,
    done_twice,
    ends,
    failures,
    kill_task_of,
    launches,
    round_of,
    same,
    sent_by,
    start,
    type_what_it_says,
    wait_gate_says,
)

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SCENARIOS = Scenarios()

TWO_TASKS = "[resources.slow]\ncpus = 1\nmem_gb = 0.4\ntasks = 2\n"
ONE_TASK = "[resources.slow]\ncpus = 1\nmem_gb = 0.4\ntasks = 1\nretry_backoff_s = 0.1\n"
CHAIN = '[stage.chain]\nuse = "my_stages:Slow"\nwhere = "after_chars > 0"\n'


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, cluster: SlurmCluster, demo: Demo, extracted: Pipeline, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    yield from SCENARIOS.run(request, lambda name: NewRun(demo, extracted, tmp_path_factory.mktemp(name)))


@SCENARIOS.add
def both_tasks_lost(new_run: NewRun) -> None:
    """One task is cancelled, the other one's batch process is killed. The gate launches only what is missing, `after` and its gate
    wait for the new gate, and the chain completes with nobody typing anything. A gate that comes back sends nothing twice."""
    pipeline = new_run(more=CHAIN + TWO_TASKS, hold_after=16)
    sent = start(pipeline, slices=18)
    slow = sent["slow"]
    (array,) = slow.arrays
    in_hand = {line["element"]: line["pid"] for line in pipeline.noted()}
    assert set(in_hand) == {"0", "1"}
    pipeline.slurm.run("scancel", f"{array}_0")
    kill_task_of(pipeline, in_hand["1"])
    again = round_of(pipeline, "slow", slow.gate)
    committed = set(pipeline.sentinels("slow"))
    assert 0 < len(committed) < 4
    first, second = launches(pipeline, "slow")
    assert set(second["units"]) == set(first["units"]) - committed and again.units == len(second["units"])
    assert depends_on(pipeline, sent["after"].arrays[0]) == {again.gate}
    assert depends_on(pipeline, sent["chain"].arrays[0]) == {sent["after"].gate}
    assert f"job {sent['after'].arrays[0]} now waits for gate {again.gate}" in wait_gate_says(pipeline, "slow", slow.gate, "now waits")

    assert ends(pipeline, slow.gate) == FAILED
    pipeline.slurm.requeue(slow.gate)
    wait_gate_says(pipeline, "slow", slow.gate, "sent already")
    assert len(launches(pipeline, "slow")) == 2

    killed = [task for task in status(pipeline, "slow") if not task["ended"] and task["launch"] == first["id"]]
    assert {task["job"] for task in killed} == {f"{array}_0", f"{array}_1"}, "tasks that were killed never said that they had ended"

    pipeline.hold.unlink()
    for stage in ("after", "chain"):
        assert ends(pipeline, sent[stage].gate) == COMPLETED
    assert len(launches(pipeline, "slow")) == 2
    assert done_twice(pipeline) <= 2
    same(new_run, pipeline, "slow", "after")


def status(pipeline: Pipeline, stage: str) -> list[dict[str, object]]:
    """Records of the stage's tasks, and that `status --json` is readable meanwhile."""
    assert json.loads(pipeline.ok("status", "--json"))
    return [json.loads(path.read_text()) for path in (pipeline.state(stage) / "tasks").glob("*.json")]


def _told_what_to_type(new_run: NewRun, site: str, says: str) -> None:
    pipeline = new_run(more=ONE_TASK, site=site, hold_after=2)
    sent = start(pipeline, slices=3)
    kill_task_of(pipeline, pipeline.noted()[-1]["pid"])
    pipeline.hold.unlink()
    assert ends(pipeline, sent["slow"].gate) == FAILED
    assert (ends(pipeline, sent["after"].arrays[0]), ends(pipeline, sent["after"].gate)) == (CANCELLED, FAILED)
    assert [len(list((pipeline.state(stage) / "launches").glob("*/sent.json"))) for stage in ("slow", "after")] == [1, 1]
    said = wait_gate_says(pipeline, "slow", sent["slow"].gate, "type: ")
    assert says in said
    assert "4 units cannot run before what they read is complete (slow)" in wait_gate_says(pipeline, "after", sent["after"].gate, "type: ")
    again = sent_by(type_what_it_says(pipeline, said))
    assert list(again) == ["slow", "after"]
    assert ends(pipeline, again["after"].gate) == COMPLETED
    assert done_twice(pipeline) <= 1
    same(new_run, pipeline)


@SCENARIOS.add
def no_rounds(new_run: NewRun) -> None:
    """`rounds = 0`: the gate says what to type, dependants are cancelled, and typing it completes the flow."""
    _told_what_to_type(new_run, "rounds = 0", "0 rounds have not completed it (rounds = 0)")


@SCENARIOS.add
def compute_nodes_may_not_submit(new_run: NewRun) -> None:
    """`submit_from_compute = false`: the same."""
    _told_what_to_type(new_run, 'name = "strict"\nsubmit_from_compute = false', "site 'strict' does not let compute nodes submit")


@SCENARIOS.add
def compute_nodes_cannot_submit(new_run: NewRun) -> None:
    """The profile allows it, but there is no sbatch on the nodes: the same, and no traceback."""
    _told_what_to_type(new_run, "setup = ['export PATH=/nowhere']", "submit_from_compute = false")


@SCENARIOS.add
def a_parked_unit(new_run: NewRun) -> None:
    """After N failures it is parked with its reason, and the rest completes; a round does not try it, `retry` does."""
    broken = new_run.folder / "broken"
    broken.touch()
    pipeline = new_run(more=f"{ONE_TASK}max_failures = 2\n", broken=str(broken), hold_after=8)
    sent = start(pipeline, "--stage", "slow", slices=9)["slow"]
    pipeline.slurm.wait_until(lambda: len(failures(pipeline, "slow")) <= 2, 1, "failures to be few")
    kill_task_of(pipeline, pipeline.noted()[-1]["pid"])
    again = round_of(pipeline, "slow", sent.gate)
    tried = [line["begin"] for line in pipeline.noted() if line["unit"] == 1]
    pipeline.hold.unlink()
    assert ends(pipeline, again.gate) == FAILED
    assert sorted(pipeline.sentinels("slow")) == ["00000", "00002", "00003"]
    assert [line["begin"] for line in pipeline.noted() if line["unit"] == 1] in (tried, tried * 2)
    assert {failure["kind"] for failure in failures(pipeline, "slow")} == {"error"} and len(failures(pipeline, "slow")) == 2
    said = wait_gate_says(pipeline, "slow", again.gate, "type: ")
    assert "00001: parked after 2 attempts" in said and "ValueError: shard 1 cannot be counted" in said
    assert "every missing unit is parked" in said
    broken.unlink()
    retried = sent_by(type_what_it_says(pipeline, said))["slow"]
    assert retried.units == 1
    assert ends(pipeline, retried.gate) == COMPLETED
    same(new_run, pipeline, "slow")


@pytest.mark.parametrize("name", SCENARIOS)
def test_rounds(running: dict[str, Future[None]], name: str) -> None:
    running[name].result(timeout=2 * PATIENCE_S)
