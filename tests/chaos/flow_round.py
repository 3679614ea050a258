"""One round of a campaign: a small flow on the test cluster, in a folder and on a disk of its own, and what is needed to disturb it.

Nothing is imported from the code under test: the command line is called as a user calls it, and files are read as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cluster import SlurmCluster
from disk import Disk
from pipeline import Pipeline
from processes import is_alive, start_time
from verdict import is_complete, processes_of

STAGES = Path(__file__).with_name("chaos_stages.py")
HEARTBEAT_S = 0.5
STALE_S = 6.0
"""A claim that has not moved for this long is taken over. Twelve beats: on a busy machine a living process may miss some."""

FLOOR = 200
"""Characters that a document needs in the stage `after`."""

QUICK = {"HPC_HEARTBEAT_S": f"{HEARTBEAT_S:g}", "HPC_STALE_S": f"{STALE_S:g}"}


def flow_toml(inputs: Path, journal: Path | None, pause_s: float, floor: int = FLOOR, slice_rows: int = 2) -> str:
    """Extraction, counting, signatures, dedup, counting of what dedup keeps: eight stages and 168 units where there are 12 inputs.

    dedup.match has more than 100 units, so that it is folded.
    """
    note = f'journal = "{journal or ""}"\npause_s = {pause_s:g}'
    return f"""\
