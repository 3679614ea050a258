"""Which blocks of a page are its main text, by a small model; and how they are written as text.

In: a page cut into blocks, and what it states of itself. Out: the blocks kept. Two forests of decision trees give each block the
probability to be main text: the first sees the block, its neighbours and the boxes around it, the second also the first one's
answers around it; the mean of their log odds counts. Then the blocks are kept from the most probable one down, as long as the
expected F score of the page rises; so an unclear page still gives its best blocks and none comes out empty that has text.

The model is `maintext.json` beside this file, fitted by `tests/bench/train_maintext.py`; how well it does on sites that it has
not seen stands in `docs/extraction.md`. Words of class names and of short texts act by scores in the same file.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

import numpy as np

from ccpipe.html import blocks as b
from ccpipe.html.features import features, prose_share, smooth, weights
from ccpipe.html.forest import Forest, log_odds, probability, read_forest
from ccpipe.html.words import Scores, make_words
from ccpipe.kernels import kernel

Mode = Literal["precision", "balanced", "recall"]
MODES: dict[str, float] = {"precision": 0.25, "balanced": 1.0, "recall": 4.0}
"""Weight of recall against precision, the beta^2 of F-beta."""

PROSE_PAGE, OF_PROSE, OF_ITEMS = 0.5, 0.7, 1.2
"""Of pages with more than this share of prose, the weight of recall is taken times the second, of others times the third: what
articles lose is seldom prose, what lists and shops lose are their items."""

FORMAT = "ccpipe main text model 1"
MODEL_FILE = "maintext.json"

EXTRA_WEIGHT = 3
"""Added to each block's length: what a line more costs the reader."""


MAX_CELL = 300
"""Bytes of the longest block in a row of data."""


GAP_CHANCE, HEADING_CHANCE, CODE_CHANCE = 0.25, 0.15, 0.05
"""Blocks between kept ones, headings before kept ones, and code after kept ones, are kept from these probabilities on."""

COPY_WEIGHT = 80
"""Blocks from this length on are kept once."""

TABLE_CHANCE = 0.05
"""The least mean probability of a table's cells."""

KIND, H1, H6, CODE, START, END, LINKED = b.KIND, b.H1, b.H6, b.CODE, b.START, b.END, b.LINKED
FIRST, STOP, TAG, TABLE = b.FIRST, b.STOP, b.TAG, b.TAGS.index("table")


class Model(NamedTuple):
    """Scores of words, and the forests of the two passes."""

    scores: Scores
    first: Forest
    second: Forest


@cache
def load_model() -> Model:
    """The model of the package, read once per process. Raises ValueError if the file is of another format."""
    return parse_model(resources.files("ccpipe.html").joinpath(MODEL_FILE).read_text(encoding="utf-8"))


def parse_model(text: str) -> Model:
    data = json.loads(text)
    if data.get("format") != FORMAT:
        raise ValueError(f"model of format {data.get('format')!r}, expected {FORMAT!r}; fit it again: tests/bench/train_maintext.py")
    scores = Scores(make_words(data["names"]), make_words(data["wording"]))
    return Model(scores, read_forest(data["first"]), read_forest(data["second"]))


def probabilities(model: Model, page: b.Page, body: str = "", lead: str = "") -> np.ndarray:
    """float64 (n_blocks,): how likely each block is main text. `body`, `lead`: see `ccpipe.html.features`."""
    rows = features(page, body, lead)
    first = log_odds(model.first, rows)
    around = smooth(page, probability(first))
    return probability((first + log_odds(model.second, np.concatenate((rows, around), axis=1))) / 2)


def main_blocks(page: b.Page, chances: np.ndarray, mode: str = "balanced") -> np.ndarray:
    """Numbers of the blocks kept, ascending. Raises KeyError for a mode that is none of `MODES`."""
    size = weights(page)
    leaning = OF_PROSE if prose_share(page) > PROSE_PAGE else OF_ITEMS
    kept = _best_blocks(size + np.float32(EXTRA_WEIGHT), chances, MODES[mode] * leaning)
    _close_gaps(page.blocks, chances, kept)
    _keep_tables(page.blocks, page.boxes, size, chances, kept)
    return _without_copies(page, size, np.flatnonzero(kept))


