"""The sbatch templates start the worker as their comments say. A stand-in for Python notes how it was called."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import SlurmCluster, why_not

pytestmark = pytest.mark.slurm

TEMPLATES = Path(__file__).resolve().parents[2] / "jobs" / "sbatch"
SMALL = ("--cpus-per-task=1", "--mem=50", "--output=%A_%a.log")


@pytest.fixture(scope="module")
def slurm_session() -> Iterator[SlurmCluster]:
    """A cluster of its own: a node that lost its power in another test may give no devices."""
    if reason := why_not():
        pytest.skip(reason)
    with SlurmCluster.start() as cluster:
        yield cluster


@pytest.fixture
def work(slurm: SlurmCluster, tmp_path: Path) -> Path:
    """A folder with `python`, which writes its arguments and its devices, then waits for SIGUSR1 if told to."""
    stand_in = tmp_path / "python"
    stand_in.write_text(
        f"""#!{sys.executable} -S
import os, signal, sys, time

def note(line):
    with open(os.environ["CALLS"], "a") as calls:
        calls.write(line + "\\n")

def warned(*_):
    note("warned")
    sys.exit(0)

signal.signal(signal.SIGUSR1, warned)
note(" ".join([*sys.argv[1:], "gpus=" + os.environ.get("CUDA_VISIBLE_DEVICES", ""), "cpus=" + os.environ.get("SLURM_CPUS_PER_TASK", "")]))
time.sleep(60 if os.environ.get("LINGER") else 0)
sys.exit(int(os.environ.get("STATUS", "0")))
"""
    )
    stand_in.chmod(0o755)
    return tmp_path


def submit(slurm: SlurmCluster, work: Path, template: str, *options: str, **more: str) -> str:
    variables = {"RUN": "/some/run", "CCPIPE_PYTHON": f"{work}/python", "CALLS": f"{work}/calls"} | more
    return slurm.sbatch(*SMALL, *options, TEMPLATES / template, env=variables, cwd=work)


def calls(work: Path) -> list[str]:
    return sorted((work / "calls").read_text().splitlines())


def test_cpu_array_numbers_its_elements(slurm: SlurmCluster, work: Path) -> None:
    slurm.wait_job(submit(slurm, work, "cpu_array.sbatch", "--array=0-2", STAGE="dedup.match"))
    assert calls(work) == [f"-m hpc work --run /some/run --stage dedup.match --task {i} --tasks 3 gpus= cpus=1" for i in range(3)]


def test_array_of_lost_elements_keeps_their_numbers(slurm: SlurmCluster, work: Path) -> None:
    """`--array=3,7` runs tasks 3 and 7 of 8."""
    slurm.wait_job(submit(slurm, work, "cpu_array.sbatch", "--array=3,7", STAGE="extract"))
    assert calls(work) == [f"-m hpc work --run /some/run --stage extract --task {i} --tasks 8 gpus= cpus=1" for i in (3, 7)]


def test_gpu_array_gets_devices(slurm: SlurmCluster, work: Path) -> None:
    slurm.wait_job(submit(slurm, work, "gpu_array.sbatch", "--array=0", "--gres=gpu:2", STAGE="classify.edu"))
    assert calls(work) == ["-m hpc work --run /some/run --stage classify.edu --task 0 --tasks 1 gpus=0,1 cpus=1"]


def test_the_warning_reaches_the_worker(slurm: SlurmCluster, work: Path) -> None:
    """SIGUSR1 to the batch process is the worker's own, since the template ends in exec."""
    job = submit(slurm, work, "cpu_array.sbatch", "--array=0", STAGE="extract", LINGER="1")
    slurm.wait_until((work / "calls").exists, 30, "the worker to start")
    slurm.run("scancel", "--batch", "--signal=USR1", f"{job}_0")
    assert slurm.wait_job(job) == {f"{job}_0": "COMPLETED"}
    assert "warned" in calls(work)


@pytest.mark.parametrize(("status", "state"), [("0", "COMPLETED"), ("1", "CANCELLED")])
def test_next_stage_waits_for_a_good_gate(slurm: SlurmCluster, work: Path, status: str, state: str) -> None:
    """The gate's exit code is the job's: 0 lets the next array run, anything else has it cancelled."""
    gate = submit(slurm, work, "gate.sbatch", STAGE="extract", STATUS=status)
    after = submit(slurm, work, "cpu_array.sbatch", "--array=0", f"--dependency=afterok:{gate}", STAGE="sig")
    assert slurm.wait_job(after) == {f"{after}_0": state}
    assert calls(work)[0].startswith("-m hpc gate --run /some/run --stage extract ")


def test_missing_run_is_named_in_the_log(slurm: SlurmCluster, work: Path) -> None:
    job = submit(slurm, work, "cpu_array.sbatch", "--array=0", RUN="", STAGE="extract")
    assert slurm.wait_job(job) == {f"{job}_0": "FAILED"}
    assert "the run directory is missing" in (work / f"{job}_0.log").read_text()
