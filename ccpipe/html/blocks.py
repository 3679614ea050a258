"""A page cut into blocks of text: one pass of a compiled kernel over the tree as the parser writes it out again.

In: the UTF-8 bytes of a parsed tree (`LexborHTMLParser.html`), which are well formed: each element that is no void one is
closed, and text escapes `& < >` alone. So a flat scan sees the same tree as a walk over the nodes, without a Python call per
node. Out: `Page`, arrays of blocks (paragraphs, headings, list items, cells, code) and of the boxes (div, section, table ...)
that hold them, in document order, and the text of all blocks. It judges nothing; it only leaves out what no reader sees
(scripts, styles, hidden elements). Formulas are written as LaTeX between dollar signs where the page has it.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from ccpipe.kernels import kernel

_NAME_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[A-Z]+")
_TO_LOWER = {code: code + 32 for code in range(65, 91)}
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


class Words(NamedTuple):
    """Scores of words as an open hash table: keys (0: free slot) and values, a power of two long, at most half full."""

    keys: np.ndarray
    values: np.ndarray


class Page(NamedTuple):
    """text: uint8, UTF-8 of all blocks; blocks: int32 (n_blocks, 19); boxes: int32 (n_boxes, 6), box 0 is the body;
    signs: uint64, hash of tag and class of each box; names, wording: float32 (n, 3), the sum, least and greatest score of the
    words in a box's class, id, role and microdata names, and of the words of a short block's text; seen: uint64, the words
    met (kind of word, box or block, hash, start, end) when `scan` was told to keep them."""

    text: np.ndarray
    blocks: np.ndarray
    boxes: np.ndarray
    signs: np.ndarray
    names: np.ndarray
    wording: np.ndarray
    seen: np.ndarray
    state: np.ndarray
    title: np.ndarray


def _packed(name: str) -> int:
    return int.from_bytes(name.encode()[:8], "little")


def make_words(scores: dict[str, float]) -> Words:
    """The hash table of some words' scores.

    >>> words = make_words({"post-content": 0.5})
    >>> words.values[words.keys == word_hash("post-content")].tolist()
    [0.5]
    """
    return make_table({word_hash(word): score for word, score in scores.items()})


def make_table(scores: dict[int, float]) -> Words:
    """The hash table of scores by `word_hash`, the same whatever the order of the dict."""
    size = 16
    while size < 2 * len(scores) + 2:
        size *= 2
    keys, values = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.float32)
    for key in sorted(scores):
        _insert(keys, values, np.uint64(key), np.float32(scores[key]))
    return Words(keys, values)


def spell_word(raw: str, is_text: bool) -> str:
    """A word as `word_hash` takes it, from how it stands in a text or between two ends of a name.

    >>> spell_word("postContent", False), spell_word("Über", True)
    ('post-content', 'Über')
    """
    parts = [raw] if is_text else _NAME_PART.findall(raw)
    return "-".join(parts).translate(_TO_LOWER)


def word_hash(word: str) -> int:
    """The key of a word in lower case (of ASCII letters), of two names joined by a hyphen, or of two wide characters."""
    if len(word) == 2 and all(_is_wide(ord(char)) or _is_unspaced(ord(char)) for char in word):
        value = fnv("")
        for char in word:
            value = (value ^ ord(char)) * 1099511628211 & (1 << 64) - 1
        return value
    return fnv(word)


def fnv(word: str) -> int:
    """FNV-1a of 64 bits over the UTF-8 bytes.

    >>> hex(fnv("a"))
    '0xaf63dc4c8601ec8c'
    """
    value = 14695981039346656037
    for byte in word.encode():
        value = (value ^ byte) * 1099511628211 & (1 << 64) - 1
    return value


_SEED = np.uint64(14695981039346656037)
_PRIME = np.uint64(1099511628211)
_ZERO = np.uint64(0)
_SHIFT = np.uint64(32)


@kernel
def _insert(keys: Any, values: Any, key: Any, value: Any) -> None:
    mask = len(keys) - 1
    slot = np.int64(key >> _SHIFT) & mask
    while keys[slot] != _ZERO:
        slot = (slot + 1) & mask
    keys[slot] = key
    values[slot] = value


@kernel
def _find(keys: Any, key: Any) -> Any:
    """Slot of the key or -1."""
    mask = len(keys) - 1
    slot = np.int64(key >> _SHIFT) & mask
    while keys[slot] != _ZERO:
        if keys[slot] == key:
            return slot
        slot = (slot + 1) & mask
    return -1


IS_VOID, IS_RAW, IS_UNSEEN, IS_BOX, IS_LEAF = 1, 2, 4, 8, 16


def _tag_table() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Packed names and their numbers as a hash table; flags and kind (-1: none) by number."""
    slots, numbers = np.zeros(512, dtype=np.uint64), np.zeros(512, dtype=np.int32)
    flags, kinds = np.zeros(len(TAGS), dtype=np.int32), np.full(len(TAGS), -1, dtype=np.int32)
    groups = ((_VOID, IS_VOID), (_RAW, IS_RAW), (_UNSEEN, IS_UNSEEN), (_BOXES, IS_BOX), (_LEAVES, IS_LEAF))
    for number, name in enumerate(TAGS[1:], 1):
        slot = _tag_slot(np.uint64(_packed(name)))
        while slots[slot]:
            slot = (slot + 1) & 511
        slots[slot], numbers[slot] = _packed(name), number
        flags[number] = sum(flag for names, flag in groups if name in names.split())
        kinds[number] = _KINDS.get(name, -1)
    return slots, numbers, flags, kinds


