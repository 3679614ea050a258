"""An HTML tree cut into blocks of text: one walk over lexbor's nodes.

In: the parsed tree. Out: `Page`, parallel lists of blocks (paragraphs, headings, list items, cells, code) and of the boxes
(div, section, table ...) that hold them, in document order. It judges nothing; it only leaves out what no reader sees
(scripts, styles, hidden elements).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

_UNSEEN = """script style noscript template svg iframe object embed select input textarea canvas audio video map head datalist
    progress meter noframes applet dialog rp"""
_BOXES = """div section article main header footer nav aside ul ol dl li dd table tr td th form fieldset figure details center
    blockquote address menu hgroup search"""
_LEAVES = "p h1 h2 h3 h4 h5 h6 pre dt caption figcaption summary legend option thead tbody tfoot hr body listing"
UNSEEN, BOXES, LEAVES = (frozenset(names.split()) for names in (_UNSEEN, _BOXES, _LEAVES))
HEADINGS = frozenset(f"h{level}" for level in range(1, 7))
KINDS = {"li": "li", "dd": "li", "td": "td", "th": "td", "pre": "pre", "listing": "pre", "p": "p", "dt": "dt"}
KINDS.update(dict.fromkeys(("figcaption", "caption"), "caption"))
KINDS.update({name: name for name in HEADINGS})

BREAK = "\0"
"""Stands for <br> until the block is finished; NULs cannot come out of the parser."""


_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


@dataclass(slots=True)
class Page:
    """Blocks and boxes. `box[i]` is the box that holds block i, `row[i]` its table row's box (-1: none).

    Box 0 is the body. `parent[b] < b`; `names[b]` is class, id and role in lower case; `first[b]` is the number of blocks
    before the box, `last[b]` the number at its end.
    """

    text: list[str] = field(default_factory=list)
    kind: list[str] = field(default_factory=list)
    links: list[int] = field(default_factory=list)
    box: list[int] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    tag: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)


def read_blocks(body: Any, hidden: bool = False) -> Page:
    """Walk the tree below `body` (a lexbor node). `hidden`: also what only scripts would show, and <noscript>."""
    walker = _Walker(hidden)
    walker.walk(body)
    return walker.page


class _Walker:
    def __init__(self, hidden: bool) -> None:
        self.page = Page()
        self.hidden = hidden
        self.unseen = UNSEEN - {"noscript"} if hidden else UNSEEN
        self.parts: list[str] = []
        self.link_chars = 0
        self.link_depth = 0
        self.pre_depth = 0
        self.leaf = "text"
        self.leaf_name = ""
        self.here = -1
        self.row = -1

    def walk(self, body: Any) -> None:
        self.open_box("body", "")
        node = body.first_child
        stack: list[tuple[Any, str, str, int]] = []
        while True:
            if node is None:
                if not stack:
                    break
                node, tag, leaf, row = stack.pop()
                self.leave(tag, leaf, row)
                node = node.next
                continue
            tag = node.tag
            if tag == "-text":
                self.add_text(node.text_content)
            elif tag not in self.unseen and tag is not None and tag[0] != "-":
                if tag == "br":
                    self.parts.append(BREAK)
                else:
                    child = node.first_child
                    if child is not None:
                        leaf, row = self.leaf, self.row
                        if self.enter(node, tag):
                            stack.append((node, tag, leaf, row))
                            node = child
                            continue
                    elif tag == "hr":
                        self.flush()
            node = node.next
        self.flush()
        self.page.last[0] = len(self.page.text)

    def add_text(self, text: str) -> None:
        self.parts.append(text)
        if self.link_depth:
            self.link_chars += len(text.strip())

    def enter(self, node: Any, tag: str) -> bool:
        """Begin an element; False when it is not to be seen."""
        if tag in BOXES:
            attributes = node.attributes
            if attributes and not self.hidden and _hidden(attributes):
                return False
            self.flush()
            self.open_box(tag, _names(attributes))
            if tag in KINDS:
                self.leaf = KINDS[tag]
            elif tag != "tr":
                self.leaf = "text"
            if tag == "tr":
                self.row = self.here
            elif tag == "table":
                self.row = -1
        elif tag in LEAVES:
            attributes = node.attributes
            if attributes and not self.hidden and _hidden(attributes):
                return False
            self.flush()
            self.leaf = KINDS.get(tag, self.leaf)
            self.open_box(tag, _names(attributes))
            if tag == "pre":
                self.pre_depth += 1
        elif tag == "a":
            self.link_depth += 1
        elif tag == "button":
            return self.leaf in HEADINGS
        elif tag == "span" or tag == "i":
            attributes = node.attributes
            return self.hidden or not (attributes and _hidden(attributes))
        return True

    def leave(self, tag: str, leaf: str, row: int) -> None:
        if tag in BOXES or tag in LEAVES:
            self.flush()
            self.page.last[self.here] = len(self.page.text)
            self.here = self.page.parent[self.here]
            if tag == "pre":
                self.pre_depth -= 1
            self.leaf = leaf
            self.row = row
        elif tag == "a":
            self.link_depth -= 1

    def open_box(self, tag: str, names: str) -> None:
        page = self.page
        page.parent.append(self.here)
        page.tag.append(tag)
        page.names.append(names)
        page.first.append(len(page.text))
        page.last.append(0)
        self.here = len(page.parent) - 1

    def flush(self) -> None:
        """Finish the block at hand."""
        if not self.parts:
            return
        text = "".join(self.parts)
        self.parts.clear()
        links, self.link_chars = self.link_chars, 0
        pieces = _code(text) if self.pre_depth else _paragraphs(text)
        total = sum(map(len, pieces))
        for piece in pieces:
            self.emit(piece, links * len(piece) // total)

    def emit(self, text: str, links: int) -> None:
        page = self.page
        page.text.append(text)
        page.kind.append("pre" if self.pre_depth else self.leaf)
        page.links.append(min(links, len(text)))
        page.box.append(self.here)
        page.row.append(self.row)


def _hidden(attributes: dict[str, str | None]) -> bool:
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        return True
    style = attributes.get("style")
    return bool(style and _HIDDEN_STYLE.search(style))


def _names(attributes: dict[str, str | None]) -> str:
    """Class, id, role and microdata names in one lower-case string."""
    return " ".join([attributes[key] or "" for key in ("class", "id", "role", "itemprop") if key in attributes]).lower()


def _paragraphs(text: str) -> list[str]:
    """Text cut where two breaks follow each other; white space collapsed, single breaks as newlines."""
    pieces: list[str] = []
    lines: list[str] = []
    for line in [*text.split(BREAK), ""]:
        words = " ".join(line.split())
        if words:
            lines.append(words)
        elif lines:
            pieces.append("\n".join(lines))
            lines = []
    return pieces


def _code(text: str) -> list[str]:
    """Lines of code as they are, without the blank ones around; one piece or none."""
    lines = [line.rstrip() for line in text.replace(BREAK, "\n").replace("\r", "").split("\n")]
    while lines and not lines[0]:
        lines.pop(0)
    while lines and not lines[-1]:
        lines.pop()
    return ["\n".join(lines)] if lines else []
