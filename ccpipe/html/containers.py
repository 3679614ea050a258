"""Which boxes of a page hold its text, and how far each block is from them, as numbers for the model.

In: a `Page`, for the second pass with the first one's probabilities. Out: float32 (n_blocks, n), columns named in `CONTAINERS` and
`BEST_BOX`. Three boxes are looked for: the one that paragraphs vote for, as in Arc90's Readability (a paragraph counts one,
one for each comma, and up to three for its length; its parent takes all, the next boxes up a half, a sixth and a ninth; less the
share of links), and the smallest that hold half and four fifths of the prose. The second pass's box is the one that would
be kept if a single box had to be: the highest expected F1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ccpipe.html import blocks as b
from ccpipe.kernels import kernel

CONTAINERS = ["vote_ratio", "vote_far", "half_far", "most_far", "half_share", "most_share", "vote_share"]
BEST_BOX = ["best_far", "best_ratio", "best_f", "best_mean", "best_share", "sure_before", "sure_after", "run_mass"]

MIN_PROSE = 40
"""Letters from which a block counts as prose here."""

SURE = 0.5

BOX, KIND, COMMAS, H1, H6 = b.BOX, b.KIND, b.COMMAS, b.H1, b.H6
PARENT, FIRST, STOP = b.PARENT, b.FIRST, b.STOP


def containers(page: b.Page, weight: np.ndarray, link: np.ndarray) -> np.ndarray:
    """float32 (n_blocks, len(CONTAINERS)). `weight`: letters' worth of each block; `link`: share of it in links."""
    rows: np.ndarray = _containers(page.blocks, page.boxes, weight, link)
    return rows


def best_box(page: b.Page, weight: np.ndarray, p: np.ndarray) -> np.ndarray:
    """float32 (n_blocks, len(BEST_BOX)) from the first pass's probabilities."""
    rows: np.ndarray = _best_box(page.blocks, page.boxes, weight, p)
    return rows


@kernel
def _distance(boxes: Any, target: Any) -> Any:
    """For each box, how many levels one has to go up from `target` to a box that holds both."""
    up = np.full(len(boxes), -1, dtype=np.int32)
    box, steps = target, 0
    while box >= 0:
        up[box] = steps
        box = boxes[box, PARENT]
        steps += 1
    for k in range(len(boxes)):
        if up[k] < 0:
            up[k] = up[boxes[k, PARENT]]
    return up


@kernel
def _highest_above(boxes: Any, score: Any) -> Any:
    """The highest score of each box and those around it, as a share of the highest of all."""
    top = 1e-9
    for k in range(len(boxes)):
        top = max(top, score[k])
    out = np.zeros(len(boxes), dtype=np.float64)
    for k in range(len(boxes)):
        parent = boxes[k, PARENT]
        out[k] = max(score[k] / top, out[parent] if parent >= 0 else 0.0)
    return out


@kernel
def _smallest(boxes: Any, sums: Any, least: Any) -> Any:
    """The last and so innermost of the boxes that hold `least`."""
    found = 0
    for k in range(len(boxes)):
        if sums[boxes[k, STOP]] - sums[boxes[k, FIRST]] >= least:
            found = k
    return found


@kernel
def _votes(blocks: Any, boxes: Any, weight: Any, link: Any) -> Any:
    votes = np.zeros(len(boxes), dtype=np.float64)
    for i in range(len(blocks)):
        if weight[i] < MIN_PROSE or link[i] > 0.5 or H1 <= blocks[i, KIND] <= H6:
            continue
        points = 1 + blocks[i, COMMAS] + min(3.0, weight[i] / 100)
        box, share = boxes[blocks[i, BOX], PARENT], 1.0
        for level in range(4):
            if box < 0:
                break
            votes[box] += points * share
            box, share = boxes[box, PARENT], (0.5 if level == 0 else 1 / (3.0 * (level + 1)))
    return votes


@kernel
def _containers(blocks: Any, boxes: Any, weight: Any, link: Any) -> Any:
    n = len(blocks)
    out = np.zeros((n, 7), dtype=np.float32)
    prose, whole, linked = np.zeros(n + 1), np.zeros(n + 1), np.zeros(n + 1)
    for i in range(n):
        counts = weight[i] >= MIN_PROSE and not H1 <= blocks[i, KIND] <= H6
        prose[i + 1] = prose[i] + (weight[i] * (1 - link[i]) if counts else 0.0)
        whole[i + 1] = whole[i] + weight[i]
        linked[i + 1] = linked[i] + weight[i] * link[i]
    votes = _votes(blocks, boxes, weight, link)
    top = 0
    for k in range(len(boxes)):
        lo, hi = boxes[k, FIRST], boxes[k, STOP]
        votes[k] *= 1 - (linked[hi] - linked[lo]) / max(1.0, whole[hi] - whole[lo])
        if votes[k] > votes[top]:
            top = k
    half, most = _smallest(boxes, prose, 0.5 * prose[n]), _smallest(boxes, prose, 0.8 * prose[n])
    ratio = _highest_above(boxes, votes)
    far, half_far, most_far = _distance(boxes, top), _distance(boxes, half), _distance(boxes, most)
    mass = max(1.0, whole[n])
    for i in range(n):
        box = blocks[i, BOX]
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = ratio[box], far[box], half_far[box], most_far[box]
        out[i, 4] = (whole[boxes[half, STOP]] - whole[boxes[half, FIRST]]) / mass
        out[i, 5] = (whole[boxes[most, STOP]] - whole[boxes[most, FIRST]]) / mass
        out[i, 6] = (whole[boxes[top, STOP]] - whole[boxes[top, FIRST]]) / mass
    return out


@kernel
def _best_box(blocks: Any, boxes: Any, weight: Any, p: Any) -> Any:
    n = len(blocks)
    out = np.zeros((n, 8), dtype=np.float32)
    whole, good, sure = np.zeros(n + 1), np.zeros(n + 1), np.zeros(n + 1)
    for i in range(n):
        whole[i + 1] = whole[i] + weight[i]
        good[i + 1] = good[i] + weight[i] * p[i]
        sure[i + 1] = sure[i] + (weight[i] if p[i] > SURE else 0.0)
    score = np.zeros(len(boxes), dtype=np.float64)
    best = 0
    for k in range(len(boxes)):
        lo, hi = boxes[k, FIRST], boxes[k, STOP]
        score[k] = 2 * (good[hi] - good[lo]) / max(1.0, whole[hi] - whole[lo] + good[n])
        if score[k] > score[best]:
            best = k
    ratio, far = _highest_above(boxes, score), _distance(boxes, best)
    lo, hi = boxes[best, FIRST], boxes[best, STOP]
    mean = (good[hi] - good[lo]) / max(1.0, whole[hi] - whole[lo])
    share = (whole[hi] - whole[lo]) / max(1.0, whole[n])
    start = 0
    for i in range(n):
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = far[blocks[i, BOX]], ratio[blocks[i, BOX]], score[best], mean
        out[i, 4], out[i, 5], out[i, 6] = share, sure[i] / max(1.0, sure[n]), (sure[n] - sure[i + 1]) / max(1.0, sure[n])
        if i == n - 1 or (p[i] > SURE) != (p[i + 1] > SURE):
            for j in range(start, i + 1):
                out[j, 7] = whole[i + 1] - whole[start]
            start = i + 1
    return out
