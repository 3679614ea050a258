"""Which blocks of a page are its main text: plain rules over the blocks and boxes of `ccpipe.blocks`.

In: a `Page`. Out: the numbers of the blocks kept, and their text. Three steps: boxes that are no content by their tag or
name are marked, unless they hold much of the prose; the smallest box with most of the remaining prose is the main box;
single blocks in it are judged by length, links, wording and what they head.

Thresholds without a source were set on 1,261 annotated pages of 13 public collections (articles, forums, listings, products;
English, German, Chinese, Japanese and others), each at the middle of a range where the score hardly moves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from ccpipe.blocks import HEADINGS, Page

WIDE_WEIGHT = 2
"""Added to a Chinese, Japanese or Korean character's length: it says about as much as three Latin letters."""

PROSE_CHARS = 80
"""A block from this weight on is prose, not a label (jusText: `length_low` 70)."""

MAX_PROSE_LINKS = 0.4
"""Share of a block's characters in links up to which it is prose."""

MAX_LINKS = 0.65
"""Share of characters in links above which a block is a list of links and dropped."""

LABEL_CHARS = 60
"""Text outside of paragraphs below this weight that ends no sentence is a label: a date, a name, a counter."""

NOTICE_CHARS = 160
"""Blocks below this weight are dropped for the wording of a notice; longer ones may well be about cookies."""

MAIN_SHARE = 0.75
"""The main box is the smallest with this share of the prose."""

BODY_SHARE = 0.5
"""Share that is enough for a box named as an article's body."""

RESCUE_SHARE = 0.45
"""A box named like boilerplate stays when it holds more of the prose than this."""

LEFT_SHARE, LEFT_WEIGHT = 0.15, 400
"""When marking boxes leaves less prose than both, names do not mean here what they mean elsewhere, and are not believed."""

POOR_WEIGHT = 300
"""A page with less prose is a listing or a gallery: its short blocks are its content."""

SENTENCE_ENDS = frozenset('.!?:;。！？：；…”"»)）」』》।۔؟')
JUNK_TAGS = frozenset(("nav", "footer", "aside"))
_TOO_SMALL = HEADINGS | {"p", "li"}
_WIDE = re.compile(r"[぀-ヿ㐀-鿿가-힣]")


def _any_name(words: str) -> str:
    """A pattern for any of these words between separators; `*` stands for more letters."""
    return r"(?<![a-z0-9])(?:" + "|".join(words.replace("*", r"\w*").replace("-", "[-_]?").split()) + r")(?![a-z0-9])"


_JUNK_NAMES = re.compile(
    _any_name(
        "comment comments disqus* respond sidebar* side-bar related* recommend* popular trending most-read share share* sharing* social* "
        "addthis* breadcrumb breadcrumbs crumb crumbs paginat* pager paging navbar nav navigation menu footer foot masthead banner "
        "cookie cookies* consent gdpr popup modal overlay newsletter* subscri* sign-up promo promos promotion advert* ad ads adsbox "
        "sponsor* taboola* outbrain* tags tagcloud toolbar log-in search skip* copyright hidden sr-only screen-reader* visually-hidden "
        "complementary contentinfo dialog more-stories read-more byline author-bio author-box author-info bio "
        "meta metadata post-meta entry-meta rating vote* credit credits disclaimer legal tools teaser* see-also jump*"
    )
    + r"|(?<![\w-])widget"
)
_CONTENT_NAMES = re.compile(
    r"(?<![a-z0-9])(?:article|entry|post|story|main|page|text|blog|news)[-_]?(?:body|content|text|main|detail)(?![a-z0-9])"
    r"|\barticle\b|\bcontent\b"
)
_BODY_NAMES = re.compile(
    r"(?<![a-z0-9])(?:article|entry|post|story|news|blog)[-_]*(?:body|content|text|main|detail)s?(?![a-z0-9])"
    r"|articlebody|(?:^| )article(?: |$)"
)
_NOTICE = re.compile(
    r"all rights reserved|©|\bcookies?\b|newsletter|subscri|sign up|log ?in\b|privacy policy|terms of (?:use|service)|share (?:this|on)|"
    r"read more|click here|follow us|datenschutz|lesen sie auch|"
    r"责任编辑|编辑[:：]|分享到|版权|登录|相关阅读|上一篇|下一篇|扫码|关注我们|転載",
    re.IGNORECASE,
)


def weigh(text: str) -> int:
    """Length of a text in Latin letters' worth."""
    return len(text) if text.isascii() else len(text) + WIDE_WEIGHT * len(_WIDE.findall(text))


