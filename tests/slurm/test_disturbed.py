"""Runs disturbed on a real Slurm: preempted, warned, cancelled, killed, failing. Each ends with the bytes of an undisturbed run.

A scenario is a function that starts a run, disturbs it while its slices wait in the middle, lets them go and sees it to
its end. Most of that is waiting for Slurm, so all chosen scenarios run side by side in threads, and the test of each one
waits for its own. Node n1 is there to be preempted, now and then for two of them, and n4 to die; everybody else stays on n2 and n3.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster import SlurmCluster
from pipeline import Demo, NewRun, Pipeline, Sent

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

Scenario = Callable[[NewRun], None]
SCENARIOS: dict[str, Scenario] = {}
COMPLETED, FAILED, CANCELLED = {"COMPLETED"}, {"FAILED"}, {"CANCELLED"}

CONTROLLER_SAVES_S = 8.0
"""slurmctld writes what it knows to disk every five seconds; what it was told since is lost when it is killed."""

SAFE = 'extra = { exclude = "n[1,4]" }'
ONLY = 'extra = {{ nodelist = "{}" }}'

EXTRACT_SLOWLY = """
[stage.extract]
use = "my_stages:SlowExtract"
slice_bytes = 8192
journal = "{}"
hold = "{}"
hold_after = 4
"""


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, cluster: SlurmCluster, demo: Demo, extracted: Pipeline, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """The scenarios whose tests were chosen, all under way."""
    chosen = [name for name in SCENARIOS if any(f"[{name}]" in item.name for item in request.session.items)]
    with ThreadPoolExecutor(len(SCENARIOS)) as pool:
        yield {name: pool.submit(SCENARIOS[name], NewRun(demo, extracted, tmp_path_factory.mktemp(name))) for name in chosen}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


def start(pipeline: Pipeline, stage: str = "slow", hold_after: int = 4) -> Sent:
    """Submit a stage, one task of two processes, and wait until each of them waits in a slice."""
    pipeline.hold.touch()
    sent = pipeline.submit("--stage", stage)[stage]
    pipeline.wait_slices(hold_after + 2)
    return sent


def let_go(pipeline: Pipeline, stage: str = "slow", told: str = "") -> None:
    """Let slices go on, once the task has said that it is leaving."""
    if told:
        pipeline.wait_log(stage, f"{told}: 2 workers commit their current slice and leave")
    pipeline.hold.unlink()


def check(new_run: NewRun, pipeline: Pipeline, redone: int = 0) -> None:
    """Slow's files are those of the undisturbed run; slices begun twice are at most the ones in hand at a kill."""
    assert pipeline.digests("slow") == new_run.extracted.digests("slow")
    assert len(pipeline.begun()) - len(set(pipeline.begun())) <= redone


def restarts(pipeline: Pipeline) -> set[str]:
    """Restart counts of the tasks that worked on slices."""
    return {line["restart"] for line in pipeline.noted()}


@scenario
def a_dead_node(new_run: NewRun) -> None:
    """Slurm finds the node dead and requeues its task, which goes on once the node is back; the gate waits for it."""
    pipeline = new_run(hold_after=4, site=ONLY.format("n4"))
    sent = start(pipeline)
    cluster = pipeline.slurm
    cluster.kill_node("n4")
    let_go(pipeline)
    cluster.wait_until(lambda: "down" in cluster.node_state("n4"), 60, "n4 to be found dead")
    cluster.start_node("n4")
    assert pipeline.ends(sent.gate) == COMPLETED
    assert restarts(pipeline) == {"0", "1"}
    check(new_run, pipeline, redone=2)


@scenario
def preempted_in_the_middle_of_extract(new_run: NewRun) -> None:
    """An urgent job takes the node: the task commits its slices, comes back and goes on behind them, inside a WARC."""
    pipeline = Pipeline(new_run.extracted.slurm, new_run.folder / "here")
    slowly = EXTRACT_SLOWLY.format(pipeline.journal, pipeline.hold)
    pipeline.configure(new_run.demo.slow_toml().replace("[stage.extract]", slowly), ONLY.format("n1"))
    sent = start(pipeline, "extract")
    pipeline.slurm.preempt("n1", seconds=0)
    let_go(pipeline, "extract", told="SIGUSR1")
    assert pipeline.ends(sent.gate) == COMPLETED
    assert restarts(pipeline) >= {"0", "1"}
    assert pipeline.begun() == sorted(set(pipeline.begun()))
    attempts = [{part["attempt"] for part in sentinel["slices"]} for sentinel in pipeline.sentinels("extract").values()]
    assert any(len(ids) > 1 for ids in attempts), "units begun before the preemption and ended after it"
    # paths name the class that wrote them, which is another one here
    assert set(pipeline.digests("extract").values()) == set(new_run.extracted.digests("extract").values())


