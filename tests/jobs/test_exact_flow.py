"""The families of exact duplicates in a whole flow: planned, run, and their edit lists applied by export."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import zstandard
from flows import plan, run_here, short_flow, until

TABLES = """
[stage.same_url]
[stage.same_text]
where = "same_url_keep"
[stage.paragraphs]
where = "same_text_keep"
scope = "group"
group_shards = 2
[stage.substrings]
where = "same_text_keep"
min_tokens = 20
[stage.export]
keep = "same_text_keep"
drop_lines = ["paragraphs_drop_lines"]
drop_ranges = ["substrings_drop_ranges"]
columns = ["url"]
"""


def test_exact_families_run_in_a_flow(demo: Path, models: Path, tmp_path: Path) -> None:
    """Every selected document is exported once, none with a line that another of its group has already."""
    text = until(short_flow(demo, models, tmp_path / "run"), "extract") + TABLES
    flow = plan(tmp_path, text)
    names = [stage.name for stage in flow.stages]
    assert names.index("same_url.mark") < names.index("same_text.route") and names.index("substrings.mark") < names.index("export.shards")
    complete, said = run_here(flow)
    assert complete, said
    marks = [pq.read_table(path).to_pydict() for path in sorted((tmp_path / "run").glob("meta/same_text/current/*.parquet"))]
    kept = sum(value is True for shard in marks for value in shard["same_text_keep"])
    records = []
    for path in sorted((tmp_path / "run").glob("export/shards/current/*.jsonl.zst")):
        with path.open("rb") as file:
            records += [
                json.loads(line) for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8", newline="\n")
            ]
    assert 0 < len(records) <= kept
    assert len({record["url"] for record in records}) == len(records) == len({record["text"] for record in records})
    stats = [json.loads(path.read_text()) for path in (tmp_path / "run").glob("export/manifest/current/manifest.json")]
    assert stats and stats[0]["documents"] == len(records)
    edits = [pq.read_table(path).to_pydict() for path in sorted((tmp_path / "run").glob("meta/paragraphs/current/*.parquet"))]
    assert sum(len(lines or []) for shard in edits for lines in shard["paragraphs_drop_lines"]) > 10
    # two shards are a group
    lines: dict[tuple[int, str], int] = {}
    for record in records:
        for line in record["text"].split("\n"):
            key = ((record["doc"] >> 32) // 2, line)
            lines[key] = lines.get(key, 0) + bool(re.search(r"\w", line))
    assert max(lines.values()) == 1


def test_semantic_family_runs_in_a_flow(demo: Path, models: Path, tmp_path: Path) -> None:
    """Embeddings are written for the documents of extract; one shard's copies of another's are dropped, and select reads the column."""
    text = until(short_flow(demo, models, tmp_path / "run"), "extract")
    assert run_here(plan(tmp_path, text))[0]
    rng = np.random.default_rng(0)
    (tmp_path / "emb").mkdir()
    first = None
    for shard, path in enumerate(sorted((tmp_path / "run").glob("meta/base/current/*.parquet"))):
        rows = rng.normal(size=(pq.read_metadata(path).num_rows, 32)).astype(np.float32)
        first = rows if first is None else first
        rows[:2] = first[:2] * (shard + 1)
        np.save(tmp_path / "emb" / f"{shard:05d}.npy", rows)
    table = f"""
[stage.semantic]
embeddings = "{tmp_path / "emb"}"
n_clusters = 3
order = "first"
[stage.select]
where = "semantic_keep"
"""
    complete, said = run_here(plan(tmp_path, text + table))
    assert complete, said
    marks = [pq.read_table(path).to_pydict() for path in sorted((tmp_path / "run").glob("meta/semantic/current/*.parquet"))]
    assert all(marks[0]["semantic_keep"])
    assert all(not any(mark["semantic_keep"][:2]) and all(mark["semantic_keep"][2:]) for mark in marks[1:])
