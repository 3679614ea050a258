"""Inputs of a unit: the files that sentinels of earlier stages vouch for, and the commits that they came from.

Nothing is globbed: a file that no sentinel names does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc.files import read_json
from hpc.plan import FP_CHARS, InputFrom, Plan, PlannedUnit
from hpc.state import StageState

Files = dict[str, list[Path]]
Commits = dict[str, str]
"""`<stage>/<unit>` -> attempt id of the sentinel, or `<stage>/*` -> commit of the whole stage."""


class NotReady(Exception):
    """A stage before this one has not committed what the unit reads."""


class LostInput(Exception):
    """A committed file is gone or has another size than its sentinel says."""


@dataclass
class _Folded:
    """A `_SUCCESS.json` as this process has read it; `files` those of its outputs whose sizes have been checked."""

    stamp: tuple[int, int, int]
    value: Mapping[str, Any]
    files: dict[str, list[Path]] = field(default_factory=dict)


_folded: dict[Path, _Folded] = {}


def upstream_state(run: Path, item: InputFrom) -> StageState:
    return StageState(run, item.stage, item.fingerprint[:FP_CHARS])


def resolve_inputs(run: Path, plan: Plan, unit: PlannedUnit) -> tuple[Files, Commits]:
    """Paths by dataset and the commits they belong to. Raises `NotReady`, or `LostInput` for a file that is not as committed."""
    files: Files = {}
    commits: Commits = {}
    for item in plan.inputs:
        state = upstream_state(run, item)
        if item.of == "all":
            folded = _read_folded(state)
            commits[f"{item.stage}/*"] = folded.value["commit"]
            if item.dataset not in folded.files:  # thousands of files: looked at once in each process
                folded.files[item.dataset] = [
                    _check_size(state, entry["outputs"][item.dataset], entry["unit"]) for entry in folded.value["units"]
                ]
            files[item.dataset] = list(folded.files[item.dataset])
            continue
        files[item.dataset] = []
        for member in unit.members:
            sentinel = state.sentinel(member)
            if sentinel is None:
                raise NotReady(
                    f"{plan.stage} {unit.id} waits for {item.stage} {member}, which is not committed; run stage {item.stage} first"
                )
            commits[f"{item.stage}/{member}"] = sentinel["attempt"]["id"]
            files[item.dataset].append(_check_size(state, sentinel["outputs"][item.dataset], member))
    return files, commits


def read_success(state: StageState) -> Mapping[str, Any]:
    """The folded sentinels of a complete stage; `units` in plan order. Raises `NotReady`."""
    return _read_folded(state).value


def _read_folded(state: StageState) -> _Folded:
    """Kept while the file stays the same: it is megabytes for a stage of ten thousand units."""
    path = state.success_path
    try:
        found = path.stat()
        stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
        if path not in _folded or _folded[path].stamp != stamp:
            _folded[path] = _Folded(stamp, read_json(path))
    except FileNotFoundError:
        raise NotReady(f"stage {state.stage} is not complete ({path} does not exist); run it first") from None
    return _folded[path]


def _check_size(state: StageState, output: Mapping[str, Any], unit: str) -> Path:
    path = state.run / str(output["path"])
    seen = path.stat().st_size if path.exists() else None
    if seen != output["bytes"]:
        raise LostInput(
            f"{path} has {'no file' if seen is None else f'{seen} bytes'}; its sentinel says {output['bytes']} bytes. "
            f"Remove {state.done_path(unit)} and run stage {state.stage} again"
        )
    return path
