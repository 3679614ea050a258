"""`ccpipe diff`: two versions of a stage. Which keys differ, and what that did to which documents, with examples.

A document is kept where `<prefix>_reason` is null, or `<prefix>_keep` is true; by `extract`, where it has a row. Stages without a
verdict are compared column by column. Rules of comparison: jobs/diff_rows.py. Printing: jobs/diff_show.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hpc.fs.files import names_in, read_json
from hpc.state.identity import Difference, differing_keys
from hpc.state.inputs import upstream_state
from hpc.state.plan import Plan
from hpc.state.state import StageState
from jobs.diff_rows import NUMBERS, PLACES, Comparison, Question, UnitFiles, column_types, compare
from jobs.errors import UsageError

BASE = "base"


@dataclass(frozen=True)
class Version:
    """One version of a stage: its state and that of the stage whose rows it goes by. `dataset` is its column group."""

    state: StageState
    dataset: str

    @cached_property
    def units(self) -> set[str]:
        return self.state.done_units()

    @cached_property
    def base(self) -> StageState:
        """The state of the stage that wrote the rows."""
        if self.dataset == BASE:
            return self.state
        return next(upstream_state(self.state.run, item) for item in self.state.plan.inputs if item.dataset == BASE)

    @property
    def last_used(self) -> int:
        """Time of its last launch, or of its plan, ns."""
        launches = self.state.folder / "launches"
        return max(path.stat().st_mtime_ns for path in (self.state.plan_path, *(launches / name for name in names_in(launches))))

    def files(self, unit: str, by_record: bool) -> UnitFiles:
        """Raises `UsageError` where a file is gone that a sentinel names."""
        columns = _outputs(self.state, unit)
        base = _outputs(self.base, unit)
        dropped = base.get("dropped") if by_record else None
        sentinel = self.state.sentinel(unit) or {"counts": {"read": 0}}
        found = UnitFiles(self.state.plan.by_id[unit].index, sentinel["counts"]["read"], columns[self.dataset], base[BASE], dropped)
        for path in (found.columns, found.base, found.dropped):
            if path is not None and not path.exists():
                raise UsageError(
                    f"{path} is gone, though {self.state.stage} {self.state.fp12} is committed; expected what its sentinels name. "
                    "Compare with a version that `ccpipe gc` has left, or run the stage again"
                )
        return found


@dataclass(frozen=True)
class Diff:
    """What is shown. `keys` of the stage itself; `causes`: stage before -> its keys that differ; `units`: those in both.

    `other_details`: units of the two plans that were told other things, such as other files to read (`extract`).
    """

    old: Version
    new: Version
    keys: list[Difference]
    causes: dict[str, list[Difference]]
    other_details: tuple[str, ...]
    units: tuple[str, ...]
    question: Question
    found: Comparison

    @property
    def has_verdict(self) -> bool:
        return self.question.is_extract or bool(self.question.keep or self.question.reason)


def make_diff(run: Path, stage: str | None, old: str | None, new: str | None, examples: int) -> Diff:
    _check_options(old, new, examples)
    try:
        entry, dataset = _find_stage(run, stage)
        before, now = _choose(run, entry, dataset, old, new)
        was, planned = before.state.plan, now.state.plan
    except ValueError as error:  # a plan of another format; the message says what to do
        raise UsageError(str(error)) from error
    units = tuple(sorted(before.units & now.units, key=lambda unit: planned.by_id[unit].index))
    if not units:
        raise UsageError(
            f"{_described(before)} and {_described(now)} have no committed unit in common; expected some to compare. "
            f"Run what is missing: `ccpipe local --stage {entry['stage']}` or `ccpipe submit --stage {entry['stage']}`"
        )
    by_record = before.base.fp12 != now.base.fp12
    pairs = [(before.files(unit, by_record), now.files(unit, by_record)) for unit in units]
    question = _question(before, now, pairs[0], by_record, examples)
    causes = dict(_causes(before.state, now.state, set()))
    details = tuple(
        sorted(unit for unit in was.by_id.keys() & planned.by_id.keys() if was.by_id[unit].detail != planned.by_id[unit].detail)
    )
    return Diff(before, now, own_keys(was, planned), causes, details, units, question, compare(pairs, question))


def _check_options(old: str | None, new: str | None, examples: int) -> None:
    for option, fp in (("--old", old), ("--new", new)):
        if fp is not None and not fp.strip():
            raise UsageError(f"{option} {fp!r}: expected the first digits of a fingerprint; leave {option} out for the default")
    if examples < 0:
        raise UsageError(f"--examples {examples}: expected 0 or more documents of each kind; leave --examples out for 5")


# --- which stage, which versions --------------------------------------------------------------------------------------


def _find_stage(run: Path, wanted: str | None) -> tuple[dict[str, Any], str]:
    """The entry of the stage in flow.json and its column group. A family stands for its only member that has one."""
    if not (run / "flow.json").exists():
        raise UsageError(f"{run} is not a run directory yet; expected one that was planned: start with `ccpipe plan` or `ccpipe local`")
    entries = read_json(run / "flow.json")["stages"]
    groups = {entry["stage"]: (entry, group) for entry in entries if (group := _column_group(run, entry))}
    named = [name for name in groups if name == wanted] or [name for name in groups if name.startswith(f"{wanted}.")]
    if len(named) == 1:
        return groups[named[0]]
    if named:
        raise UsageError(f"{wanted} is {len(named)} stages; expected one of them: --stage {' or --stage '.join(named)}")
    known = any(entry["stage"] == wanted or entry["stage"].startswith(f"{wanted}.") for entry in entries)
    seen = f"stage {wanted} writes no columns that could be compared" if known else f"no stage {wanted} in {run}"
    seen = seen if wanted else "no stage was named"
    raise UsageError(f"{seen}; expected one of {', '.join(groups)}: type --stage and one of them")


def _column_group(run: Path, entry: Mapping[str, Any]) -> str | None:
    outputs = StageState(run, entry["stage"], entry["fp12"]).plan.outputs
    return next((dataset for dataset in outputs if dataset == BASE or dataset.startswith("meta/")), None)


def _choose(run: Path, entry: Mapping[str, Any], dataset: str, old: str | None, new: str | None) -> tuple[Version, Version]:
    stage = entry["stage"]
    names = sorted(name for name in names_in(run / "state" / stage) if StageState(run, stage, name).plan_path.exists())
    versions = [Version(StageState(run, stage, name), dataset) for name in names]
    committed = [version for version in versions if version.units]
    now = _named(committed, new or entry["fp12"], stage)
    if old is not None:
        before = _named(committed, old, stage)
        if before == now:
            raise UsageError(
                f"--old {old} and the new version are both {now.state.fp12}; expected two versions of {stage}. {_offer(committed)}"
            )
        return before, now
    others = [version for version in committed if version != now]
    if not others:
        raise UsageError(
            f"stage {stage} has only one version with committed units, {now.state.fp12}; expected two. Change its config, a model or "
            f"an input, run it again (`ccpipe local --stage {stage}`), then type this again"
        )
    return max(others, key=lambda version: (version.last_used, version.state.fp12)), now


def _named(versions: Sequence[Version], fp: str, stage: str) -> Version:
    found = [version for version in versions if version.state.fp12.startswith(fp[:12])]
    if len(found) != 1:
        seen = f"{len(found)} versions" if found else "no version with committed units"
        raise UsageError(
            f"stage {stage} has {seen} whose fingerprint begins with {fp[:12]}; expected one. {_offer(versions)}; "
            f"to make the version planned now: `ccpipe local --stage {stage}` or `ccpipe submit --stage {stage}`"
        )
    return found[0]


def _offer(versions: Sequence[Version]) -> str:
    latest_first = sorted(versions, key=lambda version: (-version.last_used, version.state.fp12))
    return f"Choose with --old and --new, latest first: {', '.join(map(_described, latest_first)) or 'none is committed yet'}"


def _described(version: Version) -> str:
    return f"{version.state.fp12} ({len(version.units)} units)"


# --- what to compare --------------------------------------------------------------------------------------------------


def _outputs(state: StageState, unit: str) -> dict[str, Path]:
    """Committed files of a unit by dataset, as its sentinel names them."""
    sentinel = state.sentinel(unit)
    if sentinel is None:
        raise UsageError(
            f"{state.stage} {unit} of version {state.fp12} is not committed any more; expected the rows that a later stage was made "
            f"from. Run it again: `ccpipe local --stage {state.stage}`"
        )
    return {dataset: state.run / str(entry["path"]) for dataset, entry in sentinel["outputs"].items()}


def _question(old: Version, new: Version, files: tuple[UnitFiles, UnitFiles], by_record: bool, examples: int) -> Question:
    before, now = (column_types(unit.columns) for unit in files)
    prefixes = (new.state.stage.rpartition(".")[2], new.dataset.removeprefix("meta/"))
    common = [name for name in now if before.get(name) == now[name]]
    keep = next((f"{prefix}_keep" for prefix in prefixes if f"{prefix}_keep" in common and now[f"{prefix}_keep"] == "BOOLEAN"), None)
    reason = next((f"{prefix}_reason" for prefix in prefixes if f"{prefix}_reason" in common), None)
    is_extract = new.dataset == BASE
    hidden = PLACES | {"url", "warc_path", "warc_offset"} if is_extract else {keep, reason}
    columns = {name: now[name] in NUMBERS for name in common if name not in hidden}
    return Question(None if is_extract else keep, None if is_extract else reason, columns, by_record, is_extract, examples)


def own_keys(old: Plan, new: Plan) -> list[Difference]:
    """Keys that differ, without the digest over all units: it says no more than the others, or than the units' details."""
    return [difference for difference in differing_keys(old.identity, new.identity) if difference[0] != "units"]


def _causes(old: StageState, new: StageState, seen: set[str]) -> Iterator[tuple[str, list[Difference]]]:
    """The stages before that differ in more than what they read themselves, with these keys."""
    before = {item.stage: upstream_state(old.run, item) for item in old.plan.inputs}
    for item in new.plan.inputs:
        now = upstream_state(new.run, item)
        was = before.get(item.stage)
        if item.stage in seen or was is None or was.fp12 == now.fp12 or not (was.plan_path.exists() and now.plan_path.exists()):
            continue
        seen.add(item.stage)
        datasets = {f"inputs.{read.dataset}" for state in (was, now) for read in state.plan.inputs}
        own = [difference for difference in own_keys(was.plan, now.plan) if difference[0] not in datasets]
        if own:
            yield item.stage, own
        yield from _causes(was, now, seen)
