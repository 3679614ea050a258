"""How busy the GPUs of a task are, from `nvidia-smi`, which is asked now and then and never waited for."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Sequence

log = logging.getLogger("hpc.workers.gpus")

GPU_EVERY_S = 30.0
GPU_TIMEOUT_S = 5.0
GPU_TRIES = 3
"""After so many questions without an answer, one after the other, the GPUs are not asked again."""

GPU_QUERY = ("nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits")


class GpuProbe:
    """Asks `nvidia-smi` every `GPU_EVERY_S` and collects the answer at a later tick; one that does not come in time is given up."""

    def __init__(self, devices: Sequence[str], every_s: float = GPU_EVERY_S, timeout_s: float = GPU_TIMEOUT_S) -> None:
        self.devices = tuple(devices)
        self.every_s, self.timeout_s = every_s, timeout_s
        self.memory_bytes = 0
        self._busy: list[float] = []
        self._asked: subprocess.Popen[str] | None = None
        self._given_up: list[subprocess.Popen[str]] = []
        self._asked_at = -every_s
        self._failures = 0 if self.devices else GPU_TRIES

    @property
    def busy(self) -> float | None:
        return round(sum(self._busy) / len(self._busy), 4) if self._busy else None

    def tick(self) -> None:
        now = time.monotonic()
        self._given_up = [process for process in self._given_up if process.poll() is None]
        if self._asked is not None:
            self._collect(self._asked, now)
        elif self._failures < GPU_TRIES and now - self._asked_at >= self.every_s:
            self._ask(now)

    def _ask(self, now: float) -> None:
        self._asked_at = now
        try:
            self._asked = subprocess.Popen(
                [*GPU_QUERY, "-i", ",".join(self.devices)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
            )
        except OSError as error:
            self._fail(f"cannot be started: {error}", GPU_TRIES)

    def _collect(self, asked: subprocess.Popen[str], now: float) -> None:
        code = asked.poll()
        if code is None and now - self._asked_at < self.timeout_s:
            return
        self._asked = None
        if code is None:
            asked.kill()
            self._given_up.append(asked)  # one that hangs in the driver ends when it likes; nobody waits for it
            self._fail(f"gave no answer within {self.timeout_s:g} s", 1)
            return
        text = asked.stdout.read() if asked.stdout else ""
        busy, held = parse_gpus(text)
        if code or not busy:
            self._fail(f"ended with {code} and said {text[:200]!r}", 1)
            return
        self._failures = 0
        self._busy.append(sum(busy) / len(busy))
        self.memory_bytes = max(self.memory_bytes, held)

    def _fail(self, why: str, weight: int) -> None:
        self._failures += weight
        more = "not asked again" if self._failures >= GPU_TRIES else f"asked again in {self.every_s:g} s"
        log.warning("nvidia-smi %s; expected one line for each of the GPUs %s; %s", why, ",".join(self.devices), more)

    def close(self) -> None:
        """End a question under way."""
        if self._asked is not None:
            self._asked.kill()
            self._given_up.append(self._asked)
            self._asked = None
        for process in self._given_up:
            process.poll()
            if process.stdout:
                process.stdout.close()


def parse_gpus(text: str) -> tuple[list[float], int]:
    """Busy shares (0..1) of devices, and the bytes that they hold together. Devices that do not tell (MIG) are left out.

    >>> parse_gpus("87, 1024" + chr(10) + "[N/A], 512" + chr(10))
    ([0.87], 1610612736)
    """
    busy: list[float] = []
    held = 0
    for line in text.splitlines():
        share, _, memory = (part.strip() for part in line.partition(","))
        if share.isdigit():
            busy.append(min(int(share), 100) / 100)
        if memory.isdigit():
            held += int(memory) << 20
    return busy, held
