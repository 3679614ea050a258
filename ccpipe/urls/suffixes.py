"""Public suffixes: names under which everybody may register, so that an entry of that name would block strangers.

From the Public Suffix List (https://publicsuffix.org) that the package `publicsuffixlist` ships; nothing is downloaded.
A name counts when the list states it, in its part for registries (com, co.uk) or for hosts of sites (blogspot.com), or when a
top-level wildcard covers it (*.bd: com.bd). Names that a deeper wildcard covers are single places (one machine of
*.compute-1.amazonaws.com), and stay blocked.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np

from ccpipe.urls.address import clean_host
from ccpipe.urls.keys import key_of


class Suffixes:
    """Public suffixes but those `taken`: the names that the user wants to block whole."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        rules = set(suffix_rules()) - {clean_host(name) for name in taken}
        self.names = frozenset(rule for rule in rules if rule[0] not in "*!")
        self.wild = frozenset(rule[2:] for rule in rules if rule.startswith("*.") and "." not in rule[2:])
        self.exceptions = frozenset(rule[1:] for rule in rules if rule[0] == "!")
        self._keys = [_keys(names) for names in (self.names, self.wild, self.exceptions)]

    def __contains__(self, host: str) -> bool:
        """
        >>> [host in Suffixes() for host in ("com", "co.uk", "blogspot.com", "com.bd", "www.ck", "example.com", "a.com.bd")]
        [True, True, True, True, False, False, False]
        """
        return host in self.names or (host.partition(".")[2] in self.wild and host not in self.exceptions)

    def has(self, keys: np.ndarray, above: np.ndarray) -> np.ndarray:
        """The same for many: bool, shape (n,). `above`: keys of the top-level domain of names with one dot, else 0."""
        names, wild, exceptions = self._keys
        found: np.ndarray = _isin(keys, names) | (_isin(above, wild) & ~_isin(keys, exceptions))
        return found


@cache
def suffix_rules() -> tuple[str, ...]:
    """Rules in punycode: `com`, `co.uk`, `*.bd`, `!www.ck`."""
    from publicsuffixlist import PSLFILE

    lines = (line.split("//")[0].strip() for line in Path(PSLFILE).read_text(encoding="utf-8").splitlines())
    return tuple(clean_host(line) for line in lines if line)


def _keys(names: Iterable[str]) -> np.ndarray:
    """Keys of domains, uint64, ascending; the largest number at the end, so that a place is found for every key."""
    keys = [key_of(name) for name in names]
    return np.array([*sorted(keys), (1 << 64) - 1], np.uint64)


def _isin(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`numpy.isin` for a few sorted values."""
    found: np.ndarray = known[known.searchsorted(keys)] == keys
    return found