@kernel
def _tag_slot(name: Any) -> Any:
    return np.int64((name * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(55))


_TAG_TABLE = _tag_table()
(_A, _B, _STRONG, _I, _SPAN, _BUTTON, _MATH, _BR, _HR, _IMG, _TR, _TABLE, _TH, _PRE, _LISTING, _NOSCRIPT, _SCRIPT, _BODY, _TD, _LI) = (
    TAGS.index(name)
    for name in [
        "a",
        "b",
        "strong",
        "i",
        "span",
        "button",
        "math",
        "br",
        "hr",
        "img",
        "tr",
        "table",
        "th",
        "pre",
        "listing",
        "noscript",
        "script",
        "body",
        "td",
        "li",
    ]
)
_CLASS, _ID, _ROLE, _ITEMPROP, _STYLE, _HIDDEN, _ARIA, _ALTTEXT, _TYPE, _ALT, _SRC = (
    np.uint64(_packed(name))
    for name in ["class", "id", "role", "itemprop", "style", "hidden", "aria-hidden", "alttext", "type", "alt", "src"]
)

# the state of a scan
(S_OUT, S_START, S_LINKED, S_BOLD, S_LINKS, S_SPACE, S_BREAKS, S_HERE, S_ROW, S_KIND, S_PRE, S_LINK, S_STRONG, S_MUTE, S_HARD) = range(15)
S_BLOCKS, S_BOXES, S_IMAGES, S_HEADER, S_SEEN, S_LINES, S_ATTRS, S_TEX_FROM, S_TEX_TO, S_GONE, S_MATH = range(15, 26)

SHORT_TEXT = 300
"""Bytes of a block up to which the words of its text are looked at."""

MAX_TITLE_WORDS = 100


class Scores(NamedTuple):
    """Scores of words in names of boxes and in the text of short blocks."""

    names: Words
    wording: Words


NO_SCORES = Scores(make_words({}), make_words({}))
_NOTHING = np.zeros(16, dtype=np.uint64)


def scan(html: bytes, scores: Scores = NO_SCORES, title: str = "", keep: int = 0) -> Page:
    """Cut a written-out tree into blocks. `keep`: words to keep."""
    tables = (*scores.names, *scores.wording)
    titles = _scan(_as_array(title.encode()), *tables, _NOTHING, MAX_TITLE_WORDS, *_TAG_TABLE) if title else None
    known = make_set(titles[6][: titles[7][S_SEEN], 2]) if titles else _NOTHING
    return _trimmed(_scan(_as_array(html), *tables, known, keep, *_TAG_TABLE))


def _as_array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint8)


