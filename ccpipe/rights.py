"""What a page and its HTTP headers say about its use: robots directives, text and data mining, licence.

In: the HTML as served and the head of the HTTP response. Out: `Rights`. A pure function of the two. It reads what is stated and
judges nothing: which statement binds whom is for the user and the law. It sees neither robots.txt nor /.well-known/tdmrep.json.

Robots: `<meta name=robots>` and named robots, X-Robots-Tag (Google, "Robots meta tag, data-nosnippet, and X-Robots-Tag
specifications"; MDN, X-Robots-Tag); where they contradict each other the stricter holds. Mining: TDM Reservation Protocol (W3C
Community Group Final Report, https://www.w3.org/2022/tdmrep/), whose section "Processing priority" lets the page overrule the
header. Licences are read by `ccpipe.licences`.

>>> page = b'<head><meta name=robots content="noindex, noai"><meta name="tdm-reservation" content="1"></head>'
>>> rights = read_rights(page, b"HTTP/1.1 200 OK\\r\\nX-Robots-Tag: gptbot: noindex\\r\\n")
>>> rights.robots, rights.tdm_reservation
(('gptbot:noindex', 'noai', 'noindex'), True)
"""

from __future__ import annotations

import html as entities
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ccpipe.licences import META_LICENCE, NO_LICENCE, Licence, Stated, choose, find_licences
from ccpipe.markup import Tag, head_tags

RESTRICTIONS = frozenset(
    (
        *("noindex", "nofollow", "noarchive", "nosnippet", "noimageindex", "notranslate", "unavailable_after"),
        *("noai", "noimageai"),
    )
)
"""Directives that are recorded; those that allow (index, follow, all) and hints of layout (max-image-preview) are not."""

SAME_AS = {"none": ("noindex", "nofollow"), "nocache": ("noarchive",), "max-snippet:0": ("nosnippet",)}
"""Directives in other words (Google; MDN for nocache)."""

VALUED = frozenset(("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"))
"""Directives with a colon and a value, which in X-Robots-Tag must not be taken for the name of a robot."""

ROBOT = re.compile(
    r"(?=.{1,40}$)(?:[a-z0-9._-]*(?:bot|spider|crawler)(?:-[a-z]+)?|google-extended|applebot-extended|anthropic-ai|cohere-ai|slurp|teoma|"
    r"meta-externalagent|claude-web|omgili|gptbot|perplexity-user|diffbot|msnbot-media|facebookexternalhit)"
)
"""Names of meta elements that address one robot (whole name, lower case)."""

MAX_HEADERS = 64
MAX_VALUE = 2_000
"""Headers and bytes of a header's value that are looked at."""

