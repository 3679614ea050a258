"""Scopes: documents of different scopes never meet.

The value of the scope's expression is hashed into every band key of a document, so that equal bands of different scopes are
different keys; nothing behind route knows of scopes. Documents whose scope is null are a scope of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from ccpipe.expressions import check_expression, evaluate_text, explain_error, parse_expression
from ccpipe.meta import read_columns


def scope_columns(scope: str | None) -> tuple[str, ...]:
    """Columns that the expression names; none where it is no expression (`check_scope` says so)."""
    try:
        return parse_expression(scope).columns if scope else ()
    except duckdb.Error:
        return ()


def check_scope(scope: str | None, types: Mapping[str, pa.DataType] | None = None) -> None:
    """Raises `ValueError` where it is no expression, or does not fit columns of these types."""
    if not scope:
        return
    try:
        parsed = parse_expression(scope)
        if types is not None:
            check_expression(parsed, dict(types))
    except duckdb.Error as error:
        raise ValueError(explain_error("scope", scope, error, list(types or ()))) from None


def read_salts(groups: Sequence[Path], scope: str, rows: np.ndarray) -> np.ndarray:
    """What goes into the keys of each document: uint64, shape (n_docs,); 0 for `rows`, bool, that take no part."""
    values = evaluate_text(read_columns(groups, parse_expression(scope).columns).filter(pa.array(rows)), scope).dictionary_encode()
    known = np.array([salt(value) for value in values.dictionary.to_pylist()] + [salt(None)], dtype=np.uint64)
    numbers = values.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False).astype(np.int64)
    salts = np.zeros(len(rows), dtype=np.uint64)
    salts[rows] = known[numbers]
    return salts


def salt(value: str | None) -> int:
    """64 bits of BLAKE2b; null is no string."""
    person = b"ccpipe scope" if value is not None else b"ccpipe null"
    return int.from_bytes(hashlib.blake2b((value or "").encode(), digest_size=8, person=person).digest(), "little")
