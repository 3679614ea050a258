"""The gate: decides from sentinels alone whether a stage is complete, and says what is missing and why.

A complete stage gets `_SUCCESS.json` and `units.json`, its `current` links, and an empty scratch; one of many units is folded.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc.fs.files import names_in, point_link, read_json_if_exists, replace_json, to_json
from hpc.fs.mounts import settled
from hpc.fs.points import reached
from hpc.state.fold import FOLD_UNITS, remove_loose, write_archive
from hpc.state.state import MAX_FAILURES, StageState, latest
from hpc.state.work import add_counts

log = logging.getLogger("hpc.dispatch.gate")

LOW_DISK_BYTES = 1 << 20


@dataclass
class GateReport:
    """`missing`: unit -> why it is not committed; `parked`: those of them that no launch tries again. `logs`: what the tasks wrote."""

    stage: str
    units: int
    missing: dict[str, str] = field(default_factory=dict)
    logs: Path | None = None
    parked: set[str] = field(default_factory=set)

    @property
    def complete(self) -> bool:
        return not self.missing

    def text(self, show: int = 20) -> str:
        if self.complete:
            return f"{self.stage}: complete, {self.units} units committed"
        lines = [f"{self.stage}: {len(self.missing)} of {self.units} units are missing:"]
        lines += [f"  {unit}: {why}" for unit, why in list(self.missing.items())[:show]]
        if len(self.missing) > show:
            lines.append(f"  ... and {len(self.missing) - show} more")
        if self.logs:
            lines.append(f"  logs of the tasks: {self.logs}")
        return "\n".join(lines)


def run_gate(state: StageState, max_failures: int = MAX_FAILURES) -> GateReport:
    """Check every unit's sentinel; publish `_SUCCESS.json` when all are there, take it back when not."""
    report = _look(state, max_failures)
    if report.complete:
        try:
            sentinels = _publish_success(state)
        except FileNotFoundError:  # a new launch has just taken a sentinel back
            return _look(state, max_failures)
        show_current(state)
        if len(sentinels) >= FOLD_UNITS:
            _fold(state, sentinels)
        for leftovers in (state.scratch, state.folder / "slices", state.folder / "claims"):
            shutil.rmtree(leftovers, ignore_errors=True)
    elif not all(state.is_done(unit) for unit in report.missing):
        # looked at again, since the gate of another launch may have found the rest and published in the meantime
        state.success_path.unlink(missing_ok=True)
    return report


def _look(state: StageState, max_failures: int) -> GateReport:
    report = GateReport(state.stage, len(state.plan.units), logs=state.logs)
    failures = state.failures()
    wanted = {unit.id for unit in state.plan.units}
    # the last commits were made on other nodes a moment ago: a shared filesystem may not show them yet
    settled(lambda: wanted - state.done_units() <= failures.keys(), state.folder / "done")
    done = state.done_units()
    full = _full_disk(state.run)
    for unit in state.plan.units:
        if unit.id not in done:
            failed = failures.get(unit.id, [])
            report.missing[unit.id] = _why(state, unit.id, failed, max_failures) + full
            if len(failed) >= max_failures:
                report.parked.add(unit.id)
    return report


def _full_disk(run: Path) -> str:
    """Said of every missing unit, since on a full disk an attempt cannot record why it failed."""
    free = shutil.disk_usage(run).free
    return f"; the filesystem of {run} has {free:,} bytes left: make room" if free < LOW_DISK_BYTES else ""


def _why(state: StageState, unit: str, failures: list[Path], max_failures: int) -> str:
    if not failures:
        slices = sum(1 for _ in names_in(state.slices_path(unit)))
        kept = f"; {slices} slices are kept" if slices else ""
        if state.claim_path(unit).exists():
            return f"worked on, or lost with its task{kept}"
        return f"stopped in the middle{kept}" if slices else "not started"
    path = latest(failures)
    last = read_json_if_exists(path) or {"attempt": {"host": "?"}, "cause": "its record has just been moved away"}
    parked = "parked after" if len(failures) >= max_failures else "failed"
    return f"{parked} {len(failures)} attempts, last on {last['attempt']['host']}: {last['cause']} ({path})"


def _publish_success(state: StageState) -> dict[str, dict[str, Any]]:
    """Publish the list of units and the sums over them; returns the sentinels in plan order."""
    sentinels: dict[str, dict[str, Any]] = {}
    for unit in state.plan.units:
        sentinel = state.sentinel(unit.id)
        if sentinel is None:
            raise FileNotFoundError(state.done_path(unit.id))
        sentinels[unit.id] = sentinel
    attempts = {unit: sentinel["attempt"]["id"] for unit, sentinel in sentinels.items()}
    success: dict[str, Any] = {
        "stage": state.stage,
        "fingerprint": state.plan.fingerprint,
        "commit": _commit_of(attempts),
        "n_units": len(sentinels),
        "read": _read_commits(state, sentinels),
        "counts": add_counts([sentinel["counts"] for sentinel in sentinels.values()]),
        "seconds": {kind: round(sum(s["seconds"][kind] for s in sentinels.values()), 3) for kind in ("wall", "cpu")},
        "peak_rss_bytes": max((s["peak_rss_bytes"] for s in sentinels.values()), default=0),
        "output_bytes": sum(entry["bytes"] for s in sentinels.values() for entry in s["outputs"].values()),
    }
    old = state.success()
    if old is None or old != success or not state.units_path.exists():
        units = [{"unit": unit, "attempt": attempts[unit], "outputs": s["outputs"]} for unit, s in sentinels.items()]
        replace_json(state.units_path, {"commit": success["commit"], "units": units})
        reached("gate.units")
        replace_json(state.success_path, success)
        reached("gate.success")
    return sentinels


def _commit_of(attempts: Mapping[str, str]) -> str:
    """One digest for which attempt committed which unit."""
    return hashlib.sha256(to_json(attempts)).hexdigest()[:32]


def _read_commits(state: StageState, sentinels: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Stage -> the commit of it that the units together have read; what `pending` compares with one look."""
    read: dict[str, dict[str, str]] = {}
    for sentinel in sentinels.values():
        for key, commit in sentinel["inputs"].items():
            stage, _, unit = key.rpartition("/")
            read.setdefault(stage, {})[unit] = commit
    return {stage: units["*"] if "*" in units else _commit_of(units) for stage, units in read.items()}


def _fold(state: StageState, sentinels: Mapping[str, Any]) -> None:
    """All sentinels into one file; the loose ones go only when that is on disk."""
    archive = state.archive()
    loose = [unit for unit in sentinels if state.done_path(unit).exists()]
    if loose or archive is None or archive.units != sentinels.keys():
        write_archive(state.archive_path, sentinels)
        reached("fold.archived")
    remove_loose(state.folder / "done", loose)
    reached("fold.unlinked")


def show_current(state: StageState) -> None:
    """`meta/lid/current` and the like: one link beside each fingerprint folder, for people and DuckDB."""
    for template in state.plan.outputs.values():
        parts = Path(template).parts
        at = parts.index(state.fp12)
        link = state.run.joinpath(*parts[:at]) / "current"
        if link.is_dir() and not link.is_symlink():
            log.warning("%s is a folder, as a copy that follows links makes it; expected a link to %s: remove it", link, state.fp12)
            continue
        point_link(link, state.fp12)
