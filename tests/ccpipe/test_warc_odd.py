"""Odd archives of public projects, one by one: how many records, how many responses, what damage. And the traps that took readers in.

The counts agree with warcio 1.8 wherever it reads a file without an error, except where a line says why not.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from ccpipe.warc import read_records

CASES = json.loads((Path(__file__).parent / "warc_odd.json").read_text())


@pytest.mark.shared
@pytest.mark.parametrize("name", CASES)
def test_an_odd_archive(shared_data: Path, name: str) -> None:
    path = shared_data / "warc-odd" / name
    damage: Counter[str] = Counter()
    records = list(read_records(path, None, 1 << 20, damage))
    expected = CASES[name]
    assert Counter(one.kind for one in records) == expected["kinds"]
    assert damage == expected["damage"]
    assert [one.damage for one in records if one.damage] == expected.get("marked", [])


@pytest.mark.shared
def test_the_table_has_every_file(shared_data: Path) -> None:
    folder = shared_data / "warc-odd"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.suffix != ".md"}
    assert files == set(CASES)
