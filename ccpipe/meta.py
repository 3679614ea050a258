"""The meta: column groups of one shard, row-aligned Parquet files, read together as one table.

Row `i` of shard `s` is document `s << 32 | i` in every group.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ccpipe.stage import Inputs

ROW_GROUP_ROWS = 65_536
"""Rows in a Parquet row group; fixed, so that bytes do not depend on how the rows arrived."""

NOT_IN_WHERE = "not_in_where"
"""Reason of rows that a stage did not work on, in its counts and in its `<prefix>_reason` column."""

BASE_SCHEMA = pa.schema(
    [
        ("url", pa.string()),
        ("host", pa.string()),
        ("title", pa.string()),
        ("page_date", pa.string()),
        ("page_lang", pa.string()),
        ("warc_path", pa.string()),
        ("warc_offset", pa.uint64()),
        ("warc_length", pa.uint64()),
        ("warc_record_id", pa.string()),
        ("warc_date", pa.string()),
        ("page_digest", pa.string()),
        ("http_status", pa.uint16()),
        ("content_type", pa.string()),
        ("charset", pa.string()),
        ("charset_source", pa.string()),
        ("html_bytes", pa.uint64()),
        ("wet_offset", pa.uint64()),
        ("wet_length", pa.uint32()),
        ("text_bytes", pa.uint32()),
        ("digest", pa.string()),
        ("lines_dropped", pa.uint32()),
        ("robots", pa.list_(pa.string())),
        ("tdm_reservation", pa.bool_()),
        ("tdm_policy", pa.string()),
        ("licence", pa.string()),
        ("licence_url", pa.string()),
        ("licence_source", pa.string()),
    ]
)
"""Columns of `meta/base`, each told in docs/meta.md. Offsets and lengths are bytes of the compressed file, from the first byte of
the record's gzip member; `digest` is `sha1:` and base32 of the UTF-8 text, as in the WET record's WARC-Block-Digest, `page_digest`
likewise of the block of the response record, HTTP headers and body."""

BASE_COLUMNS: dict[str, pa.DataType] = {field.name: field.type for field in BASE_SCHEMA}


UNSTEADY = frozenset(
    (
        *("random", "setseed", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "nextval", "currval", "setval"),
        *("now", "today", "current_date", "transaction_timestamp", "get_current_time", "get_current_timestamp"),
        *("current_connection_id", "current_query", "current_query_id", "current_transaction_id", "txid_current"),
        *("current_setting", "getvariable"),
    )
)
"""DuckDB's functions whose stability is not CONSISTENT (`FROM duckdb_functions()`)."""


class MetaMismatch(Exception):
    """Column groups of one shard that do not have the same rows."""


def document_ids(shard: int, n_rows: int) -> np.ndarray:
    """Ids of the documents of one shard: uint64, shape (n_rows,)."""
    return (np.uint64(shard) << np.uint64(32)) | np.arange(n_rows, dtype=np.uint64)


def shard_groups(inputs: Inputs, position: int = 0) -> list[Path]:
    """The column groups among `inputs` (keys `base` and `meta/<group>`) of the shard at `position`, base first."""
    keys = sorted(key for key in inputs if key == "base" or key.startswith("meta/"))
    return [inputs[key][position] for key in keys]


def read_columns(groups: Sequence[Path], columns: Iterable[str]) -> pa.Table:
    """Read the named columns, each from the group that has it, as one table with equal rows.

    Raises `MetaMismatch` when groups differ in rows, `KeyError` naming the columns on offer when one is missing.
    """
    wanted = list(dict.fromkeys(columns))
    arrays: dict[str, pa.ChunkedArray] = {}
    offered: list[str] = []
    rows: dict[Path, int] = {}
    for path in groups:
        # one handle, not memory mapped, no threads: the files are small and the cores are busy
        with pq.ParquetFile(path) as file:
            rows[path] = file.metadata.num_rows
            names = file.schema_arrow.names
            offered += names
            here = [name for name in wanted if name in names and name not in arrays]
            if here:
                table = file.read(columns=here, use_threads=False)
                arrays.update((name, table.column(name)) for name in here)
    if len(set(rows.values())) > 1:
        seen = ", ".join(f"{path}: {n}" for path, n in rows.items())
        raise MetaMismatch(f"column groups of one shard have different row counts ({seen}); rerun the stage that wrote the odd one")
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise KeyError(f"no column {missing} in {[str(p) for p in groups]}; columns there: {offered}")
    if not wanted:
        n_rows = next(iter(rows.values()), 0)
        return pa.table({"": pa.nulls(n_rows)}).select([])
    return pa.table({name: arrays[name] for name in wanted})


def count_rows(path: Path) -> int:
    """Rows of one column group, from its footer."""
    with pq.ParquetFile(path) as file:
        return int(file.metadata.num_rows)


def predicate_columns(where: str | None) -> tuple[str, ...]:
    """Names of the columns that a SQL predicate mentions, sorted. Raises `duckdb.Error` on a syntax error."""
    if not where:
        return ()
    return tuple(sorted(column_refs(_parse(where))))


@lru_cache(maxsize=64)
def _parse(where: str) -> object:
    """DuckDB's syntax tree of a predicate, not to be changed."""
    with sandbox() as db:
        row = db.execute("SELECT json_serialize_sql(?)", [f"SELECT 1 FROM meta WHERE ({where}\n)"]).fetchone()
    tree = json.loads(row[0] if row else "{}")
    if tree.get("error"):
        raise duckdb.ParserException(tree.get("error_message", "not a predicate"))
    if len(tree["statements"]) != 1:
        raise duckdb.ParserException("one predicate expected, found several statements")
    return tree["statements"][0]["node"]["where_clause"]


