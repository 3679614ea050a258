"""Lines that repeat are dropped once and no more, whatever the script, and the same ones on every machine."""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccpipe.line_filter import SLICE_LINES, LineFilter
from ccpipe.lines import KEYS, Key, SeenLines, drop_repeated

WORDS = [
    "a long line",
    "另一行文字在这里",
    "A LONG LINE",
    "Élan vital",
    "elan vital",
    "12 km away",
    "99 km away",
    "}",
    "",
    "  return x",
    "a | b",
    "x, y. z!",
]


def code_key(line: str) -> bytes:
    """cc_net's key of a line, written down from its description: strip, lower, digits, punctuation and control characters."""
    line = re.sub(r"\d", "0", line.strip().lower()).replace("ς", "σ")
    marks = "，。、„”“«»１」「《》´∶：？！（）；–—．～’…━〈〉【】％►"
    line = "".join(char for char in line if char not in marks and unicodedata.category(char) != "Cc")
    return hashlib.sha1(line.encode("utf-8", "surrogatepass")).digest()[:8]


def plain_drop(text: str, seen: set[str]) -> list[str]:
    """The exact key by hand: kept lines of a document; `seen` of the shard grows."""
    kept, own = [], set()
    for line in text.split("\n"):
        name = line.strip()
        stays = line[:1] in (" ", "\t") or " | " in line or sum(char.isalnum() for char in name) < 4
        if stays or name not in seen | own:
            kept.append(line)
            own |= set() if stays else {name}
    seen |= own
    return [line for line in kept if line.strip()]


LINES = st.lists(st.sampled_from(WORDS) | st.text("abcde 中文é1.", max_size=12), max_size=12)


@given(st.lists(LINES.map("\n".join), max_size=8))
def test_what_stays_is_what_a_set_of_lines_says(documents: list[str]) -> None:
    known: set[str] = set()
    seen = SeenLines(1 << 20)
    for text in documents:
        kept = drop_repeated(text.encode(), "exact", 4, seen.slots)
        seen.add(kept.keys)
        assert [line for line in kept.text.decode().split("\n") if line.strip()] == plain_drop(text, known)
        assert kept.n_lines == text.count("\n") + 1
        again = drop_repeated(kept.text, "exact", 4)
        assert again.text == kept.text
        assert again.in_document == 0


PAIRS = [
    ("Read More", "read more", True, True),
    ("Posted on 12.03.2024", "Posted on 31.12.1999", True, True),
    ("更多内容，请点击。", "更多内容请点击", True, True),
    ("café au lait", "cafe au lait", False, True),
    ("cafe\u0301 au lait", "café au lait", False, True),
    ("well, then", "well then", False, True),
    ("価格１２円です", "価格３４円です", True, True),
    ("\u3000\u3000段落开头有空格", "段落开头有空格", True, True),
    ("ΟΔΟΣ ΑΒΓΔ", "οδος αβγδ", True, True),
    ("one thing here", "another thing here", False, False),
]


@pytest.mark.parametrize(("one", "other", "in_code", "in_paper"), PAIRS)
def test_ccnet_makes_these_lines_equal(one: str, other: str, in_code: bool, in_paper: bool) -> None:
    text = f"{one}\n{other}".encode()
    assert bool(drop_repeated(text, "ccnet_code", 4).in_document) == in_code
    assert bool(drop_repeated(text, "ccnet_paper", 4).in_document) == in_paper
    assert (code_key(one) == code_key(other)) == in_code


ASSIGNED = st.characters(exclude_categories=("Cs", "Cn", "Cc")).filter(
    lambda char: unicodedata.ucd_3_2_0.category(char) != "Cn" and char != "İ"
)


@settings(max_examples=300)
@given(st.text(ASSIGNED, min_size=4, max_size=30), st.data())
def test_the_key_of_cc_net_is_equal_where_its_program_says_so(line: str, data: st.DataObject) -> None:
    """One character exchanged: the two lines are equal for us when SHA-1 of cc_net's normal form is."""
    at = data.draw(st.integers(0, len(line) - 1))
    other = line[:at] + data.draw(ASSIGNED) + line[at + 1 :]
    first, second = (drop_repeated(text.encode(), "ccnet_code", 1).keys for text in (line, other))
    if len(first) and len(second):
        assert (first[0] == second[0]) == (code_key(line) == code_key(other))


def test_code_tables_and_short_lines_stay() -> None:
    code = "if x:\n    return x\n    return x\n}\n}\n```\nimport this\nimport this\n```\n"
    text = code + "a cell | b\na cell | b\n| --- | --- |\n| --- | --- |\nwords here\nwords here"
    kept = drop_repeated(text.encode(), "exact", 4)
    assert kept.text.decode() == text.removesuffix("\nwords here")
    assert kept.in_document == 1


def test_a_fence_that_is_never_closed_protects_nothing() -> None:
    assert drop_repeated(b"```\nwords here\nwords here", "exact", 4).in_document == 1


def test_blank_lines_beside_dropped_ones_go_too() -> None:
    assert drop_repeated(b"first line\n\nsecond line\n\nfirst line\n\nthird line\n\nfirst line", "exact", 4).text == (
        b"first line\n\nsecond line\n\nthird line"
    )


