"""Dedup: the marks follow from the signatures and the config, equal to a comparison of all pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from dedup_run import SMALL, Run, brute_force, planted, verdicts
from pydantic import ValidationError

from ccpipe.dedup import DedupConfig, family
from ccpipe.dedup.mark import Mark
from ccpipe.dedup.match import Match
from ccpipe.stage import Unit


@pytest.mark.parametrize("keep", ["first", "component"])
@pytest.mark.parametrize("seed", range(6))
def test_marks_equal_brute_force(tmp_path: Path, keep: str, seed: int) -> None:
    sigs = planted(np.random.default_rng(seed), (20, 0, 31, 9))
    run = Run(tmp_path / "run", sigs, {**SMALL, "keep": keep})
    marks = run.marks()
    ids = [shard << 32 | row for shard, part in enumerate(sigs) for row in range(len(part))]
    assert verdicts(marks, ids) == brute_force(sigs, 4, 4, keep)
    flat = dict(zip(ids, np.concatenate(sigs), strict=True))
    for i, mark in zip(ids, marks, strict=True):
        dropped = mark["dedup_of"] is not None
        assert mark["dedup_keep"] is not dropped and mark["dedup_reason"] == ("duplicate" if dropped else None)
        expected = pytest.approx((flat[i] == flat[mark["dedup_of"]]).mean()) if dropped else None
        assert mark["dedup_similarity"] == expected
    kept = [mark for mark in marks if mark["dedup_keep"]]
    assert {mark["dedup_cluster"] for mark in marks} == {mark["dedup_cluster"] for mark in kept}
    assert sum(mark["dedup_size"] for mark in kept) == len(marks)
    assert run.counts["dedup.mark"].dropped == {"duplicate": len(marks) - len(kept)}
    assert run.counts["dedup.cluster"].extra["duplicates"] == len(marks) - len(kept)


def test_first_and_component_differ_where_resemblance_is_a_chain(tmp_path: Path) -> None:
    """0 and 1 are unlike, 2 is like both: first keeps 0 and 1, component only 0."""
    rng = np.random.default_rng(0)
    sigs = rng.integers(0, 1 << 63, (3, 8)).astype(np.uint64)
    sigs[2, :4], sigs[2, 4:] = sigs[0, :4], sigs[1, 4:]
    kept = {}
    for keep in ("first", "component"):
        marks = Run(tmp_path / keep, [sigs], {"bands": 2, "rows": 4, "partitions": 1, "keep": keep}).marks()
        kept[keep] = [mark["dedup_keep"] for mark in marks]
    assert kept == {"first": [True, True, False], "component": [True, False, False]}


def test_bands_meet_only_their_own_kind(tmp_path: Path) -> None:
    """The same values in another band are no resemblance."""
    sigs = np.array([[1, 2, 3, 4], [3, 4, 5, 6], [7, 8, 3, 4]], np.uint64)
    marks = Run(tmp_path / "run", [sigs], {"bands": 2, "rows": 2, "partitions": 1}).marks()
    assert [mark["dedup_of"] for mark in marks] == [None, None, 0]


def test_documents_outside_where_are_null_and_drop_nobody(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sigs = planted(rng, (30, 30))
    wanted = rng.random(60) < 0.6
    meta = [pa.table({"lid_label": pa.array(np.where(part, "zh", "en"))}) for part in np.split(wanted, 2)]
    run = Run(tmp_path / "run", sigs, {**SMALL, "where": "lid_label = 'zh'"}, meta)
    ids = [shard << 32 | row for shard in (0, 1) for row in range(30)]
    assert verdicts(run.marks(), ids) == brute_force(sigs, 4, 4, "first", lambda i: bool(wanted[i]))
    absent = int((~wanted).sum())
    assert run.counts["dedup.route"].dropped == {"not_in_where": absent}
    assert run.counts["dedup.mark"].dropped["not_in_where"] == absent
    assert run.counts["dedup.route"].kept == 60 - absent


def test_a_giant_component_is_reported_and_not_merged(tmp_path: Path) -> None:
    """A chain 0-1-2-...: each resembles the next alone. Capped, a document is only a duplicate of what it resembles."""
    n, rows = 12, 2
    rng = np.random.default_rng(0)
    sigs = rng.integers(0, 1 << 63, (n, 2 * n)).astype(np.uint64)
    for i in range(1, n):
        sigs[i, 2 * i : 2 * i + 2] = sigs[i - 1, 2 * i : 2 * i + 2]
    config = {"bands": n, "rows": rows, "partitions": 2, "keep": "component"}
    whole = Run(tmp_path / "whole", [sigs], config)
    assert {mark["dedup_of"] for mark in whole.marks()[1:]} == {0}
    assert whole.counts["dedup.cluster"].extra["giant_components"] == 0
    capped = Run(tmp_path / "capped", [sigs], {**config, "max_cluster": n - 1})
    assert [mark["dedup_of"] for mark in capped.marks()] == [None, *range(n - 1)]
    extra = capped.counts["dedup.cluster"].extra
    assert (extra["giant_components"], extra["giant_documents"], extra["largest_component"]) == (1, n, n)


def test_nothing_at_all(tmp_path: Path) -> None:
    """Empty shards, and shards of which no document takes part, go through every phase."""
    nothing = np.empty((0, 16), np.uint64)
    assert Run(tmp_path / "empty", [nothing, nothing], SMALL).marks() == []
    run = Run(tmp_path / "where", planted(np.random.default_rng(0), (5, 5)), {**SMALL, "where": "x < 0"})
    assert [mark["dedup_keep"] for mark in run.marks()] == [None] * 10
    assert run.counts["dedup.mark"].dropped == {"not_in_where": 10}


def test_similarity_is_left_out_on_demand(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", planted(np.random.default_rng(0), (30,)), {**SMALL, "measure_similarity": False})
    marks = run.marks()
    assert any(mark["dedup_of"] is not None for mark in marks)
    assert {mark["dedup_similarity"] for mark in marks} == {None}


def test_columns_carry_the_name_of_the_family() -> None:
    assert family("dedup.mark") == "dedup"
    assert list(Mark("near.mark", Mark.Config()).columns())[:2] == ["near_cluster", "near_size"]


def test_impossible_bands_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="give both, or neither"):
        DedupConfig(bands=3)
    with pytest.raises(ValueError, match="need 144 hashes, the signatures have 128"):
        DedupConfig(bands=9, rows=16).banding(128)


def test_match_without_partitions_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="partitions = nodes x cores"):
        Match("dedup.match", Match.Config()).run(Unit("0", 0, (), {}), {"route": []}, {"links": tmp_path / "out"})
