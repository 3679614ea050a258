"""Inputs of a unit: the files that sentinels of earlier stages vouch for, and the commits that they came from.

Nothing is globbed: a file that no sentinel names does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc.fs.files import read_json
from hpc.fs.mounts import settled
from hpc.state.plan import FP_CHARS, InputFrom, Plan, PlannedUnit
from hpc.state.state import StageState
from hpc.state.work import Files

Commits = dict[str, str]
"""`<stage>/<unit>` -> attempt id of the sentinel, or `<stage>/*` -> commit of the whole stage."""


class NotReady(Exception):
    """A stage before this one has not committed what the unit reads."""


class LostInput(Exception):
    """A committed file is gone or has another size than its sentinel says."""


@dataclass
class _Whole:
    """The units of a complete stage as this process has read them; `files`: those of its outputs whose sizes have been checked."""

    stamp: tuple[int, int, int]
    commit: str
    units: list[Mapping[str, Any]]
    files: dict[str, list[Path]] = field(default_factory=dict)


_whole: dict[Path, _Whole] = {}


def upstream_state(run: Path, item: InputFrom) -> StageState:
    return StageState(run, item.stage, item.fingerprint[:FP_CHARS])


def resolve_inputs(run: Path, plan: Plan, unit: PlannedUnit) -> tuple[Files, Commits]:
    """Paths by dataset and the commits they belong to. Raises `NotReady`, or `LostInput` for a file that is not as committed."""
    files: Files = {}
    commits: Commits = {}
    for item in plan.inputs:
        state = upstream_state(run, item)
        if item.of == "all":
            whole = _read_whole(state)
            commits[f"{item.stage}/*"] = whole.commit
            if item.dataset not in whole.files:  # thousands of files: looked at once in each process
                whole.files[item.dataset] = [_check_size(state, entry["outputs"][item.dataset], entry["unit"]) for entry in whole.units]
            files[item.dataset] = list(whole.files[item.dataset])
            continue
        files[item.dataset] = []
        for member in unit.members:
            sentinel = state.sentinel(member)
            if sentinel is None and settled(lambda: state.is_done(member), state.done_path(member)):  # noqa: B023 - called at once
                sentinel = state.sentinel(member)
            if sentinel is None:
                raise NotReady(
                    f"{plan.stage} {unit.id} waits for {item.stage} {member}, which is not committed; run stage {item.stage} first"
                )
            commits[f"{item.stage}/{member}"] = sentinel["attempt"]["id"]
            files[item.dataset].append(_check_size(state, sentinel["outputs"][item.dataset], member))
    return files, commits


def read_success(state: StageState) -> Mapping[str, Any]:
    """Sums of a complete stage. Raises `NotReady`."""
    success = state.success()
    if success is None:
        raise NotReady(f"stage {state.stage} is not complete ({state.success_path} does not exist); run it first")
    return success


def _read_whole(state: StageState) -> _Whole:
    """Kept while `_SUCCESS.json` stays the same: units.json is megabytes for a stage of ten thousand units."""
    commit = str(read_success(state)["commit"])
    path = state.units_path
    found = path.stat()
    stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
    if path not in _whole or _whole[path].stamp != stamp:
        value = read_json(path)
        _whole[path] = _Whole(stamp, value["commit"], value["units"])
    if _whole[path].commit != commit:
        raise NotReady(f"stage {state.stage} is being committed again ({path} and {state.success_path} differ); run its gate first")
    return _whole[path]


def _check_size(state: StageState, output: Mapping[str, Any], unit: str) -> Path:
    path = state.run / str(output["path"])

    if not settled(lambda: path.stat().st_size == output["bytes"], path):
        seen = path.stat().st_size if path.exists() else None
        raise LostInput(
            f"{path} has {'no file' if seen is None else f'{seen} bytes'}; its sentinel says {output['bytes']} bytes. "
            f"Take the unit back with `redo` (stage {state.stage}, unit {unit}) and run that stage again"
        )
    return path
