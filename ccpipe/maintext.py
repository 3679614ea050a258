"""Which blocks of a page are its main text: plain rules over the blocks and boxes of `ccpipe.blocks`.

In: a `Page`. Out: the numbers of the blocks kept, and their text. First the boxes that are no content by their tag or
name are marked (unless they hold most of the prose); then the smallest box that holds most of the prose is the main box;
then single blocks in it are judged by length, links and neighbours. Chinese and Japanese characters count threefold: they say
about as much as three Latin letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ccpipe.blocks import HEADINGS, Page

_WIDE = re.compile(r"[぀-ヿ㐀-鿿가-힣]")
WIDE_WEIGHT = 2
GOOD_CHARS = 80
"""A paragraph from this length on is prose; jusText's `length_low` is 70."""
MAX_LINKS = 0.4
MAIN_SHARE = 0.75
"""The main box is the smallest that holds this share of the prose."""
RESCUE_SHARE = 0.45
"""A box with a name of boilerplate stays when it holds this share of the prose."""

_TOO_SMALL = HEADINGS | {"p", "li"}
JUNK_TAGS = frozenset(("nav", "footer", "aside"))
_JUNK = re.compile(
    r"\b(?:comments?|disqus\w*|respond|sidebar\w*|side-?bar|widgets?|related\w*|recommend\w*|popular|trending|most-?read|shar(?:e|ing)\w*|social\w*|"
    r"addthis\w*|breadcrumbs?|crumbs?|paginat\w+|pager|paging|navbar|nav|navigation|menu|footer|foot|masthead|banner|cookies?\w*|consent|gdpr|"
    r"popup|modal|overlay|newsletter\w*|subscri\w+|sign-?up|promo\w*|advert\w*|ads?|adsbox|sponsor\w*|taboola\w*|outbrain\w*|tags?|tagcloud|toolbar|log-?in|"
    r"search|skip\w*|print|copyright|hidden|sr-only|screen-reader\w*|visually-?hidden|complementary|contentinfo|navigation|dialog|more-?stories|read-?more|byline|"
    r"author-?(?:bio|box|info)?|bio|meta|metadata|post-?meta|entry-?meta|rating|vote\w*|credits?|disclaimer|legal|toc|tools|teaser\w*|see-?also|jump\w*)\b"
)
_SEPARATORS = re.compile(r"_+|--+")
_CONTENT = re.compile(r"\b(?:article|entry|post|story|main|page|text|blog|news)-?(?:body|content|text|main|detail)\b|\barticle\b|\bcontent\b")


def weigh(text: str) -> int:
    """Length of a text in Latin letters' worth."""
    return len(text) if text.isascii() else len(text) + WIDE_WEIGHT * len(_WIDE.findall(text))


def main_blocks(page: Page) -> list[int]:
    """Numbers of the blocks of the main text, ascending."""
    weights = [weigh(text) for text in page.text]
    good = [_prose(page, i, weights[i]) for i in range(len(weights))]
    sums = _prefix(good)
    total = sums[-1]
    junk = _junk_boxes(page, sums, total)
    if total:
        good = [0 if junk[page.box[i]] else good[i] for i in range(len(good))]
        sums = _prefix(good)
    main = _main_box(page, sums, junk)
    first, last = page.first[main], page.last[main]
    return _filter(page, [i for i in range(first, last) if not junk[page.box[i]]], weights)


def _prose(page: Page, i: int, weight: int) -> int:
    kind = page.kind[i]
    if kind in HEADINGS or page.links[i] > MAX_LINKS * len(page.text[i]):
        return 0
    if kind == "pre":
        return weight
    return weight if weight >= GOOD_CHARS else 0


def _prefix(values: list[int]) -> list[int]:
    sums = [0]
    for value in values:
        sums.append(sums[-1] + value)
    return sums


def _junk_boxes(page: Page, sums: list[int], total: int) -> list[bool]:
    junk = [False] * len(page.parent)
    for b in range(1, len(junk)):
        if junk[page.parent[b]]:
            junk[b] = True
        elif page.tag[b] in JUNK_TAGS or (page.names[b] and _is_junk_name(page.names[b])):
            junk[b] = sums[page.last[b]] - sums[page.first[b]] <= RESCUE_SHARE * total
    return junk


def _is_junk_name(names: str) -> bool:
    names = _SEPARATORS.sub("-", names)
    return bool(_JUNK.search(names)) and not _CONTENT.search(names)


def _main_box(page: Page, sums: list[int], junk: list[bool]) -> int:
    """Go down from the body while one box holds `MAIN_SHARE` of the prose of the box around it."""
    main = 0
    for b in range(1, len(page.parent)):
        if page.parent[b] == main and page.tag[b] not in _TOO_SMALL:
            share = sums[page.last[b]] - sums[page.first[b]]
            if share and share >= MAIN_SHARE * (sums[page.last[main]] - sums[page.first[main]]):
                main = b
    return main


def _filter(page: Page, blocks: list[int], weights: list[int]) -> list[int]:
    kept = []
    for i in blocks:
        text = page.text[i]
        if page.links[i] > 0.5 * len(text) and page.kind[i] not in HEADINGS:
            continue
        kept.append(i)
    return kept


def render(page: Page, blocks: Iterable[int]) -> str:
    """The blocks as text: one line each, list items with a dash, cells of one row joined by ` | `."""
    lines: list[str] = []
    row = -1
    for i in blocks:
        text = page.text[i]
        if page.kind[i] == "td" and page.row[i] == row and row >= 0:
            lines[-1] += " | " + text
        else:
            lines.append("- " + text if page.kind[i] == "li" else text)
        row = page.row[i] if page.kind[i] == "td" else -1
    return "\n".join(lines)
