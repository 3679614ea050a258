"""The extractors compared, each as `f(page, url, lang) -> text`, imported only when asked for.

`Contender.takes`: `raw` (bytes as crawled, with the Content-Type), `utf8` (bytes that say so) or `str`: the quickest form that the
library accepts without finding a charset. Options are those that give main text without comments; libraries that return HTML are
made text by Resiliparse's `extract_plain_text`, the cost of which (1 to 3 % of theirs) is in their time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Extractor = Callable[[Any, str, str], str | None]

NO_TEXT = "script,style,noscript,template,svg,iframe,select,textarea,button"
FURNITURE = "nav,header,footer,aside,form,[role=navigation],[role=banner],[role=contentinfo],[aria-hidden=true]"
LANDMARKS = ("article", "main", "[role=main]", "[itemprop=articleBody]")
LANDMARK_CHARS = 250
"""An <article> with less text is a teaser."""

STOPLISTS = {
    **{"en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese", "ru": "Russian"},
    **{"pl": "Polish", "cs": "Czech", "tr": "Turkish", "ar": "Arabic", "fi": "Finnish", "sv": "Swedish", "nl": "Dutch"},
    **{"id": "Indonesian", "ko": "Korean", "hu": "Hungarian", "lv": "Latvian", "lt": "Lithuanian", "vi": "Vietnamese"},
}
"""ISO 639-1 -> jusText's stoplist. jusText alone is told the language of a page; without a list it judges by length and links."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A row of the table. package: whose version counts; makes_text: False for a parser alone, which has no quality."""

    name: str
    package: str
    takes: str
    load: Callable[[], Extractor]
    makes_text: bool = True


def _trafilatura(fast: bool) -> Extractor:
    from trafilatura import extract

    return lambda html, url, lang: extract(html, url=url, fast=fast, include_comments=False, include_tables=True)


def _html_to_text() -> Callable[[str], str]:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    return lambda html: extract_plain_text(HTMLTree.parse(html or ""), main_content=False, alt_texts=False)


def _go_readability() -> Extractor:
    import pygoreadability

    to_text = _html_to_text()
    return lambda html, url, lang: to_text(pygoreadability.from_string(html, url).content_html)


def _readability_lxml() -> Extractor:
    from readability import Document

    to_text = _html_to_text()
    return lambda html, url, lang: to_text(Document(html).summary())


def _magic_html() -> Extractor:
    import lxml.html
    from magic_html import GeneralExtractor

    extractor = GeneralExtractor()

    def extract(html: str, url: str, lang: str) -> str:
        found = extractor.extract(html, base_url=url).get("html") or ""
        parts = lxml.html.fromstring(found).itertext() if found.strip() else ()
        return "\n".join(part.strip() for part in parts if part.strip())

    return extract


def _resiliparse() -> Extractor:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    return lambda html, url, lang: extract_plain_text(HTMLTree.parse(html), main_content=True, alt_texts=False, links=False)


def _turbohtml() -> Extractor:
    import turbohtml

    return lambda html, url, lang: turbohtml.parse(html).article().text


def _justext() -> Extractor:
    import justext

    lists = {code: justext.get_stoplist(name) for code, name in STOPLISTS.items()}
    options = {"encoding": "utf-8", "length_low": 50, "length_high": 200, "max_link_density": 0.2, "max_heading_distance": 200}

    def extract(html: bytes, url: str, lang: str) -> str:
        words = lists.get(lang, frozenset())
        low, high = (0.1, 0.2) if words else (0, 0)
        paragraphs = justext.justext(html, words, stopwords_low=low, stopwords_high=high, no_headings=True, **options)
        return "\n".join(paragraph.text for paragraph in paragraphs if not paragraph.is_boilerplate)

    return extract


def _selectolax_landmark() -> Extractor:
    from selectolax.lexbor import LexborHTMLParser

    def extract(html: bytes, url: str, lang: str) -> str:
        tree = LexborHTMLParser(html)
        for node in tree.css(f"{NO_TEXT},{FURNITURE}"):
            node.decompose()
        if tree.body is None:
            return ""
        for selector in LANDMARKS:
            texts = [(len(node.text(strip=True)), at, node) for at, node in enumerate(tree.css(selector))]
            size, _, node = max(texts, key=lambda found: (found[0], -found[1]), default=(0, 0, None))
            if size > LANDMARK_CHARS:
                return node.text(separator="\n", strip=True)
        return tree.body.text(separator="\n", strip=True)

    return extract


def _selectolax_all() -> Extractor:
    from selectolax.lexbor import LexborHTMLParser

    def extract(html: bytes, url: str, lang: str) -> str:
        tree = LexborHTMLParser(html)
        for node in tree.css(NO_TEXT):
            node.decompose()
        return tree.body.text(separator="\n", strip=True) if tree.body is not None else ""

    return extract


def _selectolax_parse() -> Extractor:
    from selectolax.lexbor import LexborHTMLParser

    def extract(html: bytes, url: str, lang: str) -> None:
        LexborHTMLParser(html)

    return extract


def _ours() -> Extractor:
    from ccpipe.html import NotExtracted, extract

    def text_of(html: Any, url: str, lang: str) -> str:
        body, content_type = html if isinstance(html, tuple) else (html, "text/html; charset=utf-8")
        try:
            return extract(body, url, content_type).text
        except NotExtracted:
            return ""

    return text_of


OURS = [Contender("ccpipe", "ccpipe", "raw", _ours), Contender("ccpipe, told the charset", "ccpipe", "utf8", _ours)]
"""The first finds the charset out of the bytes as crawled, as the stage does; the second is given what the peers are given."""

PEERS = [
    Contender("trafilatura", "trafilatura", "str", lambda: _trafilatura(False)),
    Contender("trafilatura fast", "trafilatura", "str", lambda: _trafilatura(True)),
    Contender("go-readability", "pygoreadability", "str", _go_readability),
    Contender("readability-lxml", "readability-lxml", "str", _readability_lxml),
    Contender("magic-html", "magic-html", "str", _magic_html),
    Contender("resiliparse main content", "resiliparse", "str", _resiliparse),
    Contender("turbohtml article", "turbohtml", "str", _turbohtml),
    Contender("jusText", "justext", "utf8", _justext),
    Contender("selectolax, article/main tag only", "selectolax", "utf8", _selectolax_landmark),
    Contender("selectolax, parse and all text", "selectolax", "utf8", _selectolax_all),
    Contender("selectolax, parse alone", "selectolax", "utf8", _selectolax_parse, makes_text=False),
]
CONTENDERS = {contender.name: contender for contender in OURS + PEERS}
