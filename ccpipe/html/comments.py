"""Which blocks of a page are comments of its readers, by the names that pages give to the boxes around them.

In: a page's tree as written out, and its blocks. Out: numbers of blocks. The main text never depends on it: it adds what the switch
`comments` asks for. The names are those of WordPress, Disqus, Blogger, Facebook, Discourse and of German, French, Spanish, Portuguese and
Italian themes.
"""

from __future__ import annotations

import numpy as np

from ccpipe.html import blocks as b
from ccpipe.html.cut import cut
from ccpipe.html.words import Scores, make_words

NAMES = """comment comments commentlist commentbody commenttext commentcontent usercomment usercomments disqus
    kommentar kommentare leserkommentar commentaire commentaires comentario comentarios commento commenti reply replies"""

MIN_CHARS = 15
"""Characters of the shortest comment: names, dates and buttons are shorter."""

_SCORES = Scores(make_words(dict.fromkeys(NAMES.split(), 1.0)), make_words({}))
_CONTROLS = [b.TAGS.index(name) for name in ("form", "nav", "header", "footer", "fieldset")]


def comment_blocks(written: bytes, page: b.Page) -> np.ndarray:
    """Numbers of the blocks of readers' comments, ascending, int64 (n,). `page`: the blocks of `written`."""
    named = cut(written, _SCORES)
    inside = np.zeros(len(page.blocks), dtype=np.bool_)
    controls = np.zeros(len(page.blocks), dtype=np.bool_)
    for box in np.flatnonzero(named.names[:, 2] > 0):
        inside[page.boxes[box, b.FIRST] : page.boxes[box, b.STOP]] = True
    for box in np.flatnonzero(np.isin(page.boxes[:, b.TAG], _CONTROLS)):
        controls[page.boxes[box, b.FIRST] : page.boxes[box, b.STOP]] = True
    blocks = page.blocks
    text = blocks[:, b.END] - blocks[:, b.START]
    is_text = (
        (blocks[:, b.CHARS] >= MIN_CHARS) & (2 * blocks[:, b.LINKED] < text) & ((blocks[:, b.KIND] < b.H1) | (blocks[:, b.KIND] > b.H6))
    )
    return np.flatnonzero(inside & ~controls & is_text)