def make_set(keys: np.ndarray) -> np.ndarray:
    """Hashes as an open hash table without values, at most half full."""
    size = 16
    while size < 2 * len(keys) + 2:
        size *= 2
    table, unused = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.float32)
    _insert_all(table, unused, keys)
    return table


@kernel
def _insert_all(table: Any, unused: Any, keys: Any) -> None:
    for key in keys:
        if _find(table, key) < 0:
            _insert(table, unused, key, np.float32(1))


def _trimmed(page: tuple[Any, ...]) -> Page:
    """Arrays cut to what is used, so that no page keeps the memory of its worst case."""
    whole = Page(*page)
    blocks, boxes, out = (int(whole.state[i]) for i in (S_BLOCKS, S_BOXES, S_OUT))
    return Page(
        whole.text[:out],
        whole.blocks[:blocks],
        whole.boxes[:boxes],
        whole.signs[:boxes],
        whole.names[:boxes],
        whole.wording[:blocks],
        whole.seen[: int(whole.state[S_SEEN])],
        whole.state,
        whole.title,
    )


@kernel
def _lower(byte: Any) -> Any:
    return byte | 32 if 65 <= byte <= 90 else byte


@kernel
def _keep_word(page: Any, kind: Any, owner: Any, key: Any, start: Any, stop: Any) -> None:
    seen, state = page[6], page[7]
    if state[S_SEEN] < len(seen):
        row = seen[state[S_SEEN]]
        row[0], row[1], row[2], row[3], row[4] = np.uint64(kind), np.uint64(owner), key, np.uint64(start), np.uint64(stop)
        state[S_SEEN] += 1


@kernel
def _score(page: Any, words: Any, scores: Any, kind: Any, owner: Any, key: Any, start: Any, stop: Any) -> None:
    """Take one word into account."""
    if len(page[6]):
        _keep_word(page, kind, owner, key, start, stop)
    slot = _find(words, key)
    if slot >= 0:
        value = scores[slot]
        row = page[4][owner] if kind == 0 else page[5][owner]
        row[0] += value
        row[1] = min(row[1], value)
        row[2] = max(row[2], value)


@kernel
def _read_names(page: Any, html: Any, i: Any, stop: Any, box: Any, keys: Any, values: Any) -> None:
    """Words of a class, id or role: runs of letters, cut before capitals; and pairs of them within one name."""
    previous = _ZERO  # hash of the word before, which pairs go on from
    previous_start = i
    budget = 40  # words of one attribute
    while i < stop and budget > 0:
        byte = html[i]
        if not 97 <= (byte | 32) <= 122:
            if byte <= 32:
                previous = _ZERO
            i += 1
            continue
        start = i
        key = _SEED
        pair = (previous ^ np.uint64(45)) * _PRIME
        while i < stop and 97 <= (html[i] | 32) <= 122:
            if i > start and html[i] < 97 and html[i - 1] >= 97:
                break
            letter = np.uint64(html[i] | 32)
            key = (key ^ letter) * _PRIME
            pair = (pair ^ letter) * _PRIME
            i += 1
        if i - start > 1:
            _score(page, keys, values, 0, box, key, start, i)
            if previous != _ZERO:
                _score(page, keys, values, 0, box, pair, previous_start, i)
            previous, previous_start = key, start
            budget -= 1


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
_END_MATH, _ANNOTATION, _END_ANNOTATION = _bytes("</math"), _bytes("<annotation"), _bytes("</annotation")

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
def _read_attributes(page: Any, html: Any, i: Any, box: Any, keys: Any, values: Any) -> Any:
    """From after the tag's name: flags of what is said there, and the position after the tag. Names go to `box` (-1: none)."""
    state = page[7]
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
                _read_names(page, html, start, stop, box, keys, values)
                sign = page[3][box]
                for k in range(start, stop):
                    sign = (sign ^ np.uint64(html[k])) * _PRIME
                page[3][box] = sign
            if _may_be_formula(html, start, stop) and _contains(html, start, stop, _RENDERED):
                flags |= A_RENDERED
            elif box < 0 and _contains(html, start, stop, _TEX_CLASS):
                flags |= A_TEX_CLASS
        elif name in (_ID, _ROLE, _ITEMPROP):
            if box >= 0:
                _read_names(page, html, start, stop, box, keys, values)
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
def _is_wide(char: Any) -> Any:
    """Scripts of which a character says as much as several Latin letters: Chinese, kana, Hangul; and Thai, Lao, Khmer, Burmese,
    which like the first two are written without spaces."""
    if char < 0x0E00:
        return False
    return 0x3040 <= char <= 0x9FFF or 0xAC00 <= char <= 0xD7A3 or 0xF900 <= char <= 0xFAFF or 0x20000 <= char <= 0x3FFFF


