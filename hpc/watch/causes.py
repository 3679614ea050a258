"""Why units failed: their last failures, grouped by cause, so that three hundred of a kind are one line and a bad node shows."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc.fs.files import read_json_if_exists
from hpc.state.state import MAX_FAILURES, StageState, latest

OPENED = 1000
"""Failures that are opened; where more units failed, the rest is counted as not looked at."""

MAX_CHARS = 160

NOT_OPENED = "not looked at"


@dataclass
class FailureGroup:
    """Units whose last failures have one cause. `cause`: with numbers, paths and digests replaced; `kind`: as the worker calls it.

    Of one example: `unit`, `error` (the last line of its traceback, or its cause), `where` ("file:line" of the innermost frame, or
    ""), `log`, `path` (the record of the failure), `requested` (resources of its launch), `command` (what to type to look closer).
    `hosts`: host -> units that failed there.
    """

    cause: str
    kind: str
    units: int = 0
    parked: int = 0
    hosts: dict[str, int] = field(default_factory=dict)
    unit: str = ""
    error: str = ""
    where: str = ""
    log: str = ""
    path: str = ""
    command: str = ""
    requested: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failures:
    """`failed`: units with failures that are not committed; `parked`: those of them that no worker tries again."""

    failed: Collection[str] = frozenset()
    parked: Collection[str] = frozenset()
    groups: Sequence[FailureGroup] = ()


def group_failures(state: StageState, done: Collection[str], max_failures: int | None = None) -> Failures:
    """Failures of units that are not committed. `max_failures`: where a failure does not tell after how many its unit is parked."""
    groups: dict[tuple[str, str], FailureGroup] = {}
    failed: list[str] = []
    parked: set[str] = set()
    for unit, attempts in state.failures().items():
        if unit in done:
            continue
        failed.append(unit)
        path = attempts[0] if len(attempts) == 1 else latest(attempts)
        value: Mapping[str, Any] = (read_json_if_exists(path) or {}) if len(failed) <= OPENED else {"cause": NOT_OPENED}
        limit = (value.get("requested") or {}).get("max_failures") or max_failures or MAX_FAILURES
        if len(attempts) >= limit:
            parked.add(unit)
        _add(groups, unit, path, value, unit in parked)
    return Failures(failed, parked, sorted(groups.values(), key=lambda group: (-group.units, group.cause, group.kind)))


def _add(groups: dict[tuple[str, str], FailureGroup], unit: str, path: Path, value: Mapping[str, Any], parked: bool) -> None:
    kind, cause = str(value.get("kind", "error")), normalise(str(value.get("cause", "")), unit)
    group = groups.get((kind, cause))
    if group is None:
        log, trace = str(value.get("log", "")), str(value.get("traceback", ""))
        group = groups[kind, cause] = FailureGroup(
            cause=cause,
            kind=kind,
            unit=unit,
            error=last_line(trace) or first_line(str(value.get("cause", ""))),
            where=innermost(trace),
            log=log,
            path=str(path),
            requested=dict(value.get("requested") or {}),
            command=f"less {shlex.quote('+/' + unit)} {shlex.quote(log)}" if log else f"less {shlex.quote(str(path))}",
        )
    group.units += 1
    group.parked += parked
    if host := str((value.get("attempt") or {}).get("host", "")):
        group.hosts[host] = group.hosts.get(host, 0) + 1
        group.hosts = dict(Counter(group.hosts).most_common())


# --- causes -----------------------------------------------------------------------------------------------------------

_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+")
_PATH = re.compile(r"(?<![\w<.~/-])(?:~|\.{1,2})?(?:/[^\s'\"<>:,;()\[\]]+)+/?")
_QUOTED_PATH = re.compile(r"(['\"])[^'\"]*/[^'\"]*\1")
_HEX = re.compile(r"\b0x[0-9a-fA-F]+\b|\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b")
_NUMBER = re.compile(r"(?<![A-Za-z0-9])(?<!utf-)(?<!UTF-)(?<!Errno )(?<!code )(?<!status )\d+(?:[.,:_]\d+)*")


def normalise(cause: str, unit: str = "") -> str:
    """The first line of a cause without what differs from unit to unit. Error numbers and exit codes stay: they tell causes apart.

    >>> normalise("OSError: [Errno 28] No space left on device: '/scratch/run 7/00012.parquet'", "00012")
    'OSError: [Errno 28] No space left on device: <path>'
    >>> normalise("ValueError: 00012: bad record at byte 81,723 of 9f86d081884c7d65 (0x7f3a)", "00012")
    'ValueError: <unit>: bad record at byte N of <hex> (<hex>)'
    """
    text = first_line(cause)
    if unit:
        text = re.sub(rf"(?<![\w]){re.escape(unit)}(?![\w])", "<unit>", text)
    text = _URL.sub("<url>", text)
    text = _QUOTED_PATH.sub("<path>", text)
    text = _PATH.sub("<path>", text)
    text = _HEX.sub("<hex>", text)
    return _NUMBER.sub("N", text)[:MAX_CHARS] or "no cause was recorded"


def first_line(text: str) -> str:
    """
    >>> first_line("  a b" + chr(10) + "c"), first_line("")
    ('a b', '')
    """
    return next(iter(text.strip().splitlines()), "").strip()


def last_line(trace: str) -> str:
    """The line that names the exception; behind it may come lines of its message."""
    lines = trace.rstrip().splitlines()
    frames = [i for i, line in enumerate(lines) if line.lstrip(" |").startswith('File "')]
    for line in lines[frames[-1] + 1 :] if frames else lines[-1:]:
        if line and not line[0].isspace():
            return line.strip()
    return lines[-1].strip() if lines else ""


_FRAME = re.compile(r'^[ |]*File "(?P<file>[^"]+)", line (?P<line>\d+)', re.MULTILINE)


def innermost(trace: str) -> str:
    """ "file:line" where the exception was raised, "" when the traceback does not tell.

    >>> innermost('Traceback ...\\n  File "a.py", line 3, in f\\n    g()\\n  File "b.py", line 7, in g\\n    x\\nValueError: x')
    'b.py:7'
    """
    frames = _FRAME.findall(trace)
    return f"{frames[-1][0]}:{frames[-1][1]}" if frames else ""
