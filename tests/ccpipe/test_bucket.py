"""Exact quantile buckets, against sorting and against NumPy's weighted percentiles."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ccpipe.bucket import Assign, Cuts, bucket_numbers
from ccpipe.counts import Counts
from ccpipe.quantiles import QuantileCounter, Scores, score_of_key, sort_keys
from ccpipe.stage import Unit

ALL = Unit("all", 0, (), {})
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
# few distinct values, as a saturating classifier gives, besides any value at all
scores_lists = st.lists(st.one_of(floats, st.sampled_from([0.0, -0.0, 1.0, 0.25, 1e-45, -1e-45])), min_size=1, max_size=120)


def count(scores: list[float], weights: list[int], n_buckets: int, pieces: int = 1) -> Scores:
    counter = QuantileCounter(n_buckets)
    keys = sort_keys(np.array(scores, dtype=np.float32))
    parts = list(zip(np.array_split(keys, pieces), np.array_split(np.array(weights, dtype=np.int64), pieces), strict=True))
    for part in parts:
        counter.add_coarse(*part)
    counter.narrow()
    for part in reversed(parts):
        counter.add_fine(*part)
    return counter.thresholds()


def by_sorting(scores: list[float], weights: list[int], n_buckets: int) -> list[float]:
    """The smallest score at which the weight of all scores up to it reaches k / n_buckets of the total, in fractions."""
    ordered = sorted(zip(np.array(scores, dtype=np.float32).tolist(), weights, strict=True))
    found = []
    for k in range(1, n_buckets):
        reached = 0
        for score, weight in ordered:
            reached += weight
            if Fraction(reached, sum(weights)) >= Fraction(k, n_buckets):
                found.append(score)
                break
    return found


@given(scores_lists, st.integers(2, 25), st.data())
def test_thresholds_are_those_of_a_sorted_list(scores: list[float], n_buckets: int, data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(1, 10**9), min_size=len(scores), max_size=len(scores)))
    assert count(scores, weights, n_buckets).tolist() == by_sorting(scores, weights, n_buckets)


@given(scores_lists, st.integers(1, 9))
def test_thresholds_do_not_depend_on_how_scores_are_cut_or_ordered(scores: list[float], pieces: int) -> None:
    ones = [1] * len(scores)
    assert count(scores, ones, 20, pieces).tobytes() == count(scores[::-1], ones, 20).tobytes()


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_thresholds_are_numpys_weighted_percentiles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=1000).astype(np.float32)
    weights = rng.integers(1, 100_000, size=1000)
    # a total without common divisor with 20: no percentile falls exactly on a document, where NumPy's rounding would decide
    weights[0] += 21 - weights.sum() % 20
    wanted = np.percentile(scores, np.arange(5, 100, 5), weights=weights, method="inverted_cdf")
    assert count(scores.tolist(), weights.tolist(), 20).tolist() == wanted.tolist()


@given(st.lists(floats, min_size=2))
def test_keys_sort_as_the_scores_do_and_lead_back(scores: list[float]) -> None:
    values = np.array(scores, dtype=np.float32)
    keys = sort_keys(values)
    assert ((keys[:-1] < keys[1:]) == (values[:-1] < values[1:])).all()
    assert [score_of_key(int(key)) for key in keys] == values.tolist()


def test_ties_go_to_the_highest_bucket_that_reaches_them() -> None:
    """Nemotron-CC's inverted CDF: with 30 % zeros buckets 0 to 5 are empty; with 12 % ones bucket 18 is."""
    scores = [0.0] * 30 + [i / 1000 for i in range(1, 59)] + [1.0] * 12
    buckets = bucket_numbers(np.array(scores, dtype=np.float32), count(scores, [1] * 100, 20))
    sizes = np.bincount(buckets, minlength=20)
    assert sizes[:6].tolist() == [0] * 6
    assert sizes[6] >= 30
    assert sizes[18] == 0
    assert sizes[19] == 12