@kernel
def _is_unspaced(char: Any) -> Any:
    return 0x0E00 <= char <= 0x0EFF or 0x1000 <= char <= 0x109F or 0x1780 <= char <= 0x17FF


@kernel
def _decode(text: Any, i: Any) -> Any:
    """Code point at `i` of valid UTF-8 and the position after it."""
    byte = np.int64(text[i])
    if byte < 0x80:
        return byte, i + 1
    if byte < 0xE0 and i + 1 < len(text):
        return (byte & 31) << 6 | text[i + 1] & 63, i + 2
    if byte < 0xF0 and i + 2 < len(text):
        return (byte & 15) << 12 | (np.int64(text[i + 1]) & 63) << 6 | text[i + 2] & 63, i + 3
    if i + 3 < len(text):
        return (byte & 7) << 18 | (np.int64(text[i + 1]) & 63) << 12 | (np.int64(text[i + 2]) & 63) << 6 | text[i + 3] & 63, i + 4
    return byte, i + 1


@kernel
def _is_end(char: Any) -> Any:
    """Characters that end a sentence: . ! ? : ; and their forms in Chinese, Arabic and Hindi."""
    if char < 128:
        return char == 46 or char == 33 or char == 63 or char == 58 or char == 59
    return char in (0x3002, 0xFF01, 0xFF1F, 0xFF1A, 0xFF1B, 0x2026, 0x964, 0x6D4, 0x61F)


@kernel
def _is_closing(char: Any) -> Any:
    """Quotation marks and brackets after the end of a sentence."""
    return char in (34, 41, 0x201D, 0xBB, 0x300D, 0xFF09, 0x2019, 0x201C)


@kernel
def _is_word_char(char: Any) -> Any:
    if char < 128:
        return 97 <= (char | 32) <= 122
    return char >= 0xC0 and not (0x2000 <= char <= 0x2FFF or 0x3000 <= char <= 0x303F or 0xFF00 <= char <= 0xFF0F or char == 0xD7)


@kernel
def _measure(page: Any, block: Any, keys: Any, values: Any) -> Any:
    """Counts of a block's characters, scores of its words. Whether it holds anything but marks."""
    text = page[0]
    row = page[1][block]
    title = page[8]
    in_title = 0
    i, stop = row[START], row[END]
    short = stop - i <= SHORT_TEXT
    chars = wide = digits = upper = ends = commas = words = letters = 0
    in_word = False
    key, start = _SEED, i
    before: Any = np.int64(0)
    last: Any = np.int64(0)
    while i < stop:
        at = i
        char, i = _decode(text, i)
        chars += 1
        if char > 32:
            last = char if not (_is_closing(char) and _is_end(last)) else last
        if _is_wide(char) or _is_unspaced(char):
            wide += 1
            letters += 1
            words += 1
            if short and before:  # pairs of characters
                pair = ((_SEED ^ np.uint64(before)) * _PRIME ^ np.uint64(char)) * _PRIME
                _score(page, keys, values, 2, block, pair, start, i)
                in_title += _find(title, pair) >= 0
            before, start = char, at
            if in_word and short:
                in_word = False
            continue
        before = 0
        if _is_word_char(char):
            if not in_word:
                words += 1
                in_word = True
                key, start = _SEED, at
            letters += 1
            if 65 <= char <= 90 or 0xC0 <= char <= 0xDE or 0x410 <= char <= 0x42F:
                upper += 1
            for k in range(at, i):
                key = (key ^ np.uint64(_lower(text[k]))) * _PRIME
            continue
        if in_word and short and at - start > 1:
            _score(page, keys, values, 1, block, key, start, at)
            in_title += _find(title, key) >= 0
        in_word = False
        if 48 <= char <= 57:
            digits += 1
        elif _is_end(char):
            ends += 1
        elif char == 44 or char == 0xFF0C or char == 0x3001 or char == 0x60C:
            commas += 1
    if in_word and short and stop - start > 1:
        _score(page, keys, values, 1, block, key, start, stop)
        in_title += _find(title, key) >= 0
    page[5][block, 3] = in_title
    row[CHARS], row[WIDE], row[DIGITS], row[UPPER] = chars, wide, digits, upper
    row[ENDS], row[COMMAS], row[WORDS], row[LAST] = ends, commas, words, _is_end(last)
    return letters + digits > 0


