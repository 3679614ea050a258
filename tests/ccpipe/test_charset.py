"""Charsets: the text is right whatever the page says about itself."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccpipe.html.charset import codec_of, decode
from ccpipe.warc import http, read_records

CHINESE = "河水在夜里上涨，到了早晨，下游的田地都被水淹没了。村里没有人记得有过这样的春天；老人们说星期天就会退去，果然如此。"
JAPANESE = "川の水は夜のうちに増え、朝には低い畑がすべて水の下になっていた。村の人は誰もこんな春を覚えていなかった。カタカナも少し。"
RUSSIAN = "Река поднялась ночью, и к утру нижние поля были под водой. Никто в деревне не помнил такой весны, но к воскресенью вода ушла."
KOREAN = "강물이 밤사이에 불어나 아침에는 아래쪽 들판이 모두 물에 잠겼다. 마을 사람 누구도 이런 봄을 기억하지 못했다."
GERMAN = "Der Fluß stieg über Nacht, und früh am Morgen standen die größten Äcker völlig unter Wasser. Schön wäre schöneres Wetter."
TEXTS = {
    "gb18030": CHINESE,
    "shift_jis": JAPANESE,
    "euc-jp": JAPANESE,
    "windows-1251": RUSSIAN,
    "koi8-r": RUSSIAN,
    "euc-kr": KOREAN,
    "windows-1252": GERMAN,
}
WRONG = [None, "utf-8", "iso-8859-1", "gb2312", "shift_jis"]


def page(text: str, declared: str | None) -> str:
    meta = f'<meta charset="{declared}">' if declared else ""
    return f"<html><head>{meta}<title>x</title></head><body><p>{text}</p><p>{text[::2]}</p></body></html>"


@pytest.mark.parametrize("charset", TEXTS)
@pytest.mark.parametrize("declared", WRONG)
def test_missing_and_wrong_declarations_do_not_spoil_the_text(charset: str, declared: str | None) -> None:
    text = page(TEXTS[charset], declared)
    found = decode(text.encode(charset))
    assert found.utf8.decode() == text
    assert found.source in ("meta", "detected")


@pytest.mark.parametrize("charset", TEXTS)
def test_right_declarations_are_believed_and_recorded(charset: str) -> None:
    text = page(TEXTS[charset], None)
    found = decode(text.encode(charset), f"text/html; charset={charset}")
    assert (found.utf8.decode(), found.charset, found.source) == (text, charset, "header")
    text = page(TEXTS[charset], charset)
    assert decode(text.encode(charset)).source == "meta"


@given(st.text())
def test_utf8_is_utf8_whatever_is_declared(text: str) -> None:
    if "\x1b$" in text or text.startswith(("\ufeff", "\ufffe")):
        return
    found = decode(text.encode(), "text/html; charset=windows-1251")
    assert (found.utf8, found.charset, found.source) == (text.encode(), "utf-8", "utf8")


@given(st.binary(max_size=300), st.sampled_from(["", "text/html; charset=shift_jis", "x; charset=klingon"]))
def test_any_bytes_become_valid_utf8(raw: bytes, content_type: str) -> None:
    decode(raw, content_type).utf8.decode("utf-8")


def test_marks_and_wide_encodings() -> None:
    text = page(RUSSIAN, "windows-1251")
    for codec, name in (("utf-8-sig", "utf-8"), ("utf-16", "utf-16-le")):
        found = decode(text.encode(codec))
        assert (found.utf8.decode(), found.charset, found.source) == (text, name, "bom")
    assert decode(page("plain words", None).encode("utf-16-be")).charset == "utf-16-be"
    jis = page(JAPANESE, "iso-2022-jp")
    assert decode(jis.encode("iso-2022-jp")).utf8.decode() == jis


def test_a_page_cut_inside_a_character_is_still_utf8() -> None:
    found = decode(page(CHINESE, None).encode()[:-60] + "水".encode()[:2], "text/html; charset=gbk")
    assert found.charset == "utf-8"
    assert CHINESE in found.utf8.decode()


def test_labels_follow_the_encoding_standard() -> None:
    assert [codec_of(x) for x in ("GB2312", "x-sjis", "ks_c_5601-1987", "ISO-8859-1", "tis-620", "utf8", "")] == [
        "gb18030",
        "cp932",
        "cp949",
        "cp1252",
        "cp874",
        "utf-8",
        None,
    ]


@pytest.mark.shared
def test_the_charset_of_every_page_of_the_set_is_found(shared_data: Path) -> None:
    """1,261 real pages whose charset is known, some of which declare a wrong one: all are right, and none may be lost again."""
    folder = shared_data / "extraction" / "dev"
    truth = {}
    for path in folder.glob("*.gold.jsonl"):
        truth.update((page["record_id"], page["charset"]) for page in map(json.loads, path.read_text().splitlines()))
    wrong = []
    for path in sorted(folder.glob("*.warc.gz")):
        for record in read_records(path, None, 20 << 20, Counter()):
            response = http.parse_response(record.block) if record.kind == "response" else None
            if response is None:
                continue
            expected = truth.pop(record.headers["warc-record-id"])
            found = decode(http.decode_body(response, 20 << 20), response.content_type).charset
            if codec_of(found) != codec_of(expected):
                wrong.append((record.headers["warc-target-uri"], expected, found))
    assert wrong == []
    assert not truth
