"""One pass of a compiled kernel over a page's tree as the parser writes it out again: blocks, boxes and the text.

In: the UTF-8 bytes of a parsed tree (`ccpipe.html.cut.written_out`), which are well formed: each element that is no void one is
closed, and text escapes `& < >` alone. So a flat scan sees the same tree as a walk over the nodes, without a Python call per
node. It judges nothing; it only leaves out what no reader sees (scripts, styles). Formulas are written as LaTeX between dollar
signs where the page has it. Kernels of one file call no others (see `ccpipe.kernels`), hence the length of this one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ccpipe.html import blocks as b
from ccpipe.kernels import kernel

N_BLOCK, N_BOX, TEXT, H1, H6, CODE = b.N_BLOCK, b.N_BOX, b.TEXT, b.H1, b.H6, b.CODE
START, END, KIND, BOX, ROW, LINKED, BOLD, LINKS, LINES = b.START, b.END, b.KIND, b.BOX, b.ROW, b.LINKED, b.BOLD, b.LINKS, b.LINES
IMAGES, HEADER, PARENT, TAG, FIRST, STOP, DEPTH, VEIL = b.IMAGES, b.HEADER, b.PARENT, b.TAG, b.FIRST, b.STOP, b.DEPTH, b.VEIL
IS_VOID, IS_RAW, IS_UNSEEN, IS_BOX, IS_LEAF = b.IS_VOID, b.IS_RAW, b.IS_UNSEEN, b.IS_BOX, b.IS_LEAF

_TAG_TABLE = b.tag_table()
_SPECIAL = "a b strong button math br hr img tr table th td pre listing noscript script body"
_A, _B, _STRONG, _BUTTON, _MATH, _BR, _HR, _IMG, _TR, _TABLE, _TH, _TD, _PRE, _LISTING, _NOSCRIPT, _SCRIPT, _BODY = map(
    b.TAGS.index, _SPECIAL.split()
)
_READ = "class id role itemprop style hidden aria-hidden alttext type alt src"
_CLASS, _ID, _ROLE, _ITEMPROP, _STYLE, _HIDDEN, _ARIA, _ALTTEXT, _TYPE, _ALT, _SRC = (np.uint64(b.packed(name)) for name in _READ.split())

# the state of a scan
(S_OUT, S_START, S_LINKED, S_BOLD, S_LINKS, S_SPACE, S_BREAKS, S_HERE, S_ROW, S_KIND, S_PRE, S_LINK, S_STRONG, S_MUTE, S_HARD) = range(15)
S_BLOCKS, S_BOXES, S_IMAGES, S_HEADER, S_SPANS, S_LINES, S_ATTRS, S_TEX_FROM, S_TEX_TO, S_GONE, S_MATH = range(15, 26)


def walk(html: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """uint8 text, int32 blocks (n, N_BLOCK) with the counted columns empty, boxes (n, N_BOX), and spans of class, id, role and
    microdata names (n, 4): box, start and end in `html`, whether it is a class. Cut to what is used: no page keeps the memory of
    its worst case."""
    text, blocks, boxes, spans, state = _walk(html, *_TAG_TABLE)
    used = [int(state[k]) for k in (S_OUT, S_BLOCKS, S_BOXES, S_SPANS)]
    return tuple(array[:n] for array, n in zip((text, blocks, boxes, spans), used, strict=True))


@kernel
def _lower(byte: Any) -> Any:
    return byte | 32 if 65 <= byte <= 90 else byte


@kernel
def _keep_span(page: Any, box: Any, start: Any, stop: Any, is_class: Any) -> None:
    state = page[4]
    if state[S_SPANS] < len(page[3]) and stop > start:
        row = page[3][state[S_SPANS]]
        row[0], row[1], row[2], row[3] = box, start, stop, is_class
        state[S_SPANS] += 1


@kernel
def _has_letter(text: Any, i: Any, stop: Any) -> Any:
    """Whether a text of two bytes or less holds more than marks."""
    if stop - i == 2 and text[i] >= 0xC3:
        return not (text[i] == 0xC3 and text[i + 1] == 0x97)
    for k in range(i, stop):  # noqa: SIM110 - numba compiles no generator here
        if 97 <= (text[k] | 32) <= 122 or 48 <= text[k] <= 57:
            return True
    return False


@kernel
def _contains(html: Any, i: Any, stop: Any, words: Any) -> Any:
    """Whether one of the lower-case words occurs, blanks in the text skipped. `words`: separated by byte 124."""
    first = 0
    for k in range(len(words) + 1):
        if k == len(words) or words[k] == 124:
            for at in range(i, stop):
                m, j = first, at
                while m < k and j < stop:
                    byte = _lower(html[j])
                    if byte == words[m]:
                        m += 1
                    elif byte > 32 or j == at:
                        break
                    j += 1
                if m == k:
                    return True
            first = k + 1
    return False


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)


_HIDING = _bytes("display:none|visibility:hidden")
_RENDERED = _bytes("mathjax_preview|mathjax_display|mathjax_svg|mathjax_chtml|mjx-chtml|mjx-container|katex-html")
_TEX = _bytes("math/tex|math/latex")
_TEX_CLASS = _bytes("math|latex|tex")
_TRUE = _bytes("true")
_MIMETEX = _bytes("mimetex.cgi?")
_END_MATH = _bytes("</math")

A_HIDDEN, A_RENDERED, A_TEX, A_TEX_CLASS = 1, 2, 4, 8


@kernel
def _find_bytes(html: Any, i: Any, stop: Any, wanted: Any) -> Any:
    """Position of the bytes (letters in lower case) from `i` on, or `stop`."""
    while i + len(wanted) <= stop:
        if html[i] == wanted[0]:
            k = 1
            while k < len(wanted) and _lower(html[i + k]) == wanted[k]:
                k += 1
            if k == len(wanted):
                return i
        i += 1
    return stop


@kernel
def _has_command(html: Any, i: Any, stop: Any) -> Any:
    """Whether a backslash stands before a letter, as in TeX."""
    for k in range(i, stop - 1):  # noqa: SIM110 - numba compiles no generator here
        if html[k] == 92 and 97 <= (html[k + 1] | 32) <= 122:
            return True
    return False


@kernel
def _may_be_formula(html: Any, i: Any, stop: Any) -> Any:
    """Whether there is an x and a j or k, as in each of the names in `_RENDERED`: nearly all others are done with here."""
    has_x = has_j = False
    for k in range(i, stop):
        letter = html[k] | 32
        has_x = has_x or letter == 120
        has_j = has_j or letter == 106 or letter == 107
    return has_x and has_j


@kernel
def _read_attributes(page: Any, html: Any, i: Any, box: Any) -> Any:
    """From after the tag's name: flags of what is said there, and the position after the tag. Names go to `box` (-1: none)."""
    state = page[4]
    flags = 0
    state[S_TEX_FROM] = state[S_TEX_TO] = 0
    while i < len(html) and html[i] != 62:
        if html[i] <= 32 or html[i] == 47:
            i += 1
            continue
        name = np.uint64(0)
        shift = 0
        while i < len(html) and html[i] > 32 and html[i] != 61 and html[i] != 62:
            if shift < 64:
                name |= np.uint64(html[i]) << np.uint64(shift)
                shift += 8
            i += 1
        start = stop = i
        if i + 1 < len(html) and html[i] == 61 and html[i + 1] == 34:
            start = stop = i + 2
            while stop < len(html) and html[stop] != 34:
                stop += 1
            i = stop + 1
        elif i < len(html) and html[i] == 61:
            i += 1
        if name == _CLASS:
            if box >= 0:
                _keep_span(page, box, start, stop, 1)
            if _may_be_formula(html, start, stop) and _contains(html, start, stop, _RENDERED):
                flags |= A_RENDERED
            elif box < 0 and _contains(html, start, stop, _TEX_CLASS):
                flags |= A_TEX_CLASS
        elif name in (_ID, _ROLE, _ITEMPROP):
            if box >= 0:
                _keep_span(page, box, start, stop, 0)
        elif name == _STYLE:
            if _contains(html, start, stop, _HIDING):
                flags |= A_HIDDEN
        elif name == _HIDDEN:
            flags |= A_HIDDEN
        elif name == _ARIA:
            if _contains(html, start, stop, _TRUE):
                flags |= A_HIDDEN
        elif name in (_ALTTEXT, _ALT):
            state[S_TEX_FROM], state[S_TEX_TO] = start, stop
            if name == _ALT and _has_command(html, start, stop):
                flags |= A_TEX_CLASS
        elif name == _SRC:
            query = _find_bytes(html, start, stop, _MIMETEX)
            if query < stop:
                flags |= A_TEX_CLASS
                state[S_TEX_FROM], state[S_TEX_TO] = query + len(_MIMETEX), stop
        elif name == _TYPE and _contains(html, start, stop, _TEX):
            flags |= A_TEX
    return flags, i + 1


