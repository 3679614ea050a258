"""What a task uses is measured on real processes; `nvidia-smi` is a stand-in script, as there is no GPU where tests run."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from status_files import task_record

import hpc.workers.usage
from hpc.workers.gpus import GpuProbe, parse_gpus
from hpc.workers.usage import TaskRecord, UsageSampler, cpu_seconds, oom_kills, process_tree, rss_bytes, save_record

HOLD = "import sys, time; held = bytearray(int(sys.argv[1])); print('ready', flush=True); time.sleep(60)"
NEST = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[2], sys.argv[1]])"
THREAD_NEST = f"import threading; thread = threading.Thread(target=lambda: exec({NEST!r})); thread.start(); thread.join()"
BURN = "import time\nwhile time.process_time() < {seconds}: pass"

MB = 1 << 20


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes to be ended with all that they have started."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        for child in [*psutil.Process(process.pid).children(recursive=True), process] if process.poll() is None else []:
            child.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def start(started: list[subprocess.Popen[str]], *args: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", *args], stdout=subprocess.PIPE, text=True)
    started.append(process)
    return process


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None and process.stdout.readline() == "ready\n"


# --- memory and CPU ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outer", [NEST, THREAD_NEST], ids=["from the main thread", "from another thread"])
def test_memory_is_that_of_workers_and_of_what_they_have_started(started: list[subprocess.Popen[str]], outer: str) -> None:
    alone, nested = start(started, HOLD, str(50 * MB)), start(started, outer, str(80 * MB), HOLD)
    ready(alone), ready(nested)
    children = psutil.Process(nested.pid).children(recursive=True)
    tree = [alone.pid, nested.pid, *(child.pid for child in children)]
    assert sorted(process_tree([alone.pid, nested.pid])) == sorted(tree) and len(tree) == 3
    sampler = UsageSampler(gpus=[])
    held = sampler.sample([alone.pid, nested.pid])
    assert held == pytest.approx(sum(psutil.Process(pid).memory_info().rss for pid in tree), rel=0.05)
    assert held > 130 * MB and sampler.peak_rss_bytes == held


def test_without_lists_of_children_all_processes_are_looked_at(
    started: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nested = start(started, NEST, "1", HOLD)
    ready(nested)
    expected = sorted(process_tree([nested.pid]))
    monkeypatch.setattr(hpc.workers.usage, "_children", lambda pid: None)
    assert sorted(process_tree([nested.pid])) == expected and len(expected) == 2


def test_the_peak_stays_when_the_process_has_gone(started: list[subprocess.Popen[str]]) -> None:
    process = start(started, HOLD, str(40 * MB))
    ready(process)
    sampler = UsageSampler(gpus=[])
    sampler.sample([process.pid])
    process.kill()
    process.wait()
    assert sampler.sample([process.pid]) == 0 and sampler.peak_rss_bytes > 40 * MB


def test_cpu_seconds_of_the_living_and_of_the_ended_are_counted_once(started: list[subprocess.Popen[str]]) -> None:
    """The kernel's own sum over waited-for children is what is compared with."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    sampler = UsageSampler(gpus=[])
    first, second = (start(started, BURN.format(seconds=seconds)) for seconds in (0.3, 0.6))
    first.wait()
    sampler.sample([first.pid, second.pid])
    between = sampler.cpu_s
    second.wait()
    sampler.sample([])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert sampler.cpu_s == pytest.approx(used, abs=0.05) and used >= 0.9
    assert 0.3 <= between <= sampler.cpu_s + 0.05


def test_work_in_this_very_process_counts_from_the_start_of_the_sampler() -> None:
    sampler = UsageSampler(gpus=[])
    began = time.process_time()
    while time.process_time() - began < 0.2:
        pass
    held, me = sampler.sample([os.getpid()]), psutil.Process()
    alone = me.memory_info().rss  # of other tests of this process, children may still run
    assert sampler.cpu_s >= 0.2 and 0.9 * alone <= held <= 1.1 * (alone + sum(map(_rss, me.children(recursive=True))))


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def test_processes_that_are_not_there_hold_and_use_nothing() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert (rss_bytes(ended.pid), cpu_seconds(ended.pid), process_tree([ended.pid])) == (0, 0.0, [])


