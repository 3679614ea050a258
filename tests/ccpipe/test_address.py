"""Spellings of addresses, and block lists against an independent reading of them."""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccpipe.urls import Blocklist, compile_blocklist, host_of
from ccpipe.urls.address import address_keys, clean_host, parse_address

HOSTS = {
    # URL Standard, section 3.5 and 3.6, and UTS 46, section 4; IDNA examples of RFC 3492, section 7.1
    "EXAMPLE.com": "example.com",
    "example.com.": "example.com",
    "example.com:8080": "example.com",
    "user:p@ss:w@example.com:8080": "example.com",
    "ex%61mple.com": "example.com",
    "%C3%A9.example": "xn--9ca.example",
    "BÜCHER.example": "xn--bcher-kva.example",
    "bu\u0308cher.example": "xn--bcher-kva.example",
    "ｅｘａｍｐｌｅ．ｃｏｍ": "example.com",
    "example。com": "example.com",
    "example｡com": "example.com",
    "faß.de": "xn--fa-hia.de",
    "a\u00adb.example": "ab.example",
    "他们为什么不说中文.cn": "xn--ihqwcrb4cv8a8dqg056pqjye.cn",
    "i❤.ws": "xn--i-7iq.ws",
    "under_score.example": "under_score.example",
    "127.0.0.1": "127.0.0.1",
    "2130706433": "127.0.0.1",
    "0x7F000001": "127.0.0.1",
    "0x7f.1": "127.0.0.1",
    "0177.0.0.01": "127.0.0.1",
    "017700000001": "127.0.0.1",
    "127.0.1": "127.0.0.1",
    "127.0.0.1.": "127.0.0.1",
    "0x": "0.0.0.0",
    "１２７.0.0.1": "127.0.0.1",
    "256.0.0.1": "",
    "1.2.3.4.5": "",
    "1.2.3.09": "",
    "name.123": "",
    "4294967296": "",
    "[2001:DB8:0:0:0:0:0:1]": "2001:db8::1",
    "[2001:db8::0:1]:443": "2001:db8::1",
    "[::ffff:127.0.0.1]": "127.0.0.1",
    "[::FFFF:7f00:1]": "127.0.0.1",
    "[::1%25eth0]": "",
    "[1.2.3.4]": "",
    "[::1": "::1",
}


@pytest.mark.parametrize("text", HOSTS)
def test_a_host_has_one_spelling(text: str) -> None:
    assert clean_host(text) == HOSTS[text]


BLOCKED = {host for host in HOSTS.values() if host}


@pytest.fixture(scope="module")
def listed() -> Blocklist:
    bracketed = [f"[{host}]" if ":" in host else host for host in sorted(BLOCKED)]
    return compile_blocklist({"hosts": bracketed, "pages": ["site.example/a/b", "www.site.example/q?x=1", "|http://site.example/only|"]})


@pytest.mark.parametrize("text", HOSTS)
def test_every_spelling_of_a_listed_host_is_blocked_and_of_no_host_nothing(text: str, listed: Blocklist) -> None:
    for url in (f"http://{text}/", f"HTTPS:\\\\{text}\\x", f"//{text}?q", f"ftp:{text}", f" \t//{text}/a:b@c\n"):
        assert listed.match(url) == ("hosts" if HOSTS[text] else None), url
        assert list(listed.match_batch([url, "", url])) == [listed.match(url) is not None, 0, listed.match(url) is not None]


PAGES = {
    "http://site.example/a/b": "pages",
    "http://site.example/a/b/": "pages",
    "http://www.site.example/a/b/c?d#e": "pages",
    "http://site.example/a//b": None,
    "http://site.example/a/bc": None,
    "http://site.example/A/b": None,
    "http://site.example/a": None,
    "http://sub.site.example/a/b": None,
    "http://site.example:81/a/./x/%2e%2E/b": "pages",
    "http://site.example\\a\\b": "pages",
    "http://site.example/%61/%62": "pages",
    "http://site.example/a%2fb": None,
    "http://site.example/a/\tb": "pages",
    "http://site.example/a/%6\n2": "pages",
    "http://site.example/../../a/b": "pages",
    "http://site.example/q?x=1": "pages",
    "http://site.example/q/?%78=1#": "pages",
    "http://site.example/q?x%3D1": None,
    "http://site.example/q?x=1&y=2": None,
    "http://site.example/q": None,
    "http://site.example/only": "pages",
    "http://site.example/only/": "pages",
    "http://site.example/only?": "pages",
    "http://site.example/only?x": None,
    "http://site.example/only/more": None,
    "http://site.example/#/a/b": None,
    "http://site.example": None,
    "http://a/site.example/a/b": None,
}


@pytest.mark.parametrize("url", PAGES)
def test_pages_are_blocked_with_all_below_or_with_a_query_alone(url: str, listed: Blocklist) -> None:
    assert listed.match(url) == PAGES[url]
    assert listed.explain(url) == (("url_blocked_pages", listed.explain(url)[1]) if PAGES[url] else None)  # type: ignore[index]


NO_HOSTS = [
    "",
    "dns:example.com",
    "urn:uuid:1",
    "mailto:me@example.com",
    "/example.com",
    "http://",
    "data:text/html,http://example.com",
    "?example.com",
]


@pytest.mark.parametrize("url", NO_HOSTS)
def test_addresses_without_a_host_are_blocked_by_nothing(url: str, listed: Blocklist) -> None:
    assert host_of(url) == "" and listed.match(url) is None and list(listed.match_batch([url])) == [0]