@kernel
def _skip_attributes(html: Any, i: Any) -> Any:
    """Position after the tag. Values are quoted, names may hold quotes themselves (`<a "">`)."""
    while i < len(html) and html[i] != 62:
        if html[i] == 61 and i + 1 < len(html) and html[i + 1] == 34:
            i += 2
            while i < len(html) and html[i] != 34:
                i += 1
        i += 1
    return i + 1


@kernel
def _flush(page: Any) -> None:
    """Finish the block at hand."""
    text, state = page[0], page[4]
    stop = state[S_OUT]
    while stop > state[S_START] and text[stop - 1] <= 32:
        stop -= 1
    if stop > state[S_START]:
        block = state[S_BLOCKS]
        row = page[1][block]
        row[START], row[END], row[BOX], row[ROW] = state[S_START], stop, state[S_HERE], state[S_ROW]
        row[KIND] = CODE if state[S_PRE] else state[S_KIND]
        row[LINKED], row[BOLD], row[LINKS], row[LINES] = state[S_LINKED], state[S_BOLD], state[S_LINKS], state[S_LINES]
        row[IMAGES], row[HEADER] = state[S_IMAGES], state[S_HEADER]
        if stop - row[START] > 2 or _has_letter(text, row[START], stop):
            state[S_BLOCKS] += 1
        state[S_IMAGES] = 0
        text[stop] = 10
        state[S_OUT] = state[S_START] = stop + 1
    else:
        state[S_OUT] = state[S_START]
    state[S_LINKED] = state[S_BOLD] = state[S_SPACE] = state[S_BREAKS] = state[S_LINES] = 0
    state[S_LINKS] = state[S_LINK] > 0


