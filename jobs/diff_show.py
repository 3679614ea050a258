"""`ccpipe diff` for people and for programs: what jobs/diff.py has found, with the addresses and texts of the examples."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ccpipe.wet import read_texts
from hpc.state.identity import difference_line
from jobs.diff import BASE, Diff, Version, make_diff
from jobs.diff_rows import Example, Group, Verdicts, read_rows

TEXT_CHARS = 200
MAX_REASONS = 20
MAX_UNITS = 5


def run_diff(console: Console, run: Path, stage: str | None, old: str | None, new: str | None, examples: int, as_json: bool) -> int:
    """Compare version `old` (None: the other one launched last) of `stage` with `new` (None: the one planned now), both by the first
    digits of their fingerprints; print up to `examples` documents for each kind of difference. Raises `UsageError`."""
    diff = make_diff(run, stage, old, new, examples)
    if as_json:
        print(json.dumps(to_dict(diff), ensure_ascii=False, default=str))
    else:
        show_diff(console, diff)
    return 0


def to_dict(diff: Diff) -> dict[str, Any]:
    """For `--json`. The counts add up: before = kept_both + lost, now = kept_both + gained."""
    found = diff.found
    value: dict[str, Any] = {
        "stage": diff.new.state.stage,
        "old": {"fp12": diff.old.state.fp12, "units": len(diff.old.units)},
        "new": {"fp12": diff.new.state.fp12, "units": len(diff.new.units)},
        "units": len(diff.units),
        "matched_by": "record" if diff.question.by_record else "row",
        "keys": [_key(difference) for difference in diff.keys],
        "causes": {stage: [_key(difference) for difference in keys] for stage, keys in diff.causes.items()},
        "units_with_other_inputs": list(diff.other_details),
        "in_both": found.in_both,
        "columns": {
            name: {"changed": column.changed, "mean_absolute_change": column.mean}
            for name, column in found.columns.items()
            if column.changed
        },
        "documents": counts(diff),
        "kinds": {kind: [_group(diff, *item) for item in groups] for kind, groups in kinds(diff).items()},
    }
    return value


def _key(difference: tuple[str, Any, Any]) -> dict[str, Any]:
    return dict(zip(("key", "old", "new"), difference, strict=True))


def counts(diff: Diff) -> dict[str, int]:
    found = diff.found
    both, lost, gained = found.count(True, True), found.count(True, False), found.count(False, True)
    other = sum(group.documents for _, group in kinds(diff)["other_reason"])
    dropped = found.count(False, False)
    names = ("kept_before", "kept_now", "kept_both", "lost", "gained", "dropped_both", "other_reason")
    return dict(zip(names, (both + lost, both + gained, both, lost, gained, dropped, other), strict=True))


def kinds(diff: Diff) -> dict[str, list[tuple[Verdicts, Group]]]:
    """Kinds of difference -> verdicts, most frequent first."""
    ranked = sorted(diff.found.groups.items(), key=lambda item: (-item[1].documents, str(item[0])))

    def those(old_kept: bool, new_kept: bool) -> list[tuple[Verdicts, Group]]:
        return [item for item in ranked if (item[0][0] is None, item[0][1] is None) == (old_kept, new_kept)]

    return {
        "lost": those(True, False),
        "gained": those(False, True),
        "other_reason": [item for item in those(False, False) if item[0][0] != item[0][1]],
        "changed": [item for item in those(True, True) if item[1].examples],
    }


def _group(diff: Diff, verdicts: Verdicts, group: Group) -> dict[str, Any]:
    examples = [described(diff, example) for _, example in group.examples]
    return {"old_reason": verdicts[0], "new_reason": verdicts[1], "documents": group.documents, "examples": examples}


# --- examples ---------------------------------------------------------------------------------------------------------


def described(diff: Diff, example: Example) -> dict[str, Any]:
    """Address, ids, columns that differ (before, now) and the beginning of the text."""
    old = _row(diff.old, diff.old.dataset, example.old_id)
    new = _row(diff.new, diff.new.dataset, example.new_id)
    names = [*(name for name in (diff.question.keep, diff.question.reason) if name), *diff.question.columns]
    changed = {name: [old[name], new[name]] for name in names if old and new and old[name] != new[name]}
    version, id = (diff.new, example.new_id) if example.new_id is not None else (diff.old, example.old_id)
    base = _row(version, BASE, id)
    return {
        "url": base.get("url", example.url),
        "old_id": example.old_id,
        "new_id": example.new_id,
        "warc_path": base.get("warc_path", example.warc_path),
        "warc_offset": base.get("warc_offset", example.warc_offset),
        "columns": changed,
        "text": _text(version, id, base),
    }


def _row(version: Version, dataset: str, id: int | None) -> dict[str, Any]:
    """The row of a document in `base` or in the stage's own columns; empty where it has none."""
    return read_rows(_path(version, dataset, id), [id & 0xFFFFFFFF])[id & 0xFFFFFFFF] if id is not None else {}


def _path(version: Version, dataset: str, id: int) -> Path:
    state = version.base if dataset in (BASE, "wet") else version.state
    sentinel = state.sentinel(f"{id >> 32:05d}")
    assert sentinel is not None  # it was there when its files were compared
    return state.run / str(sentinel["outputs"][dataset]["path"])


