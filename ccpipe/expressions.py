"""SQL expressions over the columns of one document: a scope, an order of preference.

In: an expression (DuckDB) and rows of the meta. Out: one value for each row; for an order, a key whose bytes compare as the
rows do, so that rows of different shards can be compared without being in one table. Like predicates (`ccpipe.meta`) they see
the columns of one document only, and give the same answer in every attempt.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import duckdb
import pyarrow as pa

from ccpipe.meta import column_refs, sandbox

NULLS = {"NULLS FIRST": "NULLS FIRST", "NULLS LAST": "NULLS LAST", "ORDER_DEFAULT": "NULLS LAST"}


@dataclass(frozen=True)
class Parsed:
    """`select`: a statement with one output column for each expression; `modifiers`: how `create_sort_key` is to order each."""

    select: str
    columns: tuple[str, ...]
    modifiers: tuple[str, ...]


@lru_cache(maxsize=64)
def parse_expression(text: str) -> Parsed:
    """One value. Raises `duckdb.Error`."""
    tree = _statement(f"SELECT ({text}\n) FROM meta")
    if len(tree["select_list"]) != 1 or tree["modifiers"]:
        raise duckdb.ParserException("one expression expected")
    parsed = _parsed(tree["select_list"], ())
    if not parsed.columns:
        raise duckdb.ParserException("an expression over at least one column expected")
    return parsed


@lru_cache(maxsize=64)
def parse_order(text: str) -> Parsed:
    """What may stand behind ORDER BY. Nulls come last, unless the text says NULLS FIRST. Raises `duckdb.Error`."""
    orders = [order for part in _statement(f"SELECT 1 FROM meta ORDER BY {text}\n")["modifiers"] for order in part.get("orders", [None])]
    if not orders or None in orders or any(order["expression"]["class"] in ("CONSTANT", "STAR") for order in orders):
        raise duckdb.ParserException("an order is a list of expressions over columns, each with ASC or DESC where wanted")
    modifiers = tuple(f"{'DESC' if order['type'] == 'DESCENDING' else 'ASC'} {NULLS[order['null_order']]}" for order in orders)
    return _parsed([order["expression"] for order in orders], modifiers)


def _statement(sql: str) -> dict[str, Any]:
    with sandbox() as db:
        row = db.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    tree = json.loads(row[0][0])
    if tree.get("error"):
        raise duckdb.ParserException(tree.get("error_message", "not an expression"))
    if len(tree["statements"]) != 1 or tree["statements"][0]["node"]["type"] != "SELECT_NODE":
        raise duckdb.ParserException("one expression expected, found several statements")
    node: dict[str, Any] = tree["statements"][0]["node"]
    return node


def _parsed(expressions: list[Any], modifiers: tuple[str, ...]) -> Parsed:
    columns = tuple(sorted(column_refs(expressions)))
    with sandbox() as db:
        row = db.execute("SELECT json_serialize_sql('SELECT 1 FROM meta')").fetchall()
        tree = json.loads(row[0][0])
        tree["statements"][0]["node"]["select_list"] = expressions
        select = db.execute("SELECT json_deserialize_sql(?)", [json.dumps(tree)]).fetchall()[0][0]
    return Parsed(str(select).rstrip("; "), columns, modifiers)


def evaluate_text(meta: pa.Table, text: str) -> pa.Array:
    """The expression's value for every row as a string, null where it is null: shape (n_rows,)."""
    return _run(meta, f"WITH t(k0) AS ({parse_expression(text).select}) SELECT CAST(k0 AS VARCHAR) AS value FROM t")


def evaluate_order(meta: pa.Table, text: str) -> pa.Array:
    """Keys, binary, shape (n_rows,): row i comes before row j where its key is smaller, byte by byte. NaN counts as null."""
    parsed = parse_order(text)
    names = [f"k{i}" for i in range(len(parsed.modifiers))]
    kinds = _types(meta, parsed)
    values = [f"nullif({name}, 'nan'::{kind})" if kind in ("FLOAT", "DOUBLE") else name for name, kind in zip(names, kinds, strict=True)]
    keys = ", ".join(f"{value}, '{modifier}'" for value, modifier in zip(values, parsed.modifiers, strict=True))
    # of a single number DuckDB would make a number; the empty text makes it bytes
    return _run(
        meta, f"WITH t({', '.join(names)}) AS ({parsed.select}) SELECT create_sort_key({keys}, '', 'ASC NULLS LAST') AS value FROM t"
    )


def check_expression(parsed: Parsed, columns: dict[str, pa.DataType]) -> None:
    """Bind it against rows of these types. Raises `duckdb.Error` with DuckDB's own message."""
    meta = pa.table({name: pa.nulls(2, kind) for name, kind in columns.items()})
    with sandbox() as db:
        db.register("meta", meta)
        if len(db.sql(parsed.select).to_arrow_table()) != 2:
            raise duckdb.BinderException("an expression is over the columns of one document: aggregates and unnest() are not possible")


def explain_error(key: str, text: str, error: duckdb.Error, columns: Sequence[str]) -> str:
    """The message for a key of the config whose expression does not fit."""
    return f'{key} = "{text}": {str(error).splitlines()[0]}; columns: {", ".join(sorted(columns))}'


def _types(meta: pa.Table, parsed: Parsed) -> list[str]:
    with sandbox() as db:
        db.register("meta", meta)
        return [str(kind) for kind in db.sql(parsed.select).types]


def _run(meta: pa.Table, sql: str) -> pa.Array:
    with sandbox() as db:
        db.register("meta", meta)
        # one statement over an Arrow table in one thread keeps the row order
        return db.sql(sql).to_arrow_table().column("value").combine_chunks()
