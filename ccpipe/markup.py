"""Tags of an HTML page found in its bytes, without a tree: those of the head, and the one around a byte.

For things that few pages say: a search for a word costs a hundredth of parsing. Text in comments, scripts and styles is passed over.
Every look is bounded, so that hostile markup costs no more than a large page.
"""

from __future__ import annotations

import html as entities
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HEAD_BYTES = 1 << 20
"""How far the head is looked for, bytes."""

MAX_TAG = 4_096
"""Longest tag that is read, bytes."""

LOOK_BACK = 1 << 16
"""How far in front of a tag an element that holds it is looked for, bytes."""

_HEAD_TAG = re.compile(rb"<([mM][eE][tT][aA]|[lL][iI][nN][kK])([\s/][^>]{0,4000})")
_ATTRIBUTE = re.compile(rb"""(?<![-\w:.])([-\w:.]+)\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+)""")
_NAME = re.compile(rb"<([A-Za-z][\w:-]*)")
_RAW = ((b"<!--", b"-->"), (b"<script", b"</script"), (b"<style", b"</style"))
"""Where tags are text."""


@dataclass(frozen=True, slots=True)
class Tag:
    """name and names of attributes: lower case; values: with character references resolved, the first of equal names; start: byte."""

    name: str
    values: dict[str, str]
    start: int

    def get(self, name: str) -> str:
        return self.values.get(name, "")


def head_tags(html: bytes, wanted: Callable[[bytes, bytes], object]) -> Iterator[Tag]:
    """The `meta` and `link` elements in front of `<body`, at most the first MiB, in order.

    wanted: told `meta` or `link` and the bytes of a tag's attributes, says whether it is worth reading; most are not.

    >>> [tag.get("content") for tag in head_tags(b"<!-- <meta content=a> --><META content='b &amp; c'/><body>", max)]
    ['b & c']
    """
    body = html.find(b"<body", 0, HEAD_BYTES)
    for found in _HEAD_TAG.finditer(html, 0, body if body >= 0 else HEAD_BYTES):
        name, data = found[1].lower(), found[2]
        if wanted(name, data) and not any(is_inside(html, found.start(), *raw) for raw in _RAW):
            yield Tag(name.decode("ascii"), read_values(data), found.start())


def _attributes(html: bytes, at: int) -> bytes:
    """The bytes from `at` to the end of the tag."""
    end = html.find(b">", at, at + MAX_TAG)
    return html[at : end if end >= 0 else at + MAX_TAG]


def read_values(data: bytes) -> dict[str, str]:
    """Attributes by name.

    >>> read_values(b" HREF='a&amp;b' rel=license hidden")
    {'href': 'a&b', 'rel': 'license'}
    """
    values: dict[str, str] = {}
    for found in _ATTRIBUTE.finditer(data):
        value = found[2].strip(b"\"'").decode("utf-8", "replace")
        values.setdefault(found[1].decode("ascii", "replace").lower(), entities.unescape(value) if "&" in value else value)
    return values


def tag_around(html: bytes, at: int) -> Tag | None:
    """The tag in which byte `at` lies; None where it lies in text."""
    start = html.rfind(b"<", max(0, at - MAX_TAG), at)
    name = _NAME.match(html, start) if start >= 0 and html.find(b">", start, at) < 0 else None
    return Tag(name[1].decode("ascii").lower(), read_values(_attributes(html, name.end())), start) if name else None


def is_inside(html: bytes, at: int, opening: bytes, closing: bytes) -> bool:
    """Whether the last `opening` in the 64 KiB in front of `at` is still open there.

    >>> is_inside(b"<footer><p>x</footer>", 11, b"<footer", b"</footer")
    True
    """
    opened = html.rfind(opening, max(0, at - LOOK_BACK), at)
    return opened >= 0 and html.find(closing, opened, at) < 0