@kernel
def _entity(html: Any, i: Any, stop: Any) -> Any:
    """What `&` at `i` stands for among the five names that the parser writes, and the position after it."""
    if i + 3 < stop and html[i + 2] == 116 and html[i + 3] == 59:  # &lt; &gt;
        return (60 if html[i + 1] == 108 else 62), i + 4
    if i + 4 < stop and html[i + 1] == 97 and html[i + 2] == 109 and html[i + 4] == 59:  # &amp;
        return 38, i + 5
    if i + 5 < stop and html[i + 5] == 59:
        if html[i + 1] == 110 and html[i + 2] == 98:  # &nbsp;
            return 32, i + 6
        if html[i + 1] == 113 and html[i + 2] == 117:  # &quot;
            return 34, i + 6
    return 38, i + 1


@kernel
def _space_or_nothing(html: Any, i: Any, stop: Any) -> Any:
    """Length of the white space (positive) or of the character without width or meaning (negative) at `i`; 0: neither."""
    byte = html[i]
    if byte < 128:
        if byte <= 32:
            return 1 if byte == 32 or 9 <= byte <= 13 else -1
        return -1 if byte == 127 else 0
    if byte == 0xC2 and i + 1 < stop:
        second = html[i + 1]
        if second == 0xA0 or second == 0x85:
            return 2
        return -2 if second < 0xA0 or second == 0xAD else 0
    if i + 2 < stop:
        second, third = html[i + 1], html[i + 2]
        if byte == 0xE2 and second == 0x80:
            if third <= 0x8A or third == 0xA8 or third == 0xA9 or third == 0xAF:
                return 3
            return -3 if third == 0x8B or third == 0x8E or third == 0x8F else 0
        if byte == 0xE2 and second == 0x81:
            return 3 if third == 0x9F else (-3 if third == 0xA0 else 0)
        if byte == 0xE3 and second == 0x80 and third == 0x80:
            return 3
        if byte == 0xEF:
            return -3 if (second == 0xBB and third == 0xBF) or (second == 0xBF and third >= 0xBE) else 0
    return 0


