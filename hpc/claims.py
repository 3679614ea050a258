"""Claims: advisory files that say "somebody works on this unit", so that workers spread out. Never needed for correctness.

The holder touches its claim every `HEARTBEAT_S` seconds. Others judge by change alone: a claim whose file has not
changed for `STALE_S` seconds of their own clock is dead. Clocks of two hosts are never compared.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from hpc.attempt import Attempt, process_alive

HEARTBEAT_S = 15.0
STALE_S = 90.0
"""Six missed heartbeats; attribute caches of NFS (up to 60 s) must not make a living claim look dead."""


class Claim:
    """A held claim; a thread keeps it warm until the `with` block ends."""

    def __init__(self, path: Path, attempt: Attempt) -> None:
        self.path = path
        self.attempt = attempt
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat {path.name}", daemon=True)

    def __enter__(self) -> Claim:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        if (holder := read_claim(self.path)) is not None and holder.get("id") == self.attempt.id:
            self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            try:
                os.utime(self.path)
            except OSError:
                continue  # taken over, or the filesystem is away: the work itself decides what that means


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


def try_claim(path: Path, attempt: Attempt) -> Claim | None:
    """Take a free claim; None when somebody has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return None
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(attempt.to_dict(), file)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return Claim(path, attempt)


def take_over(path: Path, attempt: Attempt) -> Claim:
    """Put our claim in the place of a dead one. If two do so at once both work, and the sentinel decides."""
    beside = path.with_name(f".{path.name}.{attempt.id}")
    try:
        beside.write_text(json.dumps(attempt.to_dict()))
        os.rename(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    return Claim(path, attempt)


def is_surely_dead(holder: dict[str, Any], me: Attempt) -> bool:
    """Known without waiting: a dead process of this host, or an earlier life of this very array element."""
    if holder.get("host") == me.host:
        return not process_alive(int(holder.get("pid", 0)))
    return bool(me.job) and holder.get("job") == me.job and int(holder.get("restart", 0)) < me.restart


@dataclass
class Watch:
    """Remembers what claims looked like, to tell living ones from dead ones by our own clock."""

    stale_s: float = STALE_S
    _seen: dict[str, tuple[tuple[int, int], float]] = field(default_factory=dict)
    _alive: set[str] = field(default_factory=set)

    def judge(self, path: Path, me: Attempt) -> str:
        """ "free", "dead", "alive" (it moved while we looked) or "unknown" (look again later)."""
        holder = read_claim(path)
        if holder is None:
            return "free"
        if holder and is_surely_dead(holder, me):
            return "dead"
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
        if now - before[1] > self.stale_s:
            return "dead"
        return "alive" if path.name in self._alive else "unknown"
