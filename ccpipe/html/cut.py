"""A parsed page cut into blocks: `cut(written_out(tree))`. The passes are `ccpipe.html.walk` and `ccpipe.html.words`."""

from __future__ import annotations

import numpy as np
from selectolax.lexbor import LexborHTMLParser

from ccpipe.html import blocks as b
from ccpipe.html.mathml import replace_formulas
from ccpipe.html.walk import walk
from ccpipe.html.words import Scores, make_set, make_words, measure

NO_SCORES = Scores(make_words({}), make_words({}))
MAX_TITLE_WORDS = 100

_NO_HTML = np.frombuffer(b" ", dtype=np.uint8)
_NOTHING = np.zeros(16, dtype=np.uint64)
_NO_BOXES, _NO_SPANS = np.zeros((0, b.N_BOX), dtype=np.int32), np.zeros((0, 4), dtype=np.int32)


def written_out(tree: LexborHTMLParser) -> bytes:
    """The body of a tree as `cut` takes it: well formed, formulas as LaTeX."""
    written = tree.body.html if tree.body is not None else None
    if not written:
        return b""
    return (replace_formulas(written) if "<math" in written else written).encode("utf-8", "replace")


def cut(html: bytes, scores: Scores = NO_SCORES, title: str = "", keep: int = 0) -> b.Page:
    """Blocks and boxes of a written-out tree, words scored. `keep`: words to keep, see `Page.seen`."""
    written = np.frombuffer(html, dtype=np.uint8)
    text, blocks, boxes, spans = walk(written)
    signs, names, wording, seen = measure(text, blocks, written, boxes, spans, scores, _title_words(title), keep)
    return b.Page(text, blocks, boxes, signs, names, wording, seen)


def _title_words(title: str) -> np.ndarray:
    """The keys of its words as a set."""
    text = np.frombuffer(
        title.encode("utf-8", "replace"), dtype=np.uint8
    ).copy()  # writable, as a page's text: one compiled kernel for both
    if not len(text):
        return _NOTHING
    block = np.zeros((1, b.N_BLOCK), dtype=np.int32)
    block[0, b.END] = len(text)
    seen = measure(text, block, _NO_HTML, _NO_BOXES, _NO_SPANS, NO_SCORES, _NOTHING, MAX_TITLE_WORDS)[3]
    return make_set(seen[:, 2])