@kernel
def _flush(page: Any, keys: Any, values: Any) -> None:
    """Finish the block at hand."""
    text, state = page[0], page[7]
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
        page[5][block, :] = 0
        if _measure(page, block, keys, values) or stop - row[START] > 2:
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
def _append_text(page: Any, html: Any, i: Any, stop: Any, keys: Any, values: Any) -> None:
    """Text of the tree into the block at hand, white space collapsed (kept in code)."""
    text, state = page[0], page[7]
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
                _flush(page, keys, values)
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
def _append_formula(page: Any, html: Any, i: Any, stop: Any, keys: Any, values: Any) -> None:
    """LaTeX between dollar signs."""
    text, state = page[0], page[7]
    while i < stop and html[i] <= 32:
        i += 1
    while stop > i and html[stop - 1] <= 32:
        stop -= 1
    if i == stop:
        return
    dollar = not (html[i] == 36 or (html[i] == 92 and i + 1 < stop and (html[i + 1] == 40 or html[i + 1] == 91)))
    state[S_MATH] = state[S_OUT]
    if dollar:
        _append_text(page, _DOLLAR, 0, 1, keys, values)
    _append_text(page, html, i, stop, keys, values)
    if dollar:
        state[S_SPACE] = 0
        text[state[S_OUT]] = 36
        state[S_OUT] += 1
    state[S_MATH] = state[S_OUT]


_DOLLAR = _bytes("$")


@kernel
def _append_math(page: Any, html: Any, i: Any, keys: Any, values: Any) -> Any:
    """The formula of the <math> element that begins before `i`: its TeX annotation, its `alttext`, or its signs in a row.
    The position of its end tag."""
    state = page[7]
    stop = _find_bytes(html, i, len(html), _END_MATH)
    at = i
    while at < stop:
        at = _find_bytes(html, at, stop, _ANNOTATION)
        if at < stop:
            start = _skip_attributes(html, at)
            end = _find_bytes(html, start, stop, _END_ANNOTATION)
            if _contains(html, at, start, _TEX_CLASS) and end > start and _find_bytes(html, start, end, _LESS) == end:
                _append_formula(page, html, start, end, keys, values)
                return stop
            at = end
    if state[S_TEX_TO] > state[S_TEX_FROM]:
        _append_formula(page, html, state[S_TEX_FROM], state[S_TEX_TO], keys, values)
        return stop
    while i < stop:
        if html[i] == 60:
            i = _skip_attributes(html, i)
            continue
        start = i
        while i < stop and html[i] != 60:
            i += 1
        _append_text(page, html, start, i, keys, values)
    return stop


_LESS = _bytes("<")


@kernel
def _open_box(page: Any, tag: Any, depth: Any) -> Any:
    state = page[7]
    box = state[S_BOXES]
    row = page[2][box]
    row[PARENT], row[TAG], row[FIRST], row[STOP], row[DEPTH] = state[S_HERE], tag, state[S_BLOCKS], 0, depth
    row[VEIL] = page[2][state[S_HERE], VEIL] if state[S_HERE] >= 0 else 0
    page[3][box] = (_SEED ^ np.uint64(tag)) * _PRIME
    page[4][box, :] = 0
    state[S_BOXES] += 1
    return box


# effects of an open element, undone when it is closed
E_BOX, E_LINK, E_STRONG, E_PRE, E_MUTE, E_HARD = 1, 2, 4, 8, 16, 32


