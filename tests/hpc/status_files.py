"""State folders as workers and tasks leave them, made by the functions that write them where that is possible at any time of day."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toy import make_squares

from hpc.fs.files import publish_once
from hpc.state.attempt import Attempt, new_attempt
from hpc.state.state import StageState


def make_stage(run: Path, costs: Sequence[float]) -> StageState:
    """Stage `squares` with a unit for each cost: 000, 001, ..."""
    return make_squares(run, [int(cost) for cost in costs])


def commit(state: StageState, unit: str, at: float, wall: float, **more: Any) -> None:
    """A sentinel published `at`."""
    value = {
        "stage": state.stage,
        "unit": unit,
        "fingerprint": state.plan.fingerprint,
        "key": "",
        "inputs": {},
        "outputs": {},
        "counts": {"read": 10, "kept": 8, "dropped": {"too_short": 2}, "extra": {}},
        "seconds": {"wall": wall, "cpu": wall / 2},
        "peak_rss_bytes": 1 << 30,
        "slices": [],
        "requested": {},
        "attempt": new_attempt().to_dict(),
        **more,
    }
    publish_once(state.done_path(unit), value)
    os.utime(state.done_path(unit), (at, at))


def claim(state: StageState, unit: str, began: float, beat: float, host: str = "n1", job: str = "", beat_s: float = 15.0) -> None:
    """A claim with its last beat at `beat`; both times by the holder's clock."""
    path = state.claim_path(unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**Attempt("x", host, 4242, job, 0).to_dict(), "began": began, "beat_s": beat_s}))
    os.utime(path, (beat, beat))


def task_record(**more: Any) -> dict[str, Any]:
    """A task of four processes that has ended well, in a fifth of its time and a quarter of its memory."""
    return {
        **Attempt("t", "n1", 4000, "7_0", 0).to_dict(),
        "launch": "array-1",
        "task": 0,
        "tasks": 1,
        "procs": 4,
        "cpus": 4,
        "gpus": 0,
        "mem_gb": 16.0,
        "time_min": 100,
        "log": "/logs/7_0.log",
        "began": 0.0,
        "wall_s": 1200.0,
        "cpu_s": 3600.0,
        "peak_rss_bytes": 4 << 30,
        "gpu_busy": None,
        "ended": True,
        "exit": 0,
        "signal": None,
        **more,
    }


def save_task(state: StageState, name: str, at: float | None = None, **more: Any) -> None:
    """A record written `at`, by the clocks of the task's host and of the filesystem."""
    path = state.task_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    when = time.time() if at is None else at
    record = task_record(id=name, **more)
    path.write_text(json.dumps({**record, "began": when - record["wall_s"]} if "began" not in more else record))
    os.utime(path, (when, when))
