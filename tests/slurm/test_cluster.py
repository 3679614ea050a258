"""The test cluster does what the tests of the launchers rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import submitit
from cluster import FOLDER_PREFIX, OWNER_FILE, SlurmCluster, expand_elements, has_memory_cgroups, sweep_leftovers, why_not
from processes import MARK

pytestmark = pytest.mark.slurm


def submit_sleep(slurm: SlurmCluster, *arguments: str, seconds: int = 60) -> str:
    return slurm.sbatch("--requeue", "--output=/dev/null", *arguments, f"--wrap=exec sleep {seconds}")


def test_submitit_array_of_ten(slurm: SlurmCluster) -> None:
    """submitit submits an array, every element runs once, accounting knows each."""
    executor = submitit.SlurmExecutor(folder=slurm.root / "work" / "submitit")
    executor.update_parameters(time=5, use_srun=False)
    jobs = executor.map_array(os.getenv, ["SLURM_ARRAY_TASK_ID"] * 10)
    array = jobs[0].job_id.split("_")[0]
    assert slurm.wait_accounted(array) == {f"{array}_{i}": "COMPLETED" for i in range(10)}
    assert [job.result() for job in jobs] == [str(i) for i in range(10)]


def test_gpu_jobs_see_their_own_devices(slurm: SlurmCluster) -> None:
    """Jobs on one node get different CUDA_VISIBLE_DEVICES; without --gres there is none."""
    work = slurm.root / "work"
    line = "--wrap=echo ${CUDA_VISIBLE_DEVICES:-none}; sleep 2"
    two = slurm.sbatch("--array=0-1", "--nodelist=n1", "--gres=gpu:1", f"--output={work}/gpu.%a", line)
    none = slurm.sbatch(f"--output={work}/nogpu", line)
    slurm.wait_job(two)
    slurm.wait_job(none)
    assert {(work / f"gpu.{i}").read_text().strip() for i in range(2)} == {"0", "1"}
    assert (work / "nogpu").read_text().strip() == "none"


def test_requeued_element_runs_again_alone(slurm: SlurmCluster) -> None:
    """`scontrol requeue` of one element starts that element again and no other."""
    out = slurm.root / "work" / "requeued"
    job = slurm.sbatch("--requeue", "--array=0-1", "--open-mode=append", f"--output={out}.%a", "--wrap=echo start; sleep 2")
    slurm.wait_running(f"{job}_1")
    slurm.requeue(f"{job}_1")
    slurm.wait_job(job)
    assert [Path(f"{out}.{i}").read_text().count("start\n") for i in range(2)] == [1, 2]


@pytest.mark.slow
def test_jobs_can_end_as_out_of_memory_and_as_timeout(slurm: SlurmCluster) -> None:
    """Without cgroups and without waiting for a whole minute, accounting gets the two states that a retry looks at."""
    job = submit_sleep(slurm, "--array=0-1", "--time=60")
    for i in range(2):
        slurm.wait_running(f"{job}_{i}")
    slurm.end_out_of_memory(f"{job}_0")
    slurm.end_time_limit(f"{job}_1")
    assert slurm.wait_accounted(job) == {f"{job}_0": "OUT_OF_MEMORY", f"{job}_1": "TIMEOUT"}


def test_memory_beyond_the_request_is_killed(slurm: SlurmCluster) -> None:
    """The memory limit is real: sampling ends the job, and the log says why."""
    out = slurm.root / "work" / "hog"
    hog = f"--wrap=exec {sys.executable} -c 'import time; b = bytearray(300 << 20); time.sleep(60)'"
    job = slurm.sbatch("--mem=100", f"--output={out}", hog)
    assert slurm.wait_job(job) == {job: "FAILED"}
    assert "exceeded memory limit" in out.read_text()


@pytest.mark.skipif(why_not() is not None or not has_memory_cgroups(), reason="needs Slurm and writable memory cgroups (version 1)")
def test_kernel_kills_one_process_and_the_job_is_out_of_memory(tmp_path: Path) -> None:
    """With cgroups the batch process survives its child, exits 0, and Slurm still calls the job OUT_OF_MEMORY."""
    out = tmp_path / "out"
    with SlurmCluster.start(n_nodes=1, gpus_per_node=0, memory_cgroups=True) as slurm:
        job = slurm.sbatch("--mem=100", f"--output={out}", f"--wrap={sys.executable} -c 'bytearray(400 << 20)'; echo child $?; exit 0")
        assert slurm.wait_accounted(job) == {job: "OUT_OF_MEMORY"}
        assert "child 137" in out.read_text()


def test_controller_restart_keeps_jobs(slurm: SlurmCluster) -> None:
    job = submit_sleep(slurm, seconds=4)
    slurm.wait_running(job)
    slurm.restart_controller()
    assert slurm.wait_job(job) == {job: "COMPLETED"}


def test_leftovers_of_a_dead_run_are_swept_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder whose owner is dead is deleted and its marked processes are killed; a living owner's stay."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    sleepers = {}
    for name, started in (("dead", "0"), ("alive", None)):
        folder = tmp_path / f"{FOLDER_PREFIX}{name}"
        folder.mkdir()
        started = started or Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
        (folder / OWNER_FILE).write_text(json.dumps({"pid": os.getpid(), "started": started}))
        sleepers[name] = subprocess.Popen(["sleep", "60"], env={MARK: f"{folder}/n1", "PATH": os.environ["PATH"]})
    try:
        sweep_leftovers()
        assert sleepers["dead"].wait(5) == -9
        assert sleepers["alive"].poll() is None
        assert [path.name for path in tmp_path.iterdir()] == [f"{FOLDER_PREFIX}alive"]
    finally:
        sleepers["alive"].kill()
        sleepers["alive"].wait()


def test_expand_elements() -> None:
    assert expand_elements("7") == ["7"]
    assert expand_elements("7_3") == ["7_3"]
    assert expand_elements("7_[2-4,9%2]") == ["7_2", "7_3", "7_4", "7_9"]