# --- records ----------------------------------------------------------------------------------------------------------


def test_a_record_has_the_fields_that_status_reads(tmp_path: Path) -> None:
    record = TaskRecord(**task_record(ended=False, exit=None))
    assert save_record(tmp_path / "tasks" / "t.json", record)
    assert json.loads((tmp_path / "tasks" / "t.json").read_text()) == task_record(ended=False, exit=None)
    sampler = UsageSampler(gpus=[])
    sampler.sample([os.getpid()])
    record.update(sampler)
    record.ended, record.exit = True, 0
    assert save_record(tmp_path / "tasks" / "t.json", record)
    again = json.loads((tmp_path / "tasks" / "t.json").read_text())
    assert again["ended"] and again["peak_rss_bytes"] > 10 * MB and again["gpu_busy"] is None
    assert [path.name for path in (tmp_path / "tasks").iterdir()] == ["t.json"]


def test_a_record_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "tasks").write_text("a file where the folder should be")
    assert not save_record(tmp_path / "tasks" / "t.json", TaskRecord(**task_record()))
    assert "the task goes on without its record" in caplog.text


# --- GPUs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A script called nvidia-smi on PATH that notes its arguments and runs what is put into `body`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "nvidia-smi"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n. {tmp_path}/body\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    yield tmp_path


def wait_for_answer(probe: GpuProbe) -> None:
    deadline = time.monotonic() + 20
    probe.tick()
    while probe._asked is not None and time.monotonic() < deadline:
        time.sleep(0.02)
        probe.tick()


def test_gpus_of_the_task_are_asked_for_and_averaged(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-7f3a")
    (stand_in / "body").write_text("echo '80, 1000'; echo '40, 3000'")
    sampler = UsageSampler()
    wait_for_answer(sampler.gpu)
    assert sampler.gpu_busy == 0.6 and sampler.gpu.memory_bytes == 4000 * MB
    sampler.sample([])
    assert (stand_in / "asked").read_text() == "--query-gpu=utilization.gpu,memory.used --format=csv,noheader,nounits -i 1,GPU-7f3a\n"


def test_they_are_asked_no_more_often_than_said(stand_in: Path) -> None:
    (stand_in / "body").write_text("echo '50, 1'")
    probe = GpuProbe(["0"], every_s=3600)
    for _ in range(3):
        wait_for_answer(probe)
    assert probe.busy == 0.5 and len((stand_in / "asked").read_text().splitlines()) == 1
    often = GpuProbe(["0"], every_s=0.0)
    for _ in range(3):
        wait_for_answer(often)
    assert len((stand_in / "asked").read_text().splitlines()) >= 3


def test_an_nvidia_smi_that_hangs_is_never_waited_for(stand_in: Path, caplog: pytest.LogCaptureFixture) -> None:
    (stand_in / "body").write_text("exec sleep 60")
    probe, longest = GpuProbe(["0"], every_s=0.0, timeout_s=0.1), 0.0
    for _ in range(40):
        began = time.monotonic()
        probe.tick()
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.02)
        if probe._failures >= 3:
            break
    assert probe.busy is None and probe._failures == 3 and longest < 2
    assert "not asked again" in caplog.text
    probe.close()


@pytest.mark.parametrize("body", ["exit 9", "echo 'No devices were found'", "echo '[N/A], [N/A]'", "printf '\\377\\376'"])
def test_answers_that_tell_nothing_give_no_figure(stand_in: Path, body: str) -> None:
    (stand_in / "body").write_text(body)
    probe = GpuProbe(["0"], every_s=0.0)
    for _ in range(5):
        wait_for_answer(probe)
    assert probe.busy is None and len((stand_in / "asked").read_text().splitlines()) == 3


