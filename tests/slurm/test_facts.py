"""What docs/slurm-facts.md says of Slurm, tried on a real one. The launchers and the worker are built on these."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster import SlurmCluster

pytestmark = pytest.mark.slurm

ON_SIGNAL = """#!/bin/bash
# notes each signal and, on the first USR1 or TERM, does what ACTION says; the shell itself is the batch process
trap 'echo USR1; act' USR1
trap 'echo TERM; act' TERM
act() { eval "$ACTION"; }
echo "start restart=${SLURM_RESTART_COUNT:-0}"
[ -z "${SLURM_RESTART_COUNT:-}" ] || exit 0
for i in $(seq 600); do sleep 0.1; done
"""
REQUEUE = "scontrol requeue $SLURM_JOB_ID && echo requeued; exit 0"


@pytest.fixture
def script(slurm: SlurmCluster, tmp_path: Path) -> Path:
    path = tmp_path / "on_signal.sh"
    path.write_text(ON_SIGNAL)
    return path


def submit(slurm: SlurmCluster, script: Path, action: str, *options: str) -> tuple[str, Path]:
    log = script.parent / "log"
    own = ("--requeue", "--open-mode=append", "--signal=B:USR1@60", "--time=30", "--nodelist=n1", f"--output={log}")
    job = slurm.sbatch(*own, *options, script, env={"ACTION": action})
    slurm.wait_until(lambda: log.exists() and "start" in log.read_text(), 30, "the script to start")
    return job, log


def test_leaving_in_the_grace_time_loses_the_element(slurm: SlurmCluster, script: Path) -> None:
    """Exit 0 after the warning and before the kill: COMPLETED, not requeued."""
    job, log = submit(slurm, script, "exit 0")
    slurm.preempt("n1", seconds=0)
    assert slurm.wait_job(job) == {job: "COMPLETED"}
    assert log.read_text().split() == ["start", "restart=0", "USR1"]


@pytest.mark.parametrize("partition", ["main", "scrap"])
def test_own_requeue_in_the_grace_time_saves_the_element(slurm: SlurmCluster, script: Path, partition: str) -> None:
    """`scontrol requeue` of oneself: back in the queue, whatever the exit code, even where preemption means cancellation."""
    job, log = submit(slurm, script, REQUEUE, f"--partition={partition}")
    slurm.preempt("n1", seconds=0)
    assert slurm.wait_job(job) == {job: "COMPLETED"}
    assert "start restart=1" in log.read_text()


def test_sigterm_comes_when_slurm_has_decided(slurm: SlurmCluster, script: Path) -> None:
    """Requeued from outside, the batch process gets SIGTERM; it comes back although it exits 0."""
    job, log = submit(slurm, script, "exit 0")
    slurm.requeue(job)
    slurm.wait_job(job)
    said = [line for line in log.read_text().splitlines() if line.startswith(("start", "TERM", "USR1"))]
    assert said == ["start restart=0", "TERM", "start restart=1"]


def test_requeueing_oneself_after_scancel_undoes_the_scancel(slurm: SlurmCluster, script: Path) -> None:
    """So SIGTERM must never be answered by a requeue."""
    job, log = submit(slurm, script, REQUEUE)
    slurm.run("scancel", job)
    slurm.wait_until(lambda: "start restart=1" in log.read_text(), 60, "the cancelled job to rise again")


def test_afterany_waits_for_requeued_elements(slurm: SlurmCluster, tmp_path: Path) -> None:
    array = slurm.sbatch("--requeue", "--array=0-1", "--output=/dev/null", "--wrap=sleep 2")
    gate = slurm.sbatch(f"--dependency=afterany:{array}", "--output=/dev/null", "--wrap=squeue -t all -h -r -o %T -j " + array)
    slurm.wait_running(f"{array}_1")
    slurm.requeue(f"{array}_1")
    slurm.wait_until(lambda: slurm.all_states(array)[f"{array}_0"] == "COMPLETED", 30, "element 0 to end")
    assert slurm.all_states(gate) == {gate: "PENDING"}
    slurm.wait_job(gate)
    assert set(slurm.all_states(array).values()) == {"COMPLETED"}


def test_afterok_on_a_forgotten_job_counts_as_satisfied(slurm: SlurmCluster) -> None:
    """So the next stage is submitted while its gate is queued, never on the number of a gate of yesterday."""
    job = slurm.sbatch("--dependency=afterok:999999", "--output=/dev/null", "--wrap=true")
    assert slurm.wait_job(job) == {job: "COMPLETED"}


def test_array_beyond_the_limit_is_refused(slurm: SlurmCluster) -> None:
    """MaxArraySize is one more than the highest number, not a count."""
    slurm.run("scancel", slurm.sbatch("--array=0-199", "--output=/dev/null", "--wrap=true"))
    with pytest.raises(RuntimeError, match="Invalid job array specification"):
        slurm.sbatch("--array=200", "--wrap=true")
