"""What a page states about itself, outside of its text: title, language, description, and the text in its JSON-LD.

JSON-LD (https://www.w3.org/TR/json-ld11/) with schema.org's words is how many pages tell machines their text a second time:
a hint at which blocks are the main text, and the only source where scripts build the page. A page may state anything; nothing
here is believed beyond that.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from typing import Any

from selectolax.lexbor import LexborHTMLParser

MAX_TITLE = 1_000
"""Characters kept of a title."""

MAX_STATED = 200_000
"""Characters kept of the text in JSON-LD."""

MAX_LEVELS = 20
"""Levels of JSON looked at."""

_BODY_KEYS = ("articleBody", "text", "reviewBody")
_LEAD_KEYS = ("description", "abstract")
_LANG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8})*")
_TAG = re.compile(r"<[^<>]{1,200}>")
_LINKED_DATA = re.compile(rb"<script\b[^>]{0,300}ld\+json[^>]{0,300}>(.*?)</script", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Stated:
    """title: one line; lang: as in <html lang>, empty if not stated; lead: descriptions; body: texts of JSON-LD, one a line."""

    title: str
    lang: str
    lead: str
    body: str


def read_stated(tree: LexborHTMLParser, utf8: bytes) -> Stated:
    """`utf8`: the page's bytes; its JSON-LD is looked for there, which is faster than asking the tree."""
    bodies: list[str] = []
    leads = _descriptions(tree)
    if b"ld+json" in utf8:
        for block in _LINKED_DATA.findall(utf8):
            _collect(_parse(block), bodies, leads, 0)
    return Stated(_title(tree), _lang(tree), "\n".join(dict.fromkeys(leads)), "\n".join(dict.fromkeys(bodies))[:MAX_STATED])


def _title(tree: LexborHTMLParser) -> str:
    node = tree.css_first("head > title") or tree.css_first("h1")
    return " ".join(node.text().split())[:MAX_TITLE] if node is not None else ""


def _lang(tree: LexborHTMLParser) -> str:
    root = tree.root
    stated = (root.attributes.get("lang") or root.attributes.get("xml:lang") or "") if root is not None else ""
    found = _LANG.fullmatch(stated.strip())
    return found[0] if found else ""


def _descriptions(tree: LexborHTMLParser) -> list[str]:
    head = tree.head
    if head is None:
        return []
    metas = head.css("meta[name='description'], meta[property='og:description']")
    return [text for text in (meta.attributes.get("content") or "" for meta in metas) if text]


def _parse(block: bytes) -> Any:
    """The value of one script; None where it is no JSON, as in one of fifty."""
    try:
        return json.loads(block.decode("utf-8", "replace").strip().strip(";"), strict=False)
    except (ValueError, RecursionError):
        return None


def _collect(value: Any, bodies: list[str], leads: list[str], level: int) -> None:
    """Texts of all objects in `value`, in the order of the page."""
    if level > MAX_LEVELS:
        return
    if isinstance(value, list):
        for one in value:
            _collect(one, bodies, leads, level + 1)
    elif isinstance(value, dict):
        for key, one in value.items():
            if isinstance(one, str):
                if key in _BODY_KEYS:
                    bodies.append(_plain(one))
                elif key in _LEAD_KEYS:
                    leads.append(_plain(one))
            else:
                _collect(one, bodies, leads, level + 1)


def _plain(text: str) -> str:
    """Text without the markup that some pages leave in it."""
    return _TAG.sub(" ", html.unescape(text)) if "<" in text or "&" in text else text
