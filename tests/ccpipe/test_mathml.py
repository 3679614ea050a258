"""Formulas in MathML as LaTeX."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccpipe.html import extract
from ccpipe.html.mathml import replace_formulas

X, N, TWO = "<mi>x</mi>", "<mi>n</mi>", "<mn>2</mn>"
SUM = "<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover>"
MATRIX = "<mtable><mtr><mtd><mn>1</mn></mtd><mtd><mi>α</mi></mtd></mtr><mtr><mtd><mn>0</mn></mtd><mtd><mn>1</mn></mtd></mtr></mtable>"
FORMULAS = {
    f"<mfrac>{X}<msup>{N}{TWO}</msup></mfrac>": r"\frac{x}{n^{2}}",
    f"{SUM}<msub>{X}<mi>i</mi></msub><mo>≤</mo><mi>β</mi>{N}": r"\sum_{i=1}^{n}x_{i}\leq\beta n",
    f"<msqrt>{TWO}{X}</msqrt><mroot>{X}<mn>3</mn></mroot>": r"\sqrt{2x}\sqrt[3]{x}",
    f"<msubsup><mi>∂</mi>{N}{TWO}</msubsup>": r"\partial_{n}^{2}",
    f"<msup><mrow>{X}<mo>+</mo>{N}</mrow>{TWO}</msup>": "{x+n}^{2}",
    f"<mo>(</mo>{MATRIX}<mo>)</mo>": r"(\begin{matrix}1 & \alpha \\ 0 & 1\end{matrix})",
    f"<mover>{X}<mo>¯</mo></mover><mover>{N}<mo>→</mo></mover>": r"\bar{x}\vec{n}",
    f"<munder><mi>lim</mi><mrow>{N}<mo>→</mo><mi>∞</mi></mrow></munder><mi>sin</mi>{X}": r"\lim_{n\to\infty}\sin x",
    f"<mfenced open='[' close=']'>{X}{N}</mfenced>".replace("'", '"'): r"\left[x,n\right]",
    f"<mtext>if </mtext>{X}<mo>&lt;</mo>{N}": r"\text{if }x<n",
    "<mi mathvariant='double-struck'>R</mi>".replace("'", '"'): r"\mathbb{R}",
    "<mi>rank</mi><mo>⁡</mo><mi>A</mi>": r"\mathrm{rank}A",
    f"<mmultiscripts><mi>X</mi>{N}<none></none><mprescripts></mprescripts>{TWO}<none></none></mmultiscripts>": "{}_{2}X_{n}",
}


def latex_of(inner: str) -> str:
    found = re.fullmatch(
        r'<math alttext="([^"]*)"></math>', replace_formulas(f'<math xmlns="http://www.w3.org/1998/Math/MathML">{inner}</math>')
    )
    assert found
    return html.unescape(found[1])


@pytest.mark.parametrize("inner", FORMULAS)
def test_presentation_mathml_is_written_as_latex(inner: str) -> None:
    assert latex_of(inner) == FORMULAS[inner]


def test_latex_of_the_page_comes_first() -> None:
    tex = '<annotation encoding="application/x-tex">a &lt; b</annotation>'
    assert latex_of(f"<semantics><mrow>{X}</mrow>{tex}</semantics>") == "a < b"
    assert replace_formulas(f'<math alttext="y">{X}</math>') == '<math alttext="y"></math>'


def test_formulas_stand_in_the_text_of_their_paragraph() -> None:
    prose = "The river rose in the night, and by the morning the lower fields were under water."
    body = f"<p>{prose} Its level was <math><msup><mi>h</mi><mn>2</mn></msup><mo>&lt;</mo><mi>α</mi></math> then. {prose}</p>"
    assert r"Its level was $h^{2}<\alpha$ then." in extract(f"<title>t</title>{body}".encode()).text


def test_deep_and_long_formulas_end() -> None:
    assert "x" in latex_of("<mrow>" * 5_000 + "<mi>x</mi>")
    assert latex_of("<mi>x</mi>" * 20_000) == "x" * 20_000


NAMES = ["mfrac", "msup", "msqrt", "munder", "mover", "mtable", "mtr", "mtd", "mi", "mo", "mmultiscripts", "mprescripts", "mfenced", "odd"]
PIECES = st.sampled_from([f"<{name}>" for name in NAMES] + [f"</{name}>" for name in NAMES] + ["x", "<", "&lt;", '"', "∑"])


@given(st.lists(PIECES, max_size=40))
def test_damaged_formulas_are_no_error_and_stay_inside_their_attribute(pieces: list[str]) -> None:
    latex_of("".join(pieces))
