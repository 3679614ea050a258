"""What pages and headers say about their use is recorded as they say it, where they say it, and nothing else."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from ccpipe.licences import OTHER, SOURCES, canonical
from ccpipe.rights import NO_RIGHTS, Rights, read_rights
from ccpipe.warc import http, read_records

BY = "https://creativecommons.org/licenses/by/4.0/"


def head(*headers: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", "Content-Type: text/html", *headers, "", ""]).encode()


def page(in_head: str = "", body: str = "<p>Words.</p>") -> bytes:
    return f"<!DOCTYPE html><html><head><title>x</title>{in_head}</head><body>{body}</body></html>".encode()


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ('<meta name="robots" content="noindex, nofollow">', ("nofollow", "noindex")),
        ("<META NAME=ROBOTS CONTENT=NOINDEX,NOFOLLOW>", ("nofollow", "noindex")),
        ("<meta content='none' name='robots'/>", ("nofollow", "noindex")),
        ('<meta name="robots" content="index, follow, max-image-preview:large, max-snippet:-1, max-video-preview:-1">', ()),
        ('<meta name="robots" content="max-snippet:0">', ("nosnippet",)),
        ('<meta name="robots" content="max-snippet: 0, noarchive">', ("noarchive", "nosnippet")),
        ('<meta name="robots" content="noai">\n<meta name="robots" content="noimageai">', ("noai", "noimageai")),
        ('<meta name="robots" content="noindex nocache">', ("noarchive", "noindex")),
        ('<meta name="CCBot" content="nofollow"><meta name="GPTBot" content="noindex">', ("ccbot:nofollow", "gptbot:noindex")),
        ('<meta name="googlebot-news" content="noindex">', ("googlebot-news:noindex",)),
        ('<meta name="google-extended" content="noindex">', ("google-extended:noindex",)),
        ('<meta name="robots" content="unavailable_after: 25 Jun 2010 15:00:00 PST">', ("unavailable_after",)),
        ('<meta property="robots" content="noindex">', ()),
        ('<meta name="description" content="noindex">', ()),
        ('<!-- <meta name="robots" content="noindex"> -->', ()),
        ("<script>document.write('<meta name=robots content=noindex>')</script>", ()),
        ('<meta name="robots" content="noindex', ()),
        ('<meta name="robots">', ()),
    ],
)
def test_robots_metas(meta: str, expected: tuple[str, ...]) -> None:
    assert read_rights(page(meta)).robots == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (["X-Robots-Tag: noindex"], ("noindex",)),
        (["x-robots-tag:noai, noimageai"], ("noai", "noimageai")),
        (["X-Robots-Tag: noarchive", "X-Robots-Tag: unavailable_after: Wed, 25 Jun 2010 15:00:00 PST"], ("noarchive", "unavailable_after")),
        (["X-Robots-Tag: googlebot: nofollow", "X-Robots-Tag: otherbot: noindex, nofollow"], None),
        (["X-Robots-Tag: noarchive, gptbot: noindex, nofollow"], ("gptbot:nofollow", "gptbot:noindex", "noarchive")),
        (["X-Robots-Tag: max-snippet: 0, max-image-preview: none"], ("nosnippet",)),
        (["X-Robots-Tag: *: noindex"], ("noindex",)),
        (["X-Robots-Tagged: noindex", "Via: X-Robots-Tag: noindex"], ()),
    ],
)
def test_robots_headers(headers: list[str], expected: tuple[str, ...] | None) -> None:
    found = read_rights(page(), head(*headers)).robots
    assert found == (expected if expected is not None else ("googlebot:nofollow", "otherbot:nofollow", "otherbot:noindex"))


def test_the_stricter_of_page_and_header_holds() -> None:
    found = read_rights(page('<meta name="robots" content="all"><meta name="robots" content="noarchive">'), head("X-Robots-Tag: noindex"))
    assert found.robots == ("noarchive", "noindex")


POLICY = "https://provider.example/policies/policy.json"


@pytest.mark.parametrize(
    ("meta", "headers", "reserved", "policy"),
    [
        ("", [], None, ""),
        ('<meta name="tdm-reservation" content="1">', [], True, ""),
        ('<meta name="tdm-reservation" content="0">', [], False, ""),
        ('<meta name="tdm-reservation" content="2">', [], None, ""),
        (f'<meta name="tdm-reservation" content="1"><meta name="tdm-policy" content="{POLICY}">', [], True, POLICY),
        (f'<meta name="tdm-reservation" content="0"><meta name="tdm-policy" content="{POLICY}">', [], False, ""),
        ("", ["tdm-reservation: 1", f"TDM-Policy: {POLICY}"], True, POLICY),
        ('<meta name="tdm-reservation" content="0">', ["tdm-reservation: 1"], False, ""),
        ('<meta name="tdm-reservation" content="yes">', ["tdm-reservation: 1"], True, ""),
    ],
)
def test_mining_is_reserved_as_the_protocol_says(meta: str, headers: list[str], reserved: bool | None, policy: str) -> None:
    """W3C TDM Reservation Protocol: 0 and 1 alone count, the page overrules the header."""
    found = read_rights(page(meta), head(*headers))
    assert (found.tdm_reservation, found.tdm_policy) == (reserved, policy)


LICENCES = [
    ("https://creativecommons.org/licenses/by/4.0/", "cc-by-4.0"),
    ("http://www.creativecommons.org/licenses/by-sa/2.5/ch/", "cc-by-sa-2.5-ch"),
    ("//creativecommons.org/licenses/by-nc-nd/3.0/deed.zh", "cc-by-nc-nd-3.0"),
    ("https://creativecommons.org/licenses/by-nc/4.0/legalcode", "cc-by-nc-4.0"),
    ("https://creativecommons.org/licenses/by-nc-sa/3.0/igo/legalcode", "cc-by-nc-sa-3.0-igo"),
    ("http://creativecommons.org/licenses/by-nd-nc/1.0/", "cc-by-nc-nd-1.0"),
    ("https://creativecommons.org/licenses/by/3.0/us/deed.en_US", "cc-by-3.0-us"),
    ("http://creativecommons.org/licenses/by/2.5/scotland/", "cc-by-2.5-scotland"),
    ("https://creativecommons.org/publicdomain/zero/1.0/deed.en", "cc0-1.0"),
    ("https://creativecommons.org/publicdomain/mark/1.0/", "cc-pdm-1.0"),
    ("http://creativecommons.org/licenses/publicdomain/", "cc-pddc"),
    ("http://creativecommons.org/licenses/sampling+/1.0/", "cc-sampling+-1.0"),
    ("http://creativecommons.org/licenses/by-sa/", "cc-by-sa"),
    ("https://web.archive.org/web/2014/http://creativecommons.org/licenses/by-sa/3.0/deed.de", "cc-by-sa-3.0"),
    ("CC BY-SA 4.0", "cc-by-sa-4.0"),
    ("CC-BY-NC-ND 4.0", "cc-by-nc-nd-4.0"),
    ("CC0", "cc0-1.0"),
    ("https://creativecommons.org/about/", ""),
    ("https://creativecommons.org/licenses/GPL/2.0/", ""),
    ("https://example.org/licenses/by/4.0/", ""),
    ("https://example.org/cc-by-4.0", ""),
    ("All rights reserved", ""),
    ("Tracc By Night", ""),
]


@pytest.mark.parametrize(("value", "expected"), LICENCES)
def test_one_spelling_for_each_licence(value: str, expected: str) -> None:
    assert canonical(value) == expected
    assert canonical(value.upper() if "//" in value else value) == expected


LINK = f'<a href="{BY}">CC BY</a>'
JSON = '<script type="application/ld+json">{"@context": "https://schema.org", "@graph": [%s]}</script>'


@pytest.mark.parametrize(
    ("source", "html", "headers"),
    [
        ("header", page(), [f'Link: <https://a.example/style>; rel=preload, <{BY}>; rel="license"']),
        ("link", page(f'<link rel="license" href="{BY}">'), []),
        ("meta", page(f'<meta name="DC.rights" content="{BY}">'), []),
        ("meta", page('<meta name="dcterms.license" content="CC BY 4.0">'), []),
        ("jsonld", page(JSON % f'{{"@type": "NewsArticle", "license": "{BY}"}}'), []),
        ("jsonld", page(JSON % f'{{"@type": "Article", "license": {{"@type": "CreativeWork", "url": "{BY}"}}}}'), []),
        ("media", page(JSON % f'{{"@type": "Article", "image": {{"@type": "ImageObject", "license": "{BY}"}}}}'), []),
        ("rdfa", page("", f'<div><a property="dct:license" href="{BY}">licence</a></div>'), []),
        ("rel", page("", f'<p>x</p><a class="b" rel="license noopener" href="{BY}"><img src="a.png"></a>'), []),
        ("rdf", page("", f'<!-- <rdf:RDF><Work rdf:about=""><license rdf:resource="{BY}" /></Work></rdf:RDF> -->'), []),
        ("footer", page("", f"<p>x</p><footer><div>{LINK}</div></footer>"), []),
        ("anchor", page("", f"<p>Words {LINK}</p><footer>f</footer>"), []),
        ("media", page("", f'<figure><img src="a.jpg"><figcaption><a rel="license" href="{BY}">x</a></figcaption></figure>'), []),
        ("", page("", f"<!-- {LINK} --><p>Text of {BY} without a link</p>"), []),
        ("", page(f"<script>var a = '{LINK}';</script>"), []),
        ("", page("", '<a href="https://creativecommons.org/about/">about</a>'), []),
        ("", page('<meta name="copyright" content="Copyright 2024 Example">'), []),
    ],
)
def test_a_licence_is_told_with_its_source(source: str, html: bytes, headers: list[str]) -> None:
    found = read_rights(html, head(*headers), "https://a.example/b/")
    assert (found.licence_source, found.licence) == (source, "cc-by-4.0" if source else "")
    assert found.licence_url == (BY if source and b"CC BY 4.0" not in html else "")


def test_the_strongest_source_counts() -> None:
    """A page whose pictures have licences of their own is not under theirs."""
    other = "https://creativecommons.org/licenses/by-nc/2.0/"
    body = f'<figure><a rel="license" href="{other}">x</a></figure><p><a href="{other}">y</a></p><a rel="license" href="{BY}">z</a>'
    assert read_rights(page("", body)).licence == "cc-by-4.0"
    assert set(SOURCES) == {"header", "link", "meta", "jsonld", "rdfa", "rel", "rdf", "footer", "anchor", "media"}


def test_links_to_several_licences_are_none() -> None:
    body = "".join(f'<p><a href="https://creativecommons.org/licenses/{kind}/4.0/">{kind}</a></p>' for kind in ("by", "by-sa", "by-nc"))
    found = read_rights(page("", body))
    assert (found.licence, found.licence_source) == ("mixed", "anchor")


def test_other_licences_keep_their_address() -> None:
    found = read_rights(page('<link rel="license" href="/terms?a=1&amp;b=2">'), url="https://a.example/x/y")
    assert (found.licence, found.licence_url, found.licence_source) == (OTHER, "https://a.example/terms?a=1&b=2", "link")


def test_a_page_in_utf_16_is_read() -> None:
    html = page('<meta name="robots" content="noai">').decode()
    assert read_rights(html.encode("utf-16")).robots == ("noai",)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_give_an_answer(html: bytes, header: bytes) -> None:
    assert isinstance(read_rights(html, header), Rights)
    wrapped = b'<meta name="robots" content="' + html + b'"><a rel=license href="//creativecommons.org/licenses/' + header + b'/4.0/">'
    assert isinstance(read_rights(wrapped, b"HTTP/1.1 200\r\nLink: <" + header + b">; rel=license\r\n"), Rights)


HOSTILE = {
    "open comments": b"<!--" * 300_000,
    "open metas": b"<meta name=robots content=" * 50_000,
    "quotes": b"<meta name='" * 100_000,
    "attributes": b"<meta " + b"a" * 1_000_000,
    "links": b'<a href="//creativecommons.org/licenses/by/4.0/' * 30_000,
    "json": b'<script type="application/ld+json">' + b'{"license":' * 100_000 + b"</script>",
    "scripts": b'<script type="application/ld+json">' * 40_000,
    "link header": b"<p>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pages_cost_no_more_steps_than_large_ones(name: str) -> None:
    """Counted, not timed: what is taken out of a page is bounded whatever its size."""
    found = read_rights(HOSTILE[name], head("Link: " + "<a>;" * 20_000))
    assert len(found.robots) <= 2
    assert len(found.licence_url) <= 2_000


def test_nothing_stated_is_nothing() -> None:
    assert read_rights(page(), head()) == NO_RIGHTS


@pytest.mark.shared
def test_statements_of_real_pages_are_those_of_their_trees(shared_data: Path) -> None:
    """Search in bytes finds what a parsed tree has: noindex, noai, mining reserved, and links to licences."""
    differing = []
    seen: Counter[str] = Counter()
    for path in sorted((shared_data / "extraction" / "dev").glob("dev-0000[13].warc.gz")):
        for record in read_records(path, None, 20 << 20, Counter()):
            response = http.parse_response(record.block) if record.kind == "response" else None
            if response is None:
                continue
            found, expected = read_rights(response.body), of_tree(response.body)
            mine = {word for word in ("noindex", "noai") if word in found.robots} | ({"tdm"} if found.tdm_reservation else set())
            mine |= {"cc"} if found.licence.startswith(("cc", "mixed")) else set()
            seen.update(mine)
            if mine != expected:
                differing.append((record.headers["warc-target-uri"], mine, expected))
    assert min(seen[name] for name in ("noindex", "noai", "tdm", "cc")) >= 1
    # links inside pages' scripts and metas behind the head
    assert len(differing) <= 1, differing


def of_tree(html: bytes) -> set[str]:
    tree = LexborHTMLParser(html)
    metas = [((meta.attributes.get("name") or "").lower(), (meta.attributes.get("content") or "").lower()) for meta in tree.css("meta")]
    words = {word.strip() for name, content in metas if name == "robots" for word in content.split(",")}
    links = [link.attributes.get("href") or "" for link in tree.css("a, link[rel=license]")]
    found = words & {"noindex", "noai"}
    found |= {"tdm"} if ("tdm-reservation", "1") in metas else set()
    return found | ({"cc"} if any(re.search(r"creativecommons\.org/(licenses|publicdomain)/\w", link) for link in links) else set())
