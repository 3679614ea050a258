"""What `hpc` asks of a stage: an object that turns the files of one unit into new files and returns counts.

It knows nothing of temporary names, markers, retries or signals. The same inputs give the same bytes, whoever runs them and when.
"""

from __future__ import annotations

import importlib
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hpc.state.plan import PlannedUnit

Files = dict[str, list[Path]]
"""Dataset -> its files, one for each member (or each unit of the stage before), in order."""

Counts = dict[str, Any]
"""{"read": int, "kept": int, "dropped": {reason: int}, "extra": {name: int}}"""


class Work(Protocol):
    """`sliced`: units are run slice by slice (`slice`, `join`) instead of at once (`run`)."""

    sliced: bool

    def load(self) -> None: ...
    def run(self, unit: PlannedUnit, inputs: Files, out: Mapping[str, Path]) -> Counts: ...
    def earlier_slices(self, unit: PlannedUnit, slices: Sequence[Path]) -> None: ...
    def slice(self, unit: PlannedUnit, inputs: Files, folder: Path, cursor: Any) -> tuple[Counts, Any]: ...
    def join(self, unit: PlannedUnit, inputs: Files, slices: Sequence[Path], out: Mapping[str, Path]) -> None: ...


class PlainWork:
    """A base for units that are run at once: a subclass writes `run`, which reads `inputs` and writes every file of `out`.

    For units that last longer than a task may: set `sliced = True` and write `slice` and `join` instead. `slice` works from `cursor`
    (None: from the beginning) for some minutes, writes files into the empty `folder`, and returns the counts of this slice and the
    next cursor (plain JSON), or None at the end; `join` puts the slices together, with the same bytes wherever they were cut.
    """

    sliced = False

    def load(self) -> None:
        """Open what all units need; once in each process, before its first unit."""

    def run(self, unit: PlannedUnit, inputs: Files, out: Mapping[str, Path]) -> Counts:
        raise NotImplementedError(f"{type(self).__name__} has no run(); write it, or set sliced = True and write slice() and join()")

    def earlier_slices(self, unit: PlannedUnit, slices: Sequence[Path]) -> None:
        """Told before each slice: the folders of the committed ones in front of it, for work that must know what they held."""

    def slice(self, unit: PlannedUnit, inputs: Files, folder: Path, cursor: Any) -> tuple[Counts, Any]:
        raise NotImplementedError(f"{type(self).__name__} has no slice(); write it, or set sliced = False and write run()")

    def join(self, unit: PlannedUnit, inputs: Files, slices: Sequence[Path], out: Mapping[str, Path]) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no join(); write it, or set sliced = False and write run()")


class BrokenStage(Exception):
    """The stage broke a law: counts that do not add up, an output not written, other bytes from the same inputs."""


class NoWork(Exception):
    """A `factory` that cannot be imported or called."""


def make_work(recipe: Mapping[str, Any]) -> Work:
    """The work object that a launch describes: {"factory": "package.module:callable", "args": {...}, "path": folder to import from}.

    Raises `NoWork`.
    """
    module_name, _, name = str(recipe["factory"]).partition(":")
    path = recipe.get("path")
    if path and path not in sys.path:
        sys.path.append(path)
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise NoWork(
            f"cannot import {recipe['factory']!r}: {error}; expected package.module:callable, importable on this node"
            + (f" or from {path}" if path else "")
            + ". Install it where the site's `python` finds it"
        ) from error
    work: Work = factory(**recipe.get("args", {}))
    return work


def counts(read: int, kept: int | None = None, dropped: Mapping[str, int] | None = None, **extra: int) -> Counts:
    """Counts of a unit; `kept` defaults to what was read and not dropped.

    >>> counts(3, dropped={"too_short": 1})["kept"]
    2
    """
    reasons = dict(dropped or {})
    return {"read": read, "kept": read - sum(reasons.values()) if kept is None else kept, "dropped": reasons, "extra": extra}


def check_counts(counts: Counts, what: str) -> None:
    """read = kept + sum(dropped by reason), or `BrokenStage`. `what`: the unit or slice."""
    if not isinstance(counts, Mapping) or not {"read", "kept", "dropped", "extra"} <= counts.keys():
        raise BrokenStage(f"run() of {what} returned {counts!r:.200}; expected counts: return counts(read=...)")
    dropped = sum(counts["dropped"].values())
    if counts["read"] != counts["kept"] + dropped:
        raise BrokenStage(
            f"{what}: read {counts['read']}, but kept {counts['kept']} + dropped {dropped}; everything read must be kept or dropped once"
        )


def add_counts(parts: Sequence[Counts]) -> Counts:
    """Sum of counts, name by name."""
    total: Counts = {"read": 0, "kept": 0, "dropped": {}, "extra": {}}
    for part in parts:
        total["read"] += part["read"]
        total["kept"] += part["kept"]
        for kind in ("dropped", "extra"):
            for name, n in part[kind].items():
                total[kind][name] = total[kind].get(name, 0) + n
    return {**total, "dropped": dict(sorted(total["dropped"].items())), "extra": dict(sorted(total["extra"].items()))}


class Clock:
    """Wall and CPU seconds since construction; CPU seconds of children that have ended count too."""

    def __init__(self) -> None:
        self.wall = time.monotonic()
        self.cpu = _cpu_s()

    def seconds(self) -> dict[str, float]:
        return {"wall": round(time.monotonic() - self.wall, 3), "cpu": round(_cpu_s() - self.cpu, 3)}


def _cpu_s() -> float:
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