@kernel
def _scan(
    html: Any,
    names: Any,
    name_scores: Any,
    keys: Any,
    values: Any,
    title: Any,
    keep: Any,
    slots: Any,
    numbers: Any,
    tag_flags: Any,
    tag_kinds: Any,
) -> Any:
    tags = 2
    for byte in html:
        tags += byte == 60
    page = (
        np.empty(len(html) + 64, dtype=np.uint8),
        np.empty((tags, N_BLOCK), dtype=np.int32),
        np.empty((tags, N_BOX), dtype=np.int32),
        np.empty(tags, dtype=np.uint64),
        np.empty((tags, 3), dtype=np.float32),
        np.empty((tags, 4), dtype=np.float32),
        np.empty((keep, 5), dtype=np.uint64),
        np.zeros(32, dtype=np.int64),
        title,
    )
    state = page[7]
    state[S_HERE] = state[S_ROW] = -1
    state[S_MATH] = -1
    stack = np.empty((tags, 5), dtype=np.int64)  # effects, kind, row, header before; tag
    stack_names = np.empty(tags, dtype=np.uint64)
    top = 0
    depth = 0
    i = 0
    state[S_HERE] = _open_box(page, _BODY, 0)
    while i < len(html):
        if html[i] != 60:
            start = i
            while i < len(html) and html[i] != 60:
                i += 1
            if not state[S_MUTE] and not state[S_HARD]:
                _append_text(page, html, start, i, keys, values)
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
                    _flush(page, keys, values)
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
        slot = _tag_slot(name)
        tag = 0
        while slots[slot]:
            if slots[slot] == name:
                tag = numbers[slot]
                break
            slot = (slot + 1) & 511
        flags = tag_flags[tag]
        muted = state[S_MUTE] + state[S_HARD] > 0
        if flags & IS_RAW:
            said, i = _read_attributes(page, html, i, -1, names, name_scores)
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
                _append_formula(page, html, start, min(i, len(html)), keys, values)
            i = _skip_attributes(html, i)
            continue
        if flags & IS_VOID:
            if tag == _BR:
                i = _skip_attributes(html, i)
                state[S_BREAKS] += not muted
            elif tag == _IMG and not state[S_HARD]:
                said, i = _read_attributes(page, html, i, -1, names, name_scores)
                state[S_IMAGES] += not muted
                if said & A_TEX_CLASS and state[S_MATH] != state[S_OUT] and not muted:
                    _append_formula(page, html, state[S_TEX_FROM], state[S_TEX_TO], keys, values)
            else:
                i = _skip_attributes(html, i)
                if tag == _HR and not muted:
                    _flush(page, keys, values)
            continue
        effects = 0
        if flags & IS_UNSEEN:
            i = _skip_attributes(html, i)
            effects = E_HARD
        elif tag == _MATH and not state[S_HARD]:
            said, i = _read_attributes(page, html, i, -1, names, name_scores)
            i = _append_math(page, html, i, keys, values)
        elif muted:
            i = _skip_attributes(html, i)
        elif flags & (IS_BOX | IS_LEAF):
            if tag == _BODY:
                said, i = _read_attributes(page, html, i, -1, names, name_scores)
                said &= ~A_HIDDEN
            else:
                _flush(page, keys, values)
                box = _open_box(page, tag, depth + 1)
                said, i = _read_attributes(page, html, i, box, names, name_scores)
            if said & A_RENDERED:
                state[S_BOXES] -= tag != _BODY
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
            said, i = _read_attributes(page, html, i, -1, names, name_scores)
            if said & (A_RENDERED | A_HIDDEN):
                effects = E_MUTE
        state[S_MUTE] += (effects & E_MUTE) > 0
        state[S_HARD] += (effects & E_HARD) > 0
        stack[top, 0] = effects
        stack_names[top] = name
        top += 1
    _flush(page, keys, values)
    page[2][0, STOP] = state[S_BLOCKS]
    while state[S_HERE] > 0:
        page[2][state[S_HERE], STOP] = state[S_BLOCKS]
        state[S_HERE] = page[2][state[S_HERE], PARENT]
    return page