def main_blocks(page: Page) -> list[int]:
    """Numbers of the blocks of the main text, ascending."""
    weights = [weigh(text) for text in page.text]
    prose = [_prose(page, i, weights[i]) for i in range(len(weights))]
    junk, sums = _without_junk(page, prose)
    main = _main_box(page, sums)
    blocks = [i for i in range(page.first[main], page.last[main]) if not junk[page.box[i]]]
    if sums[-1] < POOR_WEIGHT:
        return blocks
    return _filter(page, blocks, weights)


def _without_junk(page: Page, prose: list[int]) -> tuple[list[bool], list[int]]:
    """Which boxes are junk, and running sums of the prose outside of them. Judges more mildly where little would be left."""
    whole = _prefix(prose)
    for judge in (_is_junk_box, _is_junk_tag):
        junk = _junk_boxes(page, whole, judge)
        left = _prefix([0 if junk[box] else value for box, value in zip(page.box, prose, strict=True)])
        if left[-1] >= min(LEFT_SHARE * whole[-1], LEFT_WEIGHT):
            return junk, left
    return [False] * len(page.parent), whole


def _prose(page: Page, i: int, weight: int) -> int:
    """The block's weight if it is prose or code, else 0."""
    if page.kind[i] in HEADINGS or page.links[i] > MAX_PROSE_LINKS * len(page.text[i]):
        return 0
    return weight if weight >= PROSE_CHARS or page.kind[i] == "pre" else 0


def _prefix(values: list[int]) -> list[int]:
    sums = [0]
    for value in values:
        sums.append(sums[-1] + value)
    return sums


def _junk_boxes(page: Page, sums: list[int], judge: Callable[[Page, int], bool]) -> list[bool]:
    junk = [False] * len(page.parent)
    for b in range(1, len(junk)):
        if junk[page.parent[b]]:
            junk[b] = True
        elif judge(page, b):
            junk[b] = sums[page.last[b]] - sums[page.first[b]] <= RESCUE_SHARE * sums[-1]
    return junk


def _is_junk_tag(page: Page, b: int) -> bool:
    return page.tag[b] in JUNK_TAGS


def _is_junk_box(page: Page, b: int) -> bool:
    names = page.names[b]
    if page.tag[b] in JUNK_TAGS:
        return True
    return bool(names) and bool(_JUNK_NAMES.search(names)) and not _CONTENT_NAMES.search(names)


def _main_box(page: Page, sums: list[int]) -> int:
    """Go down from the body while one box holds `MAIN_SHARE` of the prose, or `BODY_SHARE` and is called an article's body."""
    main = 0
    for b in range(1, len(page.parent)):
        if page.parent[b] == main and page.tag[b] not in _TOO_SMALL:
            share = sums[page.last[b]] - sums[page.first[b]]
            if share and share >= MAIN_SHARE * sums[-1]:
                main = b
    return _body_box(page, sums, main)


def _body_box(page: Page, sums: list[int], main: int) -> int:
    """The largest box inside `main` that is called an article's body, if it holds enough."""
    found, most = main, BODY_SHARE * sums[-1]
    for b in range(main + 1, len(page.parent)):
        if page.first[b] >= page.last[main]:
            break
        if _BODY_NAMES.search(page.names[b]):
            share = sums[page.last[b]] - sums[page.first[b]]
            if share > most:
                found, most = b, share
    return found


def _filter(page: Page, blocks: list[int], weights: list[int]) -> list[int]:
    """Blocks of the main box without lists of links, labels, and headings that head nothing."""
    kept: list[int] = []
    heads = dict.fromkeys(HEADINGS, False)  # would text be found below a heading of this level?
    for i in reversed(blocks):
        if not _is_content(page, i, weights[i]):
            continue
        kind = page.kind[i]
        if kind not in HEADINGS:
            heads = dict.fromkeys(HEADINGS, True)
        elif heads[kind]:
            heads.update((level, False) for level in HEADINGS if level >= kind)
        else:
            continue
        kept.append(i)
    return kept[::-1]


def _is_content(page: Page, i: int, weight: int) -> bool:
    text, kind = page.text[i], page.kind[i]
    if page.links[i] > MAX_LINKS * len(text):
        return False
    if weight < NOTICE_CHARS and kind not in HEADINGS and _NOTICE.search(text):
        return False
    if kind in ("text", "caption") and weight < LABEL_CHARS and text[-1] not in SENTENCE_ENDS:
        return False
    return weight > 3 or any(map(str.isalnum, text))


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