def column_refs(tree: object) -> set[str]:
    """Columns in a syntax tree. Raises `duckdb.ParserException` for what is not a function of one document's columns."""
    found: set[str] = set()
    for node in _walk(tree):
        if node.get("class") in ("SUBQUERY", "WINDOW"):
            kind = {"SUBQUERY": "subqueries", "WINDOW": "window functions"}[node["class"]]
            raise duckdb.ParserException(f"a predicate is over the columns of one document: {kind} are not possible")
        if node.get("class") == "FUNCTION" and node["function_name"] in UNSTEADY:
            raise duckdb.ParserException(
                f"{node['function_name']}() differs from time to time; a predicate must choose the same documents in every attempt"
            )
        if node.get("class") == "COLUMN_REF":
            found.add(node["column_names"][-1])
    return found


def _bare_columns(tree: object) -> Iterator[str]:
    """Columns that stand for a truth by themselves: `dedup_keep AND ...`, `NOT dedup_keep`."""
    for node in _walk(tree):
        if node.get("class") == "CONJUNCTION" or node.get("type") == "OPERATOR_NOT":
            yield from (child["column_names"][-1] for child in node["children"] if child.get("class") == "COLUMN_REF")


def _walk(tree: object) -> Iterator[dict[str, Any]]:
    """Every object inside a JSON value."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def check_predicate(where: str, columns: dict[str, pa.DataType]) -> None:
    """Bind `where` against rows of these types, null and other. Raises `duckdb.Error` with DuckDB's own message."""
    table = pa.table({name: pa.nulls(2, kind) for name, kind in columns.items()})
    with sandbox() as db:
        db.register("meta", table)
        found = str(db.sql(f"SELECT ({where}\n) AS keep FROM meta").types[0])
    # beside AND, OR and NOT DuckDB would cast text row by row, and fail at the first word that is neither true nor false
    words = next((name for name in _bare_columns(_parse(where)) if columns.get(name) != pa.bool_()), None)
    if words or found != "BOOLEAN":
        seen = f"{words}, which is {columns.get(words)}" if words else found
        raise duckdb.BinderException(f"a predicate is true or false, this is {seen}: compare it with something")
    if len(_evaluate(table, where)) != 2:
        raise duckdb.BinderException("a predicate is over the columns of one document: aggregates and unnest() are not possible")
    _try_values(where, columns)


def _try_values(where: str, columns: dict[str, pa.DataType]) -> None:
    """Evaluate `where` on values that are not null: `lid_label = 3` binds, and fails at the first label that is no number.

    Where the predicate casts a column, real values may convert where the tried ones do not, and the user has said so.
    """
    table = pa.table({name: pa.array([_sample(kind, True), _sample(kind, False)], kind) for name, kind in columns.items()})
    try:
        _evaluate(table, where)
    except duckdb.ConversionException as error:
        if not any(map(_may_fail, _walk(_parse(where)))):
            seen = str(error).splitlines()[0].removeprefix("Conversion Error: ")
            raise duckdb.ConversionException(
                f"{seen}; compare a column with values of its own type (text in quotes: lid_label = '3'), or cast: TRY_CAST(x AS INTEGER)"
            ) from None
    except duckdb.Error:
        # out of range, malformed JSON, no such date: that is about the values, and these are not the real ones
        pass


def _may_fail(node: Mapping[str, Any]) -> bool:
    """A CAST or :: of something that differs from row to row."""
    return node.get("class") == "CAST" and not node.get("try_cast") and node["child"].get("class") != "CONSTANT"


def _sample(kind: pa.DataType, low: bool) -> Any:
    """One of two values of a type that are not null; None for types that no stage here writes."""
    types = pa.types
    if types.is_boolean(kind):
        return low
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_date(kind) or types.is_timestamp(kind):
        return 1 if low else 100
    if types.is_string(kind) or types.is_large_string(kind):
        return "a"
    if types.is_binary(kind) or types.is_large_binary(kind):
        return b"a"
    if types.is_list(kind) or types.is_large_list(kind):
        return [_sample(kind.value_type, low)]
    if types.is_struct(kind):
        return {field.name: _sample(field.type, low) for field in kind}
    return None


def select_rows(groups: Sequence[Path], where: str | None) -> np.ndarray:
    """Which rows satisfy `where`: bool, shape (n_rows,). NULL counts as false; None selects every row."""
    if not where:
        return np.ones(count_rows(groups[0]), dtype=bool)
    columns = predicate_columns(where)
    table = read_columns(groups, columns or ("url",))
    return _evaluate(table, where)


def _evaluate(meta: pa.Table, where: str) -> np.ndarray:
    with sandbox() as db:
        db.register("meta", meta)
        # one statement over an Arrow table in one thread keeps the row order
        found = db.sql(f"SELECT coalesce(CAST(({where}\n) AS BOOLEAN), false) AS keep FROM meta").to_arrow_table()
    return np.asarray(found.column("keep").to_numpy(zero_copy_only=False), dtype=bool)


def sandbox() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB, one thread, that can neither read files nor load extensions."""
    db = duckdb.connect(":memory:", config={"threads": 1, "autoinstall_known_extensions": False})
    db.execute("SET python_enable_replacements = false")
    db.execute("SET enable_external_access = false")
    return db


def write_group(path: Path, table: pa.Table) -> None:
    """Write one column group: zstd Parquet whose bytes depend on the rows alone."""
    pq.write_table(table.combine_chunks(), path, compression="zstd", row_group_size=ROW_GROUP_ROWS, store_schema=False)
