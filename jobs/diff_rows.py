"""Two versions of a stage, document by document: counts by verdict and reason, columns that changed, the first examples.

In: the Parquet files of both versions, as sentinels name them. Out: `Comparison`. DuckDB reads every file once, some millions of
rows at a time; no document passes through Python but the examples.

Where both versions rest on the same `base`, row is compared with row. Otherwise a document is the record at one byte of one
WARC with one URL, and the pages that extraction dropped are documents too, with the reason `extract:<reason>`: so a
document that is no longer there is told from one that is judged otherwise. A WARC that has moved to another shard is two files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

BATCH_ROWS = 2_000_000
"""Documents of one query: a few hundred bytes of memory each."""

NOT_IN_INPUTS = "not_in_inputs"
"""Reason of a document whose record is in the inputs of the other version alone."""

NOT_KEPT = "not_kept"
"""Reason where a stage says only whether it keeps a document."""

PLACES = frozenset({"wet_offset", "wet_length"})
"""Columns of `base` that say where the text lies: they change with any document before it."""

NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "FLOAT", "DOUBLE")
"""DuckDB types whose differences mean something; UBIGINT is for ids and offsets."""


@dataclass(frozen=True)
class UnitFiles:
    """Committed files of one unit in one version. `index`: the shard; `rows`: documents, about. `dropped` only where it counts."""

    index: int
    rows: int
    columns: Path
    base: Path
    dropped: Path | None = None


@dataclass(frozen=True)
class Question:
    """`keep`, `reason`: the columns with the verdict. `columns` to compare -> whether they are numbers.

    `by_record`: the versions have different rows. `is_extract`: what extraction dropped is the stage's own verdict.
    """

    keep: str | None
    reason: str | None
    columns: Mapping[str, bool]
    by_record: bool
    is_extract: bool
    examples: int


@dataclass(frozen=True)
class Example:
    """Document ids before and now (None: no row), and where its record lies (None: compared row by row)."""

    old_id: int | None
    new_id: int | None
    url: str | None
    warc_path: str | None
    warc_offset: int | None


@dataclass
class Group:
    """Documents with one verdict before and one now; a reason is None where the document is kept."""

    documents: int = 0
    in_both: int = 0
    examples: list[tuple[tuple[Any, ...], Example]] = field(default_factory=list)


@dataclass
class ColumnChange:
    """`changed` documents have another value now; `numbers` of them a number both times, with this sum of absolute differences."""

    changed: int = 0
    numbers: int = 0
    total: float = 0.0

    @property
    def mean(self) -> float | None:
        return self.total / self.numbers if self.numbers else None


Verdicts = tuple[str | None, str | None]
"""Reason before and reason now; None: kept."""


@dataclass
class Comparison:
    groups: dict[Verdicts, Group] = field(default_factory=dict)
    columns: dict[str, ColumnChange] = field(default_factory=dict)

    def count(self, was_kept: bool, is_kept: bool) -> int:
        return sum(g.documents for (old, new), g in self.groups.items() if (old is None, new is None) == (was_kept, is_kept))

    @property
    def in_both(self) -> int:
        """Documents that have a row in both versions."""
        return sum(group.in_both for group in self.groups.values())


def compare(pairs: Sequence[tuple[UnitFiles, UnitFiles]], question: Question) -> Comparison:
    """Compare units, each given as before and now, in the order of their shards."""
    whole = Comparison(columns={name: ColumnChange() for name in question.columns})
    with _database() as db:
        for batch in _batches(pairs):
            _add_batch(db, batch, question, whole)
    for group in whole.groups.values():
        group.examples = sorted(group.examples, key=lambda item: item[0])[: question.examples]
    return whole


@contextmanager
def _database() -> Iterator[duckdb.DuckDBPyConnection]:
    with tempfile.TemporaryDirectory(prefix="ccpipe-diff-") as spill, duckdb.connect(":memory:") as db:
        db.execute("SET python_enable_replacements = false")
        db.execute("SET temp_directory = ?", [spill])
        yield db


def _batches(pairs: Sequence[tuple[UnitFiles, UnitFiles]]) -> Iterator[list[tuple[UnitFiles, UnitFiles]]]:
    batch: list[tuple[UnitFiles, UnitFiles]] = []
    rows = 0
    for pair in pairs:
        batch.append(pair)
        rows += max(pair[0].rows, pair[1].rows)
        if rows >= BATCH_ROWS:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch


# --- the query --------------------------------------------------------------------------------------------------------


def _add_batch(db: duckdb.DuckDBPyConnection, batch: Sequence[tuple[UnitFiles, UnitFiles]], question: Question, whole: Comparison) -> None:
    for side, files in (("old", [pair[0] for pair in batch]), ("new", [pair[1] for pair in batch])):
        _make_documents(db, side, files, question)
    for row in db.execute(_query(question)).fetchall():
        old_reason, new_reason, documents, in_both, examples, *changes = row
        group = whole.groups.setdefault((old_reason, new_reason), Group())
        group.documents += documents
        group.in_both += in_both
        group.examples += [(_order(example), Example(**example)) for example in examples or ()]
        for i, column in enumerate(whole.columns.values()):
            changed, numbers, total = changes[3 * i : 3 * i + 3]
            column.changed += changed
            column.numbers += numbers
            column.total += total or 0.0


def _order(example: Mapping[str, Any]) -> tuple[Any, ...]:
    """Smallest document id first, those without an id by the place of their record."""
    known = example["new_id"] if example["new_id"] is not None else example["old_id"]
    return (known is None, known or 0, example["warc_path"] or "", example["warc_offset"] or 0, example["url"] or "")


def _make_documents(db: duckdb.DuckDBPyConnection, side: str, files: Sequence[UnitFiles], question: Question) -> None:
    """View `documents_<side>`: shard, id, reason (null: kept), columns to compare, and the record where it counts."""
    db.execute(f"CREATE OR REPLACE TEMP TABLE {side}_files (filename VARCHAR, shard UBIGINT)")
    named = [(str(path), unit.index) for unit in files for path in {unit.columns, unit.base, unit.dropped} if path is not None]
    db.execute(
        f"INSERT INTO {side}_files SELECT unnest(?::VARCHAR[]), unnest(?::UBIGINT[])", [list(part) for part in zip(*named, strict=True)]
    )
    columns = "".join(f", {quoted(name)}" for name in question.columns)
    judged = f"SELECT shard, {_ID} AS id, {_reason(question)} AS reason{columns} FROM {_read(side, [unit.columns for unit in files])}"
    if not question.by_record:
        db.execute(f"CREATE OR REPLACE TEMP VIEW documents_{side} AS {judged}")
        return
    records = f"SELECT {_ID} AS id, {_RECORD} FROM {_read(side, [unit.base for unit in files])}"
    parts = [f"SELECT * FROM ({judged}) JOIN ({records}) USING (id)"]
    if dropped := [unit.dropped for unit in files if unit.dropped is not None]:
        reason = "reason" if question.is_extract else "'extract:' || reason"
        parts.append(f"SELECT shard, NULL::UBIGINT AS id, {reason} AS reason, {_RECORD} FROM {_read(side, dropped)}")
    # records of one URL at one offset: only in an archive that is one gzip member, or one stream of them
    number = f"row_number() OVER (PARTITION BY shard, {_RECORD} ORDER BY id) AS number"
    db.execute(f"CREATE OR REPLACE TEMP VIEW documents_{side} AS SELECT *, {number} FROM ({' UNION ALL BY NAME '.join(parts)})")


_ID = "(shard << 32) | file_row_number::UBIGINT"
_RECORD = "warc_path, warc_offset, url"


def _read(side: str, paths: Iterable[Path]) -> str:
    names = ", ".join(literal(str(path)) for path in paths)
    return f"read_parquet([{names}], filename = true, file_row_number = true) JOIN {side}_files USING (filename)"


def _reason(question: Question) -> str:
    """SQL: null where the document is kept."""
    word = f"{quoted(question.reason)}::VARCHAR" if question.reason else "NULL::VARCHAR"
    if question.keep is None:
        return word
    return f"CASE WHEN {quoted(question.keep)} THEN NULL ELSE coalesce({word}, {literal(NOT_KEPT)}) END"


def _query(question: Question) -> str:
    """One row for each pair of verdicts: how often, examples, and three figures for each column."""
    both = "o.id IS NOT NULL AND n.id IS NOT NULL"
    changed = {name: f"({both} AND o.{quoted(name)} IS DISTINCT FROM n.{quoted(name)})" for name in question.columns}
    old, new = (f"CASE WHEN {side}.shard IS NULL THEN {literal(NOT_IN_INPUTS)} ELSE {side}.reason END" for side in "on")
    place = {name: f"coalesce(o.{name}, n.{name})" if question.by_record else "NULL" for name in ("warc_path", "warc_offset", "url")}
    example = ", ".join(["old_id := o.id", "new_id := n.id", *(f"{name} := {value}" for name, value in place.items())])
    order = f"row(coalesce(n.id, o.id) IS NULL, coalesce(n.id, o.id, 0), {', '.join(place.values())})"
    differs = " OR ".join([f"({old}) IS DISTINCT FROM ({new})", *changed.values()])
    selected = [
        f"{old} AS old_reason",
        f"{new} AS new_reason",
        "count(*)",
        f"count(*) FILTER (WHERE {both})",
        f"min_by(struct_pack({example}), {order}, {max(question.examples, 1)}) FILTER (WHERE {differs})",
        *(f"count(*) FILTER (WHERE {test}), {_numbers(name, question.columns[name], test)}" for name, test in changed.items()),
    ]
    keys = ("shard", "warc_path", "warc_offset", "url", "number") if question.by_record else ("id",)
    on = " AND ".join(f"o.{key} = n.{key}" for key in keys)
    return f"SELECT {', '.join(selected)} FROM documents_old o FULL JOIN documents_new n ON {on} GROUP BY old_reason, new_reason"


def _numbers(name: str, is_number: bool, test: str) -> str:
    if not is_number:
        return "0, 0.0"
    old, new = (f"{side}.{quoted(name)}::DOUBLE" for side in "on")
    number = f"{test} AND isfinite({old}) AND isfinite({new})"
    return f"count(*) FILTER (WHERE {number}), sum(abs({new} - {old})) FILTER (WHERE {number})"


def column_types(path: Path) -> dict[str, str]:
    """DuckDB's types of the columns of one file."""
    with duckdb.connect(":memory:") as db:
        return {
            str(name): str(kind) for name, kind, *_ in db.execute(f"DESCRIBE SELECT * FROM read_parquet({literal(str(path))})").fetchall()
        }


def read_rows(path: Path, rows: Iterable[int]) -> dict[int, dict[str, Any]]:
    """A few rows of one file, by their number."""
    wanted = ", ".join(str(int(row)) for row in rows)
    with duckdb.connect(":memory:") as db:
        found = db.execute(f"SELECT * FROM read_parquet({literal(str(path))}, file_row_number = true) WHERE file_row_number IN ({wanted})")
        names = [column[0] for column in found.description or ()]
        values = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return {value.pop("file_row_number"): value for value in values}


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