[run]
name = "chaos"
dir = "run"
site = "site.toml"
inputs = ["{inputs}/*.warc.gz"]
shard_bytes = "1 KiB"
[stage.extract]
use = "chaos_stages:SlowExtract"
slice_bytes = 8192
{note}
[stage.slow]
use = "chaos_stages:SlowCount"
slice_rows = {slice_rows}
{note}
[stage.sig]
use = "chaos_stages:SlowSign"
{note}
[stage.dedup]
where = "slow_reason IS NULL"
partitions = 104
group_shards = 4
[stage.after]
use = "chaos_stages:SlowCount"
where = "dedup_keep"
floor = {floor}
slice_rows = {slice_rows}
{note}
[resources.default]
cpus = 2
mem_gb = 0.4
tasks = 3
"""


@dataclass(frozen=True)
class Job:
    """A line of the queue: `id` is `7` or `7_3`, `name` `chaos.slow` or `chaos.slow.gate`."""

    id: str
    name: str
    state: str
    node: str
    reason: str

    @property
    def is_gate(self) -> bool:
        return self.name.endswith(".gate")

    @property
    def stage(self) -> str:
        return self.name.removeprefix("chaos.").removesuffix(".gate")


@dataclass
class Round:
    """`later`: what is to be undone, and when (monotonic clock). `frozen`: processes stopped, from and until (seconds since the epoch)."""

    slurm: SlurmCluster
    pipeline: Pipeline
    disk: Disk
    inputs: Path
    partition: str
    rng: random.Random
    pause_s: float
    later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    frozen: list[tuple[int, float, float]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    resubmissions: int = 0
    released: int = 0
    filled: bool = False
    threshold_edited: bool = False

    @property
    def run(self) -> Path:
        return self.pipeline.run

    def configure(self, floor: int = FLOOR, slice_rows: int = 2) -> None:
        self.pipeline.configure(
            flow_toml(self.inputs, self.pipeline.journal, self.pause_s, floor, slice_rows), f'partition = "{self.partition}"'
        )

    def start(self) -> None:
        shutil.copy(STAGES, self.pipeline.folder)
        self.configure()
        for verb in ("plan", "submit"):
            if (done := self.ccpipe(verb)).returncode:
                raise AssertionError(f"ccpipe {verb}, before any fault, returned {done.returncode}: {done.stdout}{done.stderr}")

    def ccpipe(self, *words: str, must: bool = False) -> subprocess.CompletedProcess[str]:
        """Call the command line. `must`: another exit code than 0 is a violation. An exception is always one."""
        done = self.pipeline.ccpipe(*words, env=self.environment())
        if (must and done.returncode) or ("Traceback" in done.stderr and not self.disturbed(done.stderr)):
            self.violations.append(f"ccpipe {' '.join(words)} returned {done.returncode}: {(done.stdout + done.stderr).strip()[-1500:]}")
        return done

    def disturbed(self, stderr: str) -> bool:
        """Whether a verb failed of a fault that it could see: a full disk."""
        return "No space left on device" in stderr

    def environment(self) -> Mapping[str, str]:
        return QUICK

    # ---- what is there to disturb

    def jobs(self) -> list[Job]:
        """The flow's jobs that are queued or run."""
        lines = self.slurm.run("squeue", "--noheader", "--array", "--format=%i|%j|%T|%N|%r").splitlines()
        jobs = [Job(*line.split("|")) for line in lines]
        return [job for job in jobs if job.name.startswith("chaos.")]

    def running(self, gates: bool = False) -> list[Job]:
        return [job for job in self.jobs() if job.state == "RUNNING" and (gates or not job.is_gate)]

    def workers(self) -> list[int]:
        return sorted(pid for pid, words in processes_of(self.run).items() if "work" in words and "--worker" in words)

    def tasks(self) -> list[int]:
        return sorted(pid for pid, words in processes_of(self.run).items() if "work" in words and "--worker" not in words)

    def claims(self) -> list[Path]:
        return sorted(self.run.glob("state/*/*/claims/[!.]*"))

    def busy(self) -> list[int]:
        """Workers that hold a unit."""
        holders = set()
        for claim in self.claims():
            with contextlib.suppress(OSError, ValueError):  # given back just now, or not written yet
                holders.add(json.loads(claim.read_text())["pid"])
        return [pid for pid in self.workers() if pid in holders]

    def kill(self, pid: int, number: signal.Signals) -> None:
        """Signal a process of this run, if it still is one."""
        if pid in processes_of(self.run):
            os.kill(pid, number)

    def freeze(self, pid: int, seconds: float) -> None:
        """SIGSTOP now, SIGCONT later; noted for the verdict."""
        started, begin = start_time(pid), time.time()
        self.kill(pid, signal.SIGSTOP)

        def thaw() -> None:
            self.frozen.append((pid, begin, time.time()))
            if is_alive(pid, started):
                os.kill(pid, signal.SIGCONT)

        self.after(seconds, thaw)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self.later.append((time.monotonic() + seconds, action))

    # ---- time passes

    def tick(self) -> None:
        """Do what is due."""
        if self.filled:
            self.disk.fill()
        now = time.monotonic()
        due = [item for item in self.later if item[0] <= now]
        self.later = [item for item in self.later if item[0] > now]
        for _, action in sorted(due, key=lambda item: item[0]):
            action()

    def resubmit_if_idle(self) -> None:
        """Where nothing is queued and something is missing: what a user would type.

        And what an admin would: a job that a node could not start (the controller was killed just then) is held by Slurm.
        """
        jobs = self.jobs()
        for job in jobs:
            if job.reason == "launch failed requeued held":
                self.released += 1
                self.slurm.run("scontrol", "release", job.id)
        if not jobs and not is_complete(self.run):
            self.resubmissions += 1
            self.ccpipe("retry")

    def over(self) -> bool:
        return is_complete(self.run) and not self.jobs()

    def finish(self, limit_s: float, max_resubmissions: int) -> None:
        """Undo what is still disturbed, then let gates and `retry` bring the flow to its end."""
        while self.later:
            self.tick()
            time.sleep(0.1)
        self.configure()
        self.ccpipe("plan", must=True)
        self.finish_as_configured(limit_s, max_resubmissions)

    def finish_as_configured(self, limit_s: float, max_resubmissions: int) -> None:
        deadline, before = time.monotonic() + limit_s, self.resubmissions
        while not self.over():
            self.resubmit_if_idle()
            if time.monotonic() > deadline or self.resubmissions - before > max_resubmissions:
                queue = "; ".join(f"{job.id} {job.name} {job.state}" for job in self.jobs())
                tries = self.resubmissions - before
                self.violations.append(
                    f"not complete {limit_s:g} s and {tries} resubmissions after the last fault; queue: {queue or 'none'}"
                )
                return
            time.sleep(0.3)
