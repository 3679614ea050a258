"""What a task uses: memory, CPU and GPUs of its worker processes, sampled while it runs, and its record `tasks/<id>.json`.

Read from /proc and, where GPUs were given, from `nvidia-smi`, which is never waited for.
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hpc.workers.gpus import GpuProbe

log = logging.getLogger("hpc.workers.usage")

PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class TaskRecord:
    """One execution of a task. `began`: seconds since 1970 by this host's clock; times in seconds; `mem_gb`: of the whole task.

    `peak_rss_bytes`: sum over workers and their children, sampled. `gpu_busy`: mean over samples and devices, 0..1, None: not known.
    `ended`: False until the task has come to an end by itself or on a signal; a task killed outright never says so.
    """

    id: str
    host: str
    pid: int
    job: str
    restart: int
    launch: str
    task: int
    tasks: int
    procs: int
    cpus: int
    gpus: int
    mem_gb: float | None
    time_min: int | None
    log: str
    began: float
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0
    gpu_busy: float | None = None
    ended: bool = False
    exit: int | None = None
    signal: str | None = None

    def update(self, sampler: UsageSampler) -> None:
        """Take over what has been used so far."""
        self.wall_s, self.cpu_s = round(sampler.wall_s, 3), round(sampler.cpu_s, 3)
        self.peak_rss_bytes, self.gpu_busy = sampler.peak_rss_bytes, sampler.gpu_busy


def save_record(path: Path, record: TaskRecord) -> bool:
    """Replace the record in one step. Not fsynced, and trouble is only logged: no work may fail for want of a record."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_text(json.dumps(asdict(record), sort_keys=True, indent=1) + "\n", encoding="utf-8")
            os.rename(beside, path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        log.warning("cannot write %s: %s; the task goes on without its record", path, error)
        return False
    return True


class UsageSampler:
    """Call `sample(pids)` now and then, with the worker processes that run; all must be children of this process, or itself.

    CPU seconds of processes that have ended are known to the kernel as those of our waited-for children, so none are lost
    between two samples, and none are counted twice: sample from the thread that waits for the workers.
    """

    def __init__(self, gpus: Sequence[str] | None = None) -> None:
        """`gpus`: devices to ask for; default: those of CUDA_VISIBLE_DEVICES. No devices, no questions."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpus is None else gpus
        self.gpu = GpuProbe([gpu.strip() for gpu in visible if gpu.strip() not in ("", "NoDevFiles", "-1")])
        self._began = time.monotonic()
        self._own_before = time.process_time()
        self._children_before = _children_cpu_s()
        self.cpu_s = 0.0
        self.peak_rss_bytes = 0

    @property
    def wall_s(self) -> float:
        """Seconds since construction."""
        return time.monotonic() - self._began

    @property
    def gpu_busy(self) -> float | None:
        return self.gpu.busy

    def sample(self, pids: Iterable[int]) -> int:
        """Look once; returns the bytes that the processes hold now. Takes some milliseconds."""
        me, rss, cpu = os.getpid(), 0, 0.0
        for pid in process_tree(pids):
            rss += rss_bytes(pid)
            # our own waited-for children are added below, whether or not we are among the workers
            cpu += time.process_time() - self._own_before if pid == me else cpu_seconds(pid)
        self.cpu_s = cpu + _children_cpu_s() - self._children_before
        self.peak_rss_bytes = max(self.peak_rss_bytes, rss)
        self.gpu.tick()
        return rss

    def close(self) -> None:
        self.gpu.close()


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- /proc ------------------------------------------------------------------------------------------------------------


def process_tree(pids: Iterable[int]) -> list[int]:
    """The processes and all that they have started, each once; those that have ended are left out."""
    found: dict[int, None] = {}
    waiting = list(pids)
    parents: dict[int, list[int]] | None = None
    while waiting:
        pid = waiting.pop()
        if pid in found or not (PROC / str(pid)).exists():
            continue
        found[pid] = None
        children = _children(pid)
        if children is None:  # a kernel without that file: look at all processes once
            parents = parents if parents is not None else _by_parent()
            children = parents.get(pid, [])
        waiting += children
    return list(found)


def _children(pid: int) -> list[int] | None:
    """Children started by any thread of a process; None where the kernel does not list them."""
    found: list[int] = []
    try:
        for thread in (PROC / str(pid) / "task").iterdir():
            try:
                found += map(int, (thread / "children").read_text().split())
            except ProcessLookupError:
                continue
            except FileNotFoundError:
                if thread.exists():
                    return None
    except OSError:
        return found  # it has just ended
    return found


def _by_parent() -> dict[int, list[int]]:
    parents: dict[int, list[int]] = {}
    for path in PROC.iterdir():
        if path.name.isdigit() and (fields := _stat_fields(int(path.name))):
            parents.setdefault(int(fields[1]), []).append(int(path.name))
    return parents


def _stat_fields(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third (the state); empty when the process is gone. Its name may hold anything."""
    try:
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(") ")[2].split()
    except OSError:
        return []


def rss_bytes(pid: int) -> int:
    """Resident memory of one process; pages shared between processes count in each of them."""
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0


def peak_rss_bytes() -> int:
    """The most that this process, or a child of it that has ended, has held, bytes. Its own size is not asked of `ru_maxrss`, which
    survives `exec` and so tells the size of whoever started us."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        own = int(status.partition("VmHWM:")[2].split()[0]) << 10
        return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10)
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of the children that it has waited for."""
    fields = _stat_fields(pid)
    return sum(map(int, fields[11:15])) / TICKS if len(fields) > 14 else 0.0


# --- memory limits ----------------------------------------------------------------------------------------------------


def oom_kills(proc: Path = PROC) -> int | None:
    """Processes that the kernel has killed for want of memory in this process's memory cgroup, so far; None where it does not tell.

    A task compares two answers: a worker that dies of SIGKILL while the number grows was killed for its memory.
    """
    for path in _memory_event_files(proc):
        try:
            text = path.read_text()
        except OSError:
            continue
        if (found := re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)) is not None:
            return int(found[1])
    return None


