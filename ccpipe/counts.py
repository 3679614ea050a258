"""Counts of one unit of work: every document read is kept or dropped for one named reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Counts:
    """`read == kept + sum(dropped)` at all times between documents.

    `extra` holds further non-negative figures that add up over units (bytes, tokens, damaged gzip members ...).

    >>> counts = Counts()
    >>> counts.keep(2); counts.drop("too_short")
    >>> counts.read, counts.kept, dict(counts.dropped)
    (3, 2, {'too_short': 1})
    """

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    extra: Counter[str] = field(default_factory=Counter)

    def keep(self, n: int = 1) -> None:
        self.read += n
        self.kept += n

    def drop(self, reason: str, n: int = 1) -> None:
        if n:
            self.read += n
            self.dropped[reason] += n

    def to_dict(self) -> dict[str, Any]:
        """Plain sorted dictionaries, so that equal counts give equal JSON."""
        return {
            "read": self.read,
            "kept": self.kept,
            "dropped": dict(sorted(self.dropped.items())),
            "extra": dict(sorted(self.extra.items())),
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Counts:
        """What `to_dict` gave."""
        return cls(told["read"], told["kept"], Counter(told["dropped"]), Counter(told["extra"]))

    @classmethod
    def total(cls, parts: Iterable[Counts]) -> Counts:
        whole = cls()
        for part in parts:
            whole.read += part.read
            whole.kept += part.kept
            whole.dropped.update(part.dropped)
            whole.extra.update(part.extra)
        return whole
