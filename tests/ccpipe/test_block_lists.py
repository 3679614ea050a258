"""What lists say, where they come from, what was skipped and why, and words."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccpipe.urls import Blocklist, NotABlocklist, Source, WordLists, build_blocklist, check_blocklist, clean_words, compile_blocklist
from ccpipe.urls.build import compile_lists
from ccpipe.urls.entries import parse_line

LINES: dict[str, list[str] | str] = {
    "bad.example": ["bad.example"],
    "  Bad.Example.  \r": ["bad.example"],
    "0.0.0.0 ads.example.com # comment": ["ads.example.com"],
    "127.0.0.1\tads.example.com": ["ads.example.com"],
    ":: a.example b.example": ["a.example", "b.example"],
    "*.wild.example": ["wild.example"],
    ".dnsmasq.example": ["dnsmasq.example"],
    "||adblock.example^": ["adblock.example"],
    "|https://www.a.example/x/|": ["a.example/x?"],
    "http://a.example:8080/x/": ["a.example/x"],
    "a.example/x?y=1": ["a.example/x?y=1"],
    "http://a.example/": ["a.example"],
    "bücher.example": ["xn--bcher-kva.example"],
    "192.0.2.7": ["192.0.2.7"],
    "http://3221225991/x": ["192.0.2.7/x"],
    "[2001:DB8::1]": ["2001:db8::1"],
    "": "blank",
    " \t\r": "blank",
    "# comment": "comment",
    "! comment": "comment",
    "; comment": "comment",
    "[Adblock Plus 2.0]": "comment",
    "localhost": "single_label",
    "0.0.0.0 localhost": "single_label",
    "192.168.1.5 printer.example": "malformed",
    "two words": "malformed",
    "a..b.example": "malformed",
    "-a.example": "malformed",
    "a<b.example": "malformed",
    "x" * 64 + ".example": "malformed",
    "x." * 130 + "example": "malformed",
    "1.2.3.999": "malformed",
    "http://": "malformed",
    "mailto:a@b.example": "malformed",
    "\ufffd\ufffd.example": "malformed",
    "@@||good.example^": "rule",
    "||a.example^$third-party": "rule",
    "||a.example/*/b": "rule",
    "example.com##.ad": "rule",
    "##.ad": "rule",
}


@pytest.mark.parametrize("line", LINES, ids=repr)
def test_a_line_blocks_an_entry_or_is_skipped_for_one_reason(line: str) -> None:
    expected = LINES[line]
    keys, reason = parse_line(line)
    assert ([host + tail.decode() for host, tail in keys] or reason) == expected
    _, summary = build(line)
    assert summary["entries"] == (len(expected) if isinstance(expected, list) else 0)
    assert summary["skipped"] == ({} if isinstance(expected, list) else {expected: 1})


def build(*lines: str, **options: object) -> tuple[Blocklist, dict[str, object]]:
    header, arrays, summary = compile_lists([Source(lines, "x")], WordLists(), options.get("suffixes", ()))  # type: ignore[arg-type]
    return Blocklist(header, arrays), summary.to_dict()


@given(st.lists(st.sampled_from(sorted(LINES)) | st.text(st.sampled_from("a.-_/ #\t0|^é"), max_size=12), max_size=30))
def test_no_line_and_no_name_is_lost(lines: list[str]) -> None:
    _, summary = build(*lines)
    assert summary["lines"] == len(lines)
    skipped = dict(summary["skipped"])  # type: ignore[call-overload]
    silent = skipped.pop("blank", 0) + skipped.pop("comment", 0)
    assert summary["names"] == summary["entries"] + summary["duplicates"] + summary["listed_before"] + sum(skipped.values())  # type: ignore[operator]
    assert summary["names"] + silent >= summary["lines"]  # type: ignore[operator]


@given(st.lists(st.sampled_from([line for line in LINES if line.strip()]), max_size=20))
def test_the_compiled_reading_of_lines_agrees_with_the_one_in_python(lines: list[str]) -> None:
    blocklist, _ = build(*lines)
    expected = {host + tail.decode() for line in lines for host, tail in parse_line(line)[0]}
    assert len(blocklist) == len(expected)


def test_public_suffixes_block_only_what_is_asked_for() -> None:
    lines = [
        "com",
        "co.uk",
        "blogspot.com",
        "com.bd",
        "adult",
        "||github.io^",
        "x.blogspot.com",
        "ec2-1.compute-1.amazonaws.com",
        "site.com.bd",
    ]
    blocklist, summary = build(*lines)
    assert summary["skipped"] == {"public_suffix": 6}
    assert summary["examples"] == {"public_suffix": ["co.uk", "blogspot.com", "com.bd", "com", "adult", "||github.io^"]}
    urls = ["http://a.com", "http://a.co.uk", "http://y.blogspot.com", "http://a.com.bd", "http://a.adult", "http://y.github.io"]
    assert [blocklist.match(url) for url in urls] == [None] * 6
    listed = [
        "http://www.x.blogspot.com/",
        "http://ec2-1.compute-1.amazonaws.com",
        "http://site.com.bd",
        "http://x.blogspot.com.evil.example",
    ]
    assert [blocklist.match(url) for url in listed] == ["x", "x", "x", None]
    taking, summary = build(*lines, suffixes=["adult", "blogspot.com"])
    assert [taking.match(url) for url in urls] == [None, None, "x", None, "x", None] and summary["skipped"] == {"public_suffix": 4}


def test_the_first_category_to_list_an_entry_has_it_and_the_others_are_counted(tmp_path: Path) -> None:
    lists = {"b": ["one.example", "One.Example.", "two.example"], "a": ["two.example", "three.example"], "B": ["four.example"]}
    blocklist, summary = build_blocklist(lists, tmp_path / "x")
    assert (summary.entries, summary.duplicates, summary.listed_before) == (4, 1, 1)
    assert summary.categories == blocklist.header["categories"] == {"b": 3, "a": 1}
    assert [blocklist.match(f"http://{name}.example") for name in ("one", "two", "three", "four")] == ["b", "b", "a", "b"]


def test_more_than_127_categories(tmp_path: Path) -> None:
    build_blocklist({f"c{n}": [f"x{n}.example", f"p{n}.example/a"] for n in range(300)}, tmp_path / "x")
    blocklist = Blocklist.open(tmp_path / "x")
    urls = [f"http://{kind}{n}.example/a/b" for n in range(300) for kind in "xp"]
    assert [blocklist.match(url) for url in urls] == [f"c{n}" for n in range(300) for _ in "xp"]
    assert [blocklist.match(url.replace("/a/b", "/c")) for url in urls[1::2]] == [None] * 300


# --- where lists come from ---


def test_archives_and_compressed_lists_give_what_the_plain_ones_give(tmp_path: Path) -> None:
    plain = tmp_path / "ut1"
    for category, name, text in (
        ("adult", "domains", "bad.example\n"),
        ("adult", "urls", "a.example/x\n"),
        ("games", "domains", "play.example"),
    ):
        (plain / category).mkdir(parents=True, exist_ok=True)
        (plain / category / name).write_text(text)
    packed = tmp_path / "packed"
    for file in plain.rglob("*s"):
        if file.is_file():
            (packed / file.parent.name).mkdir(parents=True, exist_ok=True)
            (packed / file.parent.name / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    with tarfile.open(tmp_path / "ut1.tar.gz", "w:gz") as archive:
        archive.add(plain / "adult", "blacklists/adult")
        archive.add(plain / "games", "blacklists/games")
    with tarfile.open(tmp_path / "ut1.tar", "w") as archive:
        archive.add(plain, "ut1")
    urls = ["http://bad.example", "http://a.example/x/y", "http://play.example", "http://a.example"]
    for path in (plain, packed, tmp_path / "ut1.tar.gz", tmp_path / "ut1.tar"):
        check_blocklist(path)
        assert [Blocklist.open(path).match(url) for url in urls] == ["adult", "adult", "games", None], path
    one = compile_blocklist([Source(tmp_path / "ut1.tar.gz", "My List"), Source(plain / "games" / "domains")])
    assert [one.match(url) for url in urls] == ["my_list", "my_list", "my_list", None] and one.categories == ["my_list", "games"]


def test_a_list_read_in_pieces_is_the_same_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"host{n}.example" for n in range(1000)] + ["x" * 5000]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    whole, all_lines = build_blocklist([Source(tmp_path / "list.txt")], tmp_path / "whole")
    monkeypatch.setattr("ccpipe.urls.build.PIECE_BYTES", 100)
    _, in_pieces = build_blocklist([Source(tmp_path / "list.txt")], tmp_path / "pieces")
    assert in_pieces.entries == all_lines.entries == len(whole) == 1000
    assert in_pieces.names == in_pieces.entries + sum(in_pieces.skipped.values())
    assert Blocklist.open(tmp_path / "pieces").match("http://host999.example") == "list"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.gz", gzip.compress(b"bad.example\n" * 100_000)[:-20], "is damaged .*: copy it again"),
        ("bad.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\3junk", "is damaged .*: copy it again"),
        ("other.tar", None, "holds no file named domains or urls; expected"),
        ("cut.tar.gz", None, "is damaged .*: copy it again"),
    ],
)
def test_damaged_and_other_archives_are_refused(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz" if name == "cut.tar.gz" else "w") as archive:
            info = tarfile.TarInfo("adult/domains" if name == "cut.tar.gz" else "readme")
            data = np.random.default_rng(0).bytes(100_000).hex().encode()
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        content = buffer.getvalue()[:-20_000] if name == "cut.tar.gz" else buffer.getvalue()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NotABlocklist, match=message):
        Blocklist.open(tmp_path / name)


# --- the file ---


def other_version(version: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[:7] + version + data[8:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (other_version(b"1"), r"has an older format, version '1'; this ccpipe reads version '2': build it again from its lists"),
        (other_version(b"3"), r"has a newer format, version '3'; this ccpipe reads version '2': update ccpipe, or build it again"),
        (lambda data: data[:-64], r"has [\d,]+ bytes, its header promises [\d,]+: it was cut; build it again"),
        (lambda data: data + b"\0", r"has [\d,]+ bytes, its header promises"),
        (
            lambda data: data[:-70] + bytes([data[-70] ^ 1]) + data[-69:],
            r"has changed since it was built: SHA-256 .* expected .*; build it again",
        ),
        (lambda data: data.replace(b'"shift"', b'"shirt"'), r"has changed since it was built"),
        (lambda data: data[:20], r"its header is damaged; expected JSON: build it again"),
    ],
)
def test_a_file_that_is_not_as_it_was_built_is_refused(damage: Callable[[bytes], bytes], message: str, tmp_path: Path) -> None:
    build_blocklist({"a": ["x.example"]}, tmp_path / "good")
    (tmp_path / "bad").write_bytes(damage((tmp_path / "good").read_bytes()))
    for look in (Blocklist.open, check_blocklist):
        with pytest.raises(NotABlocklist, match=message):
            look(tmp_path / "bad")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_blocklist({"a": ["x.example"]}, tmp_path / "list")
    before = (tmp_path / "list").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        build_blocklist({"a": ["y.example"]}, tmp_path / "list")
    assert (tmp_path / "list").read_bytes() == before and list(tmp_path.iterdir()) == [tmp_path / "list"]


# --- words ---

WORDS = WordLists(clean_words(["Casino", "色情"]), clean_words(["hot", "girls", "free"]), clean_words(["free-money", "xyzzy"]))
SUSPECT = {
    "http://a.example/casino": "banned_word",
    "http://a.example/CASINO-x": "banned_word",
    "http://casino.example/": "banned_word",
    "http://a.example/%63asino?b": "banned_word",
    "http://a.example/x%20casino": "banned_word",
    "http://a.example/色情/x": "banned_word",
    "http://a.example/abc%E8%89%B2%E6%83%85": "banned_word",
    "http://a.example/casinos": None,
    "http://a.example/hot/hot/HOT": None,
    "http://a.example/hot-girls": "soft_banned_words",
    "http://a.example/free/hot": "soft_banned_words",
    "http://a.example/freemoneynow": "banned_subword",
    "http://a.example/fr/ee-mo/ney": "banned_subword",
    "http://a.example/#xxyzzy": "banned_subword",
    "http://a.example/fre.em.oneyless?": "banned_subword",
    "http://a.example/freemon": None,
    "dns:casino": "banned_word",
    "http://listed.example/casino": "list",
    "http://bücher.example/casino\n": "banned_word",
    "http://a.example/cas\tino": "banned_word",
    "casino:nothing": "banned_word",
}


@pytest.mark.parametrize("url", SUSPECT)
def test_words_in_addresses(url: str) -> None:
    blocklist = compile_blocklist({"list": ["listed.example"]}, WORDS)
    expected = SUSPECT[url]
    assert blocklist.match(url) == expected and list(blocklist.match_batch([url]) > 0) == [expected is not None]
    assert blocklist.reason(url) == (expected and ("url_blocked_list" if expected == "list" else f"url_{expected}"))
    assert compile_blocklist({"list": ["listed.example"]}).match(url) == (expected if expected == "list" else None)


SYLLABLES = st.lists(st.sampled_from(["a", "b", "ab", "ba", "色", "-", "/", "A", "1"]), max_size=12).map("".join)


@given(*[st.lists(st.text("ab1色", min_size=1, max_size=4), max_size=4)] * 3, st.integers(1, 4), st.lists(SYLLABLES, max_size=6))
def test_words_agree_with_a_plain_reading(hard: list[str], soft: list[str], parts: list[str], limit: int, tails: list[str]) -> None:
    blocklist = compile_blocklist({}, WordLists(clean_words(hard), clean_words(soft), clean_words(parts), limit))
    for tail in tails:
        text = f"zz.zz/{tail}".lower()
        words = set(re.findall("[a-z0-9]+|[^\x00-\x7f]+", text))
        joined = "".join(re.findall("[a-z0-9]|[^\x00-\x7f]", text))
        expected = None
        if any(part in joined for part in parts):
            expected = "banned_subword"
        if len(words & (set(soft) - set(hard))) >= limit and soft:
            expected = "soft_banned_words"
        if words & set(hard):
            expected = "banned_word"
        assert blocklist.match(f"http://zz.zz/{tail}") == expected


def test_word_lists_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(NotABlocklist, match="17 soft words; expected 1 to 16: give another --soft-limit"):
        WordLists(soft_limit=17)
    with pytest.raises(NotABlocklist, match="have 70,001 letters together; at most 65,536 fit: shorten the list"):
        compile_blocklist({}, WordLists(parts=("a" * 70_000,)))


# --- the real list ---


def test_the_list_of_ut1_as_datatrove_ships_it(shared_ut1: Path) -> None:
    """4.56 million domains: every line accounted for, names known to be in it found, and no two entries share a hash."""
    header, arrays, summary = compile_lists([Source(shared_ut1, "adult")], WordLists(), ())
    assert (summary.lines, summary.entries, summary.duplicates, dict(summary.skipped)) == (4_578_527, 4_578_516, 1, {"public_suffix": 10})
    blocklist = Blocklist(header, arrays)
    assert blocklist.match("http://www.takeescorts.com/") == blocklist.match("https://tumblr.com/caribbeancamgirls/x") == "adult"
    assert blocklist.match("https://tumblr.com/") is None and sum(array.nbytes for array in arrays.values()) < 46e6
    assert json.dumps(header)


@pytest.fixture
def shared_ut1() -> Path:
    import os

    path = Path(os.environ.get("CCPIPE_UT1", ""))
    if not path.is_file():
        pytest.skip("CCPIPE_UT1 names no url_filterblacklistsv0_3_0.tar.gz (from the wheel datatrove==0.10.1, see docs/urls.md)")
    return path
