"""What a page states about itself, outside of its text: title, language, date, description, and the text in its JSON-LD.

JSON-LD (https://www.w3.org/TR/json-ld11/) with schema.org's words is how many pages tell machines their text a second time:
a hint at which blocks are the main text, and the only source where scripts build the page. A page may state anything; nothing
here is believed beyond that.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from ccpipe.html.dates import iso_date

MAX_TITLE = 1_000
"""Characters kept of a title."""

MAX_STATED = 200_000
"""Characters kept of the text in JSON-LD."""

MAX_LEVELS = 20
"""Levels of JSON looked at."""

MAX_METAS = 500

_BODY_KEYS = ("articleBody", "text", "reviewBody")
_LEAD_KEYS = ("description", "abstract")
_DATE_KEYS = ("datePublished", "dateCreated", "uploadDate")
_META_DATES = """article:published_time og:article:published_time datepublished date.published article.published publication_date
    publish-date publish_date publishdate pubdate date_published parsely-pub-date sailthru.date dc.date.issued dcterms.issued
    dc.date.created dcterms.created dcterms.date dc.date date article:published originalpublicationdate cxenseparse:recs:publishtime
    displaydate release_date ptime publishtime"""
"""Names of meta tags that hold the date of publication, the surest first."""

_LANG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8})*")
_TAG = re.compile(r"<[^<>]{1,200}>")
_END_SCRIPT = re.compile(rb"</script", re.IGNORECASE)
_SEPARATOR = re.compile(r"\s+(?:[-–—|·•«»:/~>]|::|\|\|)\s+|\s*[|｜_]\s*|\s*[-–—]\s*(?=[\u3040-\u9fff])")
"""What stands between a page's title and its site's name."""


@dataclass(frozen=True, slots=True)
class Stated:
    """title: one line, as in <title>; heading: the title without the site's name where that is sure; lang: empty if not stated; date:
    of publication, ISO 8601 or empty; lead: descriptions; body: texts of JSON-LD, one a line."""

    title: str
    lang: str
    lead: str
    body: str
    heading: str
    date: str


@dataclass
class _Found:
    bodies: list[str] = field(default_factory=list)
    leads: list[str] = field(default_factory=list)
    dates: list[str] = field(default_factory=list)
    headlines: list[str] = field(default_factory=list)


def read_stated(tree: LexborHTMLParser, utf8: bytes) -> Stated:
    """`utf8`: the page's bytes; its JSON-LD is looked for there, which is faster than asking the tree."""
    found = _Found()
    metas = _metas(tree)
    found.leads += [metas[name] for name in ("description", "og:description") if metas.get(name)]
    if b"ld+json" in utf8:
        for block in _linked_data(utf8):
            _collect(_parse(block), found, 0)
    title, first = _one_line(tree, "head > title"), _one_line(tree, "h1")
    names = [metas.get("og:title", ""), metas.get("twitter:title", ""), *found.headlines, first]
    return Stated(
        title or first,
        _lang(tree, metas),
        "\n".join(dict.fromkeys(found.leads)),
        "\n".join(dict.fromkeys(found.bodies))[:MAX_STATED],
        choose_title(title, [" ".join(name.split()) for name in names], metas.get("og:site_name", "")),
        _date(tree, utf8, metas, found.dates),
    )


def choose_title(title: str, names: list[str], site: str = "") -> str:
    """The page's title without its site's name. `names`: what the page calls itself elsewhere (og:title, headline, h1), best first.

    A part of <title> at a separator counts when the page calls itself so elsewhere, or when the other part is the site's stated name.

    >>> choose_title("The flood | Example News", ["The flood"]), choose_title("A - B", []), choose_title("A - B", [], "b")
    ('The flood', 'A - B', 'A')
    """
    wanted = {_folded(name) for name in names if name}
    cuts = [(cut.start(), cut.end()) for cut in _SEPARATOR.finditer(title)]
    for start, end in reversed(cuts):
        for part, other in ((title[:start], title[end:]), (title[end:], title[:start])):
            if _folded(part) in wanted or (site and _folded(other) == _folded(site)):
                return part.strip()[:MAX_TITLE]
    return (title or next((name for name in names if name), ""))[:MAX_TITLE]


