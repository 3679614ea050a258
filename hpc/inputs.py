"""Inputs of a unit: the files that sentinels of earlier stages vouch for, and the commits that they came from.

Nothing is globbed: a file that no sentinel names does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpc.files import read_json_if_exists
from hpc.plan import FP_CHARS, InputFrom, Plan, PlannedUnit
from hpc.state import StageState

Files = dict[str, list[Path]]
Commits = dict[str, str]
"""`<stage>/<unit>` -> attempt id of the sentinel, or `<stage>/*` -> commit of the whole stage."""


class NotReady(Exception):
    """A stage before this one has not committed what the unit reads."""


class LostInput(Exception):
    """A committed file is gone or has another size than its sentinel says."""


_success_cache: dict[tuple[Path, int], dict[str, Any]] = {}


def upstream_state(run: Path, item: InputFrom) -> StageState:
    return StageState(run, item.stage, item.fingerprint[:FP_CHARS])


def resolve_inputs(run: Path, plan: Plan, unit: PlannedUnit) -> tuple[Files, Commits]:
    """Paths by dataset and the commits they belong to. Raises `NotReady`, or `LostInput` for a file that is not as committed."""
    files: Files = {}
    commits: Commits = {}
    for item in plan.inputs:
        state = upstream_state(run, item)
        if item.of == "all":
            success = read_success(state)
            commits[f"{item.stage}/*"] = success["commit"]
            files[item.dataset] = [run / entry["outputs"][item.dataset]["path"] for entry in success["units"].values()]
            continue
        files[item.dataset] = []
        for member in unit.members:
            sentinel = state.sentinel(member)
            if sentinel is None:
                raise NotReady(
                    f"{plan.stage} {unit.id} waits for {item.stage} {member}, which is not committed; run stage {item.stage} first"
                )
            commits[f"{item.stage}/{member}"] = sentinel["attempt"]["id"]
            files[item.dataset].append(_check_size(run, sentinel["outputs"][item.dataset], item.stage, member))
    return files, commits


def read_success(state: StageState) -> Mapping[str, Any]:
    """The folded sentinels of a complete stage, cached while the file stays the same. Raises `NotReady`."""
    try:
        key = (state.success_path, state.success_path.stat().st_mtime_ns)
    except FileNotFoundError:
        raise NotReady(f"stage {state.stage} is not complete ({state.success_path} does not exist); run it first") from None
    if key not in _success_cache:
        _success_cache[key] = read_json_if_exists(state.success_path) or {}
    return _success_cache[key]


def _check_size(run: Path, output: Mapping[str, Any], stage: str, unit: str) -> Path:
    path = run / str(output["path"])
    seen = path.stat().st_size if path.exists() else None
    if seen != output["bytes"]:
        raise LostInput(
            f"{path} has {'no file' if seen is None else f'{seen} bytes'}; its sentinel says {output['bytes']} bytes. "
            f"Remove {StageState(run, stage, '<fp>').folder}/done/{unit}.json and run stage {stage} again"
        )
    return path
