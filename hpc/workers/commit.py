"""The commit protocol: run one unit under a private name, publish its files, publish its sentinel last.

What is on disk if the process dies at any line: private files below `tmp/`, perhaps some slices with their records,
perhaps final names without a sentinel (which nobody reads and the next attempt replaces with the same bytes). The steps
have names: hpc/fs/points.py.
"""

from __future__ import annotations

import logging
import os
import shutil
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hpc.fs.files import file_digest, move_into_place, publish_once, seal, sync_folders
from hpc.fs.points import reached
from hpc.fs.scratch import bring
from hpc.state.attempt import Attempt
from hpc.state.inputs import Commits, resolve_inputs
from hpc.state.plan import PlannedUnit
from hpc.state.slices import Record, SlicedUnit, discard_slices, remove_uncommitted
from hpc.state.state import StageState
from hpc.state.work import BrokenStage, Clock, Counts, Work, add_counts, check_counts
from hpc.workers.usage import peak_rss_bytes

log = logging.getLogger("hpc.workers.commit")

Outcome = Literal["committed", "lost", "stopped"]
"""lost: another attempt committed the unit first; stopped: asked to stop, slices so far are committed."""

Kind = Literal["error", "out_of_memory", "time_limit", "killed", "lost"]
"""Why an attempt failed; the next launch asks for more memory or time by this."""


@dataclass(frozen=True)
class UnitRun:
    """One attempt on one unit. `local`: node-local scratch, where there is one; `requested`: resources of the launch."""

    state: StageState
    work: Work
    unit: PlannedUnit
    attempt: Attempt
    stop: Callable[[], bool]
    requested: Mapping[str, Any] = field(default_factory=dict)
    local: Path | None = None

    @property
    def scratch(self) -> Path:
        return self.state.scratch / f"{self.unit.id}@{self.attempt.id}"

    def run(self) -> Outcome:
        """Run the unit to its sentinel. Raises what the stage raises, `NotReady`, `LostInput`, `BrokenStage` or OSError."""
        near = self.local / self.scratch.name if self.local else self.scratch
        try:
            self.scratch.mkdir(parents=True)
            near.mkdir(exist_ok=True)
            reached("scratch.made")
            outcome = self._run(near)
        except Exception:
            remove_uncommitted(self.state, self.unit.id, self.scratch)
            if self.state.is_done(self.unit.id):
                discard_slices(self.state, self.unit.id)
                return "lost"  # the winner has tidied up under our feet
            raise
        finally:
            if near != self.scratch:
                shutil.rmtree(near, ignore_errors=True)
        if outcome != "stopped":
            shutil.rmtree(self.scratch, ignore_errors=True)
            if self.work.sliced:
                discard_slices(self.state, self.unit.id)
            reached("slices.discarded")
        return outcome

    def _run(self, near: Path) -> Outcome:
        state, unit, work = self.state, self.unit, self.work
        inputs, commits = resolve_inputs(state.run, state.plan, unit)
        out = {dataset: near / _private_name(dataset, template, unit.id) for dataset, template in state.plan.outputs.items()}
        clock = Clock()
        slices: list[Record] = []
        if work.sliced:
            sliced = SlicedUnit(state, work, unit, self.attempt, inputs, commits, self.scratch, near, self.stop).run()
            if sliced is None:
                return "stopped"
            slices, clock = sliced, Clock()
            work.join(unit, inputs, [state.run / record["folder"] for record in slices], out)
            counts = add_counts([record["counts"] for record in slices])
        else:
            counts = work.run(unit, inputs, out)
        check_counts(counts, f"{state.stage} {unit.id}")
        reached("unit.written")
        return publish_unit(state, unit, self._brought(out), self._sentinel(commits, counts, clock, slices))

    def _brought(self, out: Mapping[str, Path]) -> dict[str, Path]:
        """The outputs, all of which must exist, beside their final places."""
        for dataset, path in out.items():
            if not path.exists():
                raise BrokenStage(
                    f"{self.state.stage} {self.unit.id} did not write its output {dataset!r} ({path}); expected every one to be written"
                )
        return {dataset: bring(path, self.scratch) for dataset, path in out.items()}

    def _sentinel(self, commits: Commits, counts: Counts, clock: Clock, slices: list[Record]) -> dict[str, Any]:
        plan = self.state.plan
        spent = [clock.seconds(), *(record["seconds"] for record in slices)]
        return {
            "stage": plan.stage,
            "unit": self.unit.id,
            "fingerprint": plan.fingerprint,
            "key": self.unit.key,
            "inputs": commits,
            "counts": counts,
            "seconds": {kind: round(sum(part[kind] for part in spent), 3) for kind in ("wall", "cpu")},
            "peak_rss_bytes": peak_rss_bytes(),
            "slices": [{"attempt": record["attempt"], **record["seconds"]} for record in slices],
            "requested": dict(self.requested),
            "attempt": self.attempt.to_dict(),
        }


