"""Removal alarms: hosts that lose nearly all of their documents to deduplication.

In: `base` (column host) and the marks of all shards. Out: hosts of at least so many documents of which more than a share was
dropped, largest loss first. Such a host is a mirror, or its pages share so much boilerplate that unlike ones were taken for
copies: a person must look. A host's leading "www." is left out. Memory: DuckDB's, limited, with a folder to spill to.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

MAX_ALARMS = 1000

COUNT = """
INSERT INTO hosts
SELECT regexp_replace(coalesce(b.host, ''), '^www\\.', '') AS host, count(m.keep), count(*) FILTER (m.keep = false)
FROM (SELECT host, file_row_number AS row FROM read_parquet(?, file_row_number = true)) b
JOIN (SELECT {keep} AS keep, file_row_number AS row FROM read_parquet(?, file_row_number = true)) m USING (row)
GROUP BY 1
"""

FOUND = """
SELECT host, sum(documents)::BIGINT AS documents, sum(dropped)::BIGINT AS dropped
FROM hosts GROUP BY host
HAVING sum(documents) >= ? AND sum(dropped) > ? * sum(documents)
ORDER BY dropped DESC, host LIMIT ?
"""


def find_alarms(
    base: Sequence[Path], marks: Sequence[Path], keep: str, share: float, least: int, scratch: Path, memory_mb: int = 1024
) -> list[dict[str, Any]]:
    """[{"host", "documents", "dropped"}, ...]. base, marks: files of all shards in one order; keep: the column of the marks;
    documents outside `where` do not count."""
    with duckdb.connect(":memory:", config={"threads": 1, "memory_limit": f"{memory_mb}MB", "temp_directory": str(scratch)}) as db:
        db.execute("CREATE TABLE hosts (host VARCHAR, documents BIGINT, dropped BIGINT)")
        for one, other in zip(base, marks, strict=True):
            db.execute(COUNT.format(keep=f'"{keep}"'), [str(one), str(other)]).fetchall()
        rows = db.execute(FOUND, [least, share, MAX_ALARMS]).fetchall()
    return [dict(zip(("host", "documents", "dropped"), row, strict=True)) for row in rows]
