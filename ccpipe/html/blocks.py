"""What a page is cut into: blocks of text (paragraphs, headings, list items, cells, code) and the boxes (div, section, table ...)
that hold them. Definitions alone: the tags known, the columns of the arrays, `Page`. `ccpipe.html.cut` makes it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_VOID = "area base br col embed hr img input link meta param source track wbr frame keygen basefont bgsound command image"
_RAW = "script style iframe noembed noframes xmp plaintext"
_UNSEEN = """script style template svg iframe object select textarea canvas audio video map head datalist
    progress meter noframes noembed applet dialog rp title frameset"""
_BOXES = """div section article main header footer nav aside ul ol dl li dd table tr td th form fieldset figure details center
    blockquote address menu hgroup search noscript"""
_LEAVES = "p h1 h2 h3 h4 h5 h6 pre dt caption figcaption summary legend option thead tbody tfoot body listing"
_INLINE = "a b strong i em span button code math br hr img wbr font tt kbd samp label"

TAGS = ["", *dict.fromkeys(" ".join((_BOXES, _LEAVES, _INLINE, _VOID, _RAW, _UNSEEN)).split())]
"""Names known; the others count as 0, an inline element of no meaning."""

TEXT, PARAGRAPH, H1, H6, ITEM, CELL, CODE, TERM, CAPTION = 0, 1, 2, 7, 8, 9, 10, 11, 12
"""Kinds of blocks; headings are 2 (h1) to 7 (h6)."""

_KINDS = {"p": PARAGRAPH, "li": ITEM, "dd": ITEM, "td": CELL, "th": CELL, "pre": CODE, "listing": CODE, "dt": TERM}
_KINDS |= {"caption": CAPTION, "figcaption": CAPTION} | {f"h{n}": H1 + n - 1 for n in range(1, 7)}

START, END, KIND, BOX, ROW, LINKED, BOLD, LINKS, LINES, CHARS, WIDE, DIGITS, UPPER, ENDS, COMMAS, WORDS, LAST, IMAGES, HEADER = range(19)
"""Columns of `Page.blocks`: bytes of the text from START to END; its kind, box, and table row's box (-1: none); bytes inside
links and bold type; links; lines; characters, those of scripts written wide or without spaces, digits, capitals, ends of
sentences, commas, words; whether it ends like a sentence; images since the block before; whether it is a header cell."""
N_BLOCK = 19

PARENT, TAG, FIRST, STOP, DEPTH, VEIL = range(6)
"""Columns of `Page.boxes`: the box around it, its tag (number in `TAGS`), its blocks are FIRST <= i < STOP, boxes around it, and
how it is hidden from readers: 0 not, 1 by its style or attributes, 2 it is a <noscript>, seen where scripts do not run."""
N_BOX = 6


class Page(NamedTuple):
    """text: uint8, UTF-8 of all blocks; blocks: int32 (n_blocks, 19); boxes: int32 (n_boxes, 6), box 0 is the body;
    signs: uint64, hash of tag and class of each box; names, wording: float32 (n, 3), the sum, least and greatest score of the
    words in a box's class, id, role and microdata names, and of the words of a short block's text; seen: uint64, the words
    met (kind of word, box or block, hash, start, end) when `cut` was told to keep them."""

    text: np.ndarray
    blocks: np.ndarray
    boxes: np.ndarray
    signs: np.ndarray
    names: np.ndarray
    wording: np.ndarray
    seen: np.ndarray


def packed(name: str) -> int:
    """The first eight bytes of a name as a number."""
    return int.from_bytes(name.encode()[:8], "little")


IS_VOID, IS_RAW, IS_UNSEEN, IS_BOX, IS_LEAF = 1, 2, 4, 8, 16


def tag_slot(name: int) -> int:
    """Where a packed name begins to be looked for in a table of 512; `ccpipe.html.walk` does the same."""
    return (name * 0x9E3779B97F4A7C15 & (1 << 64) - 1) >> 55


def tag_table() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Packed names and their numbers as a hash table; flags and kind (-1: none) by number."""
    slots, numbers = np.zeros(512, dtype=np.uint64), np.zeros(512, dtype=np.int32)
    flags, kinds = np.zeros(len(TAGS), dtype=np.int32), np.full(len(TAGS), -1, dtype=np.int32)
    groups = ((_VOID, IS_VOID), (_RAW, IS_RAW), (_UNSEEN, IS_UNSEEN), (_BOXES, IS_BOX), (_LEAVES, IS_LEAF))
    for number, name in enumerate(TAGS[1:], 1):
        slot = tag_slot(packed(name))
        while slots[slot]:
            slot = (slot + 1) & 511
        slots[slot], numbers[slot] = packed(name), number
        flags[number] = sum(flag for names, flag in groups if name in names.split())
        kinds[number] = _KINDS.get(name, -1)
    return slots, numbers, flags, kinds
