"""A predicate that would fail in the middle of a run is refused before it."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from ccpipe.meta import check_predicate

COLUMNS: dict[str, pa.DataType] = {
    "url": pa.string(),
    "warc_date": pa.string(),
    "text_bytes": pa.uint32(),
    "lid_label": pa.string(),
    "lid_score": pa.float32(),
    "bucket": pa.uint8(),
    "dedup_keep": pa.bool_(),
    "quality_drop_lines": pa.list_(pa.uint32()),
    "mine_parts": pa.struct([("name", pa.string())]),
    "mine_when": pa.timestamp("us"),
}

FAILS_ON_VALUES = (
    "lid_label = 3",
    "lid_label <> 3.5",
    "lid_label IN (1, 2)",
    "lid_label = true",
    "NOT dedup_keep AND lid_label = 3",
    "dedup_keep AND lid_label = 3",
    "text_bytes > 5 OR lid_label = 3",
    "CASE WHEN bucket > 5 THEN lid_label = 3 ELSE true END",
    "mine_parts.name = 3",
    "TRY_CAST(warc_date AS INTEGER) > 3 AND lid_label = 3",
    "text_bytes > CAST(3 AS INTEGER) AND lid_label = 3",
)
"""They bind, and rows of nulls pass."""


@pytest.mark.parametrize("where", FAILS_ON_VALUES)
def test_a_word_compared_with_a_number_is_refused(where: str) -> None:
    with pytest.raises(duckdb.ConversionException, match=r"Could not convert string .a. .*; compare a column with values of its own type"):
        check_predicate(where, COLUMNS)


@pytest.mark.parametrize(
    "where",
    [
        "lid_label = '3'",
        "warc_date::TIMESTAMP > '2020-01-01'",
        "CAST(substr(warc_date, 1, 4) AS INTEGER) >= 2020",
        "TRY_CAST(warc_date AS TIMESTAMP) > TIMESTAMP '2020-01-01'",
        "lid_label = '3' AND warc_date::DATE > DATE '2020-01-01'",
    ],
)
def test_a_cast_is_the_users_own_word_for_it(where: str) -> None:
    check_predicate(where, COLUMNS)


@pytest.mark.parametrize(
    "where",
    [
        "strptime(warc_date, '%Y-%m-%dT%H:%M:%SZ') > '2020-01-01'",
        "text_bytes - 1000 > 0",
        "bucket + bucket + bucket < 255",
        "1 / (text_bytes - 1) > 0",
        "regexp_matches(url, lid_label)",
        "json_extract(url, '$.a') IS NULL",
        "quality_drop_lines[5] = 3",
        "list_contains(quality_drop_lines, 1)",
        "mine_when > '2020-01-01'",
        "lid_score IS NULL OR lid_score > 0.5",
    ],
)
def test_what_only_the_tried_values_do_not_fit_is_accepted(where: str) -> None:
    check_predicate(where, COLUMNS)


@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.binary(), pa.date32(), pa.decimal128(5, 2), pa.list_(pa.list_(pa.string())), pa.time64("us"), pa.int64()],
)
def test_any_type_of_column_can_stand_beside(kind: pa.DataType) -> None:
    check_predicate("dedup_keep AND mine_value IS NOT NULL", {**COLUMNS, "mine_value": kind})
