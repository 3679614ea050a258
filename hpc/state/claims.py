"""Claims: advisory files that say "somebody works on this unit", so that workers spread out. Never needed for correctness.

The holder sets its claim's time of change every beat, by its own clock. Others judge by change alone: a claim whose file has
not changed for some beats, by their own clock, is dead. Clocks of two hosts are never compared.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc.fs.points import reached
from hpc.state.attempt import Attempt, process_alive, process_runs

HEARTBEAT_S = float(os.environ.get("HPC_HEARTBEAT_S", "15"))

STALE_BEATS = 6
STALE_S = float(os.environ.get("HPC_STALE_S", str(HEARTBEAT_S * STALE_BEATS)))
"""Six missed beats; attribute caches of NFS (up to 60 s) must not make a living claim look dead."""

EMPTY_S = 2.0
"""A claim that says nothing: its holder writes it within a moment of making it, or has died in that moment."""

MAX_BEATS_PER_S = 100
"""What all workers of a stage together may ask of the metadata server; with more workers each beats more slowly."""


def beat_s(workers: int) -> float:
    """Seconds between two beats where so many workers beat at once.

    >>> beat_s(64), beat_s(6000)
    (15.0, 60.0)
    """
    return max(HEARTBEAT_S, workers / MAX_BEATS_PER_S)


class Heart:
    """Keeps the claims of one process warm: one thread, however many units the process works through."""

    def __init__(self, every_s: float = HEARTBEAT_S) -> None:
        self.every_s = every_s
        self._held: Path | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def hold(self, path: Path | None) -> None:
        self._held = path
        if path is not None and self._thread is None:
            self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(self.every_s):
            held = self._held
            if held is not None:
                try:
                    now = time.time()
                    os.utime(held, (now, now))
                except OSError:
                    continue  # taken over, released, or the filesystem is away: the work itself decides what that means


@dataclass
class Claim:
    """A held claim, free again at the end of the `with` block; `heart` keeps it warm meanwhile."""

    path: Path
    attempt: Attempt
    heart: Heart | None = None

    def __enter__(self) -> Claim:
        if self.heart is not None:
            self.heart.hold(self.path)
        reached("claim.taken")
        return self

    def __exit__(self, *error: object) -> None:
        if self.heart is not None:
            self.heart.hold(None)
        if (holder := read_claim(self.path)) is not None and holder.get("id") == self.attempt.id:
            self.path.unlink(missing_ok=True)
        reached("claim.released")


def read_claim(path: Path) -> dict[str, Any] | None:
    """Who holds a claim; None when it is free, {} when the file says nothing yet."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        value = json.loads(data)
        return value if isinstance(value, dict) else {}
    except ValueError:
        return {}


def try_claim(path: Path, attempt: Attempt, heart: Heart | None = None) -> Claim | None:
    """Take a free claim; None when somebody has it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return None
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return try_claim(path, attempt, heart)
    try:
        try:
            began = time.time()
            os.write(descriptor, _says(attempt, heart, began))
            os.utime(descriptor, (began, began))
        finally:
            os.close(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return Claim(path, attempt, heart)


def take_over(path: Path, attempt: Attempt, heart: Heart | None = None) -> Claim:
    """Put our claim in the place of a dead one. If two do so at once both work, and the sentinel decides."""
    beside = path.with_name(f".{path.name}.{attempt.id}")
    try:
        began = time.time()
        beside.write_bytes(_says(attempt, heart, began))
        os.utime(beside, (began, began))
        os.rename(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    return Claim(path, attempt, heart)


def _says(attempt: Attempt, heart: Heart | None, began: float) -> bytes:
    """`began` is told by the holder's clock, as are the beats: their difference is how long it has been at work."""
    every_s = heart.every_s if heart else HEARTBEAT_S
    return json.dumps({**attempt.to_dict(), "began": round(began, 3), "beat_s": every_s}).encode()


def is_surely_dead(holder: dict[str, Any], me: Attempt) -> bool:
    """Known without waiting: a dead process of this host, or an earlier life of this very array element."""
    if holder.get("host") == me.host:
        return not process_alive(int(holder.get("pid", 0)))
    return bool(me.job) and holder.get("job") == me.job and int(holder.get("restart", 0)) < me.restart


@dataclass
class Watch:
    """Remembers what claims looked like, to tell living ones from dead ones by our own clock.

    `stale_s`: how long a dead one does not change; default: six beats of its holder, at least `STALE_S`.
    """

    stale_s: float | None = None
    _seen: dict[str, tuple[tuple[int, int], float]] = field(default_factory=dict)
    _alive: set[str] = field(default_factory=set)

    def judge(self, path: Path, me: Attempt) -> str:
        """ "free", "dead", "alive" (it moved while we looked, or its process runs on this host) or "unknown" (look again later)."""
        holder = read_claim(path)
        if holder is None:
            return "free"
        if holder and is_surely_dead(holder, me):
            return "dead"
        if holder.get("host") == me.host and process_runs(int(holder.get("pid", 0)), float(holder.get("began", 0))):
            return "alive"
        try:
            stat = path.stat()
        except FileNotFoundError:
            return "free"
        token, now = (stat.st_ino, stat.st_mtime_ns), time.monotonic()
        before = self._seen.get(path.name)
        if before is None or before[0] != token:
            if before is not None:
                self._alive.add(path.name)
            self._seen[path.name] = (token, now)
            return "alive" if path.name in self._alive else "unknown"
        if now - before[1] > (self.stale_s or (max(STALE_S, STALE_BEATS * float(holder.get("beat_s", 0))) if holder else EMPTY_S)):
            return "dead"
        return "alive" if path.name in self._alive else "unknown"
