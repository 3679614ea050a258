"""A cheap look at HTML before it is parsed: would it cost the parser minutes?

In: the bytes of a page. Out: None, or the name of the rule broken. One pass over the bytes in numba, about 1 GB/s.
lexbor needs quadratic time for open elements inside each other (40,000 unclosed <div>: 3.4 s; 200,000: four minutes in one
call that no signal interrupts) and for attributes on one tag (50,000: 5 s). Pages of the real world stay far below
both limits: among 1,261 pages of many sites the deepest had 663 open elements, the widest tag 205 attributes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ccpipe.kernels import kernel

MAX_DEPTH = 2_000
"""Open elements. Browsers stop nesting at 512; lexbor takes 0.01 s for 2,000."""

MAX_ATTRIBUTES = 2_000


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


def broken_rule(html: bytes, max_depth: int = MAX_DEPTH, max_attributes: int = MAX_ATTRIBUTES) -> str | None:
    """`too_deep`, `too_many_attributes` or None.

    >>> broken_rule(b"<div>" * 5000), broken_rule(b"<p>" * 5000)
    ('too_deep', None)
    """
    depth, attributes = measure(html)
    if depth > max_depth:
        return "too_deep"
    return "too_many_attributes" if attributes > max_attributes else None


def measure(html: bytes) -> tuple[int, int]:
    """Upper bound of the elements open at once, and the most attributes on one tag."""
    depth, attributes = _scan(np.frombuffer(html, dtype=np.uint8), _NEVER_NEST, _RAW_TEXT)
    return int(depth), int(attributes)


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
def _scan(html: Any, never_nest: Any, raw_text: Any) -> Any:
    n_open = np.zeros(1024, dtype=np.int64)  # open elements by name; an end tag without its element closes nothing
    depth = deepest = widest = 0
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
        widest = max(widest, attributes)
        slot = (name * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(54)
        if closing:
            if n_open[slot] > 0:
                n_open[slot] -= 1
                depth -= 1
        elif _contains(raw_text, name):
            i = _find_closing(html, i, name)
        elif not _contains(never_nest, name):
            n_open[slot] += 1
            depth += 1
            deepest = max(deepest, depth)
    return deepest, widest