@scenario
def a_failing_unit(new_run: NewRun) -> None:
    """The gate names the unit, the cause and the file; what depends on it is cancelled; mended, `retry` completes all."""
    broken = new_run.folder / "broken"
    broken.touch()
    pipeline = new_run(more="[resources.slow]\ncpus = 2\nmem_gb = 0.4\nretry_backoff_s = 0.1\n", broken=str(broken), site=SAFE)
    sent = pipeline.submit()
    assert pipeline.ends(sent["slow"].gate) == FAILED
    assert (pipeline.ends(sent["after"].arrays[0]), pipeline.ends(sent["after"].gate)) == (CANCELLED, FAILED)
    said = pipeline.gate_log("slow", sent["slow"])
    assert "1 of 4 units are missing" in said
    # three are allowed; the other worker may begin a fourth while its board, up to a second old, shows fewer failures
    assert re.search(r"00001: parked after [34] attempts.*ValueError: shard 1 cannot be counted \(/.*/failed/00001@.*\.json\)", said)
    assert sorted(pipeline.sentinels("slow")) == ["00000", "00002", "00003"]
    assert not pipeline.sentinels("after")
    broken.unlink()
    again = pipeline.submit(verb="retry")
    assert (again["slow"].units, again["after"].units) == (1, 4)
    assert pipeline.ends(again["after"].gate) == COMPLETED
    assert pipeline.digests() == new_run.extracted.digests()


@scenario
def warned(new_run: NewRun) -> None:
    """SIGUSR1 some minutes before the time limit: the slice in hand is committed, the task comes back once and goes on."""
    pipeline = new_run(hold_after=4, site=SAFE)
    sent = start(pipeline)
    pipeline.slurm.run("scancel", "--batch", "--signal=USR1", sent.arrays[0])
    let_go(pipeline, told="SIGUSR1")
    assert pipeline.ends(sent.gate) == COMPLETED
    assert restarts(pipeline) == {"0", "1"}
    check(new_run, pipeline)


@scenario
def warned_while_it_loads(new_run: NewRun) -> None:
    """A task whose script still runs its setup lines survives the warning."""
    setup = 'setup = ["touch loading", "while [ -e hold ]; do sleep 0.1; done"]'
    pipeline = new_run(site=f"{SAFE}\n{setup}")
    pipeline.hold.touch()
    sent = pipeline.submit("--stage", "slow")["slow"]
    pipeline.slurm.wait_until((pipeline.folder / "loading").exists, 60, "the setup lines to run")
    pipeline.slurm.run("scancel", "--batch", "--signal=USR1", sent.arrays[0])
    let_go(pipeline)
    assert pipeline.ends(sent.arrays[0]) == COMPLETED
    check(new_run, pipeline)


@scenario
def cancelled(new_run: NewRun) -> None:
    """SIGTERM by scancel: committed and gone, not requeued; submitted again, only what is missing is done."""
    pipeline = new_run(hold_after=16, site=f"{SAFE}\nrounds = 0")
    sent = start(pipeline, hold_after=16)
    pipeline.slurm.run("scancel", sent.arrays[0])
    let_go(pipeline, told="SIGTERM")
    assert (pipeline.ends(sent.arrays[0]), pipeline.ends(sent.gate)) == (CANCELLED, FAILED)
    left = 4 - len(pipeline.sentinels("slow"))
    assert f"{left} of 4 units are missing" in pipeline.gate_log("slow", sent)
    again = pipeline.submit("--stage", "slow")["slow"]
    assert again.units == left < 4
    assert pipeline.ends(again.gate) == COMPLETED
    assert restarts(pipeline) == {"0"}
    check(new_run, pipeline)


@scenario
def a_killed_worker_process(new_run: NewRun) -> None:
    """SIGKILL of one process, as by the kernel short of memory: recorded, started again, and the task ends well."""
    pipeline = new_run(hold_after=4, site=SAFE)
    sent = start(pipeline)
    os.kill(pipeline.noted()[-1]["pid"], signal.SIGKILL)
    pipeline.wait_log("slow", "killed by SIGKILL while working on 0000")
    let_go(pipeline)
    assert (pipeline.ends(sent.arrays[0]), pipeline.ends(sent.gate)) == (COMPLETED, COMPLETED)
    (failure,) = [path.read_text() for path in (pipeline.state("slow") / "failed").iterdir()]
    assert "worker killed by SIGKILL" in failure
    check(new_run, pipeline, redone=1)