def _without_copies(page: b.Page, size: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Without paragraphs that stand among them a second time, as pages for phones and desks in one do."""
    seen: set[bytes] = set()
    fresh = np.ones(len(kept), dtype=np.bool_)
    for k in np.flatnonzero(size[kept] >= COPY_WEIGHT).tolist():
        start, stop = page.blocks[kept[k], b.START], page.blocks[kept[k], b.END]
        text = page.text[start:stop].tobytes()
        fresh[k] = text not in seen
        seen.add(text)
    return kept[fresh]


@kernel
def _close_gaps(blocks: Any, chances: Any, kept: Any) -> None:
    """Keep also single blocks between two that are kept, and code after one, and headings (but h1, often the site's name)
    of what is kept."""
    n = len(blocks)
    for i in range(1, n - 1):
        between = kept[i + 1] and chances[i] > GAP_CHANCE
        if kept[i - 1] and (between or (blocks[i, KIND] == CODE and chances[i] > CODE_CHANCE)):
            kept[i] = True
    for i in range(n - 2, -1, -1):
        level, below = blocks[i, KIND], blocks[i + 1, KIND]
        if H1 < level <= H6 and kept[i + 1] and chances[i] > HEADING_CHANCE and not (H1 <= below <= level):
            kept[i] = True


@kernel
def _keep_tables(blocks: Any, boxes: Any, size: Any, chances: Any, kept: Any) -> None:
    """Keep tables of short cells, without many links, whole where they stand between blocks that are kept."""
    for k in range(len(boxes)):
        start, stop = boxes[k, FIRST], boxes[k, STOP]
        if boxes[k, TAG] != TABLE or stop - start < 4 or start == 0 or stop >= len(blocks) or not (kept[start - 1] and kept[stop]):
            continue
        longest = linked = length = 0.0
        likely = whole = 0.0
        for i in range(start, stop):
            longest = max(longest, size[i])
            linked += blocks[i, LINKED]
            length += blocks[i, END] - blocks[i, START]
            likely += chances[i] * size[i]
            whole += size[i]
        if longest < MAX_CELL and linked < 0.5 * length and likely > TABLE_CHANCE * whole:
            kept[start:stop] = True


@kernel
def _best_blocks(weight: Any, chances: Any, beta2: Any) -> Any:
    """Blocks down to the probability at which the expected F-beta, sum of (1 + beta^2) p w over sum of w and beta^2 p w, is highest."""
    order = np.argsort(-chances, kind="mergesort")
    wanted = 0.0
    for i in range(len(order)):
        wanted += chances[i] * weight[i]
    best, limit, size, right = 0.0, 2.0, 0.0, 0.0
    for i in order:
        size += weight[i]
        right += chances[i] * weight[i]
        value = (1 + beta2) * right / (size + beta2 * wanted)
        if value > best:
            best, limit = value, chances[i]
    return chances >= limit


def render(page: b.Page, kept: np.ndarray, markdown: bool = False) -> str:
    """The blocks as text: one line each, list items with a dash, cells of a row of a table joined by ` | `, code as it is.

    `markdown`: light Markdown, with # before headings, fences around code, and a rule below the first row of a table.
    """
    lines: list[str] = []
    row = previous_box = -1
    rows = set(_data_rows(page, kept))
    for start, stop, kind, box, in_row in page.blocks[kept][:, [b.START, b.END, b.KIND, b.BOX, b.ROW]].tolist():
        piece = page.text[start:stop].tobytes().decode("utf-8", "ignore")
        if in_row not in rows:
            lines.append(_line(piece, kind, markdown))
            row = -1
        elif in_row == row:
            lines[-1] += (" " if box == previous_box else " | ") + piece.replace("\n", " ")
        else:
            if markdown and row >= 0 and page.boxes[row, b.PARENT] != page.boxes[in_row, b.PARENT]:
                lines.append("")
            if markdown and row >= 0 and (len(lines) < 2 or " | " not in lines[-2]):
                lines.append(" | ".join("---" for _ in lines[-1].split(" | ")))
            lines.append(piece.replace("\n", " "))
            row = in_row
        previous_box = box
    return "\n".join(lines)


def _line(piece: str, kind: int, markdown: bool) -> str:
    if kind == b.ITEM:
        return "- " + piece
    if markdown and b.H1 <= kind <= b.H6:
        return "#" * (kind - b.H1 + 1) + " " + piece.replace("\n", " ")
    if markdown and kind == b.CODE:
        return f"```\n{piece}\n```"
    return piece


def _data_rows(page: b.Page, kept: np.ndarray) -> list[int]:
    """Boxes of table rows that hold short cells alone: others are tables that lay out a page."""
    part = page.blocks[kept]
    inside = part[part[:, b.ROW] >= 0]
    if not len(inside):
        return []
    long = (inside[:, b.END] - inside[:, b.START] > MAX_CELL) | (inside[:, b.KIND] == b.CODE) | (inside[:, b.KIND] == b.ITEM)
    return sorted(set(inside[:, b.ROW].tolist()) - set(inside[long][:, b.ROW].tolist()))
