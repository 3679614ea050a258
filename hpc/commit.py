"""The commit protocol: run one unit under a private name, publish its files, publish its sentinel last.

What is on disk if the process dies at any line: private files below `tmp/`, perhaps some slices with their records,
perhaps final names without a sentinel (which nobody reads and the next attempt replaces with the same bytes).
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from hpc.attempt import Attempt
from hpc.files import file_digest, fsync_file, fsync_folder, move_into_place, names_in, publish_once, read_json_if_exists
from hpc.inputs import Commits, Files, resolve_inputs
from hpc.plan import Plan, PlannedUnit
from hpc.state import StageState

log = logging.getLogger("hpc.commit")

LOG_LINE_S = 60.0
"""A long unit says where it stands, this often."""

Counts = dict[str, Any]
"""{"read": int, "kept": int, "dropped": {reason: int}, "extra": {name: int}}"""

Outcome = Literal["committed", "lost", "stopped"]
"""lost: another attempt committed the unit first; stopped: asked to stop, slices so far are committed."""


class Work(Protocol):
    """What `hpc` asks of a stage. Files in, files out, counts; nothing of names, markers, retries or signals."""

    sliced: bool

    def load(self) -> None: ...
    def run(self, unit: PlannedUnit, inputs: Files, out: Mapping[str, Path]) -> Counts: ...
    def slice(self, unit: PlannedUnit, inputs: Files, folder: Path, cursor: Any) -> tuple[Counts, Any]: ...
    def join(self, unit: PlannedUnit, inputs: Files, slices: Sequence[Path], out: Mapping[str, Path]) -> None: ...


class BrokenStage(Exception):
    """The stage broke a law: counts that do not add up, an output not written, other bytes from the same inputs."""


def run_unit(
    state: StageState, work: Work, unit: PlannedUnit, attempt: Attempt, stop: Callable[[], bool], requested: Mapping[str, Any]
) -> Outcome:
    """Run one unit to its sentinel. Raises what the stage raises, `NotReady`, `LostInput`, `BrokenStage` or OSError."""
    scratch = state.scratch / f"{unit.id}@{attempt.id}"
    try:
        inputs, commits = resolve_inputs(state.run, state.plan, unit)
        scratch.mkdir(parents=True)
        out = {dataset: scratch / _final_name(dataset, template, unit.id) for dataset, template in state.plan.outputs.items()}
        clock = Clock()
        slices: list[dict[str, Any]] = []
        if work.sliced:
            slices = _run_slices(state, work, unit, attempt, inputs, commits, scratch, stop)
            if slices and slices[-1]["next"] is not None:
                return "stopped"
            clock = Clock()
            work.join(unit, inputs, [state.run / record["folder"] for record in slices], out)
            counts = add_counts([record["counts"] for record in slices])
        else:
            counts = work.run(unit, inputs, out)
        sentinel = _sentinel(state.plan, unit, attempt, commits, counts, clock, slices, requested)
        outcome = publish_unit(state, unit, out, sentinel)
    except Exception:
        _remove_uncommitted(state, unit.id, scratch)
        if state.is_done(unit.id):
            discard_slices(state, unit.id)
            return "lost"  # the winner has tidied up under our feet
        raise
    shutil.rmtree(scratch, ignore_errors=True)
    discard_slices(state, unit.id)
    return outcome


class Clock:
    """Wall and CPU seconds since construction."""

    def __init__(self) -> None:
        self.wall = time.monotonic()
        self.cpu = time.process_time()

    def seconds(self) -> dict[str, float]:
        return {"wall": round(time.monotonic() - self.wall, 3), "cpu": round(time.process_time() - self.cpu, 3)}


# --- slices -----------------------------------------------------------------------------------------------------------


def _run_slices(
    state: StageState,
    work: Work,
    unit: PlannedUnit,
    attempt: Attempt,
    inputs: Files,
    commits: Commits,
    scratch: Path,
    stop: Callable[[], bool],
) -> list[dict[str, Any]]:
    """Committed slices of the unit, in order, up to the end of the unit or to the moment of `stop`."""
    records, told = committed_slices(state, unit.id, commits), time.monotonic()
    while not records or records[-1]["next"] is not None:
        if stop():
            # an unfinished unit keeps its slices; one without any begins anew
            return records or [{"next": "stopped"}]
        clock = Clock()
        folder = scratch / f"slice-{len(records):05d}"
        folder.mkdir()
        counts, cursor = work.slice(unit, inputs, folder, records[-1]["next"] if records else None)
        check_counts(counts, f"{state.stage} {unit.id} slice {len(records)}")
        made = {"counts": counts, "next": cursor, "inputs": commits, "attempt": attempt.id, "seconds": clock.seconds()}
        if (record := _commit_slice(state, unit.id, len(records), folder, made)) is not None:
            records.append(record)
        else:  # another attempt works on this unit too: go on from what it has committed
            records = committed_slices(state, unit.id, commits)
        if time.monotonic() - told > LOG_LINE_S:
            told = time.monotonic()
            log.info("%s %s: %d slices committed, next %s", state.stage, unit.id, len(records), cursor)
    return records


def _commit_slice(state: StageState, unit: str, number: int, folder: Path, made: dict[str, Any]) -> dict[str, Any] | None:
    """Vouch for the files in `folder` as slice `number`; None when another attempt has committed that slice."""
    files = {name: (folder / name).stat().st_size for name in sorted(names_in(folder))}
    for name in files:
        fsync_file(folder / name)
    fsync_folder(folder)
    fsync_folder(folder.parent)
    record = {**made, "folder": folder.relative_to(state.run).as_posix(), "files": files}
    if publish_once(state.slices_path(unit) / f"{number:05d}.json", record):
        return record
    shutil.rmtree(folder, ignore_errors=True)
    return None


def committed_slices(state: StageState, unit: str, commits: Commits) -> list[dict[str, Any]]:
    """Slices that can be built upon: unbroken from the first, from the same inputs, with all their files."""
    records: list[dict[str, Any]] = []
    while (record := read_json_if_exists(state.slices_path(unit) / f"{len(records):05d}.json")) is not None:
        if record["inputs"] != commits or not _has_files(state.run / record["folder"], record["files"]):
            discard_slices(state, unit)
            return []
        records.append(record)
    return records


def _has_files(folder: Path, files: Mapping[str, int]) -> bool:
    try:
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except FileNotFoundError:
        return False


def discard_slices(state: StageState, unit: str) -> None:
    """Forget the slices of a unit. Records go first, last to first, so that what remains is always unbroken from the first."""
    names = sorted(names_in(state.slices_path(unit)), reverse=True)
    for name in names:
        record = read_json_if_exists(state.slices_path(unit) / name)
        (state.slices_path(unit) / name).unlink(missing_ok=True)
        if record is not None:
            shutil.rmtree(state.run / record["folder"], ignore_errors=True)
            _remove_if_empty((state.run / record["folder"]).parent)
    _remove_if_empty(state.slices_path(unit))


def _remove_uncommitted(state: StageState, unit: str, scratch: Path) -> None:
    """Remove what a failed attempt left, but not the slices that it has committed: the next attempt builds upon them."""
    records = (read_json_if_exists(state.slices_path(unit) / name) for name in names_in(state.slices_path(unit)))
    committed = {state.run / record["folder"] for record in records if record is not None}
    for path in [scratch / name for name in names_in(scratch)]:
        if path not in committed:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    _remove_if_empty(scratch)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise


# --- publishing -------------------------------------------------------------------------------------------------------


def publish_unit(state: StageState, unit: PlannedUnit, out: Mapping[str, Path], sentinel: dict[str, Any]) -> Outcome:
    """Move finished files to their final names and vouch for them with a sentinel."""
    check_counts(sentinel["counts"], f"{state.stage} {unit.id}")
    outputs: dict[str, dict[str, Any]] = {}
    for dataset, path in out.items():
        if not path.exists():
            raise BrokenStage(
                f"{state.stage} {unit.id} did not write its output {dataset!r} ({path}); every declared output must be written"
            )
        final = state.plan.outputs[dataset].format(unit=unit.id)
        outputs[dataset] = {"path": final, "bytes": path.stat().st_size, "digest": file_digest(path)}
    sentinel["outputs"] = outputs
    if state.is_done(unit.id):
        return _validate(state, unit.id, outputs)
    for dataset, path in out.items():
        move_into_place(path, state.run / outputs[dataset]["path"])
    if not publish_once(state.done_path(unit.id), sentinel):
        return _validate(state, unit.id, outputs)
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


def _sentinel(
    plan: Plan,
    unit: PlannedUnit,
    attempt: Attempt,
    commits: Commits,
    counts: Counts,
    clock: Clock,
    slices: list[dict[str, Any]],
    requested: Mapping[str, Any],
) -> dict[str, Any]:
    spent = [clock.seconds(), *(record["seconds"] for record in slices)]
    return {
        "stage": plan.stage,
        "unit": unit.id,
        "fingerprint": plan.fingerprint,
        "inputs": commits,
        "counts": counts,
        "seconds": {kind: round(sum(part[kind] for part in spent), 3) for kind in ("wall", "cpu")},
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "slices": [{"attempt": record["attempt"], **record["seconds"]} for record in slices],
        "requested": dict(requested),
        "attempt": attempt.to_dict(),
    }


def _final_name(dataset: str, template: str, unit: str) -> str:
    return f"{dataset.replace('/', '.')}-{Path(template).name.format(unit=unit)}"


# --- counts -----------------------------------------------------------------------------------------------------------


def check_counts(counts: Counts, what: str) -> None:
    """read = kept + sum(dropped by reason), or `BrokenStage`."""
    dropped = sum(counts["dropped"].values())
    if counts["read"] != counts["kept"] + dropped:
        raise BrokenStage(
            f"{what}: read {counts['read']}, but kept {counts['kept']} + dropped {dropped}; every document must be kept or dropped once"
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


def record_failure(state: StageState, unit: str, attempt: Attempt, cause: str, error: BaseException | None = None) -> None:
    """Keep why an attempt failed; a full disk must not hide the first error, so trouble here is only printed."""
    value = {
        "stage": state.stage,
        "unit": unit,
        "attempt": attempt.to_dict(),
        "cause": cause,
        "log": os.environ.get("CCPIPE_LOG", ""),
        "traceback": "".join(traceback.format_exception(error)) if error else "",
    }
    try:
        publish_once(state.failed_path(unit, attempt.id), value)
    except OSError as trouble:
        print(f"cannot record the failure of {state.stage} {unit}: {trouble}", flush=True)