@kernel
def _append_text(page: Any, html: Any, i: Any, stop: Any) -> None:
    """Text of the tree into the block at hand, white space collapsed (kept in code)."""
    text, state = page[0], page[4]
    code = state[S_PRE] > 0
    while i < stop:
        kind = _space_or_nothing(html, i, stop)
        if kind < 0:
            i -= kind
            continue
        if kind > 0 and not code:
            state[S_SPACE] = 1
            i += kind
            continue
        if state[S_BREAKS] > 0:
            if state[S_BREAKS] > 1 and not code:
                _flush(page)
            elif state[S_OUT] > state[S_START] or code:
                for _ in range(state[S_BREAKS] if code else 1):
                    text[state[S_OUT]] = 10
                    state[S_OUT] += 1
                    state[S_LINES] += 1
                state[S_SPACE] = 0
            state[S_BREAKS] = 0
        if kind > 0:
            if html[i] == 10 or html[i] == 9:
                text[state[S_OUT]] = html[i]
                state[S_OUT] += 1
                state[S_LINES] += html[i] == 10
            elif html[i] != 13:
                text[state[S_OUT]] = 32
                state[S_OUT] += 1
            i += kind
            continue
        byte, after = np.int64(html[i]), i + 1
        if byte == 38:
            byte, after = _entity(html, i, stop)
            if byte == 32 and not code:
                state[S_SPACE] = 1
                i = after
                continue
        if state[S_SPACE] and state[S_OUT] > state[S_START] and not code:
            text[state[S_OUT]] = 32
            state[S_OUT] += 1
        state[S_SPACE] = 0
        text[state[S_OUT]] = byte
        state[S_OUT] += 1
        state[S_LINKED] += state[S_LINK] > 0
        state[S_BOLD] += state[S_STRONG] > 0
        i = after


@kernel
def _append_formula(page: Any, html: Any, i: Any, stop: Any) -> None:
    """LaTeX between dollar signs."""
    text, state = page[0], page[4]
    while i < stop and html[i] <= 32:
        i += 1
    while stop > i and html[stop - 1] <= 32:
        stop -= 1
    if i == stop:
        return
    dollar = not (html[i] == 36 or (html[i] == 92 and i + 1 < stop and (html[i + 1] == 40 or html[i + 1] == 91)))
    state[S_MATH] = state[S_OUT]
    if dollar:
        _append_text(page, _DOLLAR, 0, 1)
    _append_text(page, html, i, stop)
    if dollar:
        state[S_SPACE] = 0
        text[state[S_OUT]] = 36
        state[S_OUT] += 1
    state[S_MATH] = state[S_OUT]


_DOLLAR = _bytes("$")


@kernel
def _append_math(page: Any, html: Any, i: Any) -> Any:
    """The `alttext` of the <math> element that begins before `i` (see `ccpipe.html.mathml`). The position of its end tag."""
    state = page[4]
    _append_formula(page, html, state[S_TEX_FROM], state[S_TEX_TO])
    return _find_bytes(html, i, len(html), _END_MATH)