_META_NAME = re.compile(rb"""\b(?:[nN][aA][mM][eE]|[pP][rR][oO][pP][eE][rR][tT][yY])\s*=\s*["']?\s*([^"'\s>]+)""")
_HEADER = re.compile(rb"\n[ \t]*(x-robots-tag|tdm-reservation|tdm-policy|link)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rights:
    """robots: sorted, without repetition, `noai` for all robots, `gptbot:noindex` for one; tdm_reservation: None where not stated.

    tdm_policy: URL, only where rights are reserved; licence: see `ccpipe.licences`. Empty strings where nothing is stated.
    """

    robots: tuple[str, ...]
    tdm_reservation: bool | None
    tdm_policy: str
    licence: str
    licence_url: str
    licence_source: str


NO_RIGHTS = Rights((), None, "", "", "", "")


def read_rights(html: bytes, head: bytes = b"", url: str = "") -> Rights:
    """`head`: status line and headers, any bytes; `url`: of the page, for relative links."""
    if html[:2] in (b"\xff\xfe", b"\xfe\xff"):
        html = html.decode("utf-16", "replace").encode("utf-8", "replace")
    headers = list(_headers(head))
    tags = list(head_tags(html, _is_wanted))
    directives = [one for name, value in headers if name == "x-robots-tag" for one in _header_directives(value)]
    directives += [one for tag in tags for one in _meta_directives(tag)]
    reserved, policy = _mining(headers, tags)
    licence = _licence(html, headers, tags, url)
    return Rights(tuple(sorted(set(directives))), reserved, policy, licence.name, licence.url, licence.source)


def _is_wanted(element: bytes, attributes: bytes) -> bool:
    """Whether a tag of the head may say something here."""
    if element == b"link":
        return b"icense" in attributes
    name = _META_NAME.search(attributes)
    return name is not None and _is_known(name[1])


@lru_cache(maxsize=4096)
def _is_known(name: bytes) -> bool:
    word = name.decode("utf-8", "replace").lower()
    return word in ("robots", "tdm-reservation", "tdm-policy") or word in META_LICENCE or ROBOT.fullmatch(word) is not None


def _headers(head: bytes) -> Iterator[tuple[str, str]]:
    """The headers that say something here, also repeated ones: lower-case name and value."""
    for n, found in enumerate(_HEADER.finditer(head)):
        if n == MAX_HEADERS:
            return
        yield found[1].decode("ascii").lower(), found[2][:MAX_VALUE].decode("utf-8", "replace").strip()


def _directives(text: str, robot: str = "") -> Iterator[str]:
    """Restrictions in one comma-separated part, in the words of `RESTRICTIONS`."""
    name, colon, value = text.strip().lower().partition(":")
    name = name.strip()
    word = f"{name}:{value.strip()}" if colon and name == "max-snippet" else name
    for one in SAME_AS.get(word, (word,)):
        if one in RESTRICTIONS:
            yield f"{robot}:{one}" if robot else one


def _header_directives(value: str) -> Iterator[str]:
    """`noindex, gptbot: noai, nofollow`: a robot's name holds until the next one."""
    robot = ""
    for part in value.split(","):
        name, colon, rest = part.partition(":")
        if colon and name.strip().lower() not in VALUED:
            robot, part = name.strip().lower()[:40], rest
        yield from _directives(part, "" if robot == "*" else robot)


def _meta_directives(tag: Tag) -> Iterator[str]:
    name = tag.get("name").strip().lower() if tag.name == "meta" else ""
    if name == "robots" or ROBOT.fullmatch(name):
        # white space alone also separates, as crawlers take it
        for part in re.split(r"[,;]|(?<!:)\s+", tag.get("content")[:MAX_VALUE]):
            yield from _directives(part, "" if name == "robots" else name)


def _mining(headers: list[tuple[str, str]], tags: list[Tag]) -> tuple[bool | None, str]:
    """Reservation and policy. Values other than 0 and 1 count as not stated; a policy counts with a reservation only (section 4)."""
    reserved: bool | None = None
    policy = ""
    metas = [(tag.get("name").strip().lower(), tag.get("content").strip()) for tag in tags if tag.name == "meta"]
    for name, value in [*headers, *metas]:
        if name == "tdm-reservation" and value in ("0", "1"):
            reserved = value == "1"
        elif name == "tdm-policy":
            policy = entities.unescape(value)[:MAX_VALUE]
    return reserved, policy if reserved else ""


def _licence(html: bytes, headers: list[tuple[str, str]], tags: list[Tag], url: str) -> Licence:
    linked = [Stated("header", target) for name, value in headers if name == "link" for target in _licence_links(value)]
    stated = [*linked, *find_licences(html, tags)]
    return choose(stated, url) if stated else NO_LICENCE


def _licence_links(value: str) -> Iterator[str]:
    """Targets of `Link: <https://...>; rel="license"` (RFC 8288)."""
    for found in re.finditer(r"<([^<>]*)>([^<]*)", value):
        rel = re.search(r";\s*rel\s*=\s*\"?([^\";,]*)", found[2], re.IGNORECASE)
        if rel and "license" in rel[1].lower().split():
            yield found[1]