def test_the_most_specific_entry_names_the_category() -> None:
    blocklist = compile_blocklist(
        {"a": ["x.example"], "b": ["y.x.example", "x.example/p"], "c": ["x.example/p/q", "x.example/p?z", "x.example"]}
    )
    urls = [
        "http://x.example/",
        "http://y.x.example/p",
        "http://x.example/p/",
        "http://x.example/p/q/r",
        "http://www.x.example/p?z",
        "http://x.example/pq",
    ]
    assert [blocklist.match(url) for url in urls] == ["a", "b", "b", "c", "c", "a"]


# --- against a second reading, with strings in a dictionary ---

LABELS = st.sampled_from(["a", "b", "www", "blog", "x1", "bücher", "xn--bcher-kva", "0x7f", "1", "日本"])
TAILS = st.lists(
    st.sampled_from(["/", "/a", "/b", "/..", "/.", "%2e", "%61", "\\b", "?", "?a=1", "#f", "%2F", "%", "é", "%c3%A9", "\t"]), max_size=5
).map("".join)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
SCHEMES = st.sampled_from(["http://", "HTTPS://", "//", "", "http:", "ftp:\\\\", "foo://", "foo:", "http://me:pw@", " http:///"])
PORTS = st.sampled_from(["", ".", ":80", ".:8080", ":"])
URLS = st.builds(lambda *parts: "".join(parts), SCHEMES, NAMES, st.just(".example") | st.just(""), PORTS, TAILS)
LISTED = st.builds(lambda name, tail: f"{name}.example{tail}", NAMES, st.sampled_from(["", "", "/a", "/a/b", "/b?a=1", "/%61"]))


def naive_keys(url: str) -> list[str]:
    """What may be listed, by the standard library and the package idna; for URLs with a scheme and a name."""
    import idna

    url = re.sub("[\t\r\n]", "", url).replace("\\", "/").partition("#")[0]
    parts = urlsplit(url)
    labels = [idna.uts46_remap(label, False, False) for label in (parts.hostname or "").rstrip(".").split(".")]
    host = ".".join(label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in labels)
    segments: list[bytes] = []
    for segment in parts.path.split("/")[1:]:
        plain = unquote_to_bytes(segment.replace("%2F", "%252F").replace("%2f", "%252F"))
        if plain == b"..":
            segments = segments[:-1]
        elif plain != b".":
            segments.append(plain)
    path = "".join("/" + segment.decode("latin-1") for segment in segments).rstrip("/")
    query = unquote_to_bytes(parts.query.replace("%2F", "%252F")).decode("latin-1")
    site = host.removeprefix("www.")
    borders = [at for at in range(len(path), 0, -1) if at == len(path) or path[at] == "/"]
    suffixes = [host.split(".", at)[-1] for at in range(host.count(".") + 1)]
    return [f"{site}{path}?{query}", *(site + path[:at] for at in borders), *suffixes]


@given(
    st.lists(LISTED, max_size=12),
    st.lists(st.builds(lambda name, cut, tail: f"http://{name}.example{cut}{tail}", NAMES, st.sampled_from("/?#"), TAILS), max_size=12),
)
def test_a_block_list_agrees_with_a_dictionary_of_strings(entries: list[str], urls: list[str]) -> None:
    known = {}
    for entry in entries:
        keys = naive_keys(f"http://{entry}")
        key = keys[0] if "?" in entry else keys[1] if "/" in entry else naive_keys(f"http://{entry}")[1]
        known.setdefault(key, "x")
    blocklist = compile_blocklist({"x": entries})
    assert [blocklist.match(url) for url in urls] == [next((known[key] for key in naive_keys(url) if key in known), None) for url in urls]


@given(
    st.lists(LISTED, max_size=8),
    st.lists(URLS | st.text(max_size=30) | st.binary(max_size=30).map(lambda data: data.decode("latin-1")), max_size=30),
)
def test_batch_single_and_key_by_key_agree(entries: list[str], urls: list[str]) -> None:
    """The compiled reading of an address equals the one in Python, for any text."""
    blocklist = compile_blocklist({"x": entries})
    single = [blocklist.match(url) for url in urls]
    by_key = [found and found[0].removeprefix("url_blocked_") for found in map(blocklist.explain, urls)]
    whole = [url.encode("utf-8", "ignore").decode() for url in urls]
    if whole == urls:
        array = pa.array(["http://skipped.example", *urls]).slice(1)
        assert [(code and blocklist.names[code - 1]) or None for code in blocklist.match_batch(array)] == single
    assert by_key == single


@given(st.integers(0, 2**32 - 1), st.sampled_from(["{}", "{:#x}", "{:#o}"]))
def test_numbers_are_ipv4_addresses(number: int, spelling: str) -> None:
    text = spelling.format(number).replace("0o", "0")
    assert clean_host(text) == str(ipaddress.IPv4Address(number))


@given(st.integers(0, 2**128 - 1), st.booleans())
def test_ipv6_has_one_spelling(number: int, exploded: bool) -> None:
    address = ipaddress.IPv6Address(number)
    text = address.exploded.upper() if exploded else str(address)
    assert clean_host(f"[{text}]") == str(address.ipv4_mapped or address)


@given(st.text(max_size=40))
def test_any_text_is_an_address_and_a_clean_host_stays_clean(text: str) -> None:
    host = host_of(text)
    assert clean_host(f"[{host}]" if ":" in host and "[" in text else host) in (host, "") or ":" in host
    address_keys(parse_address(text))


def test_hosts_of_real_pages_are_what_the_standard_library_finds(shared_data: Path) -> None:
    files = sorted((shared_data / "extraction" / "dev").glob("*.gold.jsonl"))
    urls = [json.loads(line)["uri"] for path in files for line in path.open(encoding="utf-8")]
    assert len(urls) > 1000
    for url in urls:
        assert host_of(url) == (urlsplit(url).hostname or "").encode("idna").decode(), url
