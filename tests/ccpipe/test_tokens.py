"""Tokens: one per character in scripts without spaces, one per word elsewhere; the same on every machine."""

from __future__ import annotations

import hashlib
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccpipe.tokens import CHARS, NO_HASHES, NO_RANGES, hash_tokens, scan_document, token_ranges


def tokens_of(text: str) -> list[str]:
    data = text.encode()
    ranges, ends = token_ranges(np.frombuffer(data, np.uint8), np.array([0, len(data)]))
    assert ends.tolist() == [0, len(ranges)]
    return [data[first:last].decode() for first, last in ranges]


def hashes_of(text: str) -> list[int]:
    data = text.encode()
    hashes, _ = hash_tokens(np.frombuffer(data, np.uint8), np.array([0, len(data)]))
    return list(map(int, hashes))


CASES = {
    "english": ("Hello, world! It's 3 well-known words.", ["Hello", "world", "It's", "3", "well", "known", "words"]),
    "trailing apostrophes": ("the dogs' ''quoted'' rock'n'roll", ["the", "dogs", "quoted", "rock'n'roll"]),
    "two apostrophes": ("a''b c’'d", ["a", "b", "c", "d"]),
    "russian and german": ("Съешь ещё Äpfel", ["Съешь", "ещё", "Äpfel"]),
    "chinese": ("我爱北京，GPT-4o很好。", ["我", "爱", "北", "京", "GPT", "4o", "很", "好"]),
    "rare han": ("𠀀𠮷々〇", ["𠀀", "𠮷", "々", "〇"]),
    "japanese": ("データは、ﾃｽﾄです", ["デ", "ー", "タ", "は", "ﾃ", "ｽ", "ﾄ", "で", "す"]),
    "korean": ("한국어는 띄어쓰기를", ["한국어는", "띄어쓰기를"]),
    "thai": ("ที่นี่ ๕", ["ที่", "นี่", "๕"]),
    "khmer": ("ខ្មែរ", ["ខ្", "មែ", "រ"]),
    "myanmar": ("မြန်မာ", ["မြ", "န်", "မာ"]),
    "lao": ("ລາວ", ["ລ", "າ", "ວ"]),
    "hindi": ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
    "arabic": ("مَرْحَبًا بالعـالم", ["مَرْحَبًا", "بالعـالم"]),
    "tibetan": ("བོད་ཡིག", ["བོད", "ཡིག"]),
    "emoji and symbols": ("a😀b ☂ 100€ ⟶ x", ["a", "b", "100", "x"]),
    "decomposed": ("cafe\u0301 au", ["cafe\u0301", "au"]),
    "soft hyphen": ("Donau\u00addampf", ["Donau\u00addampf"]),
    "controls": ("a\x00b\r\n\tc\u2028d\u3000e", ["a", "b", "c", "d", "e"]),
    "nothing": ("", []),
    "punctuation alone": ("!?… — 。、", []),
}


@pytest.mark.parametrize("name", CASES)
def test_tokens_of_every_kind_of_script(name: str) -> None:
    text, expected = CASES[name]
    assert tokens_of(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [("HELLO World", "hello world"), ("ＡＢＣ１２", "abc12"), ("don’t", "DON'T"), ("Donau\u00addampf", "donaudampf"), ("ЁЖ Ω", "ёж ω")],
)
def test_hash_ignores_case_width_and_invisible_characters(one: str, other: str) -> None:
    assert hashes_of(one) == hashes_of(other) != []


def test_hash_keeps_digits_and_accents_apart() -> None:
    assert len(set(hashes_of("2023 2024 cafe café caf"))) == 5


def slow_tokens(text: str) -> list[str]:
    """Tokens of Latin, Cyrillic and Han text by a regular expression."""
    return re.findall(r"[\u4e00-\u9fff]|[A-Za-z0-9\u0430-\u044f]+(?:['’][A-Za-z0-9\u0430-\u044f]+)*", text)


@given(st.text(alphabet="abcXYZ019 \n,.'’-абя中文国，。😀", max_size=80))
def test_tokens_equal_a_regular_expression(text: str) -> None:
    assert tokens_of(text) == slow_tokens(text)


@given(st.lists(st.text(max_size=30), max_size=8))
def test_a_batch_gives_what_each_document_gives_alone(texts: list[str]) -> None:
    """No token reaches over a document's end; hashes and ranges agree in number; ranges are ascending and not empty."""
    parts = [text.encode("utf-8", "replace") for text in texts]
    data = np.frombuffer(b"".join(parts), np.uint8)
    offsets = np.cumsum([0, *map(len, parts)])
    hashes, ends = hash_tokens(data, offsets)
    ranges, ends_again = token_ranges(data, offsets)
    assert ends.tolist() == ends_again.tolist()
    for i, part in enumerate(parts):
        assert hashes[ends[i] : ends[i + 1]].tolist() == hashes_of(part.decode())
        mine = ranges[ends[i] : ends[i + 1]]
        assert (mine[:, 0] < mine[:, 1]).all() and (mine[1:, 0] >= mine[:-1, 1]).all()
        assert not len(mine) or (mine[0, 0] >= offsets[i] and mine[-1, 1] <= offsets[i + 1])


@given(st.binary(max_size=60))
def test_bytes_that_are_no_utf8_neither_crash_nor_overflow(data: bytes) -> None:
    array = np.frombuffer(data, np.uint8)
    n = scan_document(array, 0, len(data), CHARS, NO_HASHES, NO_RANGES)
    assert 0 <= n <= (len(data) + 1) // 2


@given(st.characters(min_codepoint=32, max_codepoint=0x2FFFF, categories=["Lu", "Ll", "Lo"]))
def test_every_letter_is_one_token(letter: str) -> None:
    if unicodedata.ucd_3_2_0.category(letter) != "Cn":
        assert tokens_of(letter) == [letter]


def test_the_character_table_never_changes() -> None:
    """Signatures on disk depend on it: change it only together with Sign.version."""
    assert hashlib.sha256(CHARS.astype("<u4").tobytes()).hexdigest()[:16] == "230e2305856c5113"
