"""Blocked addresses."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccpipe.urls import Blocklist, NotABlocklist, build_blocklist, check_blocklist, compile_blocklist

LISTS = {
    "adult": ["bad.example", "blocked.co.uk", "# a comment", "", "bücher.example"],
    "phishing": ["http://shop.example/login/", "www.other.example/a?b=1", "0.0.0.0 evil.example.net", "||ads.example.org^", "192.0.2.7"],
}
BLOCKED = {
    "http://bad.example/": "adult",
    "https://bad.example": "adult",
    "HTTPS://Bad.EXAMPLE./path?q#f": "adult",
    "http://user:pass@bad.example:8080/": "adult",
    "http://deep.sub.bad.example/x": "adult",
    "//bad.example/x": "adult",
    "http://xn--bcher-kva.example/": "adult",
    "http://BÜCHER.example/": "adult",
    "http://shop.example/login": "phishing",
    "https://www.shop.example/login/#x": "phishing",
    "http://shop.example/login/more": "phishing",
    "http://shop.example/login?from=mail": "phishing",
    "http://shop.example:80/login/": "phishing",
    "http://other.example/a?b=1": "phishing",
    "http://x.evil.example.net/": "phishing",
    "http://ads.example.org/banner": "phishing",
    "http://192.0.2.7/": "phishing",
}
FREE = [
    "http://example/",
    "http://notbad.example/",
    "http://bad.example.com/",
    "http://co.uk/",
    "http://shop.example/",
    "http://shop.example/login-help",
    "http://sub.shop.example/login/",
    "http://shop.example/LOGIN",
    "http://other.example/a?b=2",
    "http://example.net/",
    "http://2.7/",
    "http://10.192.0.2.7/",
    "http://good.example/?u=http://bad.example/",
    "",
    "dns:bad",
    "http://[2001:db8::1]/",
    "http://[broken/",
]


@pytest.mark.parametrize("url", BLOCKED)
def test_spellings_of_a_listed_address_match(url: str) -> None:
    assert compile_blocklist(LISTS).match(url) == BLOCKED[url]


@pytest.mark.parametrize("url", FREE)
def test_others_do_not(url: str) -> None:
    assert compile_blocklist(LISTS).match(url) is None


def test_the_compiled_file_answers_the_same_and_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    first, _ = build_blocklist(LISTS, tmp_path / "a")
    build_blocklist({name: iter(lines) for name, lines in LISTS.items()}, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    mapped = Blocklist.open(tmp_path / "a")
    assert len(mapped) == len(first) == 8
    assert {url: mapped.match(url) for url in [*BLOCKED, *FREE]} == {**BLOCKED, **dict.fromkeys(FREE)}


DOMAINS = st.lists(st.from_regex(r"[a-z]{1,3}\.[a-z]{1,3}\.example", fullmatch=True), max_size=20)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), DOMAINS, min_size=1))
def test_equals_a_dictionary(lists: dict[str, list[str]]) -> None:
    """The first category that lists a domain wins; nothing else matches."""
    expected: dict[str, str] = {}
    for category, domains in lists.items():
        for domain in domains:
            expected.setdefault(domain, category)
    blocklist = compile_blocklist(lists)
    for domain in [*expected, "zzzz.zz"]:
        assert blocklist.match(f"http://{domain}/") == expected.get(domain)


def test_folders_like_ut1_and_plain_files(tmp_path: Path) -> None:
    folder = tmp_path / "blacklists"
    (folder / "Adult Stuff").mkdir(parents=True)
    (folder / "Adult Stuff" / "domains").write_text("bad.example\n")
    (folder / "Adult Stuff" / "urls").write_text("shop.example/login\n")
    (folder / "gambling.txt").write_text("127.0.0.1 dice.example\n")
    blocklist = Blocklist.open(folder)
    urls = ["http://bad.example", "http://shop.example/login", "http://dice.example"]
    assert [blocklist.match(url) for url in urls] == ["adult_stuff", "adult_stuff", "gambling"]
    assert Blocklist.open(folder / "gambling.txt").match("http://dice.example/x") == "blocked"


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    build_blocklist(LISTS, tmp_path / "a")
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-1])
    with pytest.raises(NotABlocklist, match="build it again"):
        Blocklist.open(tmp_path / "a")


def test_an_empty_list_blocks_nothing(tmp_path: Path) -> None:
    build_blocklist({"none": []}, tmp_path / "a")
    assert Blocklist.open(tmp_path / "a").match("http://bad.example/") is None


# --- what is no block list ---


def test_a_folder_without_lists_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adult").mkdir()
    (tmp_path / "adult" / "usage").write_text("black")
    (tmp_path / ".hidden").write_text("bad.example")
    for look in (check_blocklist, Blocklist.open):
        with pytest.raises(NotABlocklist, match=r"is a folder without lists; expected a compiled blocklist, a text list"):
            look(tmp_path)


@pytest.mark.parametrize(
    "content", [gzip.compress(b"WARC/1.0\r\n", mtime=0), b"bad.example\0", b"WARC/1.0\r\nWARC-Type: response", bytes(range(256))]
)
def test_a_binary_file_is_refused_wherever_a_list_is_expected(content: bytes, tmp_path: Path) -> None:
    alone = tmp_path / "alone.warc.gz"
    alone.write_bytes(content)
    folder = tmp_path / "folder"
    (folder / "adult").mkdir(parents=True)
    (folder / "adult" / "domains").write_bytes(content)
    files = tmp_path / "warcs"
    files.mkdir()
    (files / "a.txt").write_text("bad.example\n")
    (files / "b.warc.gz").write_bytes(content)
    for place, named in ((alone, "alone.warc.gz"), (folder, "domains"), (files, "b.warc.gz")):
        for look in (check_blocklist, Blocklist.open):
            with pytest.raises(NotABlocklist, match=rf"{named} is a binary file; expected a compiled blocklist"):
                look(place)


def test_what_lies_beside_the_lists_of_ut1_is_no_reason_to_refuse_them(tmp_path: Path) -> None:
    (tmp_path / "adult").mkdir()
    (tmp_path / "adult" / "domains").write_text("bad.example\n")
    (tmp_path / "cc-by-sa-4-0.pdf").write_bytes(b"%PDF-1.4\n\0\xff")
    (tmp_path / "empty").mkdir()
    check_blocklist(tmp_path)
    blocklist = Blocklist.open(tmp_path)
    assert blocklist.categories == ["adult"] and blocklist.match("http://bad.example") == "adult"


def test_lists_of_one_name_are_one_category(tmp_path: Path) -> None:
    (tmp_path / "ads.hosts").write_text("0.0.0.0 a.example\n")
    (tmp_path / "ads.txt").write_text("b.example\n")
    blocklist = Blocklist.open(tmp_path)
    assert [blocklist.match(f"http://{host}.example") for host in "ab"] == ["ads", "ads"]


def test_lists_that_are_accepted(tmp_path: Path) -> None:
    build_blocklist(LISTS, tmp_path / "compiled")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "bücher.txt").write_text("bücher.example\n", encoding="utf-8")
    for path in tmp_path.iterdir():
        check_blocklist(path)


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    build_blocklist(LISTS, tmp_path / "a")
    data = (tmp_path / "a").read_bytes()
    flipped = data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]
    for damaged in (data[:8], data[:40], data[:60], data[:8] + b"\xff" * 8 + data[16:], data[:48] + b"x" + data[49:], data[:-1], flipped):
        (tmp_path / "b").write_bytes(damaged)
        with pytest.raises(NotABlocklist, match="build it again"):
            check_blocklist(tmp_path / "b")
