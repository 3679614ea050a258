"""Quality buckets: where a document's score stands among all scores of the run, 0 (worst) to 19 (best).

Cuts reads the score columns of every shard and writes the thresholds; Assign writes one bucket per scorer and their maximum.
Semantics are those of Nemotron-CC (Su et al. 2024): thresholds are the inverted-CDF percentiles 5, 10, ... 95, weighted by
documents (CCI4.0) or bytes of text (Nemotron-CC); the bucket is the number of thresholds that are not above the score; the
ensemble is the maximum, not ranked again. So equal scores share a bucket, the highest that reaches them: where 30 %
of all scores are 0, buckets 0 to 5 stay empty and those documents are in bucket 6.

Thresholds are exact, in bounded memory (see `ccpipe.quantiles`). Scores are taken as float32; null, NaN and infinite ones
have no bucket.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, field_validator

from ccpipe.counts import Counts
from ccpipe.meta import NOT_IN_WHERE, read_columns, select_rows, shard_groups, write_group
from ccpipe.quantiles import Keys, QuantileCounter, Scores, Weights, sort_keys
from ccpipe.stage import Inputs, Outputs, Stage, StageConfig, Unit


class BucketConfig(StageConfig):
    """Shared by Cuts and Assign."""

    scores: tuple[str, ...] = Field(description="score columns, one for each scorer (`edu_score`, ...)", min_length=1)
    n_buckets: int = Field(20, ge=2, le=256, description="buckets of equal weight; Nemotron-CC and CCI4.0: 20")
    weight: Literal["documents", "bytes"] = Field(
        "documents", description="what a bucket holds an equal share of; CCI4.0 documents, Nemotron-CC bytes of text"
    )

    @field_validator("scores")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = [scorer_name(column) for column in value]
        if len(set(names)) < len(names):
            raise ValueError(f"scores {list(value)} name the scorers {names}; expected each once: take the repeated one out")
        return value


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def scorer_name(column: str) -> str:
    """
    >>> scorer_name("edu_score"), scorer_name("perplexity_value")
    ('edu', 'perplexity_value')
    """
    return column.removesuffix("_score")


# --- the rule ---


def bucket_numbers(scores: Scores, thresholds: Scores) -> npt.NDArray[np.int64]:
    """How many thresholds are not above each score; -1 where a score is not finite or there are no thresholds.

    >>> bucket_numbers(np.float32([0.1, 0.5, 0.9, np.nan]), np.float32([0.5, 0.5])).tolist()
    [0, 2, 2, -1]
    """
    found = np.searchsorted(thresholds, scores, side="right").astype(np.int64)
    return np.where(np.isfinite(scores), found if len(thresholds) else -1, -1)


# --- the stages ---


class Cuts(Stage):
    """All shards' scores -> one JSON of thresholds. One unit, two passes over the score columns alone."""

    class Config(BucketConfig):
        pass

    def needs(self) -> tuple[str, ...]:
        return (*self.config.scores, *(("text_bytes",) if self.config.weight == "bytes" else ()))

    def check_inputs(self, types: Mapping[str, pa.DataType], writers: Mapping[str, Stage]) -> None:
        strange = {column: types[column] for column in self.config.scores if not _is_number(types[column])}
        if strange:
            seen = ", ".join(f"{column!r}, a column of {kind}" for column, kind in strange.items())
            numbers = ", ".join(sorted(column for column, kind in types.items() if column.endswith("_score") and _is_number(kind)))
            raise ValueError(f"scores names {seen}; expected columns of numbers: name some of {numbers or 'those that classifiers write'}")

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        counters = {column: QuantileCounter(self.config.n_buckets) for column in self.config.scores}
        counts = Counts()
        scored = dict.fromkeys(self.config.scores, 0)
        for table, weights in self._shards(inputs, counts):
            for column, counter in counters.items():
                keys, weight = _usable(table, column, weights)
                counter.add_coarse(keys, weight)
                scored[column] += len(keys)
        for counter in counters.values():
            counter.narrow()
        for table, weights in self._shards(inputs, None):
            for column, counter in counters.items():
                counter.add_fine(*_usable(table, column, weights))
        write_json(out["cuts"], self._cuts(counters, scored))
        return counts

    def _shards(self, inputs: Inputs, counts: Counts | None) -> Iterator[tuple[pa.Table, Weights]]:
        """Score columns and weights of the chosen rows, shard by shard; counted where `counts` is given."""
        for position in range(len(inputs["base"])):
            groups = shard_groups(inputs, position)
            chosen = select_rows(groups, self.config.where)
            table = read_columns(groups, self.needs()).filter(pa.array(chosen))
            weights = np.ones(len(table), np.int64)
            if self.config.weight == "bytes":
                weights = table.column("text_bytes").to_numpy().astype(np.int64)
            if counts is not None:
                _count(counts, len(chosen), [scores_of(table, column) for column in self.config.scores])
            yield table, weights

    def _cuts(self, counters: Mapping[str, QuantileCounter], scored: Mapping[str, int]) -> dict[str, Any]:
        scorers = {
            scorer_name(column): {
                "column": column,
                "documents": scored[column],
                "weight": counter.total,
                # a float32 is exactly a float64, which JSON's shortest form gives back exactly
                "thresholds": [float(value) for value in counter.thresholds()],
            }
            for column, counter in counters.items()
        }
        return {"n_buckets": self.config.n_buckets, "weight": self.config.weight, "scorers": scorers}