# --- the stages, on files ---


def write_shards(folder: Path, shards: list[dict[str, list[Any]]]) -> dict[str, list[Path]]:
    """Base groups with `text_bytes` and classify groups with the scores."""
    inputs: dict[str, list[Path]] = {"base": [], "meta/classify.edu": []}
    for number, columns in enumerate(shards):
        base, edu = folder / f"{number}.base.parquet", folder / f"{number}.edu.parquet"
        n_rows = len(columns["edu_score"])
        size = columns.get("text_bytes", [100] * n_rows)
        pq.write_table(pa.table({"url": [f"u{i}" for i in range(n_rows)], "text_bytes": pa.array(size, pa.uint32())}), base)
        scores = {name: pa.array(columns[name], pa.float32()) for name in columns if name.endswith("_score")}
        pq.write_table(pa.table(scores), edu)
        inputs["base"].append(base)
        inputs["meta/classify.edu"].append(edu)
    return inputs


def run_cuts(folder: Path, inputs: dict[str, list[Path]], **config: Any) -> tuple[dict[str, Any], Counts]:
    out = folder / "cuts.json"
    counts = Cuts("bucket.cuts", Cuts.Config(**{"scores": ["edu_score"], **config})).run(ALL, inputs, {"cuts": out})
    return json.loads(out.read_text(encoding="utf-8")), counts


def run_assign(folder: Path, inputs: dict[str, list[Path]], shard: int = 0, **config: Any) -> tuple[pa.Table, Counts]:
    stage = Assign("bucket.assign", Assign.Config(**{"scores": ["edu_score"], **config}))
    mine = {name: [paths[shard]] for name, paths in inputs.items()} | {"cuts": [folder / "cuts.json"]}
    out = folder / f"bucket{shard}.parquet"
    counts = stage.run(Unit(f"{shard:05d}", shard, (shard,), {}), mine, {"meta/bucket": out})
    table = pq.read_table(out)
    assert {field.name: field.type for field in table.schema} == stage.columns()
    return table, counts