@pytest.mark.parametrize("key", KEYS)
def test_a_text_without_repeats_is_untouched(key: Key) -> None:
    text = "第一行，有标点。\r\n\n\n  indented\ttabs \nlast 🎉 𠀀 line\n".encode()
    assert drop_repeated(text, key, 4).text == text


@given(st.binary(max_size=200))
def test_bytes_that_are_no_utf_8_do_no_harm(data: bytes) -> None:
    kept = drop_repeated(data, "ccnet_paper", 1)
    assert kept.n_lines == data.count(b"\n") + 1


def test_keys_differ_for_different_lines() -> None:
    lines = [f"line with number {i}" for i in range(200_000)]
    kept = drop_repeated("\n".join(lines).encode(), "exact", 4)
    assert kept.in_document == 0
    assert len(np.unique(kept.keys)) == len(lines)
    bits = (kept.keys[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    # the lowest bit is 1 in all, so that no key is 0
    assert np.all(np.abs(bits[:, 1:].mean(axis=0) - 0.5) < 0.01)


def test_seen_lines_are_a_set_with_a_limit() -> None:
    rng = random.Random(3)
    known: list[int] = []
    seen = SeenLines(1000)
    for _ in range(60):
        batch = [rng.randrange(1, 1500) for _ in range(40)]
        new = seen.add(np.array(batch, dtype=np.uint64)).tolist()
        expected = [one for one in dict.fromkeys(batch) if one not in known][: 1000 - len(known)]
        assert new == expected
        known += expected
    assert seen.n == len(known) == 1000
    assert sorted(seen.slots[seen.slots != 0].tolist()) == sorted(known)


def documents(n: int) -> list[bytes]:
    rng = random.Random(1)
    return ["\n".join(f"line {rng.randrange(60)} of the shard" for _ in range(rng.randrange(1, 12))).encode() for _ in range(n)]


def run(
    folder: Path, cuts: list[int], texts: list[bytes], max_lines: int = 1 << 20, new_process: bool = False
) -> tuple[list[bytes], Counter[str]]:
    """All documents through a filter, with slices that begin at `cuts`; `new_process`: each slice by another attempt."""
    extra: Counter[str] = Counter()
    out, folders = [], []
    filter_ = LineFilter("shard", "exact", 4, max_lines)
    for first, last in zip([0, *cuts], [*cuts, len(texts)], strict=True):
        if new_process:
            filter_ = LineFilter("shard", "exact", 4, max_lines)
        filter_.go_on(folders)
        filter_.start(len(folders))
        for text in texts[first:last]:
            kept = filter_.drop(text, extra)
            filter_.keep(kept, extra)
            out.append(kept.text)
        slice_folder = folder / f"{len(folders)}"
        slice_folder.mkdir(parents=True)
        filter_.save(slice_folder)
        folders.append(slice_folder)
    return out, extra


@pytest.mark.parametrize("max_lines", [1 << 20, 30])
def test_texts_do_not_depend_on_where_slices_are_cut_and_by_whom(tmp_path: Path, max_lines: int) -> None:
    texts = documents(60)
    whole = run(tmp_path / "whole", [], texts, max_lines)
    assert whole[1]["lines_dropped_shard"] > 100
    assert (whole[1]["lines_not_remembered"] > 0) == (max_lines == 30)
    for name, cuts, new in (("each", list(range(1, 60)), False), ("some", [7, 8, 40], True), ("new", [1, 30], False)):
        assert run(tmp_path / name, cuts, texts, max_lines, new) == whole


def test_another_attempts_slice_replaces_ones_own(tmp_path: Path) -> None:
    """Two attempts on one unit: the slice that was committed was cut elsewhere than mine, and mine must be forgotten."""
    texts = documents(40)
    whole, _ = run(tmp_path / "whole", [], texts)
    run(tmp_path / "theirs", [10], texts[:20])
    mine, extra = LineFilter("shard", "exact", 4, 1 << 20), Counter[str]()
    mine.go_on([])
    mine.start(0)
    for text in texts[:15]:
        mine.keep(mine.drop(text, extra), extra)
    (tmp_path / "mine").mkdir()
    mine.save(tmp_path / "mine")
    mine.go_on([tmp_path / "theirs" / "0"])
    mine.start(1)
    kept = [mine.drop(text, extra) for text in texts[10:11]]
    assert kept[0].text == whole[10]


def test_a_driver_that_does_not_tell_of_slices_is_an_error() -> None:
    lines = LineFilter("shard", "exact", 4, 100)
    lines.go_on([])
    with pytest.raises(RuntimeError, match=r"behind 2 others, but 0 are known.*call earlier_slices"):
        lines.start(2)


def test_a_slices_keys_are_its_own(tmp_path: Path) -> None:
    run(tmp_path, [3], documents(6))
    first, second = (np.load(tmp_path / str(n) / SLICE_LINES) for n in (0, 1))
    assert first.dtype == np.uint64
    assert not set(first.tolist()) & set(second.tolist())