def _text(version: Version, id: int | None, base: dict[str, Any]) -> str | None:
    """The first characters; None where the document has no text or the WET is gone."""
    if id is None or not (wet := _path(version, "wet", id)).exists():
        return None
    text = read_texts(wet, np.array([base["wet_offset"]]), np.array([base["wet_length"]]), [base["digest"]])[0].as_py()
    return str(text[:TEXT_CHARS])


# --- for people -------------------------------------------------------------------------------------------------------


def show_diff(console: Console, diff: Diff) -> None:
    for line in lines(diff):
        # not wrapped: a line is for grep, an address for the clipboard
        console.print(line, highlight=False, markup=False, soft_wrap=True, style="bold" if line and line[0] not in " " else None)


def lines(diff: Diff) -> Iterator[str]:
    old, new = diff.old, diff.new
    yield f"{new.state.stage}: {old.state.fp12} ({len(old.units)} units) -> {new.state.fp12} ({len(new.units)} units)"
    only_old, only_new = len(old.units - new.units), len(new.units - old.units)
    yield f"  {len(diff.units)} units in both are compared; {only_old} only before, {only_new} only now"
    yield "  documents are matched by " + (
        "WARC record: the rows are not the same" if diff.question.by_record else "row: both have the same rows"
    )
    yield "what differs"
    yield from (f"  {difference_line(difference)}" for difference in diff.keys)
    yield from (f"  because of {stage}: {difference_line(difference)}" for stage, keys in diff.causes.items() for difference in keys)
    if diff.other_details:
        first = ", ".join(diff.other_details[:MAX_UNITS])
        yield f"  {len(diff.other_details)} units were given other inputs: {first}{', ...' if len(diff.other_details) > MAX_UNITS else ''}"
    yield from _document_lines(diff) if diff.has_verdict else _presence_lines(diff)
    yield from _column_lines(diff)


def _document_lines(diff: Diff) -> Iterator[str]:
    n = counts(diff)
    yield "documents"
    yield f"  kept before {n['kept_before']:,} = kept both times {n['kept_both']:,} + not kept now {n['lost']:,}"
    yield f"  kept now {n['kept_now']:,} = kept both times {n['kept_both']:,} + not kept before {n['gained']:,}"
    yield f"  dropped both times {n['dropped_both']:,}, for another reason {n['other_reason']:,}"
    headings = {
        "lost": "kept before, not now",
        "gained": "not kept before, kept now",
        "other_reason": "dropped both times, for another reason",
        "changed": "kept both times, with other values",
    }
    for kind, groups in kinds(diff).items():
        total = sum(group.documents for _, group in groups)
        if groups:
            yield headings[kind] + (f": {total:,}" if kind != "changed" else "")
        for verdicts, group in groups[:MAX_REASONS]:
            reason = " -> ".join(verdict for verdict in verdicts if verdict is not None)
            if reason:
                yield f"  {group.documents:,}  {reason}"
            yield from _example_lines(diff, [example for _, example in group.examples])
        if len(groups) > MAX_REASONS:
            rest = sum(group.documents for _, group in groups[MAX_REASONS:])
            yield f"  {rest:,}  for {len(groups) - MAX_REASONS} more reasons; --json names them"


def _presence_lines(diff: Diff) -> Iterator[str]:
    n = counts(diff)
    yield "documents (this stage drops none)"
    yield f"  before {n['kept_before']:,} = in both {n['kept_both']:,} + not now {n['lost']:,}; now {n['kept_now']:,}"
    for _, group in kinds(diff)["changed"]:
        yield "with other values"
        yield from _example_lines(diff, [example for _, example in group.examples])


def _column_lines(diff: Diff) -> Iterator[str]:
    yield f"columns, over {diff.found.in_both:,} documents with a row in both"
    changed = {name: column for name, column in diff.found.columns.items() if column.changed}
    for name, column in changed.items():
        mean = f", by {column.mean:.4g} on average" if column.mean is not None else ""
        yield f"  {name}: changed in {column.changed:,}{mean}"
    if not changed:
        yield "  no value has changed"


def _example_lines(diff: Diff, examples: Iterable[Example]) -> Iterator[str]:
    for example in examples:
        found = described(diff, example)
        yield f"    {found['url'] or '(no address)'}"
        ids = [f"{_named(found['new_id'])}"] if found["new_id"] is not None else []
        if found["old_id"] is not None and found["old_id"] != found["new_id"]:
            ids.append(f"before {_named(found['old_id'])}")
        yield f"      document {', '.join(ids)}" if ids else f"      record at byte {found['warc_offset']} of {found['warc_path']}"
        yield from _value_lines(diff, found["columns"])
        if found["text"]:
            yield f"      {' '.join(found['text'].split())}"


def _value_lines(diff: Diff, columns: dict[str, tuple[Any, Any]]) -> Iterator[str]:
    """Values that differ; where the stage looked at the document in one version alone, they are not told one by one."""
    verdict = (diff.question.keep, diff.question.reason)
    told = {name: values for name, values in columns.items() if name in verdict or None not in values}
    yield from (f"      {name}: {old!r} -> {new!r}" for name, (old, new) in told.items())
    if rest := len(columns) - len(told):
        yield f"      {rest} more columns that are null in one of the two; --json has them"


def _named(id: int) -> str:
    return f"{id} ({id >> 32:05d}-{id & 0xFFFFFFFF})"