def test_buckets_of_all_shards_together_are_equally_full(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    inputs = write_shards(tmp_path, [{"edu_score": rng.normal(i, 1, size=500 + 500 * i).tolist()} for i in range(3)])
    run_cuts(tmp_path, inputs)
    buckets = [run_assign(tmp_path, inputs, shard)[0].column("bucket").to_pylist() for shard in range(3)]
    # the document that is the threshold belongs to the bucket above it, so the ends differ by one
    assert np.bincount(np.concatenate(buckets)).tolist() == [149, *[150] * 18, 151]


def test_equal_rows_in_other_shards_give_equal_thresholds(tmp_path: Path) -> None:
    scores = np.random.default_rng(2).normal(size=400).astype(np.float32).tolist()
    found = []
    for i, sizes in enumerate(([400], [100, 300], [1, 0, 399])):
        (tmp_path / str(i)).mkdir()
        ends = np.cumsum([0, *sizes])
        inputs = write_shards(tmp_path / str(i), [{"edu_score": scores[a:b]} for a, b in itertools.pairwise(ends)])
        run_cuts(tmp_path / str(i), inputs)
        found.append((tmp_path / str(i) / "cuts.json").read_bytes())
    assert found[0] == found[1] == found[2]


def test_the_ensemble_is_the_maximum_of_the_scorers(tmp_path: Path) -> None:
    columns = {"edu_score": [0.1, 0.9, None, None], "spam_score": [0.8, 0.2, 0.5, None]}
    inputs = write_shards(tmp_path, [columns])
    config = {"scores": ["edu_score", "spam_score"], "n_buckets": 2}
    run_cuts(tmp_path, inputs, **config)
    table, counts = run_assign(tmp_path, inputs, **config)
    assert table.to_pydict() == {"bucket_edu": [1, 1, None, None], "bucket_spam": [1, 0, 1, None], "bucket": [1, 1, 1, None]}
    assert counts.to_dict() == {"read": 4, "kept": 3, "dropped": {"no_score": 1}, "extra": {}}


def test_scores_that_are_no_numbers_have_no_bucket_and_move_no_threshold(tmp_path: Path) -> None:
    clean = write_shards(tmp_path, [{"edu_score": [0.1, 0.2, 0.3]}])
    thresholds = run_cuts(tmp_path, clean)[0]
    dirty = write_shards(tmp_path, [{"edu_score": [0.1, None, float("nan"), 0.2, float("inf"), 0.3]}])
    cuts, counts = run_cuts(tmp_path, dirty)
    assert cuts == thresholds
    assert cuts["scorers"]["edu"]["documents"] == 3
    assert counts.to_dict() == {"read": 6, "kept": 3, "dropped": {"no_score": 3}, "extra": {}}
    buckets = run_assign(tmp_path, dirty)[0].column("bucket").to_pylist()
    assert [value is None for value in buckets] == [False, True, True, False, True, False]


def test_bytes_as_weight_give_long_documents_their_share(tmp_path: Path) -> None:
    inputs = write_shards(tmp_path, [{"edu_score": [0.1, 0.2, 0.3, 0.4], "text_bytes": [10, 10, 10, 970]}])
    assert run_cuts(tmp_path, inputs, n_buckets=2)[0]["scorers"]["edu"]["thresholds"] == pytest.approx([0.2])
    assert run_cuts(tmp_path, inputs, n_buckets=2, weight="bytes")[0]["scorers"]["edu"]["thresholds"] == pytest.approx([0.4])


def test_rows_outside_where_have_no_say_and_no_bucket(tmp_path: Path) -> None:
    inputs = write_shards(tmp_path, [{"edu_score": [0.1, 0.2, 0.3, 0.4]}])
    config = {"where": "url <> 'u3'", "n_buckets": 3}
    cuts, counts = run_cuts(tmp_path, inputs, **config)
    assert cuts["scorers"]["edu"]["thresholds"] == pytest.approx([0.1, 0.2])
    table, assigned = run_assign(tmp_path, inputs, **config)
    assert table.column("bucket").to_pylist() == [1, 2, 2, None]
    assert counts.to_dict() == assigned.to_dict() == {"read": 4, "kept": 3, "dropped": {"not_in_where": 1}, "extra": {}}


def test_without_any_score_every_bucket_is_null(tmp_path: Path) -> None:
    inputs = write_shards(tmp_path, [{"edu_score": [None, None]}, {"edu_score": []}])
    assert run_cuts(tmp_path, inputs)[0]["scorers"]["edu"]["thresholds"] == []
    assert run_assign(tmp_path, inputs)[0].column("bucket").to_pylist() == [None, None]
    assert len(run_assign(tmp_path, inputs, 1)[0]) == 0


def test_thresholds_survive_the_json_exactly(tmp_path: Path) -> None:
    scores = np.random.default_rng(3).normal(size=21).astype(np.float32)
    run_cuts(tmp_path, write_shards(tmp_path, [{"edu_score": scores.tolist()}]))
    kept = json.loads((tmp_path / "cuts.json").read_text(encoding="utf-8"))["scorers"]["edu"]["thresholds"]
    assert set(np.array(kept, dtype=np.float32).tolist()) <= set(scores.tolist())


def test_one_scorer_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="take the repeated one out"):
        Cuts.Config(scores=["edu", "edu_score"])


def test_cuts_read_only_the_columns_they_name() -> None:
    assert Cuts("bucket.cuts", Cuts.Config(scores=["edu_score"])).needs() == ("edu_score",)
    assert Cuts("bucket.cuts", Cuts.Config(scores=["edu_score"], weight="bytes")).needs() == ("edu_score", "text_bytes")
