"""Licences that a page states: where it says so, and in one spelling for each.

In: HTML bytes and the tags of its head. Out: statements with their source, and the one that counts. Sources, the strongest first:

header    Link: <...>; rel=license (RFC 8288)
link      <link rel=license>
meta      dc.rights, dcterms.license, cc:license ... in <meta>
jsonld    "license" of a thing in JSON-LD that is no image, video or sound (schema.org)
rdfa      cc:license, dct:license as property or rel, itemprop=license (Creative Commons, "CC REL")
rel       <a rel=license> (HTML standard: the licence of the main content)
rdf       <license rdf:resource=...>, as Creative Commons recommended before 2008, also in a comment
footer    a plain link to a Creative Commons licence inside <footer>
anchor    such a link elsewhere: often about something that the page talks of
media     any of these inside <figure>, or of an image, video or sound in JSON-LD: not the page's licence
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from ccpipe.markup import Tag, is_inside, tag_around

SOURCES = ("header", "link", "meta", "jsonld", "rdfa", "rel", "rdf", "footer", "anchor", "media")
"""From the strongest to the weakest; only the statements of the strongest source found count."""

OTHER, MIXED = "other", "mixed"
"""A licence that is none of Creative Commons; statements of one source that differ, as below the pictures of a gallery."""

MAX_LINKS = 50
"""Links to licences that are looked at in one page."""

MAX_SCRIPTS = 20
MAX_JSON = 1 << 20
"""JSON-LD scripts of a page, and bytes of one, that are read."""

MAX_URL = 2_000

HOST = b"creativecommons.org/"
META_LICENCE = frozenset(
    (
        *("license", "licence", "dc.license", "dcterms.license", "dcterms:license", "dct:license", "cc:license", "dc.rights.license"),
        *("dc.rights", "dc:rights", "dcterms.rights", "rights", "copyright"),
    )
)
"""Names of meta elements that may hold a licence; those without `licen` in the name count for Creative Commons alone."""
MEDIA_TYPES = ("ImageObject", "VideoObject", "AudioObject", "MediaObject", "Photograph")
RDFA = frozenset(("cc:license", "dct:license", "dcterms:license", "dc:license", "xhv:license"))

_CC_URL = re.compile(
    r"(?:https?:)?//(?:[a-z-]+\.)?creativecommons\.org/(?:licen[sc]es|publicdomain)/([a-z+-]+)(?:/(\d\.\d))?(?:/([a-z]{2,8})(?=[/?#]|$))?",
    re.IGNORECASE,
)
_CC_TEXT = re.compile(r"\bcc[ -]?(?:(0|zero)|(by(?:[ -](?:nc|nd|sa))*))(?:[ -]v?(\d\.\d))?(?![\w.])", re.IGNORECASE)
_NO_PORT = frozenset(("deed", "rdf", "assets"))
_PARTS = ("by", "nc", "nd", "sa")
_KINDS = {"zero": "cc0", "mark": "cc-pdm", "publicdomain": "cc-pddc", "sampling": "cc-sampling", "devnations": "cc-devnations"}
_KINDS |= {"sampling+": "cc-sampling+", "nc-sampling+": "cc-nc-sampling+"}


@dataclass(frozen=True, slots=True)
class Stated:
    """One statement: where (`SOURCES`), and what: a URL or the words of a meta element."""

    source: str
    value: str


@dataclass(frozen=True, slots=True)
class Licence:
    """name: `cc-by-sa-4.0`, `other`, `mixed` or empty; url: as stated, made absolute; source: one of `SOURCES` or empty."""

    name: str
    url: str
    source: str


NO_LICENCE = Licence("", "", "")


def canonical(value: str) -> str:
    """One spelling for a Creative Commons licence, like SPDX's in lower case; empty for anything else.

    The parts come in SPDX's order, the jurisdiction of a port and a version only where they are stated.

    >>> canonical("http://creativecommons.org/licenses/by-sa/3.0/de/deed.en"), canonical("//creativecommons.org/publicdomain/zero/1.0/")
    ('cc-by-sa-3.0-de', 'cc0-1.0')
    >>> canonical("CC BY-NC 4.0"), canonical("https://example.org/licenses/by/4.0/")
    ('cc-by-nc-4.0', '')
    """
    found = _CC_URL.search(value)
    if found:
        kind, version, port = found[1].lower(), found[2], (found[3] or "").lower()
        return _spell(kind, version, "" if port in _NO_PORT or port.startswith("legal") else port)
    words = _CC_TEXT.search(value)
    if words and "://" not in value:
        return _spell("zero" if words[1] else words[2].lower().replace(" ", "-"), words[3] or ("1.0" if words[1] else ""), "")
    return ""


def _spell(kind: str, version: str | None, port: str) -> str:
    parts = kind.split("-")
    if set(parts) <= set(_PARTS):
        name = "cc-" + "-".join(part for part in _PARTS if part in parts)
    elif kind in _KINDS:
        name = _KINDS[kind]
    else:
        return ""
    return "-".join(part for part in (name, version, port if version else "") if part)


def find_licences(html: bytes, head: Sequence[Tag]) -> list[Stated]:
    """Statements in the page, in no order of weight. `head`: its `meta` and `link` elements."""
    found = [one for tag in head if (one := _of_head(tag))]
    found += _of_links(html)
    if b"ld+json" in html:
        found += _of_linked_data(html)
    return found


def choose(stated: Iterable[Stated], base: str = "") -> Licence:
    """The licence of the strongest source; `mixed` where that source names several."""
    ranked = sorted(stated, key=lambda one: SOURCES.index(one.source))
    best = [one for one in ranked if one.source == ranked[0].source]
    names = {canonical(one.value) or OTHER for one in best}
    return Licence(names.pop() if len(names) == 1 else MIXED, _absolute(best[0].value, base), best[0].source)


def _absolute(value: str, base: str) -> str:
    """The address on one line; empty where words were stated."""
    address = "".join(value.split())
    if "/" not in address or " " in value.strip():
        address = found[0] if (found := re.search(r"(?:https?:)?//\S+", value)) else ""
    try:
        return urljoin(base, address)[:MAX_URL] if address else ""
    except ValueError:
        return address[:MAX_URL]


def _of_head(tag: Tag) -> Stated | None:
    if tag.name == "link":
        href = tag.get("href").strip()
        return Stated("link", href) if href and "license" in tag.get("rel").lower().split() else None
    name = (tag.get("name") or tag.get("property")).strip().lower()
    content = tag.get("content").strip() or tag.get("resource").strip()
    if name not in META_LICENCE:
        return None
    is_url = content.startswith(("http://", "https://", "//"))
    return Stated("meta", content) if canonical(content) or (is_url and "licen" in name) else None


def _of_links(html: bytes) -> Iterator[Stated]:
    """Statements by links and other elements behind the head."""
    for at in _places(html):
        tag = tag_around(html, at)
        source = _source(tag, html) if tag else None
        if tag and source:
            yield Stated(source, (tag.get("href") or tag.get("resource") or tag.get("rdf:resource") or tag.get("content")).strip())


def _places(html: bytes) -> Iterator[int]:
    """Bytes where a link to a licence of Creative Commons may be. A search for rel=license would cost as much again and find little."""
    at = -1
    for _ in range(MAX_LINKS):
        at = html.find(HOST, at + 1)
        if at < 0:
            return
        yield at


def _source(tag: Tag, html: bytes) -> str | None:
    """How strongly an element states a licence; None where it states none."""
    target = tag.get("href") or tag.get("resource") or tag.get("rdf:resource") or tag.get("content")
    if tag.name in ("link", "meta") or not target or is_inside(html, tag.start, b"<script", b"</script"):
        return None
    if tag.name == "license":
        return "rdf" if canonical(target) else None
    if is_inside(html, tag.start, b"<!--", b"-->"):
        return None
    if is_inside(html, tag.start, b"<figure", b"</figure"):
        return "media"
    rel = set(tag.get("rel").lower().split())
    if RDFA & (rel | set(tag.get("property").lower().split())) or tag.get("itemprop").lower() == "license":
        return "rdfa"
    if "license" in rel:
        return "rel"
    if tag.name not in ("a", "area") or not canonical(target):
        return None
    return "footer" if is_inside(html, tag.start, b"<footer", b"</footer") else "anchor"


def _of_linked_data(html: bytes) -> Iterator[Stated]:
    """Values of "license" in the page's JSON-LD."""
    at = 0
    for _ in range(MAX_SCRIPTS):
        at = html.find(b"ld+json", at)
        if at < 0:
            return
        start, stop = html.find(b">", at) + 1, html.find(b"</script", at)
        at += 1
        if 0 < start < stop <= start + MAX_JSON and html.find(b'"license"', start, stop) >= 0:
            yield from _licences_in(_parse(html[start:stop]), False)


def _parse(script: bytes) -> Any:
    """The value of one script; None where it is no JSON."""
    try:
        return json.loads(script.decode("utf-8", "replace").strip().strip(";"), strict=False)
    except (ValueError, RecursionError):
        return None


def _licences_in(value: Any, in_media: bool) -> Iterator[Stated]:
    """Walks with a list of its own: pages may nest deeper than Python recurses."""
    stack = [(value, in_media)]
    while stack:
        one, media = stack.pop()
        if isinstance(one, list):
            stack.extend((inner, media) for inner in reversed(one))
        elif isinstance(one, dict):
            media = media or any(kind in str(one.get("@type")) for kind in MEDIA_TYPES)
            for text in _texts(one.get("license")):
                yield Stated("media" if media else "jsonld", text)
            stack.extend((inner, media) for key, inner in reversed(list(one.items())) if key != "license")


def _texts(value: Any) -> Iterator[str]:
    """A licence as JSON-LD writes it: an address, a name, or a thing with either."""
    for one in value if isinstance(value, list) else [value]:
        named = next((one[key] for key in ("url", "@id", "name") if one.get(key)), None) if isinstance(one, dict) else one
        if isinstance(named, str) and named.strip():
            yield named.strip()
