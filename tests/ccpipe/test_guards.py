"""The look at HTML before parsing."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from ccpipe.html.guards import MAX_ATTRIBUTES, MAX_DEPTH, broken_rule, measure

DEEP = {
    "unclosed_div": b"<div>" * 100_000,
    "unclosed_formatting": b"<b><i>" * 50_000,
    "wrong_end_tags_do_not_hide_it": b"<div></x>" * 100_000,
    "upper_case_and_attributes": b"<DIV class='a>b' \n id=x>" * 100_000,
    "after_a_comment_and_a_script": b"<!-- </div> --><script>if (a<b) {}</script>" + b"<section>" * 100_000,
}
HARMLESS = {
    "paragraphs_close_themselves": b"<p>one" * 100_000,
    "list_items_too": b"<ul>" + b"<li>one" * 100_000,
    "void_elements": b"<br><img src=x><hr>" * 50_000,
    "options": b"<select>" + b"<option>x" * 100_000,
    "closed_elements": b"<div><span>x</span></div>" * 50_000,
    "tags_in_a_script": b"<script>" + b"'<div>' + " * 100_000 + b"</script>",
    "tags_in_a_comment": b"<!--" + b"<div>" * 100_000 + b"-->",
    "tags_in_an_attribute": b"<a title='" + b"<div>" * 100_000 + b"'>x</a>",
    "less_than_signs": b"1 < 2 <3 <" * 100_000,
}


@pytest.mark.parametrize("name", DEEP)
def test_100_000_nested_tags_are_seen(name: str) -> None:
    assert broken_rule(DEEP[name]) == "too_deep"


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_deep_passes(name: str) -> None:
    assert broken_rule(HARMLESS[name]) is None


def test_50_000_attributes_are_seen() -> None:
    tag = b"<div " + b" ".join(b"a%d=1" % i for i in range(50_000)) + b">x</div>"
    assert measure(tag)[:3] == (1, 50_000, 1)
    assert broken_rule(b"".join(b"<body a%d>" % i for i in range(3000))) == "too_many_attributes"
    assert broken_rule(tag) == "too_many_attributes"


@pytest.mark.parametrize(
    ("tag", "attributes"),
    [(b"<a href=x class='y z' disabled>", 3), (b'<a href="a>b"/>', 1), (b"<a b = c d>", 2), (b"<a>", 0), (b"<a/b/c>", 2)],
)
def test_attributes_are_counted_as_the_parser_does(tag: bytes, attributes: int) -> None:
    assert measure(tag).attributes == attributes
    node = LexborHTMLParser(tag).css_first("a")
    assert node is not None and len(node.attributes) == attributes


PIECES = ["<div>", "</div>", "<b>", "</b>", "<p>", "</p>", "<table>", "<td>", "x", "</table>", "<br>", "<x-y>"]


@given(st.lists(st.sampled_from(PIECES), max_size=60))
def test_depth_is_never_below_the_parsers(pieces: list[str]) -> None:
    """The measure is an upper bound but for the elements that the parser adds or closes by itself (p, tbody, tr, td: a constant factor)."""
    html = "".join(pieces).encode()
    tree = LexborHTMLParser(html)
    deepest = 0
    for node in tree.root.traverse() if tree.root else ():
        depth = 0
        while (node := node.parent) is not None and node.tag in ("div", "b", "table", "x-y"):
            depth += 1
        deepest = max(deepest, depth)
    assert measure(html).depth >= deepest


def test_formatting_that_is_opened_again_and_again_is_seen() -> None:
    """115 KB that would grow to 19 million elements; equal tags are opened again only three times."""
    fonts = b"".join(b"<font size=%d><p>" % i for i in range(1900))
    assert broken_rule(fonts + b"<p>x</p>" * 10_000) == "too_many_elements"
    assert broken_rule(b"<b><p>" * 1900 + b"<p>x</p>" * 10_000) is None
    tree = LexborHTMLParser(fonts[:600] + b"<p>x</p>" * 10)
    assert len(tree.css("*")) <= measure(fonts[:600] + b"<p>x</p>" * 10).elements + 3


def test_tags_below_many_open_elements_are_seen() -> None:
    """Each of these end tags makes the parser look at 1,990 open elements."""
    assert broken_rule(b"<x>" * 1990 + b"</y>" * 500_000) == "too_deep"
    assert broken_rule(b"<x>" * 90 + b"</y>" * 500_000) is None


def test_a_million_paragraphs_are_too_many() -> None:
    assert broken_rule(b"<p>a" * 1_000_000) == "too_many_elements"


@given(st.binary(max_size=200))
def test_any_bytes_are_measured(data: bytes) -> None:
    measure(data)


def test_pages_at_the_limits_parse_in_a_moment() -> None:
    """The limits are set where the parser's quadratic time is still small."""
    start = time.perf_counter()
    LexborHTMLParser(b"<div>" * MAX_DEPTH)
    LexborHTMLParser(b"<a " + b" ".join(b"a%d=1" % i for i in range(MAX_ATTRIBUTES)) + b">")
    assert time.perf_counter() - start < 1.0