def publish_unit(state: StageState, unit: PlannedUnit, out: Mapping[str, Path], sentinel: dict[str, Any]) -> Outcome:
    """Move finished files to their final names and vouch for them with a sentinel."""
    outputs: dict[str, dict[str, Any]] = {}
    for dataset, path in out.items():
        final = state.plan.outputs[dataset].format(unit=unit.id)
        size, digest = seal(path)
        outputs[dataset] = {"path": final, "bytes": size, "digest": digest}
    sentinel["outputs"] = outputs
    if state.is_done(unit.id):
        return _validate(state, unit.id, outputs)
    targets = {path: state.run / outputs[dataset]["path"] for dataset, path in out.items()}
    for path, target in targets.items():
        move_into_place(path, target, sync_file=False, sync_folder=False)
        reached("output.moved")
    sync_folders({target.parent for target in targets.values()})
    reached("outputs.synced")
    # the folder of the sentinels is fsynced by the worker, now and then: should it lose one of the last second, the unit runs again
    if not publish_once(state.done_path(unit.id), sentinel, sync_folder=False):
        return _validate(state, unit.id, outputs)
    if state.folded(unit.id) is not None:  # the stage was folded while we were frozen: the archive has the winner's
        state.done_path(unit.id).unlink(missing_ok=True)
        return _validate(state, unit.id, outputs)
    reached("sentinel.linked")
    return "committed"


def _validate(state: StageState, unit: str, outputs: Mapping[str, Any]) -> Outcome:
    """The race is lost: the winner's outputs must be ours, byte for byte."""
    winner = state.sentinel(unit)
    if winner is not None and winner["outputs"] != outputs:
        different = [dataset for dataset in outputs if winner["outputs"].get(dataset) != outputs[dataset]]
        stands = all(file_digest(state.run / entry["path"]) == entry["digest"] for entry in winner["outputs"].values())
        done = state.done_path(unit)
        raise BrokenStage(
            f"{state.stage} {unit}: two attempts wrote different bytes for {different}; expected equal bytes from equal inputs. "
            + (f"The committed ones stand ({done}). " if stands else f"The files are no longer those of the sentinel: remove {done}. ")
            + "Look for time, randomness or listing order in the stage"
        )
    return "lost"


def _private_name(dataset: str, template: str, unit: str) -> str:
    return f"{dataset.replace('/', '.')}-{Path(template).name.format(unit=unit)}"


def record_failure(
    state: StageState,
    unit: str,
    attempt: Attempt,
    cause: str,
    error: BaseException | None = None,
    kind: Kind = "error",
    requested: Mapping[str, Any] | None = None,
) -> None:
    """Keep why an attempt failed; a full disk must not hide the first error, so trouble here is only printed."""
    value = {
        "stage": state.stage,
        "unit": unit,
        "attempt": attempt.to_dict(),
        "cause": cause,
        "kind": kind,
        "log": os.environ.get("CCPIPE_LOG", ""),
        "traceback": "".join(traceback.format_exception(error)) if error else "",
        "requested": dict(requested or {}),
    }
    try:
        publish_once(state.failed_path(unit, attempt.id), value)
    except OSError as trouble:
        print(f"cannot record the failure of {state.stage} {unit}: {trouble}", flush=True)
