"""The document and line rules of cc_cleaner (Gopher's and RefinedWeb's, for any script).

In: the text. Out: one column per signal, `reason` (the first document rule broken) and `drop_lines` (numbers of the lines
that the line rules drop, counted from 0 in `text.split("\\n")`). The text is never rewritten: export applies the edit list.
Document rules look at the whole text, before lines are dropped, as RefinedWeb and DCLM do; what is left afterwards
is told by `n_words_kept`. Each threshold is a field of the config with its source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from ccpipe import quality_kernels as kernels
from ccpipe.annotate import Annotator, Documents
from ccpipe.quality_kernels import Bytes, Ints, LineTable

Bools = npt.NDArray[np.bool_]


class CcCleanerConfig(Annotator.Config):
    """Thresholds; where no source is named they are cc_cleaner's, which are Gopher's (Rae et al. 2021, table A1)."""

    min_words: int = Field(50, ge=0, description="words; Gopher 50. One character of a script without spaces is one word")
    max_words: int = Field(100_000, ge=1, description="words; Gopher 100,000")
    min_word_length: float = Field(3, ge=0, description="mean characters per word, where most words are alphabetic; Gopher 3")
    max_word_length: float = Field(10, ge=0, description="mean characters per word, where most words are alphabetic; Gopher 10")
    min_syllabic_word_length: float = Field(
        1, ge=0, description="the same where most words are Han, kana, Thai or Hangul; FineWeb2 1 (cmn_Hani, jpn_Jpan, kor_Hang)"
    )
    max_syllabic_word_length: float = Field(
        6, ge=0, description="the same where most words are Han, kana, Thai or Hangul; FineWeb2 5 (cmn_Hani), 6 (jpn_Jpan, kor_Hang)"
    )
    max_symbols: float = Field(0.1, ge=0, description="`#` and ellipses per word; Gopher 0.1")
    max_bullet_lines: float = Field(0.9, ge=0, le=1, description="share of lines that start with a bullet; Gopher 0.9")
    max_ellipsis_lines: float = Field(0.3, ge=0, le=1, description="share of lines that end in an ellipsis; Gopher 0.3")
    max_words_dropped: float = Field(1, ge=0, le=1, description="share of words on dropped lines; RefinedWeb 0.05, cc_cleaner has none (1)")
    max_uppercase: float = Field(0.5, ge=0, le=1, description="share of upper-case characters in a line; DCLM 0.5, 1 keeps all lines")
    max_counter_chars: int = Field(100, ge=0, description="characters; longer lines are no counters, 0 keeps all counters")
    drop_digit_lines: bool = Field(True, description="drop lines that are only digits and punctuation; RefinedWeb")
    min_line_words: int = Field(2, ge=0, description="words; lines with fewer are dropped. RefinedWeb 2, 0 keeps all lines")
    min_line_chars: int = Field(3, ge=0, description="the same for lines all in Han, kana or Thai: two such characters are one word, so 3")


# --- document rules: True where the document breaks the rule that the function is named after ---


@dataclass(frozen=True)
class Signals:
    """Sums over the lines of each document: int64, shape (n_docs,). Lines count when they are not blank."""

    words: Ints
    syllabic_words: Ints
    word_chars: Ints
    symbols: Ints
    lines: Ints
    bullet_lines: Ints
    ellipsis_lines: Ints
    lines_kept: Ints
    words_kept: Ints


def too_few_words(s: Signals, c: CcCleanerConfig) -> Bools:
    return s.words < c.min_words


def too_many_words(s: Signals, c: CcCleanerConfig) -> Bools:
    return s.words > c.max_words


def short_words(s: Signals, c: CcCleanerConfig) -> Bools:
    return s.word_chars < np.where(mostly_syllabic(s), c.min_syllabic_word_length, c.min_word_length) * s.words


def long_words(s: Signals, c: CcCleanerConfig) -> Bools:
    return s.word_chars > np.where(mostly_syllabic(s), c.max_syllabic_word_length, c.max_word_length) * s.words


def many_symbols(s: Signals, c: CcCleanerConfig) -> Bools:
    return s.symbols > c.max_symbols * s.words


def many_bullet_lines(s: Signals, c: CcCleanerConfig) -> Bools:
    return s.bullet_lines > c.max_bullet_lines * s.lines


def many_ellipsis_lines(s: Signals, c: CcCleanerConfig) -> Bools:
    return s.ellipsis_lines > c.max_ellipsis_lines * s.lines


def many_words_dropped(s: Signals, c: CcCleanerConfig) -> Bools:
    return s.words - s.words_kept > c.max_words_dropped * s.words


def no_line_left(s: Signals, c: CcCleanerConfig) -> Bools:
    return s.lines_kept < 1


def mostly_syllabic(s: Signals) -> Bools:
    """More than half of the words are characters of a script without spaces, or Hangul."""
    return s.words - s.syllabic_words < s.syllabic_words


DocumentRule = Callable[[Signals, CcCleanerConfig], Bools]
DOCUMENT_RULES: tuple[DocumentRule, ...] = (
    too_few_words,
    too_many_words,
    short_words,
    long_words,
    many_symbols,
    many_bullet_lines,
    many_ellipsis_lines,
    many_words_dropped,
    no_line_left,
)


def broken_rules(signals: Signals, config: CcCleanerConfig) -> list[str | None]:
    """Name of the first rule that each document breaks, None where it breaks none."""
    return _first_true([rule(signals, config) for rule in DOCUMENT_RULES], [_name(rule) for rule in DOCUMENT_RULES])


# --- line rules: True where the line is dropped ---


def uppercase(lines: LineTable, c: CcCleanerConfig) -> Bools:
    return np.asarray(lines[:, kernels.UPPERS] > c.max_uppercase * lines[:, kernels.CHARS])


def digits(lines: LineTable, c: CcCleanerConfig) -> Bools:
    """Digits, spaces and punctuation alone: dates and page numbers go, `1 + 1 = 2` stays."""
    others = lines[:, kernels.LETTERS] + lines[:, kernels.SYMBOLS]
    return np.asarray((lines[:, kernels.DIGITS] > 0) & (others == 0) & c.drop_digit_lines)


def one_word(lines: LineTable, c: CcCleanerConfig) -> Bools:
    """At most one word, or a few characters that make one word where words are not spaced."""
    words, singles = lines[:, kernels.WORDS], lines[:, kernels.SINGLES]
    short = np.where((singles == words) & (words > 0), words < c.min_line_chars, words < c.min_line_words)
    return np.asarray(short & (lines[:, kernels.CHARS] > 0))


_NUMBER = r"\d[\d,.]*+\s?(?:[kmbw]\b|[万萬亿億千百])?\+?"
_EN = (
    r"\b(?:likes?|shares?|comments?|repl(?:y|ies)|retweets?|reposts?|quotes?|bookmarks?|upvotes?|downvotes?|votes?|downloads?"
    r"|views?|reads?|followers?|following|reactions?|subscribers?|favou?rites?|posts?)\b"
)
_ZH = (
    r"(?:点赞|點讚|按讚|赞|讚|分享|转发|轉發|评论|評論|回复|回覆|回帖|留言|收藏|阅读|閱讀|浏览|瀏覽|播放|观看|觀看|下载|下載"
    r"|关注|追蹤|粉丝|点击|點閱|围观|人气|人氣|喜欢|喜歡|跟帖|顶|踩)(?:次数|次數|人数|人數|数|數|量)?"
)
_UNIT = r"[次人条條个個篇]?"
_COUNTER = re.compile(
    rf"\W*+(?:(?:{_NUMBER}\s*{_UNIT}\s*(?:{_EN}|{_ZH})|(?:{_EN}|{_ZH})[\s:：(（\[]*+{_NUMBER}\s*{_UNIT})\W*+)++", re.IGNORECASE
)


def is_counter(line: str) -> bool:
    """Whether a line does nothing but count what readers did (RefinedWeb's "3 likes").

    >>> is_counter("12 shares 5 comments 30 likes"), is_counter("阅读：1.2万次 评论(3)"), is_counter("He likes 12 comments a day")
    (True, True, False)
    """
    return _COUNTER.fullmatch(line) is not None


LINE_RULES: tuple[str, ...] = ("uppercase", "digits", "counter", "one_word")
"""Names of the line rules in the order in which they are tried; the first one that fits names the line."""


def broken_line_rules(data: Bytes, ranges: Ints, lines: LineTable, config: CcCleanerConfig) -> npt.NDArray[np.uint8]:
    """For each line 0 (kept) or 1 + the index in `LINE_RULES`: uint8, shape (n_lines,)."""
    verdict = np.zeros(len(lines), dtype=np.uint8)
    counter = np.zeros(len(lines), dtype=bool)
    # only short lines that hold digits and other words are looked at one by one
    candidates = (lines[:, kernels.DIGITS] > 0) & (lines[:, kernels.LETTERS] > 0) & (lines[:, kernels.CHARS] <= config.max_counter_chars)
    for i in np.flatnonzero(candidates):
        counter[i] = is_counter(data[ranges[i, 0] : ranges[i, 1]].tobytes().decode("utf-8"))
    broken = (uppercase(lines, config), digits(lines, config), counter, one_word(lines, config))
    for code in range(len(broken), 0, -1):
        verdict[broken[code - 1]] = code
    return verdict


# --- the annotator ---

_SIGNAL_TYPES: dict[str, pa.DataType] = {
    "n_words": pa.uint32(),
    "mean_word_length": pa.float32(),
    "syllabic_words": pa.float32(),
    "symbol_word_ratio": pa.float32(),
    "n_lines": pa.uint32(),
    "bullet_lines": pa.float32(),
    "ellipsis_lines": pa.float32(),
    **{f"n_{rule}_lines": pa.uint32() for rule in LINE_RULES},
    "n_dropped_lines": pa.uint32(),
    "n_words_kept": pa.uint32(),
}
"""Shares and ratios are 0 where there is nothing to divide by; lines are non-blank lines."""


class CcCleanerRules(Annotator):
    """Signals, broken document rule and dropped lines of each document."""

    class Config(CcCleanerConfig):
        pass

    _flags: Bytes

    def new_columns(self) -> dict[str, pa.DataType]:
        return {**_SIGNAL_TYPES, "reason": pa.string(), "drop_lines": pa.list_(pa.uint32())}

    def load(self) -> None:
        self._flags = kernels.character_flags()

    def annotate(self, docs: Documents) -> Mapping[str, Any]:
        data, offsets = docs.buffers()
        first = kernels.first_lines(data, offsets)
        lines, ranges = kernels.measure_lines(data, offsets, first, self._flags)
        verdict = broken_line_rules(data, ranges, lines, self.config)
        signals = sum_lines(lines, verdict, first)
        dropped = {f"n_{rule}_lines": _sum(verdict == code, first) for code, rule in enumerate(LINE_RULES, 1)}
        return {
            "n_words": signals.words,
            "mean_word_length": _ratio(signals.word_chars, signals.words),
            "syllabic_words": _ratio(signals.syllabic_words, signals.words),
            "symbol_word_ratio": _ratio(signals.symbols, signals.words),
            "n_lines": signals.lines,
            "bullet_lines": _ratio(signals.bullet_lines, signals.lines),
            "ellipsis_lines": _ratio(signals.ellipsis_lines, signals.lines),
            **dropped,
            "n_dropped_lines": sum(dropped.values()),
            "n_words_kept": signals.words_kept,
            "reason": broken_rules(signals, self.config),
            "drop_lines": _line_numbers(verdict, first),
        }


def sum_lines(lines: LineTable, verdict: npt.NDArray[np.uint8], first: Ints) -> Signals:
    """Sum the lines of each document; `first`: int64, shape (n_docs + 1,)."""
    kept = verdict == 0
    return Signals(
        words=_sum(lines[:, kernels.WORDS], first),
        syllabic_words=_sum(lines[:, kernels.SYLLABIC_WORDS], first),
        word_chars=_sum(lines[:, kernels.WORD_CHARS], first),
        symbols=_sum(lines[:, kernels.MARKS], first),
        lines=_sum(lines[:, kernels.CHARS] > 0, first),
        bullet_lines=_sum(lines[:, kernels.STARTS_BULLET], first),
        ellipsis_lines=_sum(lines[:, kernels.ENDS_ELLIPSIS], first),
        lines_kept=_sum(kept & (lines[:, kernels.CHARS] > 0), first),
        words_kept=_sum(lines[:, kernels.WORDS] * kept, first),
    )


def _sum(values: npt.NDArray[Any], first: Ints) -> Ints:
    total = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=total[1:])
    return total[first[1:]] - total[first[:-1]]


def _ratio(part: Ints, whole: Ints) -> npt.NDArray[np.float32]:
    return (part / np.maximum(whole, 1)).astype(np.float32)


def _line_numbers(verdict: npt.NDArray[np.uint8], first: Ints) -> pa.Array:
    """Numbers of the dropped lines within their document: list<uint32>, shape (n_docs,)."""
    dropped = np.flatnonzero(verdict)
    bounds = np.searchsorted(dropped, first)
    numbers = dropped - np.repeat(first[:-1], np.diff(bounds))
    return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), pa.array(numbers, pa.uint32()))


def _first_true(masks: list[Bools], names: list[str]) -> list[str | None]:
    first = np.select(masks, list(range(len(masks))), default=-1)
    return [names[i] if i >= 0 else None for i in first]


def _name(rule: DocumentRule) -> str:
    return str(getattr(rule, "__name__"))  # noqa: B009 - a Callable has no __name__ for mypy
