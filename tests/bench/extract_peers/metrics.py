"""Scores of an extracted text against what people marked as the main text: pure functions of strings.

Definitions are those of the public benchmarks, so that figures can be compared with published ones:
- shingles: scrapinghub/article-extraction-benchmark, `evaluate.py` (bags of 4-token shingles);
- segments: adbar/trafilatura, `tests/evaluate.py` (snippets that must and must not be in the text);
- words: F1 over bags of words, as WCXB (Murrough-Foley) and CleanEval report it;
- code and formulas: share of the gold's code lines and LaTeX formulas that are found again, character by character.

>>> word_f1(["a", "b"], ["b", "c"])
0.5
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

SHINGLE = 4
"""Tokens of a shingle, as in the article-extraction-benchmark."""

MIN_CODE_CHARS, MIN_FORMULA_CHARS = 4, 3
"""A line of code with less is a bracket, a formula with less a variable: found in any text."""

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""Kana, Han, Thai and Lao, Burmese, Khmer: written without spaces, so each character is a token."""
_TOKEN = re.compile(f"[{_UNSPACED}]|[^\\W{_UNSPACED}]+")
_WORD = re.compile(r"\w+")
_FENCED = re.compile(r"```[^\n]*\n(.*?)```", re.DOTALL)
_FORMULA = re.compile(r"\$\$(?P<display>.+?)\$\$|(?<![\\$])\$(?P<inline>[^$\n]+?)\$", re.DOTALL)
_FENCE_LINE = re.compile(r"^```[^\n]*$", re.MULTILINE)
_IMAGE, _LINK = re.compile(r"!\[[^\]]*\]\([^)]*\)"), re.compile(r"\[([^\]]*)\]\([^)]*\)")
_TAG = re.compile(r"<[^>\n]{1,200}>")


class Segments(NamedTuple):
    """Snippets found and wanted, found and unwanted, missed, and rightly left out."""

    hit: int
    intruder: int
    missed: int
    kept_out: int


class Structure(NamedTuple):
    """Recalls, 0 to 1; None where the gold has no code, or no formulas."""

    code_lines: float | None
    code_indents: float | None
    formulas: float | None


def tokens(text: str) -> list[str]:
    """Lower-case words; single characters in scripts without spaces."""
    return [token.lower() for token in _TOKEN.findall(text)]


def plain_tokens(text: str) -> list[str]:
    r"""Runs of `\w`, case kept: the tokens of the article-extraction-benchmark itself."""
    return _WORD.findall(text)


def shingle_scores(gold: Sequence[str], found: Sequence[str]) -> tuple[float | None, float | None]:
    """Precision and recall over bags of shingles; None (not counted in a mean) where there is nothing to divide by."""
    wanted, got = _shingles(gold), _shingles(found)
    both = (wanted & got).total()
    return _share(both, got.total()), _share(both, wanted.total())


def word_f1(gold: Sequence[str], found: Sequence[str]) -> float:
    """F1 over bags of tokens; 1 where both are empty."""
    if not gold and not found:
        return 1.0
    return f1(2 * (Counter(gold) & Counter(found)).total(), len(gold) + len(found))


def f1(doubled_hits: int, sizes: int) -> float:
    """2 x common / (wanted + found), which is the harmonic mean of precision and recall; 0 where nothing is common."""
    return doubled_hits / sizes if doubled_hits else 0.0


def harmonic(precision: float | None, recall: float | None) -> float:
    """Harmonic mean; 0 where one is 0 or not known."""
    return 2 * precision * recall / (precision + recall) if precision and recall else 0.0


def count_segments(text: str, wanted: Sequence[str], unwanted: Sequence[str]) -> Segments:
    """Which snippets stand in the text, white space of any kind being one space."""
    page = _one_space(text)
    hits = sum(_one_space(snippet) in page for snippet in wanted)
    intruders = sum(_one_space(snippet) in page for snippet in unwanted)
    return Segments(hits, intruders, len(wanted) - hits, len(unwanted) - intruders)


def segment_f1(pages: Sequence[Segments]) -> float:
    """F1 of the snippets of many pages in one pot."""
    hits = sum(page.hit for page in pages)
    return f1(2 * hits, 2 * hits + sum(page.intruder + page.missed for page in pages))


def structure(text: str, gold_markdown: str) -> Structure:
    """How much of the code (fenced) and of the formulas ($ and $$) of the gold is in the text.

    A code line is found where the text has a line equal to it but for space around; its indent, where the space before it is
    equal too. Formulas are compared without any white space.
    """
    code = [line.rstrip() for block in _FENCED.findall(gold_markdown) for line in block.split("\n") if len(line.strip()) >= MIN_CODE_CHARS]
    prose = _FENCED.sub(" ", gold_markdown)
    formulas = [_no_space(match["display"] or match["inline"]) for match in _FORMULA.finditer(prose)]
    formulas = [formula for formula in formulas if len(formula) >= MIN_FORMULA_CHARS]
    indented = {line.rstrip() for line in text.split("\n")}
    lines, dense = {line.strip() for line in indented}, _no_space(text)
    return Structure(
        _share(sum(line.strip() in lines for line in code), len(code)),
        _share(sum(line in indented for line in code), len(code)),
        _share(sum(formula in dense for formula in formulas), len(formulas)),
    )


def without_markdown(text: str) -> str:
    """Gold in Markdown as plain text: fences, images, addresses of links and tags taken out."""
    for pattern, instead in ((_FENCE_LINE, ""), (_IMAGE, " "), (_LINK, r"\1"), (_TAG, " ")):
        text = pattern.sub(instead, text)
    return text


def _shingles(found: Sequence[str]) -> Counter[tuple[str, ...]]:
    if 0 < len(found) < SHINGLE:
        return Counter([tuple(found)])
    return Counter(zip(*(found[start:] for start in range(SHINGLE)), strict=False))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _one_space(text: str) -> str:
    return " ".join(text.split())


def _no_space(text: str) -> str:
    return "".join(text.split())
