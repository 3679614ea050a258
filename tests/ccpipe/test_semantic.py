"""Semantic dedup: high cosines are duplicates, the declared one stays, and nothing depends on how the work is divided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ccpipe.dedup.files import BadFile
from ccpipe.meta import write_group
from ccpipe.semantic import SemanticConfig, unit_rows
from ccpipe.semantic.assign import AssignCentroids
from ccpipe.semantic.centroids import Centroids
from ccpipe.semantic.kernels import cluster_centres, find_nearest
from ccpipe.semantic.mark import SemanticMark
from ccpipe.semantic.match import SemanticMatch
from ccpipe.stage import ModelFile, Unit


def planted(seed: int = 0) -> list[np.ndarray]:
    """Three shards: random directions, near-copies of some of them (cosine about 0.99), and their opposites."""
    rng = np.random.default_rng(seed)
    shards = [rng.normal(size=(40, 16)) for _ in range(3)]
    for row in range(10):
        shards[1][row] = shards[0][row] + rng.normal(size=16) * 0.05
        shards[2][row] = -shards[0][row]
    return [shard.astype(np.float32) for shard in shards]


def run_all(folder: Path, shards: list[np.ndarray], partitions: int = 1, **config: Any) -> list[dict[str, list[Any]]]:
    folder.mkdir(exist_ok=True)
    for shard, rows in enumerate(shards):
        np.save(folder / f"{shard:05d}.npy", rows)
        write_group(folder / f"base{shard}", pa.table({"x": np.arange(len(rows))}))
    bases = [folder / f"base{shard}" for shard in range(len(shards))]
    settings = SemanticConfig(embeddings=ModelFile(folder), partitions=partitions, **config)

    def run(kind: Any, name: str, index: int, inputs: dict[str, list[Path]], dataset: str, out: str) -> Path:
        counts = kind(f"semantic.{name}", settings).run(Unit(str(index), index, (index,), {}), inputs, {dataset: folder / out})
        assert counts.read == counts.kept + sum(counts.dropped.values())
        return folder / out

    centres = run(Centroids, "centroids", 0, {"base": bases}, "semantic.centroids", "centres")
    assigned = [
        run(AssignCentroids, "assign", shard, {"base": [base], "semantic.centroids": [centres]}, "semantic.assigned", f"assigned{shard}")
        for shard, base in enumerate(bases)
    ]
    links = [run(SemanticMatch, "match", p, {"semantic.assigned": assigned}, "semantic.links", f"links{p}") for p in range(partitions)]
    marks = [
        run(SemanticMark, "mark", shard, {"base": [base], "semantic.links": links}, "meta/semantic", f"mark{shard}")
        for shard, base in enumerate(bases)
    ]
    return [pq.read_table(path).to_pydict() for path in marks]


@pytest.mark.parametrize("order", ["far", "near", "first"])
def test_one_cluster_equals_brute_force(tmp_path: Path, order: str) -> None:
    """All pairs in float64: dropped where an earlier one of the order has a cosine of 0.9 or more, and that is the one named."""
    shards = planted()
    marks = run_all(tmp_path, shards, n_clusters=1, threshold=0.9, order=order)
    rows = np.concatenate(shards).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    centre = rows.sum(axis=0) / np.linalg.norm(rows.sum(axis=0))
    rank = np.argsort({"far": 1, "near": -1, "first": 0}[order] * (rows @ centre), kind="stable")
    ids = [shard << 32 | row for shard in range(3) for row in range(40)]
    wanted: dict[int, int | None] = {}
    for place, j in enumerate(rank):
        cosines = rows[rank[:place]] @ rows[j]
        similar = place > 0 and cosines.max() >= 0.9
        wanted[ids[j]] = ids[rank[int(np.argmax(cosines))]] if similar else None
    found = {shard << 32 | row: of for shard, mark in enumerate(marks) for row, of in enumerate(mark["semantic_of"])}
    assert found == wanted
    assert sum(of is not None for of in wanted.values()) == 10


def test_opposites_are_no_duplicates_and_the_threshold_is_a_cosine(tmp_path: Path) -> None:
    """The sign: 1 is the same; a higher threshold drops fewer; opposite directions (-1) are never dropped."""
    marks = run_all(tmp_path, planted(), n_clusters=1, threshold=0.9, order="first")
    assert marks[1]["semantic_keep"][:10] == [False] * 10 and all(marks[2]["semantic_keep"]) and all(marks[0]["semantic_keep"])
    assert all(0.9 <= similarity <= 1.0001 for similarity in marks[1]["semantic_similarity"][:10])
    stricter = run_all(tmp_path, planted(), n_clusters=1, threshold=0.99999, order="first")
    assert all(stricter[1]["semantic_keep"])


def test_partitions_change_nothing_and_clusters_only_lose_pairs(tmp_path: Path) -> None:
    alone = run_all(tmp_path / "a", planted(), 1, n_clusters=8, threshold=0.9)
    assert run_all(tmp_path / "b", planted(), 5, n_clusters=8, threshold=0.9) == alone
    dropped = sum(not keep for mark in alone for keep in mark["semantic_keep"])
    assert 5 <= dropped <= 10


def test_without_a_direction_nothing_is_dropped(tmp_path: Path) -> None:
    """Zeros and NaN are no duplicates of each other."""
    rows = np.zeros((4, 3), np.float32)
    rows[1] = np.nan
    rows[3] = [1, 0, 0]
    (mark,) = run_all(tmp_path, [rows], n_clusters=2)
    assert mark["semantic_keep"] == [True] * 4


def test_outside_where_nothing_is_marked(tmp_path: Path) -> None:
    rows = np.ones((5, 3), np.float32)
    (mark,) = run_all(tmp_path, [rows], n_clusters=1, where="x >= 2", order="first")
    assert mark["semantic_keep"] == [None, None, True, False, False]
    assert mark["semantic_reason"] == ["not_in_where", "not_in_where", None, "semantic", "semantic"]


def test_giant_clusters_are_not_compared(tmp_path: Path) -> None:
    (mark,) = run_all(tmp_path, [np.ones((5, 3), np.float32)], n_clusters=1, max_cluster=4)
    assert all(mark["semantic_keep"])


def test_embeddings_of_other_documents_are_refused(tmp_path: Path) -> None:
    run_all(tmp_path, [np.ones((5, 3), np.float32)], n_clusters=1)
    np.save(tmp_path / "00000.npy", np.ones((4, 3), np.float32))
    stage = AssignCentroids("semantic.assign", SemanticConfig(embeddings=ModelFile(tmp_path)))
    inputs = {"base": [tmp_path / "base0"], "semantic.centroids": [tmp_path / "centres"]}
    with pytest.raises(BadFile, match=r"expected float16 or float32 of shape \(5, dimensions\)"):
        stage.run(Unit("0", 0, (0,), {}), inputs, {"semantic.assigned": tmp_path / "out"})


def test_centres_find_separate_groups() -> None:
    rng = np.random.default_rng(2)
    axes = np.eye(4)[np.arange(200) % 4]
    rows, _ = unit_rows((axes + rng.normal(size=(200, 4)) * 0.05).astype(np.float32))
    which, best = np.empty(200, np.int64), np.empty(200, np.float32)
    find_nearest(rows, cluster_centres(rows[np.argsort(np.arange(200) % 4, kind="stable")], 4, 5), which, best)
    assert all(len(set(which[i::4])) == 1 for i in range(4)) and len(set(which[:4])) == 4
