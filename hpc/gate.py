"""The gate: decides from sentinels alone whether a stage is complete, and says what is missing and why.

A complete stage gets `_SUCCESS.json` (all sentinels folded into one file), its `current` links, and an empty scratch.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc.commit import add_counts
from hpc.files import names_in, point_link, read_json, replace_json, to_json
from hpc.state import StageState, latest
from hpc.worker import MAX_FAILURES

LOW_DISK_BYTES = 1 << 20


@dataclass
class GateReport:
    """`missing`: unit -> why it is not committed. `logs`: folder of what the tasks wrote."""

    stage: str
    units: int
    missing: dict[str, str] = field(default_factory=dict)
    logs: Path | None = None

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


def run_gate(state: StageState) -> GateReport:
    """Check every unit's sentinel; publish `_SUCCESS.json` when all are there, take it back when not."""
    report = _look(state)
    if report.complete:
        try:
            _publish_success(state)
        except FileNotFoundError:  # a new launch has just taken a sentinel back
            return _look(state)
        _move_current(state)
        for leftovers in (state.scratch, state.folder / "slices"):
            shutil.rmtree(leftovers, ignore_errors=True)
    elif not all(state.is_done(unit) for unit in report.missing):
        # looked at again, since the gate of another launch may have found the rest and published in the meantime
        state.success_path.unlink(missing_ok=True)
    return report


def _look(state: StageState) -> GateReport:
    report = GateReport(state.stage, len(state.plan.units), logs=state.logs)
    done, failures = state.done_units(), state.failures()
    full = _full_disk(state.run)
    for unit in state.plan.units:
        if unit.id not in done:
            report.missing[unit.id] = _why(state, unit.id, failures.get(unit.id, [])) + full
    return report


def _full_disk(run: Path) -> str:
    """Said of every missing unit, since on a full disk an attempt cannot record why it failed."""
    free = shutil.disk_usage(run).free
    return f"; the filesystem of {run} has {free:,} bytes left: make room" if free < LOW_DISK_BYTES else ""


def _why(state: StageState, unit: str, failures: list[Path]) -> str:
    if not failures:
        slices = sum(1 for _ in names_in(state.slices_path(unit)))
        kept = f"; {slices} slices are kept" if slices else ""
        if state.claim_path(unit).exists():
            return f"worked on, or lost with its task{kept}"
        return f"stopped in the middle{kept}" if slices else "not started"
    path = latest(failures)
    last = read_json(path)
    parked = "parked after" if len(failures) >= MAX_FAILURES else "failed"
    return f"{parked} {len(failures)} attempts, last on {last['attempt']['host']}: {last['cause']} ({path})"


def _publish_success(state: StageState) -> None:
    sentinels = {unit.id: read_json(state.done_path(unit.id)) for unit in state.plan.units}
    attempts = {unit: sentinel["attempt"]["id"] for unit, sentinel in sentinels.items()}
    success: dict[str, Any] = {
        "stage": state.stage,
        "fingerprint": state.plan.fingerprint,
        "commit": hashlib.sha256(to_json(attempts)).hexdigest()[:32],
        "counts": add_counts([sentinel["counts"] for sentinel in sentinels.values()]),
        "seconds": {kind: round(sum(s["seconds"][kind] for s in sentinels.values()), 3) for kind in ("wall", "cpu")},
        "peak_rss_bytes": max((s["peak_rss_bytes"] for s in sentinels.values()), default=0),
        "units": [{"unit": unit, "attempt": attempts[unit], "outputs": s["outputs"]} for unit, s in sentinels.items()],
    }
    old = state.success()
    if old is None or old["commit"] != success["commit"]:
        replace_json(state.success_path, success)


def _move_current(state: StageState) -> None:
    """`meta/lid/current` and the like: one link beside each fingerprint folder, for people and DuckDB."""
    for template in state.plan.outputs.values():
        parts = Path(template).parts
        at = parts.index(state.fp12)
        point_link(state.run.joinpath(*parts[:at]) / "current", state.fp12)