def test_without_gpus_or_without_nvidia_smi_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for visible in ("", "NoDevFiles", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        UsageSampler().sample([])
    assert not caplog.records
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    sampler = UsageSampler()
    sampler.sample([])
    sampler.sample([])
    assert sampler.gpu_busy is None and len(caplog.records) == 1


def test_devices_that_do_not_tell_are_left_out() -> None:
    assert parse_gpus("100, 2\n[N/A], 3\n\n250, x\n") == ([1.0, 1.0], 5 * MB)


# --- memory limits ----------------------------------------------------------------------------------------------------


def fake_proc(root: Path, cgroup: str, *mounts: str) -> Path:
    (root / "self").mkdir(parents=True)
    (root / "self" / "cgroup").write_text(cgroup)
    (root / "self" / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + "".join(f"{line}\n" for line in mounts))
    return root


def test_oom_kills_of_version_2_are_found_up_to_the_job_and_no_further(tmp_path: Path) -> None:
    """Files as the kernel lays them out, in a folder of the test's own."""
    groups = tmp_path / "cg roup"
    proc = fake_proc(
        tmp_path / "proc",
        "0::/system.slice/slurmstepd.scope/job_7/step_batch/user/task_0\n",
        f"30 22 0:26 / {str(groups).replace(' ', chr(92) + '040')} rw,nosuid shared:9 - cgroup2 cgroup2 rw",
    )
    job = groups / "system.slice" / "slurmstepd.scope" / "job_7"
    (job / "step_batch" / "user" / "task_0").mkdir(parents=True)
    (job.parent / "memory.events").write_text("oom 9\noom_kill 9\n")
    assert oom_kills(proc) is None
    (job / "memory.events").write_text("low 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert oom_kills(proc) == 2
    (job / "step_batch" / "user" / "task_0" / "memory.events").write_text("oom_kill 1\n")
    assert oom_kills(proc) == 1


def test_oom_kills_of_version_1_and_of_a_container(tmp_path: Path) -> None:
    proc = fake_proc(
        tmp_path / "proc",
        "5:cpu,cpuacct:/elsewhere\n4:memory:/slurm/uid_0/job_7/step_batch/task_0\n0::/\n",
        f"41 22 0:38 / {tmp_path}/unified rw - cgroup2 cgroup2 rw",
        f"35 22 0:32 /slurm/uid_0 {tmp_path}/memory rw - cgroup cgroup rw,memory",
    )
    folder = tmp_path / "memory" / "job_7" / "step_batch" / "task_0"
    folder.mkdir(parents=True)
    (folder / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
    assert oom_kills(proc) == 4


def test_where_the_kernel_does_not_tell_the_number_is_not_known(tmp_path: Path) -> None:
    assert oom_kills(tmp_path / "no proc") is None
    assert oom_kills(fake_proc(tmp_path / "proc", "0::/\n")) is None
    here = oom_kills()
    assert here is None or here >= 0


ASK = """
import subprocess, sys
from hpc.workers.usage import oom_kills
before = oom_kills()
child = subprocess.run([sys.executable, "-c", "bytearray(400 << 20)"])
print("asked", before, child.returncode, oom_kills(), flush=True)
"""


@pytest.mark.slurm
def test_a_child_killed_by_the_kernel_for_its_memory_is_counted_in_a_real_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "slurm"))
    cluster = pytest.importorskip("cluster")
    if (reason := cluster.why_not()) is not None or not cluster.has_memory_cgroups():
        pytest.skip(reason or "needs writable memory cgroups (version 1)")
    (tmp_path / "ask.py").write_text(ASK)
    with cluster.SlurmCluster.start(n_nodes=1, gpus_per_node=0, memory_cgroups=True) as slurm:
        here = Path(__file__).parents[3]
        job = slurm.sbatch("--mem=100", f"--output={tmp_path}/out", f"--wrap=cd {here} && {sys.executable} {tmp_path}/ask.py")
        slurm.wait_job(job)
    assert "asked 0 -9 1" in (tmp_path / "out").read_text()
