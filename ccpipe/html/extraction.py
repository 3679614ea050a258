"""Main text of an HTML page: `extract(html)`, a pure function that needs nothing else of the project.

In: the bytes of a page as they were served (content encodings undone), with its address and Content-Type where known.
Out: `Extracted`: main text, title, language and date as stated by the page, charset. Raises `NotExtracted` with a named reason
for a page that cannot be read. It does not judge quality or length; thresholds of the rules stand in `maintext`, `guards`
and `charset`.

>>> extract("<title>T</title><nav>menu</nav><p>Some words.</p>".encode()).text
'Some words.'
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser

from ccpipe.html import charset, guards
from ccpipe.html.comments import comment_blocks
from ccpipe.html.cut import cut, written_out
from ccpipe.html.maintext import MODES, load_model, main_blocks, probabilities, render
from ccpipe.html.stated import Stated, read_stated

MAX_UNDECODABLE = 0.3
"""Share of the non-ASCII characters that may be lost; beyond it the page is binary data or in no known charset."""

FEW_CHARS = 200
"""Main text below this is replaced by what the page states in JSON-LD, if that is longer: pages that scripts build."""

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u2060\ufeff\ufffe\uffff]")
"""Control characters but tab and newline, and marks that have no width: soft hyphen, zero-width space, word joiner."""


class NotExtracted(Exception):
    """The page cannot be read. `args[0]` is the reason: too_deep, too_many_attributes, too_many_elements or undecodable."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """text: lines of main text, empty where there is none; title: one line, without the site's name where that is sure; lang: as in
    <html lang> or a meta tag, date: of publication as in a meta tag, JSON-LD or <time>, ISO 8601; both empty if not stated.

    charset, charset_source: see `ccpipe.html.charset`. All strings are valid UTF-8 without control characters but tab and newline.
    """

    text: str
    title: str
    lang: str
    date: str
    charset: str
    charset_source: str


def extract(
    html: bytes,
    url: str = "",
    content_type: str | None = None,
    limits: guards.Cost = guards.LIMITS,
    *,
    mode: str = "balanced",
    comments: bool = False,
    markdown: bool = False,
) -> Extracted:
    """Main text and title of one page. Raises `NotExtracted`; ValueError for an unknown mode.

    `content_type`: the HTTP header's value, for its charset. `mode`: precision (less of what may be boilerplate), balanced or recall
    (less lost). `comments`: keep readers' comments too; posts of a forum are main text and always kept. `markdown`: headings, code and
    tables marked. `url` is not used yet: no rule depends on the site.
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}, expected one of {', '.join(MODES)}")
    decoded = charset.decode(html, content_type or "")
    if decoded.errors > MAX_UNDECODABLE:
        raise NotExtracted("undecodable")
    utf8 = decoded.utf8.replace(b"\0", b"") if b"\0" in decoded.utf8 else decoded.utf8
    broken = guards.broken_rule(utf8, limits)
    if broken:
        raise NotExtracted(broken)
    # without events: with them, options inside one <select> take quadratic time (40,000: 4 s)
    tree = LexborHTMLParser(utf8, options=LexborDocumentOptions.WO_EVENTS)
    stated = read_stated(tree, utf8)
    text = clean(_main_text(tree, stated, mode, comments, markdown)).strip()
    return Extracted(text, clean(stated.heading), stated.lang, stated.date, decoded.charset, decoded.source)


def extract_text(html: bytes, url: str = "", content_type: str | None = None) -> str:
    """Main text alone; empty for a page that cannot be read."""
    try:
        return extract(html, url, content_type).text
    except NotExtracted:
        return ""


def _main_text(tree: LexborHTMLParser, stated: Stated, mode: str, comments: bool, markdown: bool) -> str:
    written = written_out(tree)
    model = load_model()
    page = cut(written, model.scores, stated.title)
    kept = main_blocks(page, probabilities(model, page, stated.body, stated.lead), mode)
    if comments:
        kept = np.union1d(kept, comment_blocks(written, page))
    return text_or_stated(render(page, kept, markdown), stated)


def text_or_stated(text: str, stated: Stated) -> str:
    """The text found, or what the page states in JSON-LD or as its description where that is much longer than next to nothing."""
    if len(text) >= FEW_CHARS:
        return text
    told = _lines(stated.body) or _lines(stated.lead)
    return told if len(told) > 2 * len(text) else text


def _lines(text: str) -> str:
    return "\n".join(line for line in (" ".join(part.split()) for part in text.split("\n")) if line)


def clean(text: str) -> str:
    """Without control characters (tab and newline stay) and lone surrogates.

    >>> clean("a\\x00b\\x85c\\td")
    'abc\\td'
    """
    return _CONTROL.sub("", text).encode("utf-8", "ignore").decode("utf-8")
