"""docs/meta.md tells every column of `meta/base` as it is, and its queries run."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ccpipe.extract import Extract
from ccpipe.licences import SOURCES
from ccpipe.meta import BASE_COLUMNS, BASE_SCHEMA, check_predicate
from ccpipe.rights import RESTRICTIONS

DOC = (Path(__file__).resolve().parents[2] / "docs" / "meta.md").read_text(encoding="utf-8")
NAMES = {"list<item: string>": "list<string>", "list<element: string>": "list<string>"}


def table(heading: str) -> list[list[str]]:
    """Rows of the table whose head begins with `heading`, without its rule."""
    lines = DOC[DOC.index(heading) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]


def test_every_column_is_told_with_its_type() -> None:
    told = {row[0]: row[1] for row in table("| column | type |")}
    assert told == {field.name: NAMES.get(str(field.type), str(field.type)) for field in BASE_SCHEMA}


def test_only_columns_that_say_so_may_be_null() -> None:
    assert {row[0] for row in table("| column | type |") if row[4]} == {"http_status", "tdm_reservation"}


def test_switches_have_the_defaults_that_are_told() -> None:
    for name, default, _ in table("| key | default |"):
        assert str(Extract.Config.model_fields[name].default) == default.strip('`"'), name


def test_names_of_sources_and_restrictions_are_complete() -> None:
    assert all(f"`{source}`" in DOC for source in SOURCES)
    assert all(word in DOC for word in RESTRICTIONS)


QUERIES = [query for block in re.findall(r"```sql\n(.*?)```", DOC, re.DOTALL) for query in block.split(";") if query.strip()]


@pytest.mark.parametrize("query", QUERIES)
def test_the_queries_run_and_do_as_predicates(tmp_path: Path, query: str) -> None:
    (tmp_path / "meta/base/current").mkdir(parents=True)
    rows = [
        {"url": "plain", "robots": []},
        {"url": "closed", "robots": ["noai", "noindex"], "tdm_reservation": True, "licence": "cc-by-4.0", "licence_source": "anchor"},
        {"url": "open", "robots": [], "tdm_reservation": False, "licence": "cc-by-4.0", "licence_source": "rel"},
    ]
    pq.write_table(pa.Table.from_pylist(rows, BASE_SCHEMA), tmp_path / "meta/base/current/00000.parquet")
    found = duckdb.sql(query.replace("'meta/base", f"'{tmp_path}/meta/base")).fetchall()
    assert found == ([("open", "cc-by-4.0")] if "url" in query else [(2,)])
    check_predicate(query.partition("WHERE ")[2], dict(BASE_COLUMNS))
