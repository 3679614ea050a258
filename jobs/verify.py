"""`ccpipe verify`: do the WET files, and the WARCs where asked, still hold what `meta/base` says? Also saves single documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from ccpipe.proof import DamagedPage, prove_page, prove_text
from ccpipe.wet import DamagedWet
from jobs.inspection import Group, NotFound, column_groups, committed_files, find_document

SHOWN = 20
"""Problems told in words; the rest are counted."""


def verify_run(console: Console, run: Path, wanted: Sequence[str], pages: bool, save: Path | None) -> bool:
    """Check every document, or those of `wanted` (URL, id or SHARD-ROW); `save`: folder for their texts and pages. Raises `NotFound`."""
    if not (run / "flow.json").exists():
        raise NotFound(f"{run} is not a run directory yet; start with `ccpipe plan` or `ccpipe local`")
    base = next(iter(column_groups(run)))
    wets = committed_files(run, base.stage, "wet")
    rows = _rows_by_unit(run, base, wanted)
    problems: list[str] = []
    for unit, numbers in rows.items():
        found = _verify_unit(base.files[unit], wets[unit], numbers, pages or save is not None, save)
        console.print(f"{unit}: {len(numbers)} documents, {len(found)} not as recorded", highlight=False)
        problems += found
    for problem in problems[:SHOWN]:
        console.print(f"  {problem}", highlight=False, markup=False, soft_wrap=True)
    if len(problems) > SHOWN:
        console.print(f"  ... {len(problems) - SHOWN} more", highlight=False)
    return not problems


def _rows_by_unit(run: Path, base: Group, wanted: Sequence[str]) -> dict[str, list[int]]:
    """Row numbers to look at."""
    if not wanted:
        return {unit: list(range(pq.read_metadata(path).num_rows)) for unit, path in base.files.items()}
    rows: dict[str, list[int]] = {}
    for document in wanted:
        shard, row = find_document(run, base, document)
        rows.setdefault(f"{shard:05d}", []).append(row)
    return rows


def _verify_unit(base: Path, wet: Path, numbers: Sequence[int], pages: bool, save: Path | None) -> list[str]:
    """What is wrong with these rows of one shard."""
    table = pq.read_table(base)
    problems: list[str] = []
    for number in numbers:
        row = table.slice(number, 1).to_pylist()[0]
        try:
            _verify_row(row, wet, pages, save / f"{base.stem}-{number}" if save else None)
        except (DamagedWet, DamagedPage, FileNotFoundError) as error:
            problems.append(f"{base.stem}-{number}: {error}")
    return problems


def _verify_row(row: dict[str, Any], wet: Path, pages: bool, save: Path | None) -> None:
    text = prove_text(wet, row)
    page = prove_page(row) if pages else b""
    if save:
        save.parent.mkdir(parents=True, exist_ok=True)
        save.with_name(save.name + ".txt").write_text(text, encoding="utf-8")
        save.with_name(save.name + ".http").write_bytes(page)
