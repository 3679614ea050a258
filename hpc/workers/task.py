"""A task: one element of an array (or one local run). Starts one worker process per core or per GPU, and watches them.

A worker that dies of a signal (out of memory, a crash in native code) is recorded as a failure of the unit it held and
is started again. Asked to leave, the task asks its workers to commit their current slice and waits for them.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from hpc.state.state import StageState
from hpc.workers.commit import Kind
from hpc.workers.meter import TaskMeter
from hpc.workers.usage import oom_kills
from hpc.workers.worker import EXIT_DONE, EXIT_LEFT, EXIT_STOPPED, blame_killed, holds_claim

log = logging.getLogger("hpc.workers.task")

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
POLL_S = 0.2
EXPECTED = (EXIT_DONE, EXIT_LEFT, EXIT_STOPPED)

START_TRIES = 3
"""Times that a worker may leave without having begun a unit, before it is believed that it cannot start."""

MAX_RESTARTS = 20
"""Workers restarted by one task before it gives up; each unit is parked long before."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
"""One process per core means one thread per process."""


class StopFlag:
    """Turns true on a stop signal. `install` replaces whatever handlers the launcher has set."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.interrupts = 0

    def install(self) -> StopFlag:
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        return self

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self.interrupts += number == signal.SIGINT

    @property
    def impatient(self) -> bool:
        """Somebody pressed Ctrl-C twice: lose the slice in hand rather than wait for it."""
        return self.interrupts > 1

    def __bool__(self) -> bool:
        return self.signal is not None

    def __call__(self) -> bool:
        return self.signal is not None


def stop_when_orphaned(flag: StopFlag) -> Callable[[], bool]:
    """For a worker process: stop on a signal, and when the task that started us is gone."""
    parent = os.getppid()
    return lambda: bool(flag) or os.getppid() != parent


@dataclass
class Task:
    """`command(w)` is the command line of worker `w`; `gpus` gives each worker its own device (empty: none).

    `requested`: resources of the launch; `meter` keeps the record of what the task uses.
    """

    state: StageState
    command: Callable[[int], Sequence[str]]
    procs: int
    gpus: Sequence[str] = ()
    on_tick: Callable[[], None] = lambda: None
    environment: Mapping[str, str] = field(default_factory=dict)
    output: int | None = None
    requested: Mapping[str, Any] = field(default_factory=dict)
    meter: TaskMeter | None = None

    def run(self, stop: StopFlag) -> int:
        """Exit code: EXIT_DONE, EXIT_LEFT or EXIT_STOPPED, the worst of the workers'."""
        self._oom_kills = oom_kills()
        running = {worker: self._start(worker) for worker in range(self.procs)}
        codes: list[int] = []
        told = False
        restarts = 0
        fruitless: dict[int, int] = {}
        while running:
            time.sleep(POLL_S)
            self._tick(running)
            if stop and not told:
                told = self._tell(running, stop)
            if stop.impatient:
                for process in running.values():
                    process.kill()
            for worker, process in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                del running[worker]
                if code in EXPECTED and not holds_claim(self.state, process.pid):
                    codes.append(code)
                elif code >= 0 and not stop:
                    restarts += 1
                    fruitless[worker] = fruitless.get(worker, 0) + (not self._blame_exit(process, code))
                    if restarts <= MAX_RESTARTS and fruitless[worker] < START_TRIES:
                        running[worker] = self._start(worker)
                    else:
                        codes.append(code or EXIT_LEFT)
                elif stop:  # whoever stopped the task has killed the worker too: no fault of its unit
                    codes.append(EXIT_STOPPED)
                elif self._blame(process, -code) == "out_of_memory" and running:
                    codes.append(EXIT_LEFT)  # not started again: those that are left have its memory too
                elif restarts < MAX_RESTARTS:
                    restarts += 1
                    running[worker] = self._start(worker)
                else:
                    codes.append(EXIT_LEFT)
        code = max(codes, default=EXIT_DONE)
        if self.meter is not None:
            self.meter.end(code, stop.signal.name if stop.signal else None)
        return code

    def _tick(self, running: Mapping[int, subprocess.Popen[bytes]]) -> None:
        self.on_tick()
        if self.meter is not None:
            self.meter.tick([process.pid for process in running.values()])

    def _start(self, worker: int) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **ONE_THREAD, **self.environment}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[worker % len(self.gpus)]
        return subprocess.Popen(
            list(self.command(worker)), env=environment, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output
        )

    def _tell(self, running: Mapping[int, subprocess.Popen[bytes]], stop: StopFlag) -> bool:
        log.warning("%s: %d workers commit their current slice and leave", stop.signal.name if stop.signal else "stop", len(running))
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        return True

    def _blame_exit(self, process: subprocess.Popen[bytes], code: int) -> list[str]:
        """A worker that has left in the middle of a unit, as when native code calls exit(): the unit is to blame."""
        cause = f"worker left with exit code {code}"
        units = blame_killed(self.state, socket.gethostname(), process.pid, cause, "killed", dict(self.requested))
        log.error("%s while working on %s", cause, ", ".join(units) or "nothing")
        return units

    def _blame(self, process: subprocess.Popen[bytes], number: int) -> Kind:
        """Record a failure of the unit that a killed worker held; whether the kernel killed it for memory is asked of the cgroup."""
        name, now = signal.Signals(number).name, oom_kills()
        out_of_memory = number == signal.SIGKILL and now is not None and now > (self._oom_kills or 0)
        self._oom_kills = now
        kind: Kind = "out_of_memory" if out_of_memory else "killed"
        cause = f"worker killed by {name}" + (": out of memory" if out_of_memory else "")
        units = blame_killed(self.state, socket.gethostname(), process.pid, cause, kind, dict(self.requested))
        log.error("worker %d killed by %s while working on %s", process.pid, name, ", ".join(units) or "nothing")
        return kind


def visible_gpus(env: Mapping[str, str] = os.environ) -> list[str]:
    """Devices that the scheduler gave to this task."""
    return [gpu for gpu in env.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu not in ("", "NoDevFiles", "-1")]
