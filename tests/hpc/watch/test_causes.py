"""Three hundred failures of a kind are one cause; two kinds are two."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import pytest

from hpc.watch.causes import innermost, last_line, normalise

SAME = [
    ("ValueError: 00012: bad record at byte 81723", "00012", "ValueError: 00013: bad record at byte 4", "00013"),
    ("OSError: [Errno 5] Input/output error: '/data/a b/1.gz'", "1", "OSError: [Errno 5] Input/output error: '/data/c/2.gz'", "2"),
    ("RuntimeError: cannot open ~/models/a.bin", "x", "RuntimeError: cannot open /models/b.bin", "y"),
    ("KeyError: 'b1946ac92492d234'", "x", "KeyError: '591785b794601e21'", "y"),
    ("TimeoutError: https://example.org/a?b=1 after 3.5 s", "x", "TimeoutError: https://example.org/c after 30 s", "y"),
    ("segfault at 0x7ffd1 ip 0x55", "x", "segfault at 0xdead ip 0x1", "y"),
    ("ValueError: x\nin record 1", "x", "ValueError: y\nin record 2 of other lines", "y"),
]

DIFFERENT = [
    ("OSError: [Errno 28] No space left on device", "OSError: [Errno 5] Input/output error"),
    ("OSError: [Errno 28] disk", "OSError: [Errno 122] disk"),
    ("worker killed by SIGKILL", "worker killed by SIGSEGV"),
    ("command ended with exit code 1", "command ended with exit code 137"),
    ("KeyError: 'text'", "KeyError: 'title'"),
    ("UnicodeDecodeError: 'utf-8' codec", "UnicodeDecodeError: 'utf-16' codec"),
]


@pytest.mark.parametrize("one,unit,other,other_unit", SAME)
def test_what_differs_from_unit_to_unit_is_replaced(one: str, unit: str, other: str, other_unit: str) -> None:
    assert normalise(one, unit) == normalise(other, other_unit)


@pytest.mark.parametrize("one,other", DIFFERENT)
def test_what_tells_causes_apart_stays(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


def test_a_cause_is_one_short_line_and_never_empty() -> None:
    assert "\n" not in normalise("a\nb") and len(normalise("x" * 1000)) <= 160
    assert normalise("") == normalise("\n\n") == "no cause was recorded"


def test_the_innermost_frame_and_the_exception_of_a_real_traceback() -> None:
    def inner() -> None:
        raise ValueError("first line\n  second line")

    try:
        try:
            inner()
        except ValueError as error:
            raise RuntimeError("outer") from error
    except RuntimeError as error:
        text = "".join(traceback.format_exception(error))
    assert last_line(text) == "RuntimeError: outer"
    line = next(i for i, source in enumerate(Path(__file__).read_text().splitlines(), 1) if "raise RuntimeError" in source)
    assert innermost(text) == f"{__file__}:{line}"


def test_the_innermost_frame_is_that_of_the_library_that_raised() -> None:
    try:
        json.loads("{")
    except ValueError as error:
        assert innermost("".join(traceback.format_exception(error))).startswith(f"{Path(json.__file__).parent / 'decoder.py'}:")


def test_a_message_of_many_lines_is_named_by_its_first() -> None:
    try:
        raise ValueError("first line\n  second line\nthird")
    except ValueError as error:
        assert last_line("".join(traceback.format_exception(error))) == "ValueError: first line"


def test_no_traceback_has_no_frame() -> None:
    assert (innermost(""), last_line("")) == ("", "")
