"""Identities of two versions of a stage: which keys differ. Values only, no files.

An identity is what a fingerprint is made of: config, stage version, digests of models, what comes in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hpc.fs.files import to_json

ABSENT = "(absent)"
"""Value of a key that one of two identities does not have."""

_DIGEST = re.compile(r"[0-9a-f]{40,}")
DIGEST_CHARS = 12

Difference = tuple[str, Any, Any]
"""Key with dots between the names of tables, value before, value now."""


def differing_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """What makes two fingerprints differ, sorted by key; empty exactly when the fingerprints are equal.

    Tables are looked into, lists are values. Values are equal when their JSON is: 1 and 1.0 are different.

    >>> differing_keys({"config": {"min_score": 0.5, "k": 3}}, {"config": {"min_score": 0.6, "k": 3, "where": None}})
    [('config.min_score', 0.5, 0.6), ('config.where', '(absent)', None)]
    """
    return list(_differences("", old, new))


def _differences(key: str, old: Any, new: Any) -> Iterator[Difference]:
    tables = [value for value in (old, new) if isinstance(value, Mapping)]
    if len(tables) == 2 or (tables and tables[0] and ABSENT in (old, new)):
        before, now = (value if isinstance(value, Mapping) else {} for value in (old, new))
        for name in sorted(before.keys() | now.keys()):
            yield from _differences(f"{key}.{name}" if key else name, before.get(name, ABSENT), now.get(name, ABSENT))
    elif to_json(old) != to_json(new):
        yield key, old, new


def difference_line(difference: Difference) -> str:
    """
    >>> difference_line(("models.model", "1a2b3c4d" * 8, "5e6f7a8b" * 8))
    'models.model: 1a2b3c4d1a2b.. -> 5e6f7a8b5e6f..'
    """
    key, old, new = difference
    return f"{key}: {_shown(old)} -> {_shown(new)}"


def _shown(value: Any) -> str:
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return f"{value[:DIGEST_CHARS]}.."
    return value if value == ABSENT else to_json(value).decode().replace("\n", "").strip()
