"""Processes of one test cluster, found by a mark in their environment and ended by their ids.

A daemon gets `MARK=<folder>/<name>` when it is started and its children inherit it (slurmd starts one slurmstepd for each
step). A job's own processes get the environment of whoever submitted them, so they are found as descendants of a slurmstepd.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

MARK = "CCPIPE_TEST_SLURM"


def find_marked(mark: str) -> set[int]:
    """Ids of living processes that were started with `MARK` equal to `mark` or, where it ends in a slash, beginning with it."""
    wanted = f"{MARK}={mark}".encode()
    found: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            entries = (folder / "environ").read_bytes().split(b"\0")
            if any(entry.startswith(wanted) if mark.endswith("/") else entry == wanted for entry in entries):
                found.add(int(folder.name))
    return found


def with_descendants(pids: Iterable[int]) -> set[int]:
    """The processes and everything they started that has not been orphaned since."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # "pid (name) state ppid ...": the name may hold spaces and brackets
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found: set[int] = set()
    todo = list(pids)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children.get(pid, [])
    return found


def kill_marked(mark: str) -> None:
    """SIGKILL the marked processes and all that they started; returns when they are gone."""
    deadline = time.monotonic() + 10
    while pids := find_marked(mark):
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {sorted(pids)} survive SIGKILL; expected them gone in 10 s; look at: ps -o pid,stat,wchan,args")
        for pid in with_descendants(pids) - {os.getpid()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def is_alive(pid: int, started: str) -> bool:
    """Whether the process with this id is the one that started at this time (`start_time`), not a later one with its number."""
    return start_time(pid) == started


def start_time(pid: int) -> str:
    """Clock ticks from boot to the start of a process, as text; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