@scenario
def a_killed_task(new_run: NewRun) -> None:
    """SIGKILL of the batch process: its workers go too, the gate says what is missing, `retry` goes on behind the slices."""
    pipeline = new_run(hold_after=4, site=f"{SAFE}\nrounds = 0")
    sent = start(pipeline)
    worker = pipeline.noted()[-1]["pid"]
    task = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(task, signal.SIGKILL)
    let_go(pipeline)
    assert (pipeline.ends(sent.arrays[0]), pipeline.ends(sent.gate)) == (FAILED, FAILED)
    assert re.search(r"4 of 4 units are missing:(.*\n)*.*slices are kept", pipeline.gate_log("slow", sent))
    again = pipeline.submit("--stage", "slow", verb="retry")["slow"]
    assert pipeline.ends(again.gate) == COMPLETED
    check(new_run, pipeline, redone=2)


@scenario
def launched_twice(new_run: NewRun) -> None:
    """Submitted twice at once, an element requeued in between: it keeps to its own list, and every slice is done once."""
    pipeline = new_run(hold_after=4, site=SAFE)
    first = start(pipeline)
    second = pipeline.submit("--stage", "slow")["slow"]
    pipeline.wait_slices(4 + 2 + 2)
    pipeline.slurm.requeue(first.arrays[0])
    let_go(pipeline, told="SIGTERM")
    for job in (*first.arrays, *second.arrays, first.gate, second.gate):
        assert pipeline.ends(job) == COMPLETED
    logs = [(pipeline.state("slow") / "logs" / f"{sent.arrays[0]}_0.log").read_text() for sent in (first, second)]
    launches = [re.findall(r"launch (\S+)", log) for log in logs]
    assert launches[0] == [launches[0][0]] * 2, "the same launch before the requeue and after"
    assert set(launches[0]).isdisjoint(launches[1])
    check(new_run, pipeline)


@scenario
def preempted_where_preemption_is_the_end(new_run: NewRun) -> None:
    """Partition `scrap` cancels what it preempts: the task commits its slices in the grace time, requeues itself and goes on."""
    pipeline = new_run(hold_after=4, site=f'partition = "scrap"\n{ONLY.format("n1")}')
    sent = start(pipeline)
    pipeline.slurm.preempt("n1", seconds=0)
    let_go(pipeline, told="SIGUSR1")
    assert pipeline.ends(sent.gate) == COMPLETED
    assert len(restarts(pipeline)) >= 2, "an element that a scenario beside this one preempts before it begins comes back once more"
    check(new_run, pipeline)


@scenario
def requeued(new_run: NewRun) -> None:
    """`scontrol requeue` of the element by somebody: SIGTERM, the slice in hand is committed, the element comes back."""
    pipeline = new_run(hold_after=4, site=SAFE)
    sent = start(pipeline)
    pipeline.slurm.requeue(f"{sent.arrays[0]}_0")
    let_go(pipeline, told="SIGTERM")
    assert pipeline.ends(sent.gate) == COMPLETED
    assert restarts(pipeline) == {"0", "1"}
    check(new_run, pipeline)


@pytest.mark.parametrize("name", SCENARIOS)
def test_disturbed(running: dict[str, Future[None]], name: str) -> None:
    running[name].result(timeout=400)


def test_a_killed_controller(new_run: NewRun, slurm: SlurmCluster) -> None:
    """kill -9 of slurmctld in the middle of a stage: the tasks work on, and when it is back the gate comes and the next stage too."""
    pipeline = new_run(hold_after=4)
    pipeline.hold.touch()
    sent = pipeline.submit()
    pipeline.wait_slices(6)
    time.sleep(CONTROLLER_SAVES_S)
    daemon = slurm.daemons.pop("slurmctld")
    daemon.kill()
    daemon.wait()
    pipeline.hold.unlink()
    pipeline.wait_slices(8)
    slurm._spawn("slurmctld", ["slurmctld", "-D"])
    slurm._wait_answer()
    assert pipeline.ends(sent["after"].gate) == COMPLETED
    assert restarts(pipeline) == {"0"}
    assert pipeline.digests() == new_run.extracted.digests()
    assert pipeline.begun() == sorted(set(pipeline.begun()))
