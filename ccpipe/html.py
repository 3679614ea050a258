"""Main text of an HTML page: `extract(html)`, a pure function that needs nothing else of the pipeline.

In: the bytes of a page as they were served (content encodings undone), with its address and Content-Type where known.
Out: `Extracted`: main text, title, language as stated by the page, charset. Raises `NotExtracted` with a named reason
for a page that cannot be read. It does not judge quality or length; thresholds of the rules stand in `maintext`, `guards`
and `charset`.

>>> extract("<title>T</title><nav>menu</nav><p>Some words.</p>".encode()).text
'Some words.'
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser, LexborNode

from ccpipe import charset, guards
from ccpipe.blocks import read_blocks
from ccpipe.maintext import main_blocks, render

MAX_UNDECODABLE = 0.3
"""Share of the non-ASCII characters that may be lost; beyond it the page is binary data or in no known charset."""

FEW_CHARS = 200
"""Main text below this sends a second look at the hidden parts: pages of one script, forums with a <noscript> version."""

MAX_TITLE = 1_000
"""Characters kept of a title."""

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u2060\ufeff\ufffe\uffff]")
"""Control characters but tab and newline, and marks that have no width: soft hyphen, zero-width space, word joiner."""
_LANG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8})*")


class NotExtracted(Exception):
    """The page cannot be read. `args[0]` is the reason: too_deep, too_many_attributes, too_many_elements or undecodable."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """text: lines of main text, empty where there is none; title: one line; lang: as in <html lang>, empty if not stated.

    charset, charset_source: see `ccpipe.charset`. All strings are valid UTF-8 without control characters but tab and newline.
    """

    text: str
    title: str
    lang: str
    charset: str
    charset_source: str


def extract(html: bytes, url: str = "", content_type: str | None = None, limits: guards.Cost = guards.LIMITS) -> Extracted:
    """Main text and title of one page. Raises `NotExtracted`. `url` is not used yet: no rule depends on the site."""
    decoded = charset.decode(html, content_type or "")
    if decoded.errors > MAX_UNDECODABLE:
        raise NotExtracted("undecodable")
    utf8 = decoded.utf8.replace(b"\0", b"") if b"\0" in decoded.utf8 else decoded.utf8
    broken = guards.broken_rule(utf8, limits)
    if broken:
        raise NotExtracted(broken)
    # without events: with them, options inside one <select> take quadratic time (40,000: 4 s)
    tree = LexborHTMLParser(utf8, options=LexborDocumentOptions.WO_EVENTS)
    text = _main_text(tree.body) if tree.body is not None else ""
    return Extracted(text, _title(tree), _lang(tree), decoded.charset, decoded.source)


def extract_text(html: bytes, url: str = "", content_type: str | None = None) -> str:
    """Main text alone; empty for a page that cannot be read."""
    try:
        return extract(html, url, content_type).text
    except NotExtracted:
        return ""


def _main_text(body: LexborNode) -> str:
    """Main text; where next to nothing is to be seen, also of what the page keeps hidden until its scripts have run."""
    page = read_blocks(body)
    text = clean(render(page, main_blocks(page))).strip()
    if len(text) >= FEW_CHARS:
        return text
    page = read_blocks(body, hidden=True)
    more = clean(render(page, main_blocks(page))).strip()
    return more if len(more) >= max(FEW_CHARS, 3 * len(text)) else text


def clean(text: str) -> str:
    """Without control characters (tab and newline stay) and lone surrogates.

    >>> clean("a\\x00b\\x85c\\td")
    'abc\\td'
    """
    return _CONTROL.sub("", text).encode("utf-8", "ignore").decode("utf-8")


def _title(tree: LexborHTMLParser) -> str:
    node = tree.css_first("head > title") or tree.css_first("h1")
    return clean(" ".join(node.text().split()))[:MAX_TITLE] if node is not None else ""


def _lang(tree: LexborHTMLParser) -> str:
    root = tree.root
    stated = (root.attributes.get("lang") or root.attributes.get("xml:lang") or "") if root is not None else ""
    found = _LANG.fullmatch(stated.strip())
    return found[0] if found else ""
