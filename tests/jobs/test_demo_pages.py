"""The demo's pages: the same bytes every time, and each of them shows what its kind says."""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from pathlib import Path

import pytest
from warcio.archiveiterator import ArchiveIterator

from jobs.demo.pages import BLOCKED, CHARSETS, COPIES, CUT_BYTES, N_WARCS, PRINTED, Expectation, all_pages, write_demo
from jobs.demo.texts import LANGUAGES, all_texts, load_texts


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Expectation]]:
    folder = tmp_path_factory.mktemp("demo")
    return folder, write_demo(folder)


def responses(folder: Path) -> list[tuple[str, str, bytes]]:
    """(url, file, body as stored) of every response, read with warcio."""
    found = []
    for path in sorted((folder / "input").iterdir()):
        with path.open("rb") as file:
            for record in ArchiveIterator(file, no_record_parse=False):
                if record.rec_type == "response":
                    found.append((record.rec_headers.get_header("WARC-Target-URI"), path.name, record.raw_stream.read()))
    return found


def test_a_second_writing_gives_the_same_bytes(demo: tuple[Path, list[Expectation]], tmp_path: Path) -> None:
    folder, expected = demo
    assert write_demo(tmp_path) == expected
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(files) == N_WARCS + 3
    assert [(folder / name).read_bytes() for name in files] == [(tmp_path / name).read_bytes() for name in files]


def test_the_returned_list_names_every_response_in_file_order(demo: tuple[Path, list[Expectation]]) -> None:
    folder, expected = demo
    assert [(entry.url, entry.warc) for entry in expected] == [(url, name) for url, name, _ in responses(folder)]
    assert len({entry.url for entry in expected}) == len(expected) == 110


def test_pages_by_kind(demo: tuple[Path, list[Expectation]]) -> None:
    kinds = Counter(entry.kind for entry in demo[1])
    assert kinds["mirror"] + kinds["copy"] + kinds["printed"] == 12
    assert kinds["blocked_adult"] == kinds["blocked_fraud"] == 3
    assert kinds["charset"] == len(CHARSETS)
    assert all(kinds[kind] == 1 for kind in ("empty", "not_found", "pdf", "redirect", "truncated", "broken_nesting", "compressed"))
    carried = ("article", "charset", "counter_lines", "broken_nesting", "compressed")
    assert sorted(entry.source for entry in demo[1] if entry.kind in carried) == sorted(text.id for text in all_texts())


def test_record_ids_are_unique_and_dates_fixed(demo: tuple[Path, list[Expectation]]) -> None:
    heads = b"".join(_inflate_all(path) for path in sorted((demo[0] / "input").iterdir()))
    ids = re.findall(rb"WARC-Record-ID: (\S+)", heads)
    assert len(ids) == len(set(ids)) == 3 * 110 - 1 + N_WARCS
    assert set(re.findall(rb"WARC-Date: (\S+)", heads)) == {b"2024-03-04T05:06:07Z"}


def _inflate_all(path: Path) -> bytes:
    """Every gzip member, the cut one as far as it goes; zlib alone, not the library that wrote them."""
    data, out = path.read_bytes(), []
    while data:
        inflater = zlib.decompressobj(wbits=31)
        out.append(inflater.decompress(data))
        data = inflater.unused_data
    return b"".join(out)


def test_only_the_last_file_is_cut(demo: tuple[Path, list[Expectation]]) -> None:
    paths = sorted((demo[0] / "input").iterdir())
    for path in paths[:-1]:
        gzip.decompress(path.read_bytes())
    with pytest.raises(EOFError):
        gzip.decompress(paths[-1].read_bytes())
    assert demo[1][-1].kind == "truncated"
    assert CUT_BYTES > 8, "more than the checksum is missing"


def test_charset_pages_are_not_what_they_declare() -> None:
    """The GBK page is not UTF-8, the windows-1252 page has bytes that are control characters in ISO 8859-1."""
    pages = {page.source: page for page in all_pages() if page.kind == "charset"}
    for name, (encoding, _, _) in CHARSETS.items():
        text = next(text for text in all_texts() if text.id == name)
        assert text.title in pages[name].body.decode(encoding)
    with pytest.raises(UnicodeDecodeError):
        pages["zh-forum-battery"].body.decode("utf-8")
    assert re.search("[\x80-\x9f]", pages["de-buchdruck"].body.decode("iso-8859-1"))


def test_copies_are_copies_and_mirrors_are_near() -> None:
    originals = {page.source: page.body for page in all_pages() if page.kind in ("article", "compressed")}
    for page in all_pages():
        if page.kind == "copy":
            assert page.source in COPIES
            assert page.body == originals[page.source]
        if page.kind in ("mirror", "printed"):
            same = _paragraphs(page.body) & _paragraphs(originals[page.source])
            assert page.body != originals[page.source]
            assert len(same) >= len(_paragraphs(originals[page.source])) - (0 if page.source in PRINTED else 3)


def _paragraphs(html: bytes) -> set[str]:
    return {block for block in re.findall(r"<p>(.*?)</p>", html.decode(), re.DOTALL) if len(block) > 40}


def test_blocked_hosts_are_in_the_list_of_their_category(demo: tuple[Path, list[Expectation]]) -> None:
    for category, hosts in BLOCKED.items():
        names = (demo[0] / "blocklist" / category / "domains").read_text().splitlines()
        assert len(names) > 290
        assert names == sorted(set(names))
        assert {host.removeprefix("www.") for host in hosts} <= set(names)
    others = {page.url.split("/")[2] for page in all_pages() if not page.kind.startswith("blocked")}
    assert all(host.endswith((".example", ".test")) for host in others)
    assert not others & {name for c in BLOCKED for name in (demo[0] / "blocklist" / c / "domains").read_text().splitlines()}


def test_texts_are_long_enough_and_differ() -> None:
    for lang in LANGUAGES:
        texts = load_texts(lang)
        assert len(texts) >= {"en": 26, "zh": 20, "de": 9, "ja": 9}[lang]
        for text in texts:
            size = len(text.plain().split()) if lang in ("en", "de") else len(text.plain())
            assert size >= (150 if lang in ("en", "de") else 300), text.id
            assert len(text.prose()) >= 3, text.id
    paragraphs = [paragraph for text in all_texts() for paragraph in text.prose()]
    assert len(set(paragraphs)) == len(paragraphs)


def test_pages_that_break_a_rule_break_it_by_far() -> None:
    """Enough words to be a document, and bullets, ellipses or hashtags well above the limits of the quality rules."""
    lines = {page.kind: re.findall(r"<p>(.*?)</p>", page.body.decode()) for page in all_pages() if page.kind in RULE_BREAKERS}
    for kind, (pattern, limit) in RULE_BREAKERS.items():
        words = sum(len(line.split()) for line in lines[kind])
        assert words > 100
        whole = words if kind == "hashtags" else len(lines[kind])
        assert len(re.findall(pattern, "\n".join(lines[kind]), re.MULTILINE)) > limit * whole


RULE_BREAKERS = {"bullets": ("^•", 0.9), "ellipsis": (r"\.\.\.$", 0.3), "hashtags": ("#", 0.2)}
"""Kind -> (what to count, its share of the lines or words)."""
