"""cc_cleaner's document and line rules, in English and in scripts without spaces."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccpipe import quality_kernels as kernels
from ccpipe.annotate import Documents, text_buffers
from ccpipe.quality import DOCUMENT_RULES, LINE_RULES, CcCleanerRules, is_counter

PROSE = (
    "The river rose slowly during the night, and by the morning most of the lower fields were under water.\n"
    "Nobody in the village had seen anything like it since the great flood that the older people still talked about.\n"
    "Boats were brought out of the barns, and the children thought that it was all a wonderful game for them.\n"
)
CHINESE = "河水在夜里慢慢上涨，到了早晨，低处的田地大多被淹没了。村里的人从来没有见过这样的景象，孩子们觉得一切都很有趣。\n"
JAPANESE = "夜のうちに川の水がゆっくりと上がり、朝には低い畑のほとんどが水につかっていた。村の人々はこのような光景を見たことがなかった。\n"
KOREAN = "밤사이 강물이 천천히 불어나 아침에는 낮은 밭이 거의 모두 물에 잠겼다. 마을 사람들은 이런 일을 본 적이 없었다. " * 5
THAI = "น้ำในแม่น้ำค่อยๆสูงขึ้นในตอนกลางคืนและในตอนเช้าทุ่งนาที่ต่ำส่วนใหญ่อยู่ใต้น้ำ\n"


def annotate(texts: list[str], **config: Any) -> pa.Table:
    stage = CcCleanerRules("quality", CcCleanerRules.Config(**config))
    stage.load()
    docs = Documents(pa.array(texts, pa.large_string()), pa.table({}), np.arange(len(texts), dtype=np.uint64))
    values = stage.annotate(docs)
    return pa.table({short: pa.array(values[short], kind) for short, kind in stage.new_columns().items()})


def reason(text: str, **config: Any) -> str | None:
    found: str | None = annotate([text], **config).column("reason")[0].as_py()
    return found


def dropped_lines(text: str, **config: Any) -> list[int]:
    found: list[int] = annotate([text], **config).column("drop_lines")[0].as_py()
    return found


@pytest.mark.parametrize("text", [PROSE, CHINESE, JAPANESE, KOREAN, THAI], ids=["en", "zh", "ja", "ko", "th"])
def test_good_prose_of_any_script_passes_whole(text: str) -> None:
    assert reason(text) is None
    assert dropped_lines(text) == []


DOCUMENTS = [
    ("too_few_words", ""),
    ("too_few_words", "A short note about the weather."),
    ("too_many_words", "word " * 100_001),
    ("short_words", "a b c d e of " * 20),
    ("long_words", "incomprehensibilities counterrevolutionaries " * 30),
    ("long_words", ("河" + "incomprehensibilities 水 ") * 40),
    ("many_symbols", PROSE + "#hashtag #again " * 5),
    ("many_symbols", PROSE.replace(" the", "... the").replace(" was", "… was") + "more… " * 4),
    ("many_bullet_lines", "".join(f"- {line}\n" for line in (PROSE * 4).splitlines())),
    ("many_bullet_lines", "".join(f"  • {line}\n" for line in (CHINESE * 4).splitlines())),
    ("many_ellipsis_lines", (PROSE * 2).replace(".\n", " ...\n")),
    ("many_ellipsis_lines", (CHINESE * 2).replace("。\n", "……\n")),
    ("no_line_left", "SHOUTING IS ALL THAT THIS PAGE EVER DOES\n" * 10),
]


@pytest.mark.parametrize(("rule", "text"), DOCUMENTS)
def test_a_document_is_named_after_the_rule_it_breaks(rule: str, text: str) -> None:
    assert reason(text) == rule


def test_every_document_rule_has_a_case() -> None:
    assert {rule.__name__ for rule in DOCUMENT_RULES} == {rule for rule, _ in DOCUMENTS} | {"many_words_dropped"}


def test_the_share_of_dropped_words_is_a_rule_of_refinedweb_only() -> None:
    text = PROSE + "ALL OF THIS LINE IS IN CAPITALS AND IT GOES\n"
    assert reason(text) is None
    assert reason(text, max_words_dropped=0.05) == "many_words_dropped"


def test_bounds_are_inclusive() -> None:
    fifty = "seven " * 50
    assert reason(fifty, max_words=50) is None
    assert reason(fifty, min_words=51) == "too_few_words"
    assert reason(fifty, max_words=49) == "too_many_words"
    assert reason("abc " * 50) is None
    assert reason("abcdefghij " * 50) is None
    assert reason(fifty + "#" * 5) is None
    assert reason(fifty + "#" * 6) == "many_symbols"


LINES = [
    ("uppercase", "CLICK HERE FOR MORE OFFERS"),
    ("uppercase", "НАЖМИТЕ ЗДЕСЬ СЕЙЧАС"),
    ("digits", "12/05/2022 - 13:45"),
    ("digits", "１２３ ４５６"),
    ("counter", "12 shares 5 comments 30 likes"),
    ("counter", "1.2K views"),
    ("counter", "Views: 1,234 | Likes: 5"),
    ("counter", "12次阅读 5条评论 30个赞"),
    ("counter", "阅读（1234） 评论（5）"),
    ("counter", "浏览量：1.2万次"),
    ("counter", "點讚 30 分享 12 留言 5"),
    ("one_word", "Home"),
    ("one_word", "首页"),
    ("one_word", "-----"),
    ("one_word", "  >> Next  "),
]
KEPT_LINES = [
    "He likes 12 comments a day.",
    "1 + 1 = 2",
    "NBA 总决赛明天开始",
    "阅读 3 本书让人快乐",
    "联系我们",
    "In 1984 5 people replied.",
    "",
    "   ",
]


@pytest.mark.parametrize(("rule", "line"), LINES)
def test_a_line_is_dropped_under_the_name_of_its_rule(rule: str, line: str) -> None:
    table = annotate([f"{PROSE}\n{line}\n{PROSE}"])
    assert table.column("drop_lines")[0].as_py() == [4]
    assert {name: table.column(f"n_{name}_lines")[0].as_py() for name in LINE_RULES} == {name: int(name == rule) for name in LINE_RULES}
    assert table.column("n_dropped_lines")[0].as_py() == 1


@pytest.mark.parametrize("line", KEPT_LINES)
def test_a_line_that_says_something_stays(line: str) -> None:
    assert dropped_lines(f"{PROSE}{line}\n{PROSE}") == []


def test_line_numbers_count_from_zero_in_each_document() -> None:
    table = annotate(["Home\n" + PROSE, PROSE, "", PROSE + "\n\n12345\nHome"])
    assert table.column("drop_lines").to_pylist() == [[0], [], [], [5, 6]]


def test_line_rules_can_be_switched_off() -> None:
    text = "\n".join(line for _, line in LINES)
    off = {"max_uppercase": 1, "drop_digit_lines": False, "max_counter_chars": 0, "min_line_words": 0, "min_line_chars": 0}
    assert dropped_lines(text, **off) == []


def test_document_rules_look_at_the_text_before_lines_are_dropped() -> None:
    text = "HOME PAGE\n" * 30 + "seven words are on this very line"
    table = annotate([text])
    assert table.column("reason")[0].as_py() is None
    assert table.column("n_words")[0].as_py() == 67
    assert table.column("n_words_kept")[0].as_py() == 7


def test_a_long_line_of_near_counters_is_answered_at_once() -> None:
    assert not is_counter("12 likes " * 5_000 + "x")
    assert not is_counter("1,1.1" * 20_000)
    assert not is_counter("阅读" * 20_000)


# --- the kernel against plain Python ---

ALPHABET = "aZ9é 中の한ไ…。#-•\n\t.,'१ि\u200b\u3000Ａ😀𠀀①"


def reference(line: str) -> dict[int, int]:
    """The columns of `measure_lines`, written with regular expressions and `unicodedata`."""
    single = "[\u0e01-\u0e2e\u0e40-\u0e44\u0eaa\u3005-\u3007\u3041-\u3096\u30a1-\u30ff\u4e00-\u9fff\U00020000-\U0003fffd]"
    category = [unicodedata.category(char) for char in line]
    chars = [char for char in line if not char.isspace()]
    # a full-width mark ends a word, other punctuation does not
    words = re.sub(single, lambda m: f" \x00{m[0]} ", re.sub("[\u3000-\u3004\u3008-\u303f\U0001f600]", " ", line)).split()
    words = [word for word in words if any(unicodedata.category(c)[0] in "LNM" for c in word)]
    letters_in_words = sum(unicodedata.category(c)[0] in "LNM" for word in words for c in word)
    stripped = line.strip()
    return {
        kernels.CHARS: len(chars),
        kernels.UPPERS: sum(c in ("Lu", "Lt") for c in category),
        kernels.DIGITS: sum(c in ("Nd", "No") for c in category),
        kernels.LETTERS: sum(c[0] in "LM" for c in category),
        kernels.SYMBOLS: sum(c[0] == "S" for c in category),
        kernels.WORDS: len(words),
        kernels.SINGLES: sum(word[0] == "\x00" for word in words),
        kernels.WORD_CHARS: letters_in_words,
        kernels.MARKS: line.count("#") + len(re.findall(r"…+|\.{3,}|。{3,}", line)),
        kernels.STARTS_BULLET: int(stripped[:1] in ("-", "•") and bool(stripped)),
        kernels.ENDS_ELLIPSIS: int(re.search(r"(…|\.{3}|。{3})$", stripped) is not None),
    }


@given(st.lists(st.text(ALPHABET, max_size=40), min_size=1, max_size=5))
def test_the_kernel_counts_what_plain_python_counts(texts: list[str]) -> None:
    data, offsets = text_buffers(pa.array(texts, pa.large_string()))
    first = kernels.first_lines(data, offsets)
    table, ranges = kernels.measure_lines(data, offsets, first, kernels.character_flags())
    lines = [line for text in texts for line in text.split("\n")]
    assert first.tolist() == np.cumsum([0, *(text.count("\n") + 1 for text in texts)]).tolist()
    assert [bytes(data[a:b]).decode() for a, b in ranges] == lines
    for line, row in zip(lines, table, strict=True):
        wanted = reference(line)
        assert {column: int(row[column]) for column in wanted} == wanted, line


@given(st.lists(st.text(ALPHABET, max_size=60), min_size=2, max_size=4))
def test_a_document_is_judged_alone(texts: list[str]) -> None:
    together = annotate(texts, min_words=2)
    assert together.to_pylist() == [annotate([text], min_words=2).to_pylist()[0] for text in texts]