def _memory_event_files(proc: Path) -> Iterable[Path]:
    """Where the number could stand: the file of version 1 where a memory controller is mounted, else that of version 2."""
    try:
        groups = dict(_own_cgroups((proc / "self" / "cgroup").read_text()))
        mounts = (proc / "self" / "mountinfo").read_text().splitlines()
    except OSError:
        return
    for line in sorted(mounts, key=lambda line: " - cgroup2 " in line):
        left, _, right = line.partition(" - ")
        root, mount_point = left.split()[3:5]
        kind, _, options = right.split()[:3]
        if kind == "cgroup" and "memory" in options.split(",") and "memory" in groups:
            yield _inside(mount_point, root, groups["memory"]) / "memory.oom_control"
        elif kind == "cgroup2" and "" in groups:
            yield from (folder / "memory.events" for folder in _up_to_the_job(_inside(mount_point, root, groups[""])))


def _up_to_the_job(folder: Path) -> Iterable[Path]:
    """Our cgroup and, within a Slurm job, those around it up to the job's: not each of them need count events.

    >>> [path.name for path in _up_to_the_job(Path("/sys/fs/cgroup/system.slice/job_7/step_batch/user"))]
    ['user', 'step_batch', 'job_7']
    """
    yield folder
    names = [path.name for path in folder.parents]
    jobs = [i for i, name in enumerate(names) if name.startswith("job_")]
    yield from list(folder.parents)[: jobs[0] + 1] if jobs else []


def _own_cgroups(text: str) -> Iterable[tuple[str, str]]:
    """(controller, path) from /proc/self/cgroup; version 2 is the controller ""."""
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            yield controller, path


def _inside(mount_point: str, root: str, path: str) -> Path:
    """A cgroup's folder. `root`: which part of the tree is mounted (containers see only theirs).

    >>> _inside("/sys/fs/cgroup", "/", "/a/b"), _inside("/sys/fs/cgroup", "/a", "/a/b")
    (PosixPath('/sys/fs/cgroup/a/b'), PosixPath('/sys/fs/cgroup/b'))
    """
    below = path.removeprefix(root) if root != "/" and path.startswith(root) else path
    return Path(mount_point.encode().decode("unicode_escape")) / below.lstrip("/")
