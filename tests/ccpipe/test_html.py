"""Main text of pages."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warc_pages import PROSE

from ccpipe.html import NotExtracted, clean, extract, extract_text

PARTS = [
    "The river rose in the night, and by the morning the lower fields were under water. Nobody could remember a spring like this one.",
    "The oldest of them said that it would go down by Sunday, and it did; but the road to the town stayed closed for another week.",
    "“We had known for years that the dam was too low,” said the mayor, who has asked for money since 2011. “They will have to listen.”",
    "Engineers from the capital measured the banks on Tuesday. Their report will decide whether the old course is opened again.",
]
CHINESE = [
    "河水在夜里上涨，到了早晨，下游的田地都被水淹没了。村里没有人记得有过这样的春天，连最年长的人也没有见过这么高的水位。",
    "老人们说，到星期天水就会退去，后来果然如此；但是通往镇上的道路又封闭了一个星期，磨坊停工了整整一个月才重新开门。",
    "“我们多年前就知道堤坝太低，”村长说。他从二〇一一年起就一直向县里申请资金，“这一次他们必须听取我们的意见了。”",
    "省里来的工程师星期二测量了河岸。他们的报告预计在六月完成，到时候将决定是否重新开挖旧河道，并安排居民搬迁。",
]


def text_of(body: str, head: str = "<title>T</title>", **switches: object) -> str:
    return extract(f"<html><head>{head}</head><body>{body}</body></html>".encode(), **switches).text  # type: ignore[arg-type]


FRAME = """
<header><nav><ul><li><a href=/>Home</a><li><a href=/a>About us</a><li><a href=/n>News</a></ul></nav></header>
<div class="sidebar widget"><h3>Newsletter</h3><p>Subscribe to our newsletter and get the best stories of the week.</p></div>
<main><article class="post"><h1>The flood</h1><div class="entry-content">%s</div></article></main>
<aside class="related-posts"><h3>Related</h3><ul><li><a href=/x>Another article that you may like</a></li></ul></aside>
<footer class="site-footer"><p>Copyright 2024, Example Publishing. All rights reserved.</p></footer>
"""


def paragraphs(parts: list[str]) -> str:
    return "".join(f"<p>{part}</p>" for part in parts)


@pytest.mark.parametrize("parts", [PARTS, CHINESE], ids=["english", "chinese"])
def test_boilerplate_goes_and_the_article_stays(parts: list[str]) -> None:
    assert text_of(FRAME % paragraphs(parts)).removeprefix("The flood\n").split("\n") == parts


def test_blocks_stand_on_their_own_lines() -> None:
    items = "<ul><li>the road to the town, closed for a week</li><li>the mill, closed for a month</li></ul>"
    body = f"<p>{PARTS[0]}</p><h2>The days after</h2><p>{PARTS[1]}</p>{items}<h2>What comes next</h2><p>{PARTS[2]}<br>Next line.</p>"
    lines = text_of(FRAME % (body + paragraphs(PARTS[3:]))).removeprefix("The flood\n").split("\n")
    marked = ["- the road to the town, closed for a week", "- the mill, closed for a month"]
    assert lines == [PARTS[0], "The days after", PARTS[1], *marked, "What comes next", PARTS[2], "Next line.", PARTS[3]]


TABLE = "<table><tr><th>City</th><th>People</th></tr><tr><td>Bonn</td><td>330,000</td></tr><tr><td>Trier</td><td>110,000</td></tr></table>"


def test_rows_of_tables_are_lines() -> None:
    text = text_of(FRAME % (paragraphs(PARTS[:2]) + TABLE + paragraphs(PARTS[2:])))
    assert "\nCity | People\nBonn | 330,000\nTrier | 110,000\n" in text


def test_markdown_marks_headings_tables_and_code() -> None:
    code = "<pre>if x:\n    return 1</pre>"
    body = f"{paragraphs(PARTS[:2])}{TABLE}<h2>The days after</h2><p>{PARTS[2]}</p>{code}<p>{PARTS[3]}</p>"
    text = text_of(FRAME % body, markdown=True)
    assert "City | People\n--- | ---\nBonn | 330,000\nTrier | 110,000\n## The days after\n" in text
    assert "\n```\nif x:\n    return 1\n```\n" in text


FORMULAS = {
    "annotation": '<math><mi>x</mi><annotation encoding="application/x-tex">x^{2}&lt;1</annotation></math>',
    "alttext": '<math alttext="x^{2}&lt;1"><mi>x</mi></math>',
    "script": '<span class="MathJax_Preview">x 2</span><script type="math/tex">x^{2}<1</script>',
    "image": '<img src="/f.png" class="latex" alt="x^{2}&lt;1">',
}


@pytest.mark.parametrize("form", FORMULAS)
def test_formulas_are_latex(form: str) -> None:
    text = text_of(FRAME % (paragraphs(PARTS[:3]) + f"<p>It is known that {FORMULAS[form]} holds here. {PARTS[3]}</p>"))
    assert f"It is known that $x^{{2}}<1$ holds here. {PARTS[3]}" in text


def test_modes_keep_more_or_less_and_are_nested() -> None:
    body = FRAME % (paragraphs(PARTS) + TABLE + "<p>Share this on</p><p>By our reporter</p>")
    lines = [set(text_of(body, mode=mode).split("\n")) for mode in ("precision", "balanced", "recall")]
    assert set(PARTS) <= lines[0] <= lines[1] <= lines[2]
    with pytest.raises(ValueError, match="expected one of precision, balanced, recall"):
        extract(b"<p>x", mode="fast")


def test_text_of_json_ld_stands_in_for_an_empty_page() -> None:
    data = json.dumps({"@graph": [{"@type": "NewsArticle", "articleBody": "\n".join(PARTS), "description": "short"}]})
    script = f'<script type="application/ld+json">{data}</script>'
    assert text_of("<div id=root></div>", script).split("\n") == PARTS
    assert text_of(FRAME % paragraphs(CHINESE), script).removeprefix("The flood\n").split("\n") == CHINESE
    assert text_of("<div id=root></div>", '<script type="application/ld+json">{"articleBody": "cut</script>') == ""


def test_paragraphs_are_kept_once() -> None:
    assert text_of(FRAME % (paragraphs(PARTS) + paragraphs(PARTS))).count(PARTS[1]) == 1


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
    assert text_of(FRAME % (paragraphs(PARTS) + related)).endswith(PARTS[-1])


def test_hidden_text_is_found_where_there_is_nothing_else() -> None:
    assert text_of(f'<div style="visibility:hidden"><p>{PROSE}</p></div>') == PROSE
    assert text_of(f"<noscript><p>{PROSE}</p></noscript>") == PROSE


def test_title_and_language_are_as_stated() -> None:
    page = extract(f"<html lang='zh-CN'><head><title> A \n title &amp; more </title></head><body><p>{PROSE}</p>".encode())
    assert (page.title, page.lang, page.charset, page.charset_source) == ("A title & more", "zh-CN", "utf-8", "utf8")
    assert extract(b"<html lang='not a tag!'><h1>Heading</h1>").lang == ""
    assert extract(b"<h1>Heading</h1>").title == "Heading"


def test_no_control_characters_come_out() -> None:
    code = "<pre>a\tb\x00\n\x0cc and more code of the page</pre>"
    page = extract(f"<title>a\0\x01b</title><p>{PROSE}\0\x07\x1b\x85\u200b\ufeff</p>{code}<p>{PARTS[1]}</p><p>{PARTS[2]}</p>".encode())
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


ALONE = """
import json, sys
from ccpipe.html import extract
assert "river" in extract(b"<title>t</title><p>The river rose in the night, and the fields were under water.").text
print(json.dumps(sorted(sys.modules)))
"""


def test_the_extractor_stands_alone() -> None:
    """A fresh interpreter that extracts a page has loaded nothing of the project but the extractor and the decorator of kernels."""
    run = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True)
    loaded = json.loads(run.stdout)
    ours = {name for name in loaded if name.split(".")[0] in ("ccpipe", "hpc", "jobs")}
    assert {name for name in ours if not name.startswith("ccpipe.html")} == {"ccpipe", "ccpipe.kernels"}
    assert not {"pyarrow", "duckdb", "pydantic", "fastwarc"} & set(loaded)


COMMENTS = [f"I remember the flood of {year}, when the bridge was lost and nobody came to help us for days." for year in (1978, 1986, 1999)]


def test_comments_are_a_switch() -> None:
    items = "".join(
        f'<li class="comment"><b>reader{i}</b><div class="comment-body"><p>{text}</p></div></li>' for i, text in enumerate(COMMENTS)
    )
    form = "<form class=comment-form><p>Write a comment below, please be polite to others</p><textarea></textarea></form>"
    body = FRAME % paragraphs(PARTS) + f'<section id="comments"><h3>3 comments</h3><ol>{items}</ol>{form}</section>'
    without, with_them = text_of(body), text_of(body, comments=True)
    assert all(part in without and part in with_them for part in PARTS)
    assert [comment in without for comment in COMMENTS] == [False] * 3
    assert [comment in with_them for comment in COMMENTS] == [True] * 3
    assert "be polite" not in with_them
    thread = "".join(f'<div class="post"><div class="comment-body"><p>Answer {i}: {PROSE}</p></div></div>' for i in range(5))
    assert text_of(f'<div class="thread">{thread}</div>') == text_of(f'<div class="thread">{thread}</div>', comments=True)
