"""One line of what `doctor` says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """`level`: ok, warn or fail. `text` says what was seen, and unless all is well what to do."""

    level: str
    what: str
    text: str