def _folded(text: str) -> str:
    return "".join(char for char in html.unescape(text).casefold() if char.isalnum())


def _one_line(tree: LexborHTMLParser, selector: str) -> str:
    node = tree.css_first(selector)
    return " ".join(node.text().split())[:MAX_TITLE] if node is not None else ""


def _metas(tree: LexborHTMLParser) -> dict[str, str]:
    """Contents of the head's meta tags by name, property or the like; the first of each."""
    out: dict[str, str] = {}
    for node in (tree.head.css("meta") if tree.head is not None else [])[:MAX_METAS]:
        said = node.attributes
        name = said.get("property") or said.get("name") or said.get("itemprop") or said.get("http-equiv")
        content = said.get("content")
        if name and content:
            out.setdefault(name.strip().lower(), content)
    return out


def _lang(tree: LexborHTMLParser, metas: dict[str, str]) -> str:
    root = tree.root
    said = root.attributes if root is not None else {}
    for stated in (said.get("lang"), said.get("xml:lang"), metas.get("content-language"), metas.get("language"), metas.get("og:locale")):
        found = _LANG.fullmatch((stated or "").strip())
        if found:
            return found[0]
    return ""


def _date(tree: LexborHTMLParser, utf8: bytes, metas: dict[str, str], dates: list[str]) -> str:
    """The first that is a date: of meta tags, JSON-LD, microdata, <time>."""
    for stated in [metas.get("article:published_time", ""), *dates, *(metas.get(name, "") for name in _META_DATES.split())]:
        found = iso_date(stated) if stated else ""
        if found:
            return found
    if b"atePublished" in utf8:
        node = tree.css_first("[itemprop=datePublished]")
        found = iso_date(node.attributes.get("datetime") or node.attributes.get("content") or node.text()) if node is not None else ""
        if found:
            return found
    for selector in ("time[pubdate]", "article time[datetime]", "time[datetime]") if b"<time" in utf8 else ():
        node = tree.css_first(selector)
        if node is not None:
            return iso_date(node.attributes.get("datetime") or "")
    return ""


def _linked_data(utf8: bytes) -> Iterator[bytes]:
    """What stands in scripts of the type `application/ld+json`."""
    at = utf8.find(b"ld+json")
    while at >= 0:
        tag = utf8.rfind(b"<", max(0, at - 300), at)
        start = utf8.find(b">", at, at + 300) + 1
        end = _END_SCRIPT.search(utf8, start) if start and utf8[tag : tag + 7].lower() == b"<script" else None
        if end:
            yield utf8[start : end.start()]
        at = utf8.find(b"ld+json", end.end() if end else at + 7)


def _parse(block: bytes) -> Any:
    """The value of one script; None where it is no JSON, as in one of fifty."""
    try:
        return json.loads(block.decode("utf-8", "replace").strip().strip(";"), strict=False)
    except (ValueError, RecursionError):
        return None


def _collect(value: Any, found: _Found, level: int) -> None:
    """Texts and dates of all objects in `value`, in the order of the page."""
    if level > MAX_LEVELS:
        return
    if isinstance(value, list):
        for one in value:
            _collect(one, found, level + 1)
    elif isinstance(value, dict):
        for key, one in value.items():
            if not isinstance(one, str):
                _collect(one, found, level + 1)
            elif key in _BODY_KEYS:
                found.bodies.append(_plain(one))
            elif key in _LEAD_KEYS:
                found.leads.append(_plain(one))
            elif key in _DATE_KEYS:
                found.dates.append(one)
            elif key == "headline":
                found.headlines.append(_plain(one))


def _plain(text: str) -> str:
    """Text without the markup that some pages leave in it."""
    return _TAG.sub(" ", html.unescape(text)) if "<" in text or "&" in text else text
