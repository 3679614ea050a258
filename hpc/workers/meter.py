"""The meter of a task: samples what its workers use and keeps the task's record up to date."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from hpc.state.attempt import new_attempt
from hpc.state.launch import Launch
from hpc.state.state import StageState
from hpc.workers.usage import TaskRecord, UsageSampler, save_record

SAMPLE_S = 2.0
SAVE_S = 60.0
"""A task that is killed leaves a record at most this old."""


@dataclass
class TaskMeter:
    """Started with the task; `tick` every now and then, `end` once."""

    state: StageState
    record: TaskRecord
    sampler: UsageSampler = field(default_factory=UsageSampler)
    _sampled: float = 0.0
    _saved: float = 0.0

    def begin(self) -> TaskMeter:
        self._save()
        return self

    def tick(self, pids: Sequence[int]) -> None:
        now = time.monotonic()
        if now - self._sampled >= SAMPLE_S:
            self._sampled = now
            self.sampler.sample(pids)
        if now - self._saved >= SAVE_S:
            self._save()

    def end(self, code: int, signal: str | None) -> None:
        self.sampler.sample([])
        self.record.ended, self.record.exit, self.record.signal = True, code, signal
        self._save()
        self.sampler.close()

    def _save(self) -> None:
        self._saved = time.monotonic()
        self.record.update(self.sampler)
        save_record(self.state.task_path(self.record.id), self.record)


def start_meter(state: StageState, launch: Launch, task: int, procs: int, log: str, gpus: Sequence[str] = ()) -> TaskMeter:
    """The meter of task `task` of a launch, its record begun."""
    me, asked = new_attempt(), launch.resources
    record = TaskRecord(
        id=me.id,
        host=socket.gethostname(),
        pid=me.pid,
        job=me.job,
        restart=me.restart,
        launch=launch.id,
        task=task,
        tasks=launch.tasks,
        procs=procs,
        cpus=asked.cpus,
        gpus=asked.gpus,
        mem_gb=asked.task_mem_gb,
        time_min=asked.time_min,
        log=log,
        began=round(time.time(), 3),
    )
    return TaskMeter(state, record, UsageSampler(gpus)).begin()