@kernel
def _open_box(page: Any, tag: Any, depth: Any) -> Any:
    state = page[4]
    box = state[S_BOXES]
    row = page[2][box]
    row[PARENT], row[TAG], row[FIRST], row[STOP], row[DEPTH] = state[S_HERE], tag, state[S_BLOCKS], 0, depth
    row[VEIL] = page[2][state[S_HERE], VEIL] if state[S_HERE] >= 0 else 0
    state[S_BOXES] += 1
    return box


# effects of an open element, undone when it is closed
E_BOX, E_LINK, E_STRONG, E_PRE, E_MUTE, E_HARD = 1, 2, 4, 8, 16, 32


@kernel
def _walk(html: Any, slots: Any, numbers: Any, tag_flags: Any, tag_kinds: Any) -> Any:
    tags = 2
    for byte in html:
        tags += byte == 60
    page = (
        np.empty(len(html) + 64, dtype=np.uint8),
        np.empty((tags, N_BLOCK), dtype=np.int32),
        np.empty((tags, N_BOX), dtype=np.int32),
        np.empty((4 * tags, 4), dtype=np.int32),
        np.zeros(32, dtype=np.int64),
    )
    state = page[4]
    state[S_HERE] = state[S_ROW] = -1
    state[S_MATH] = -1
    stack = np.empty((tags, 5), dtype=np.int64)  # effects, kind, row, header before; tag
    stack_names = np.empty(tags, dtype=np.uint64)
    top = 0
    depth = 0
    i = spans = 0
    state[S_HERE] = _open_box(page, _BODY, 0)
    while i < len(html):
        if html[i] != 60:
            start = i
            while i < len(html) and html[i] != 60:
                i += 1
            if not state[S_MUTE] and not state[S_HARD]:
                _append_text(page, html, start, i)
            continue
        if i + 1 >= len(html):
            break
        if html[i + 1] == 33 or html[i + 1] == 63:  # comment, declaration
            comment = html[i + 1] == 33 and i + 3 < len(html) and html[i + 2] == 45 and html[i + 3] == 45
            i += 4 if comment else 2
            while i < len(html) and not (html[i] == 62 and (not comment or (html[i - 1] == 45 and html[i - 2] == 45))):
                i += 1
            i += 1
            continue
        closing = html[i + 1] == 47
        i += 2 if closing else 1
        name = np.uint64(0)
        shift = 0
        while i < len(html) and html[i] > 32 and html[i] != 62 and html[i] != 47:
            if shift < 64:
                name |= np.uint64(_lower(html[i])) << np.uint64(shift)
                shift += 8
            i += 1
        if closing:
            i = _skip_attributes(html, i)
            at = top - 1
            while at >= 0 and stack_names[at] != name:
                at -= 1
            if at < 0:
                continue
            while top > at:
                top -= 1
                effects = stack[top, 0]
                if effects & E_BOX:
                    _flush(page)
                    row = page[2][state[S_HERE]]
                    row[STOP] = state[S_BLOCKS]
                    state[S_HERE] = row[PARENT]
                    state[S_KIND], state[S_ROW], state[S_HEADER] = stack[top, 1], stack[top, 2], stack[top, 3]
                    depth -= 1
                state[S_LINK] -= (effects & E_LINK) > 0
                state[S_STRONG] -= (effects & E_STRONG) > 0
                state[S_PRE] -= (effects & E_PRE) > 0
                state[S_MUTE] -= (effects & E_MUTE) > 0
                state[S_HARD] -= (effects & E_HARD) > 0
            continue
        slot = np.int64((name * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(55))
        tag = 0
        while slots[slot]:
            if slots[slot] == name:
                tag = numbers[slot]
                break
            slot = (slot + 1) & 511
        flags = tag_flags[tag]
        muted = state[S_MUTE] + state[S_HARD] > 0
        if flags & IS_RAW:
            said, i = _read_attributes(page, html, i, -1)
            start = i
            while i + 1 < len(html):  # up to the end tag of that name
                if html[i] == 60 and html[i + 1] == 47:
                    k = 0
                    while (
                        k < shift and i + 2 + k // 8 < len(html) and _lower(html[i + 2 + k // 8]) == (name >> np.uint64(k)) & np.uint64(255)
                    ):
                        k += 8
                    if k == shift:
                        break
                i += 1
            if tag == _SCRIPT and said & A_TEX and not state[S_HARD]:
                _append_formula(page, html, start, min(i, len(html)))
            i = _skip_attributes(html, i)
            continue
        if flags & IS_VOID:
            if tag == _BR:
                i = _skip_attributes(html, i)
                state[S_BREAKS] += not muted
            elif tag == _IMG and not state[S_HARD]:
                said, i = _read_attributes(page, html, i, -1)
                state[S_IMAGES] += not muted
                if said & A_TEX_CLASS and state[S_MATH] != state[S_OUT] and not muted:
                    _append_formula(page, html, state[S_TEX_FROM], state[S_TEX_TO])
            else:
                i = _skip_attributes(html, i)
                if tag == _HR and not muted:
                    _flush(page)
            continue
        effects = 0
        if flags & IS_UNSEEN:
            i = _skip_attributes(html, i)
            effects = E_HARD
        elif tag == _MATH and not state[S_HARD]:
            said, i = _read_attributes(page, html, i, -1)
            i = _append_math(page, html, i)
        elif muted:
            i = _skip_attributes(html, i)
        elif flags & (IS_BOX | IS_LEAF):
            if tag == _BODY:
                said, i = _read_attributes(page, html, i, -1)
                said &= ~A_HIDDEN
            else:
                _flush(page)
                spans = state[S_SPANS]
                box = _open_box(page, tag, depth + 1)
                said, i = _read_attributes(page, html, i, box)
            if said & A_RENDERED:
                if tag != _BODY:
                    state[S_BOXES] -= 1
                    state[S_SPANS] = spans
                effects = E_MUTE
            elif tag != _BODY:
                stack[top, 1], stack[top, 2], stack[top, 3] = state[S_KIND], state[S_ROW], state[S_HEADER]
                effects = E_BOX
                depth += 1
                if said & A_HIDDEN or tag == _NOSCRIPT:
                    page[2][box, VEIL] = 2 if tag == _NOSCRIPT else 1
                state[S_HERE] = box
                if tag_kinds[tag] >= 0:
                    state[S_KIND] = tag_kinds[tag]
                elif flags & IS_BOX and tag != _TR:
                    state[S_KIND] = TEXT
                if tag == _TR:
                    state[S_ROW] = box
                elif tag == _TABLE:
                    state[S_ROW] = -1
                elif tag in (_PRE, _LISTING):
                    state[S_PRE] += 1
                    effects |= E_PRE
                    if i < len(html) and html[i] == 10:
                        i += 1
                if tag in (_TH, _TD):
                    state[S_HEADER] = tag == _TH
        elif tag == _A:
            i = _skip_attributes(html, i)
            state[S_LINK] += 1
            state[S_LINKS] += 1
            effects = E_LINK
        elif tag in (_B, _STRONG):
            i = _skip_attributes(html, i)
            state[S_STRONG] += 1
            effects = E_STRONG
        elif tag == _BUTTON:
            i = _skip_attributes(html, i)
            effects = 0 if H1 <= state[S_KIND] <= H6 else E_HARD
        else:
            said, i = _read_attributes(page, html, i, -1)
            if said & (A_RENDERED | A_HIDDEN):
                effects = E_MUTE
        state[S_MUTE] += (effects & E_MUTE) > 0
        state[S_HARD] += (effects & E_HARD) > 0
        stack[top, 0] = effects
        stack_names[top] = name
        top += 1
    _flush(page)
    page[2][0, STOP] = state[S_BLOCKS]
    while state[S_HERE] > 0:
        page[2][state[S_HERE], STOP] = state[S_BLOCKS]
        state[S_HERE] = page[2][state[S_HERE], PARENT]
    return page
