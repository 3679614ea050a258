"""Main text of pages."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warc_pages import PROSE

from ccpipe.html import NotExtracted, clean, extract, extract_text

CHINESE = "河水在夜里上涨，到了早晨，下游的田地都被水淹没了。村里没有人记得有过这样的春天；老人们说，到星期天水就会退去，后来果然如此。"


def text_of(body: str, head: str = "<title>T</title>") -> str:
    return extract(f"<html><head>{head}</head><body>{body}</body></html>".encode()).text


FRAME = """
<header><nav><ul><li><a href=/>Home</a><li><a href=/a>About us</a></ul></nav></header>
<div class="sidebar"><p>Subscribe to our newsletter and get the best stories of the week, free of charge, each Friday morning.</p></div>
<div class="content">%s</div>
<aside><p>Another article that is recommended to you because you have read this one, with a long enough teaser to be prose.</p></aside>
<footer><p>Copyright 2024, Example Publishing. All rights reserved, including those of reproduction in whole or in part.</p></footer>
"""


def test_boilerplate_goes_and_the_article_stays() -> None:
    assert text_of(FRAME % f"<h1>The flood</h1><p>{PROSE}</p><p>{PROSE[:100]}.</p>") == f"The flood\n{PROSE}\n{PROSE[:100]}."


def test_chinese_is_first_class() -> None:
    assert text_of(FRAME % f"<h1>洪水</h1><p>{CHINESE}</p><p>{CHINESE[:40]}。</p>") == f"洪水\n{CHINESE}\n{CHINESE[:40]}。"


def test_blocks_stand_on_their_own_lines() -> None:
    body = f"<h2>One</h2><p>{PROSE}</p><ul><li>first item</li><li>second item</li></ul><h2>Two</h2><p>{PROSE}<br>Next line.</p>"
    assert text_of(body).split("\n") == ["One", PROSE, "- first item", "- second item", "Two", PROSE, "Next line."]


def test_rows_of_tables_are_lines() -> None:
    body = f"<p>{PROSE}</p><table><tr><th>City</th><th>People</th></tr><tr><td>Bonn</td><td>330,000</td></tr></table><p>{PROSE}</p>"
    assert text_of(body).split("\n")[1:3] == ["City | People", "Bonn | 330,000"]


def test_code_keeps_its_lines_and_indents() -> None:
    code = "def f(x):\n    if x:\n        return 1\n\n    return 2"
    assert code in text_of(f"<p>{PROSE}</p><pre><code>\n{code}\n</code></pre><p>{PROSE}</p>")


def test_forum_threads_and_listings_are_content() -> None:
    posts = "".join(f'<div class="post"><b>user{i}</b><div class="comment-body"><p>Answer {i}: {PROSE}</p></div></div>' for i in range(5))
    assert text_of(f'<div class="thread">{posts}</div>').count(PROSE) == 5
    items = "".join(f"<li><a href=/p/{i}>Article number {i}</a></li>" for i in range(20))
    assert "Article number 7" in text_of(f"<main><h1>Archive</h1><ul>{items}</ul></main>")


def test_headings_that_head_nothing_go() -> None:
    related = "<h2>Related</h2><ul><li><a href=/x>A linked title that is long enough</a></li></ul>"
    assert text_of(f"<h1>Story</h1><p>{PROSE}</p><p>{PROSE}</p>{related}") == f"Story\n{PROSE}\n{PROSE}"


def test_hidden_text_is_left_out_unless_there_is_nothing_else() -> None:
    assert "secret" not in text_of(f'<p>{PROSE}</p><p style="display: none">secret words that nobody sees on the page</p>')
    assert text_of(f'<div style="visibility:hidden"><p>{PROSE}</p></div>') == PROSE
    assert text_of(f"<noscript><p>{PROSE}</p></noscript>") == PROSE


def test_title_and_language_are_as_stated() -> None:
    page = extract(f"<html lang='zh-CN'><head><title> A \n title &amp; more </title></head><body><p>{PROSE}</p>".encode())
    assert (page.title, page.lang, page.charset, page.charset_source) == ("A title & more", "zh-CN", "utf-8", "utf8")
    assert extract(b"<html lang='not a tag!'><h1>Heading</h1>").lang == ""
    assert extract(b"<h1>Heading</h1>").title == "Heading"


def test_no_control_characters_come_out() -> None:
    code = "<pre>a\tb\x00\n\x0cc and more code of the page</pre>"
    page = extract(f"<title>a\0\x01b</title><p>{PROSE}\0\x07\x1b\x85\u200b\ufeff</p>{code}".encode())
    assert page.title == "ab"
    assert PROSE in page.text
    assert "a\tb\n" in page.text
    assert page.text == clean(page.text)


@given(st.text())
def test_cleaning_twice_changes_nothing(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert not [char for char in once if ord(char) < 32 and char not in "\n\t"]


PIECES = ["<div>", "</div>", "<p>", "<b>", "</b>", "<table>", "<td>", "word ", "<br>", "<pre>", "<a>", "<li>", "<h2>"]


@given(st.lists(st.sampled_from(PIECES), max_size=50))
def test_no_word_outside_of_markup_is_invented(pieces: list[str]) -> None:
    page = extract("".join(pieces).encode())
    assert set(page.text.replace("|", " ").replace("-", " ").split()) <= {"word"}
    assert page.text.count("word") <= pieces.count("word ")


def test_hostile_pages_raise_by_name_and_at_once() -> None:
    start = time.perf_counter()
    wide = b"<a " + b" ".join(b"b%d" % i for i in range(50_000)) + b">"
    for html, reason in ((b"<div>" * 100_000, "too_deep"), (wide, "too_many_attributes")):
        with pytest.raises(NotExtracted, match=reason):
            extract(html)
        assert extract_text(html) == ""
    with pytest.raises(NotExtracted, match="undecodable"):
        extract(b"\xff\xfe\x00\xd8" * 1000)
    assert time.perf_counter() - start < 5


LONG = [
    "<h2>a</h2>" * 50_000,
    "a<br> " + " " * 500_000 + "b",
    "<td>x" * 50_000,
    "<select>" + "<option>x" * 100_000,
    "<p>" + "<i>a</i>" * 50_000,
]


@pytest.mark.parametrize("body", LONG)
def test_time_grows_with_the_page_and_not_with_its_square(body: str) -> None:
    start = time.perf_counter()
    text_of(body)
    assert time.perf_counter() - start < 5


EMPTY = [b"", b"   ", b"<", b"<!--", b"<html>", b"\0\0\0", b"plain words", b"<frameset><frame></frameset>", b"\xef\xbb\xbf", b"\xff\xfe"]


@pytest.mark.parametrize("html", EMPTY)
def test_pages_of_nothing_are_no_error(html: bytes) -> None:
    extract(html)


@pytest.mark.shared
def test_quality_does_not_fall(shared_data: Path) -> None:
    """Floor on real pages: mean word F1 over every 8th of the annotated pages, measured 0.857; lowering it needs a reason."""
    scores = []
    for gold in _gold(shared_data / "extraction" / "dev")[::8]:
        page = extract(gold["html"], gold["uri"], gold["http_content_type"])
        scores.append(_word_f1(gold["text"], page.text))
    assert len(scores) > 90
    assert sum(scores) / len(scores) > 0.84


def _gold(folder: Path) -> list[dict]:  # type: ignore[type-arg]
    from warcio.archiveiterator import ArchiveIterator

    pages = []
    for path in sorted(folder.glob("dev-0*.gold.jsonl")):
        gold = {one["record_id"]: one for one in map(json.loads, path.open(encoding="utf-8"))}
        with path.with_name(path.name.replace(".gold.jsonl", ".warc.gz")).open("rb") as file:
            for record in ArchiveIterator(file):
                one = gold.get(record.rec_headers.get_header("WARC-Record-ID"))
                if record.rec_type == "response" and one and one["kind"] == "text":
                    pages.append({**one, "html": record.content_stream().read()})
    return pages


def _word_f1(gold: str, text: str) -> float:
    import re
    from collections import Counter

    words = [Counter(re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]|[^\W\u3040-\u30ff\u4e00-\u9fff]+", x.lower())) for x in (gold, text)]
    both, sizes = (words[0] & words[1]).total(), words[0].total() + words[1].total()
    return 2 * both / sizes if sizes else 1.0
