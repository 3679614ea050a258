"""`ccpipe inspect`: one document with all its columns, its text, and why it was kept or dropped.

A document is named by its URL, by its id (`s << 32 | i`), or by shard and row (`00012-345`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
from rich.console import Console

from ccpipe.wet import read_texts
from hpc.fs.files import read_json
from hpc.state.state import StageState

SHARD_ROW = re.compile(r"(\d+)[-:/](\d+)")


class NotFound(Exception):
    """No such document in the run."""


@dataclass(frozen=True)
class Group:
    """A column group of a run: the stage that wrote it and its committed files by unit."""

    stage: str
    dataset: str
    files: dict[str, Path]


def column_groups(run: Path) -> Iterator[Group]:
    """Base first, then the other groups in the order of the flow; only what sentinels name."""
    for entry in read_json(run / "flow.json")["stages"]:
        for dataset in StageState(run, entry["stage"], entry["fp12"]).plan.outputs:
            if dataset == "base" or dataset.startswith("meta/"):
                yield Group(entry["stage"], dataset, committed_files(run, entry["stage"], dataset))


def committed_files(run: Path, stage: str, dataset: str) -> dict[str, Path]:
    """Files of one dataset by unit, as the sentinels name them."""
    entry = next(entry for entry in read_json(run / "flow.json")["stages"] if entry["stage"] == stage)
    state = StageState(run, stage, entry["fp12"])
    sentinels = {unit: state.sentinel(unit) for unit in sorted(state.done_units())}
    return {unit: run / str(s["outputs"][dataset]["path"]) for unit, s in sentinels.items() if s}


def find_document(run: Path, base: Group, wanted: str) -> tuple[int, int]:
    """Shard and row of a document. Raises `NotFound` saying what was looked for and where."""
    if match := SHARD_ROW.fullmatch(wanted):
        shard, row = int(match[1]), int(match[2])
    elif wanted.isdigit():
        shard, row = int(wanted) >> 32, int(wanted) & 0xFFFFFFFF
    else:
        return _find_url(run, base, wanted)
    path = base.files.get(f"{shard:05d}")
    if path is None:
        raise NotFound(f"no shard {shard:05d} among the {len(base.files)} committed shards of {base.stage}")
    rows = pq.read_metadata(path).num_rows
    if row >= rows:
        raise NotFound(f"shard {shard:05d} has rows 0..{rows - 1}, asked for row {row}")
    return shard, row


def _find_url(run: Path, base: Group, url: str) -> tuple[int, int]:
    units = {str(path): unit for unit, path in base.files.items()}
    if units:
        query = "SELECT filename, file_row_number FROM read_parquet(?, filename=true, file_row_number=true) WHERE url = ? ORDER BY 1, 2"
        found = duckdb.connect().execute(query, [list(units), url]).fetchall()
        if found:
            return int(units[found[0][0]]), int(found[0][1])
    dropped = list(committed_files(run, base.stage, "dropped").values())
    if dropped:
        query = "SELECT reason, warc_path, warc_offset FROM read_parquet(?) WHERE url = ? ORDER BY ALL LIMIT 1"
        if found := duckdb.connect().execute(query, [list(map(str, dropped)), url]).fetchall():
            reason, warc, offset = found[0]
            raise NotFound(f"{base.stage} dropped {url}: {reason} (record at byte {offset} of {warc})")
    raise NotFound(
        f"{url} is in none of the {len(units)} committed shards, neither kept nor dropped; expected the address as the WARC has it"
    )


def read_row(path: Path, row: int) -> dict[str, Any]:
    table = pq.read_table(path)
    return {name: table.column(name)[row].as_py() for name in table.column_names}


def verdict(columns: dict[str, Any]) -> list[str]:
    """Why the document is kept or dropped: every broken rule, then the selection."""
    lines = [f"{name.removesuffix('_reason')} says: {value}" for name, value in columns.items() if name.endswith("_reason") and value]
    if columns.get("dedup_of") is not None:
        lines.append(
            f"dedup: duplicate of document {columns['dedup_of']} ({columns['dedup_of'] >> 32:05d}-{columns['dedup_of'] & 0xFFFFFFFF})"
        )
    if "select_keep" in columns:
        lines.append("selected for export" if columns["select_keep"] else "not selected: the `where` of [stage.select] is not true for it")
    return lines or ["no stage has dropped it so far"]


def show_document(console: Console, run: Path, wanted: str, full: bool) -> None:
    """Print everything about one document. Raises `NotFound`."""
    if not (run / "flow.json").exists():
        raise NotFound(f"{run} is not a run directory yet; start with `ccpipe plan` or `ccpipe local`")
    groups = list(column_groups(run))
    if not groups:
        raise NotFound(f"{run} has no extracted documents yet")
    shard, row = find_document(run, groups[0], wanted)
    columns: dict[str, Any] = {}
    console.print(f"document {shard << 32 | row} (shard {shard:05d}, row {row})", style="bold", highlight=False)
    for group in groups:
        path = group.files.get(f"{shard:05d}")
        console.print(f"\n{group.stage}" + ("" if path else ": not committed for this shard"), style="bold cyan", highlight=False)
        values = read_row(path, row) if path else {}
        columns |= values
        for name, value in values.items():
            console.print(f"  {name:<24} {value!r}", highlight=False, markup=False)
    console.print("\nverdict", style="bold cyan")
    for line in verdict(columns):
        console.print(f"  {line}", highlight=False, markup=False)
    wet = committed_files(run, groups[0].stage, "wet")[f"{shard:05d}"]
    text = read_texts(wet, np.array([columns["wet_offset"]]), np.array([columns["wet_length"]]), [columns["digest"]])[0].as_py()
    lines = text.splitlines()
    shown = lines if full else lines[:40]
    dropped = {n for name, value in columns.items() if name.endswith("_drop_lines") and value for n in value}
    console.print("\ntext", style="bold cyan")
    for number, line in enumerate(shown):
        mark = "-" if number in dropped else " "
        console.print(f"{mark} {line}", style="dim" if mark == "-" else None, highlight=False, markup=False)
    if len(shown) < len(lines):
        console.print(f"  ... {len(lines) - len(shown)} more lines; --full shows them", style="dim")
