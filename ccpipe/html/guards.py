"""A cheap look at HTML before it is parsed: would it cost the parser minutes?

In: the bytes of a page. Out: None, or the name of the rule broken. One pass over the bytes in numba, about 1 GB/s.
lexbor needs quadratic time for open elements inside each other (40,000 unclosed <div>: 3.4 s; 200,000: four minutes in one
call that no signal interrupts) and for attributes on one tag (50,000: 5 s). Unclosed <font> and the like are opened again in
each later paragraph: 1,900 of them before 10,000 paragraphs, 115 KB, grew to 7.6 GB. Real pages stay far below the limits:
among 1,261 of many sites the deepest had 663 open elements, the widest tag 205 attributes, the largest 23,459 elements.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ccpipe.kernels import kernel

MAX_DEPTH = 2_000
"""Open elements. Browsers stop nesting at 512; lexbor takes 0.004 s for 2,000."""

MAX_ATTRIBUTES = 2_000

MAX_ELEMENTS = 500_000
"""Start tags, and elements that the parser opens again: about 0.3 GB and 2 s."""

MAX_STEPS = 300_000_000
"""Tags times open elements: for an end tag without its start tag the parser looks at all open elements, 4 ns each."""

SAME_TAGS = 3
"""Of equal formatting tags the parser opens only three again (HTML standard, "Noah's Ark clause")."""


def _packed(names: str) -> np.ndarray:
    """Names as uint64: their first eight bytes, little-endian, zero-filled."""
    return np.array([int.from_bytes(name.encode()[:8], "little") for name in names.split()], dtype=np.uint64)


_NEVER_NEST = _packed(
    "area base br col embed hr img input link meta param source track wbr frame keygen basefont bgsound command"
    " p li dd dt tr td th thead tbody tfoot option optgroup colgroup caption rp rt html head body"
)
"""Void elements, and those that the parser closes by itself when the next one opens."""

_RAW_TEXT = _packed("script style textarea title xmp iframe noembed noframes plaintext")
"""Elements whose content is not markup."""
_FORMATTING = _packed("a b big code em font i nobr s small strike strong tt u")
"""Elements that the parser opens again in the next paragraph when they were not closed."""


_MADE_BY_END_TAGS = _packed("p br")
"""End tags that make an element when there is none to close."""

_ROOTS = _packed("html body")
"""Elements of which there is one: attributes of later tags are added to it."""


class Cost(NamedTuple):
    """Upper bounds: elements open at once, attributes on one element, elements in all, and the sum over all tags of the
    elements open there."""

    depth: int
    attributes: int
    elements: int
    steps: int = MAX_STEPS


LIMITS = Cost(MAX_DEPTH, MAX_ATTRIBUTES, MAX_ELEMENTS)


def broken_rule(html: bytes, limits: Cost = LIMITS) -> str | None:
    """`too_deep`, `too_many_attributes`, `too_many_elements` or None.

    >>> broken_rule(b"<div>" * 5000), broken_rule(b"<p>" * 5000)
    ('too_deep', None)
    """
    cost = measure(html)
    if cost.depth > limits.depth or cost.steps > limits.steps:
        return "too_deep"
    if cost.attributes > limits.attributes:
        return "too_many_attributes"
    return "too_many_elements" if cost.elements > limits.elements else None


def measure(html: bytes) -> Cost:
    """What parsing the page would cost."""
    return Cost(*map(int, _scan(np.frombuffer(html, dtype=np.uint8), _NEVER_NEST, _RAW_TEXT, _FORMATTING, _ROOTS, _MADE_BY_END_TAGS)))


@kernel
def _is_letter(byte: Any) -> Any:
    return 97 <= (byte | 32) <= 122


@kernel
def _read_name(html: Any, i: Any) -> Any:
    """Packed lower-case tag name at `i` and the position after it."""
    name = np.uint64(0)
    shift = 0
    while i < len(html) and html[i] > 32 and html[i] != 47 and html[i] != 62:
        if shift < 64:
            byte = html[i]
            if 65 <= byte <= 90:
                byte += 32
            name |= np.uint64(byte) << np.uint64(shift)
            shift += 8
        i += 1
    return name, i


@kernel
def _skip_tag(html: Any, i: Any) -> Any:
    """Number of attributes from `i` to the end of the tag, and the position after it."""
    attributes = 0
    space = True
    while i < len(html) and html[i] != 62:
        byte = html[i]
        if byte <= 32 or byte == 47:
            space = True
        elif byte == 61:  # =
            i += 1
            while i < len(html) and html[i] <= 32:
                i += 1
            if i < len(html) and (html[i] == 34 or html[i] == 39):
                quote = html[i]
                i += 1
                while i < len(html) and html[i] != quote:
                    i += 1
            else:
                while i < len(html) and html[i] > 32 and html[i] != 62:
                    i += 1
                continue
            space = True
        elif space:
            attributes += 1
            space = False
        i += 1
    return attributes, i + 1


@kernel
def _find_closing(html: Any, i: Any, name: Any) -> Any:
    """Position of `</name` from `i` on, or the end."""
    while i + 2 < len(html):
        if html[i] == 60 and html[i + 1] == 47:
            found, _ = _read_name(html, i + 2)
            if found == name:
                return i
        i += 1
    return len(html)


@kernel
def _skip_declaration(html: Any, i: Any) -> Any:
    """Position after the comment or declaration that begins at `i` with `<!` or `<?`."""
    if i + 3 < len(html) and html[i + 2] == 45 and html[i + 3] == 45:
        i += 2
        while i + 2 < len(html) and not (html[i] == 45 and html[i + 1] == 45 and html[i + 2] == 62):
            i += 1
        return i + 3
    while i < len(html) and html[i] != 62:
        i += 1
    return i + 1


@kernel
def _contains(names: Any, name: Any) -> Any:
    for one in names:  # noqa: SIM110 - numba compiles no generator here
        if one == name:
            return True
    return False


@kernel
def _index(names: Any, name: Any) -> Any:
    for k in range(len(names)):
        if names[k] == name:
            return k
    return -1


@kernel
def _hash(html: Any, start: Any, stop: Any) -> Any:
    value = np.uint64(14695981039346656037)  # FNV-1a
    for i in range(start, min(stop, len(html))):
        value = (value ^ np.uint64(html[i])) * np.uint64(1099511628211)
    return value


@kernel
def _opened_again(n_open: Any, distinct: Any) -> Any:
    """Formatting elements that the parser would open once more here."""
    total = 0
    for k in range(len(n_open)):
        total += min(n_open[k], SAME_TAGS * distinct[k])
    return total


@kernel
def _scan(html: Any, never_nest: Any, raw_text: Any, formatting: Any, roots: Any, made_by_end_tags: Any) -> Any:
    n_open = np.zeros(1024, dtype=np.int64)  # open elements by name; an end tag without its element closes nothing
    unclosed = np.zeros(len(formatting), dtype=np.int64)
    distinct = np.zeros(len(formatting), dtype=np.int64)
    last_tag = np.zeros(len(formatting), dtype=np.uint64)
    depth = deepest = widest = on_roots = elements = steps = 0
    i = 0
    while i + 1 < len(html):
        if html[i] != 60:
            i += 1
            continue
        if html[i + 1] == 33 or html[i + 1] == 63:
            i = _skip_declaration(html, i)
            continue
        closing = html[i + 1] == 47
        start = i + 2 if closing else i + 1
        if start >= len(html) or not _is_letter(html[start]):
            i += 1
            continue
        name, i = _read_name(html, start)
        attributes, i = _skip_tag(html, i)
        if _contains(roots, name):
            on_roots += attributes
        widest = max(widest, attributes, on_roots)
        steps += depth
        slot = (name * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(54)
        k = _index(formatting, name)
        if closing:
            if n_open[slot] > 0:
                n_open[slot] -= 1
                depth -= 1
                if k >= 0:
                    unclosed[k] = max(0, unclosed[k] - 1)
            elif _contains(made_by_end_tags, name):
                elements += 1 + _opened_again(unclosed, distinct)
            continue
        elements += 1
        if k >= 0:
            unclosed[k] += 1
            tag = _hash(html, start, i)
            distinct[k] += tag != last_tag[k]
            last_tag[k] = tag
        else:
            elements += _opened_again(unclosed, distinct)
        if _contains(raw_text, name):
            i = _find_closing(html, i, name)
        elif not _contains(never_nest, name):
            n_open[slot] += 1
            depth += 1
            deepest = max(deepest, depth)
    return deepest, widest, elements, steps
