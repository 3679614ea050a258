"""Selection: a predicate becomes a column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ccpipe.counts import Counts
from ccpipe.select import Select
from ccpipe.stage import Unit


def select(folder: Path, where: str | None) -> tuple[list[Any], Counts]:
    base, lid, out = folder / "base.parquet", folder / "lid.parquet", folder / "select.parquet"
    pq.write_table(pa.table({"url": ["a", "b", "c", "d"]}), base)
    pq.write_table(pa.table({"lid_label": ["zh", "en", None, "zh"], "lid_score": pa.array([0.9, 0.8, None, 0.4], pa.float32())}), lid)
    stage = Select("select", Select.Config(where=where))
    counts = stage.run(Unit("00000", 0, (0,), {}), {"base": [base], "meta/lid": [lid]}, {"meta/select": out})
    table = pq.read_table(out)
    assert {field.name: field.type for field in table.schema} == stage.columns() == {"select_keep": pa.bool_()}
    return table.column("select_keep").to_pylist(), counts


def test_each_row_is_kept_or_not_and_null_counts_as_not(tmp_path: Path) -> None:
    keep, counts = select(tmp_path, "lid_label = 'zh' AND lid_score >= 0.5")
    assert keep == [True, False, False, False]
    assert counts.to_dict() == {"read": 4, "kept": 1, "dropped": {"not_selected": 3}, "extra": {}}


def test_without_a_predicate_everything_is_kept(tmp_path: Path) -> None:
    keep, counts = select(tmp_path, None)
    assert keep == [True] * 4
    assert counts.dropped == {}