class Assign(Stage):
    """One shard's scores and the thresholds -> `bucket_<scorer>` and `bucket`, their maximum (null without any score)."""

    class Config(BucketConfig):
        pass

    @property
    def family(self) -> str:
        """`bucket` for the stage `bucket.assign`: first part of every column, and name of the column group."""
        return self.name.partition(".")[0]

    def needs(self) -> tuple[str, ...]:
        return tuple(self.config.scores)

    def columns(self) -> dict[str, pa.DataType]:
        names = [f"{self.family}_{scorer_name(column)}" for column in self.config.scores]
        return dict.fromkeys([*names, self.family], pa.uint8())

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        groups = shard_groups(inputs)
        chosen = select_rows(groups, self.config.where)
        table = read_columns(groups, self.needs())
        thresholds = read_thresholds(inputs["cuts"][0], self.config.scores)
        scores = {column: np.where(chosen, scores_of(table, column), np.float32(np.nan)) for column in self.config.scores}
        numbers = [bucket_numbers(scores[column], thresholds[column]) for column in self.config.scores]
        numbers.append(np.max(numbers, axis=0))
        write_group(out[f"meta/{self.family}"], pa.table({name: _nullable(n) for name, n in zip(self.columns(), numbers, strict=True)}))
        counts = Counts()
        _count(counts, len(chosen), [values[chosen] for values in scores.values()])
        return counts


def read_thresholds(path: Path, columns: Sequence[str]) -> dict[str, Scores]:
    """Score column -> thresholds, float32, from the JSON that Cuts wrote. Raises `KeyError` where it has not all columns."""
    scorers = json.loads(path.read_text(encoding="utf-8"))["scorers"]
    missing = [column for column in columns if scorer_name(column) not in scorers]
    if missing:
        raise KeyError(f"{path} has no thresholds for {missing}, it has {sorted(scorers)}: rerun the stage that wrote it")
    return {column: np.array(scorers[scorer_name(column)]["thresholds"], dtype=np.float32) for column in columns}


def write_json(path: Path, value: Any) -> None:
    """Sorted keys, one line per value: equal values give equal bytes."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def scores_of(table: pa.Table, column: str) -> Scores:
    """A score column as float32, shape (n_rows,); null becomes NaN."""
    values = table.column(column).cast(pa.float64(), safe=False).to_numpy()
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float32)


def _usable(table: pa.Table, column: str, weights: Weights) -> tuple[Keys, Weights]:
    scores = scores_of(table, column)
    finite = np.isfinite(scores)
    return sort_keys(scores[finite]), weights[finite]


def _count(counts: Counts, n_rows: int, scores: Sequence[Scores]) -> None:
    """Account for `n_rows` of which those in `scores` (one array per scorer) were chosen."""
    finite = np.isfinite(np.stack(scores))
    n_chosen = finite.shape[1]
    n_scored = int(finite.any(axis=0).sum())
    counts.drop(NOT_IN_WHERE, n_rows - n_chosen)
    counts.drop("no_score", n_chosen - n_scored)
    counts.keep(n_scored)


def _nullable(numbers: npt.NDArray[np.int64]) -> pa.Array:
    return pa.array(np.maximum(numbers, 0).astype(np.uint8), mask=numbers < 0)
