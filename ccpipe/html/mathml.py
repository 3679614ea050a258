r"""Presentation MathML as LaTeX: `replace_formulas(html)`.

In: a tree as the parser writes it out. Out: the same with each <math> element empty, its LaTeX in `alttext`. LaTeX that the page has
(an annotation `application/x-tex`, or `alttext`) is taken as it is; otherwise the elements of MathML Core
(https://www.w3.org/TR/mathml-core/) are written out. Elements not known are replaced by what they hold; nothing is lost, and no layout
is kept that LaTeX has no short word for. Macros are those of LaTeX and amsmath.

>>> replace_formulas("<math><mfrac><mi>a</mi><msup><mi>b</mi><mn>2</mn></msup></mfrac></math>")
'<math alttext="\\frac{a}{b^{2}}"></math>'
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass, field

MAX_LEVELS = 100
"""Elements inside each other; deeper ones count as text."""

_MATH = re.compile(r"<(math|m:math)\b([^>]*)>(.*?)</\1\s*>", re.DOTALL | re.IGNORECASE)
_ALTTEXT = re.compile(r'\balttext="([^"]*)"', re.IGNORECASE)
_ANNOTATION = re.compile(r"<annotation\b[^>]*tex[^>]*>([^<]*)</annotation\s*>", re.IGNORECASE)
_PIECE = re.compile(r"<(/?)([a-z][\w:.-]*)([^>]*)>|([^<]+)", re.IGNORECASE)
_ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')

_LETTERS = "αβγδεζηθικλμνξπρσςτυφχψωΓΔΘΛΞΠΣΥΦΨΩϵϕϑϖϱ∂∇ℓℏℜℑℵ∅∞"
_LETTER_NAMES = """alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma varsigma tau upsilon varphi chi
    psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega epsilon phi vartheta varpi varrho partial nabla ell hbar Re Im
    aleph emptyset infty"""
_SIGNS = "±∓×÷⋅∗∘•⊕⊗⊙≤≥≠≈≡∼≃≅∝≪≫∈∉∋⊂⊃⊆⊇∪∩∧∨¬∀∃→←↔⇒⇐⇔↦↑↓⟶⟹…⋯⋮⋱∑∏∫∮∬∭⟨⟩⌊⌋⌈⌉∥∣⊥∠△′″∖⊢⊨"
_SIGN_NAMES = r"""pm mp times div cdot ast circ bullet oplus otimes odot leq geq neq approx equiv sim simeq cong propto ll gg in notin ni
    subset supset subseteq supseteq cup cap wedge vee neg forall exists to leftarrow leftrightarrow Rightarrow Leftarrow Leftrightarrow
    mapsto uparrow downarrow longrightarrow Longrightarrow ldots cdots vdots ddots sum prod int oint iint iiint langle rangle lfloor
    rfloor lceil rceil parallel mid perp angle triangle prime prime\prime setminus vdash models"""
_PLAIN = {"−": "-", "∕": "/", "⁢": "", "⁡": "", "⁣": "", "⁤": "", "\u00a0": " ", "{": r"\{", "}": r"\}", "%": r"\%", "#": r"\#"}
_PLAIN |= {"&": r"\&", "$": r"\$", "_": r"\_", "‖": r"\|", "‐": "-", "ℝ": r"\mathbb{R}", "ℕ": r"\mathbb{N}", "ℤ": r"\mathbb{Z}"}
_PLAIN |= {"ℂ": r"\mathbb{C}", "ℚ": r"\mathbb{Q}", "ℙ": r"\mathbb{P}", "𝔼": r"\mathbb{E}", "𝟙": r"\mathbb{1}", "ℒ": r"\mathcal{L}"}
_NAMES = zip(_LETTERS + _SIGNS, _LETTER_NAMES.split() + _SIGN_NAMES.split(), strict=True)
_WORDS = {char: "\\" + name for char, name in _NAMES} | _PLAIN

_FUNCTION_NAMES = """sin cos tan cot sec csc sinh cosh tanh coth arcsin arccos arctan log ln lg exp lim sup inf max min det dim ker gcd deg
    arg hom Pr limsup liminf"""
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_ACCENTS = {"^": "hat", "ˆ": "hat", "~": "tilde", "˜": "tilde", "∼": "tilde", "¯": "bar", "‾": "overline", "―": "overline", "_": "overline"}
_ACCENTS |= {"→": "vec", "⃗": "vec", "˙": "dot", "¨": "ddot", "ˇ": "check", "˘": "breve", "´": "acute", "`": "grave", "⏞": "overbrace"}
_BELOW = {"⏟": "underbrace", "_": "underline", "¯": "underline", "̲": "underline", "‾": "underline"}
_VARIANTS = {"bold": "mathbf", "double-struck": "mathbb", "script": "mathcal", "fraktur": "mathfrak", "sans-serif": "mathsf"}
_VARIANTS |= {"monospace": "mathtt", "bold-italic": "boldsymbol", "normal": "mathrm"}
_LIMITS = (r"\sum", r"\prod", r"\int", r"\lim", r"\max", r"\min", r"\sup", r"\inf", r"\bigcup", r"\bigcap", r"\limsup", r"\liminf")


@dataclass
class _Node:
    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[_Node] = field(default_factory=list)
    text: str = ""


def replace_formulas(written: str) -> str:
    """Each <math> element with its LaTeX as `alttext`, and nothing in it."""
    return _MATH.sub(lambda found: f'<math alttext="{html.escape(_latex(found[2], found[3]))}"></math>', written)


def _latex(attributes: str, inner: str) -> str:
    annotation = _ANNOTATION.search(inner)
    if annotation and annotation[1].strip():
        return html.unescape(annotation[1])
    stated = _ALTTEXT.search(attributes)
    if stated and stated[1].strip():
        return html.unescape(stated[1])
    return _tidy(_write(_parse(inner)))


def _parse(inner: str) -> _Node:
    root = _Node("mrow")
    open_nodes = [root]
    for closing, name, attributes, text in _PIECE.findall(inner):
        if text:
            open_nodes[-1].text += html.unescape(text)
            continue
        short = name.lower().split(":")[-1]
        if closing:
            if len(open_nodes) > 1 and any(node.name == short for node in open_nodes[1:]):
                while open_nodes.pop().name != short:
                    pass
            continue
        node = _Node(short, {key.lower(): html.unescape(value) for key, value in _ATTRIBUTE.findall(attributes)})
        open_nodes[-1].children.append(node)
        if not attributes.rstrip().endswith("/") and len(open_nodes) < MAX_LEVELS:
            open_nodes.append(node)
    return root


def _write(node: _Node) -> str:
    writer = _WRITERS.get(node.name)
    return writer(node) if writer else _row(node)


def _row(node: _Node) -> str:
    return _words(node.text.strip()) + _join([_write(child) for child in node.children])


def _join(pieces: list[str]) -> str:
    """Pieces in a row; a blank where a word would run into a letter."""
    out = ""
    for piece in pieces:
        if piece and re.search(r"\\[A-Za-z]+$", out) and piece[0].isalpha():
            out += " "
        out += piece
    return out


def _words(text: str) -> str:
    return _join([_WORDS.get(char, char) for char in " ".join(text.split())])


def _identifier(node: _Node) -> str:
    text = "".join(node.text.split())
    if text in _FUNCTIONS:
        return "\\" + text
    words = _words(text)
    variant = _VARIANTS.get(node.attributes.get("mathvariant", ""))
    if variant == "mathrm" and len(text) == 1:
        variant = None
    if variant and words:
        return f"\\{variant}{{{words}}}"
    return f"\\mathrm{{{words}}}" if len(text) > 1 and text.isascii() and text.isalpha() else words


def _text(node: _Node) -> str:
    text = html.unescape(node.text).replace("\u00a0", " ")
    return f"\\text{{{text}}}" if text.strip() else " "


def _part(node: _Node, k: int) -> str:
    return _write(node.children[k]).strip() if k < len(node.children) else ""


def _base(node: _Node) -> str:
    """What a script hangs on: in braces where it is more than one sign."""
    base = _part(node, 0)
    single = len(base) <= 1 or re.fullmatch(r"\\[A-Za-z]+(\{[^{}]*\})?|[\w.]+|\)|\]|\\[|}]", base)
    child = node.children[0].name if node.children else ""
    return base if single or (child == "mrow" and base.endswith((")", "]", "|"))) else f"{{{base}}}"


def _fraction(node: _Node) -> str:
    word = "binom" if node.attributes.get("linethickness", "").rstrip("ptxem%") in ("0", "0.0") else "frac"
    return f"\\{word}{{{_part(node, 0)}}}{{{_part(node, 1)}}}"


def _scripts(*marks: str) -> Callable[[_Node], str]:
    def write(node: _Node) -> str:
        return _base(node) + "".join(f"{mark}{{{_part(node, k)}}}" for k, mark in enumerate(marks, 1) if _part(node, k))

    return write


def _multiscripts(node: _Node) -> str:
    """Scripts after the base in pairs (below, above), then after <mprescripts> those before it."""
    names = [child.name for child in node.children]
    split = names.index("mprescripts") if "mprescripts" in names else len(names)

    def pairs(start: int, stop: int) -> str:
        found = [_part(node, k) for k in range(start, stop)]
        marks = [("_", "^")[k % 2] + f"{{{one}}}" if one and names[start + k] != "none" else "" for k, one in enumerate(found)]
        return "".join(marks)

    before = pairs(split + 1, len(names))
    return ("{}" + before if before else "") + _base(node) + pairs(1, split)


def _over(node: _Node) -> str:
    above = "".join(node.children[1].text.split()) if len(node.children) > 1 else ""
    base, mark = _part(node, 0), _part(node, 1)
    if above in _ACCENTS:
        return f"\\{_ACCENTS[above]}{{{base}}}"
    return f"{base}^{{{mark}}}" if base in _LIMITS or base.startswith(r"\overbrace") else f"\\overset{{{mark}}}{{{base}}}"


def _under(node: _Node) -> str:
    below = "".join(node.children[1].text.split()) if len(node.children) > 1 else ""
    base, mark = _part(node, 0), _part(node, 1)
    if below in _BELOW:
        return f"\\{_BELOW[below]}{{{base}}}"
    return f"{base}_{{{mark}}}" if base in _LIMITS or base.startswith(r"\underbrace") else f"\\underset{{{mark}}}{{{base}}}"


def _table(node: _Node) -> str:
    rows = [row for row in _flatten(node) if row.name in ("mtr", "mlabeledtr")]
    lines = [" & ".join(_write(cell).strip() for cell in row.children[row.name == "mlabeledtr" :]) for row in rows]
    return r"\begin{matrix}" + r" \\ ".join(lines) + r"\end{matrix}"


def _flatten(node: _Node) -> list[_Node]:
    return [one for child in node.children for one in ([child] if child.name.startswith(("mtr", "mlab")) else _flatten(child))]


def _fenced(node: _Node) -> str:
    start, end = node.attributes.get("open", "("), node.attributes.get("close", ")")
    marks = "".join(node.attributes.get("separators", ",").split())
    out = ""
    for k, child in enumerate(node.children):
        out += (marks[min(k, len(marks)) - 1] if k and marks else "") + _write(child)
    return f"\\left{_words(start) or '.'}{out}\\right{_words(end) or '.'}"


def _tidy(latex: str) -> str:
    return re.sub(r" {2,}", " ", latex).strip()


_WRITERS: dict[str, Callable[[_Node], str]] = {
    "mi": _identifier,
    "mn": lambda node: _words("".join(node.text.split())),
    "mo": lambda node: "\\" + node.text.strip() if node.text.strip() in _FUNCTIONS else _words(node.text.strip()),
    "mtext": _text,
    "ms": _text,
    "mspace": lambda node: " ",
    "mfrac": _fraction,
    "msup": _scripts("^"),
    "msub": _scripts("_"),
    "msubsup": _scripts("_", "^"),
    "munderover": _scripts("_", "^"),
    "mover": _over,
    "munder": _under,
    "mmultiscripts": _multiscripts,
    "msqrt": lambda node: f"\\sqrt{{{_row(node)}}}",
    "mroot": lambda node: f"\\sqrt[{_part(node, 1)}]{{{_part(node, 0)}}}",
    "mtable": _table,
    "mfenced": _fenced,
    "semantics": lambda node: _part(node, 0),
    "annotation": lambda node: "",
    "annotation-xml": lambda node: "",
    "mphantom": lambda node: "",
    "none": lambda node: "",
    "mprescripts": lambda node: "",
}
