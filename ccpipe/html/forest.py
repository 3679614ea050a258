"""A forest of decision trees as plain numbers: read from JSON, evaluated in a compiled kernel.

A tree is a list of nodes `[feature, threshold, yes, no]`: `x[feature] <= threshold` leads to `yes`, else to `no`. A number from 0 on is
a node, a negative one the leaf `-1 - number`. The score of a row is the sum of its leaves over all trees, a log odds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ccpipe.kernels import kernel


class Forest(NamedTuple):
    """features, thresholds: one per node; yes, no: next node, or -1 - leaf; roots: first node of each tree (a tree of one leaf:
    -1 - leaf); leaves: log odds. Numbers of nodes and leaves run over all trees."""

    features: np.ndarray
    thresholds: np.ndarray
    yes: np.ndarray
    no: np.ndarray
    roots: np.ndarray
    leaves: np.ndarray


def read_forest(trees: list[dict[str, Any]]) -> Forest:
    """Trees as in the model file: `nodes` and `leaves`.

    >>> forest = read_forest([{"nodes": [[0, 1.5, -1, -2]], "leaves": [-3.0, 3.0]}])
    >>> log_odds(forest, np.array([[1.0], [2.0]], dtype=np.float32)).tolist()
    [-3.0, 3.0]
    """
    nodes: list[tuple[int, float, int, int]] = []
    leaves: list[float] = []
    roots: list[int] = []
    for tree in trees:
        n_nodes, n_leaves = len(nodes), len(leaves)

        def shifted(number: int, n_nodes: int = n_nodes, n_leaves: int = n_leaves) -> int:
            return number + n_nodes if number >= 0 else number - n_leaves

        roots.append(shifted(0 if tree["nodes"] else -1))
        nodes += [(feature, threshold, shifted(yes), shifted(no)) for feature, threshold, yes, no in tree["nodes"]]
        leaves += tree["leaves"]
    columns = list(zip(*nodes, strict=True)) or [(), (), (), ()]
    kinds = (np.int32, np.float64, np.int32, np.int32)
    features, thresholds, left, right = (np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True))
    return Forest(features, thresholds, left, right, np.array(roots, dtype=np.int32), np.array(leaves, dtype=np.float64))


def log_odds(forest: Forest, rows: np.ndarray) -> np.ndarray:
    """float64 (n,) of float32 (n, n_features)."""
    scores: np.ndarray = _log_odds(rows, *forest)
    return scores


def probability(scores: np.ndarray) -> np.ndarray:
    """The logistic function by products alone, (1 - x/1024)^1024 for exp(-x): the last bit of `exp` differs between machines.

    >>> probability(np.array([-99.0, 0.0, 2.0])).round(3).tolist()
    [0.0, 0.5, 0.881]
    """
    power = 1 - np.clip(scores, -15, 15) / 1024
    for _ in range(10):
        power = power * power
    return np.asarray(1 / (1 + power))


@kernel
def _log_odds(rows: Any, features: Any, thresholds: Any, yes: Any, no: Any, roots: Any, leaves: Any) -> Any:
    out = np.zeros(len(rows), dtype=np.float64)
    for i in range(len(rows)):
        row = rows[i]
        score = 0.0
        for root in roots:
            node = root
            while node >= 0:
                node = yes[node] if row[features[node]] <= thresholds[node] else no[node]
            score += leaves[-1 - node]
        out[i] = score
    return out
