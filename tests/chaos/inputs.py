"""Many small WARC files made of the demo's four: gzip members are records, so files can be cut between them."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def make_inputs(folder: Path, parts: int = 3) -> Path:
    """The demo's pages in `parts` times as many files; returns their folder. Models are made where they are missing."""
    command = [sys.executable, "-m", "jobs.demo.prepare", folder / "demo", REPO / ".cache" / "models"]
    subprocess.run(command, cwd=REPO, check=True, capture_output=True)
    into = folder / "input"
    into.mkdir()
    for warc in sorted((folder / "demo" / "input").glob("*.warc.gz")):
        members = split_members(warc.read_bytes())
        for part in range(parts):
            first, last = (len(members) * n // parts for n in (part, part + 1))
            (into / f"{warc.name.partition('.')[0]}-{part}.warc.gz").write_bytes(b"".join(members[first:last]))
    return into


def split_members(data: bytes) -> list[bytes]:
    """The gzip members of a file; from a damaged one on, the rest is one piece.

    >>> import gzip
    >>> one, two = gzip.compress(b"one"), gzip.compress(b"two")
    >>> split_members(one + two) == [one, two]
    True
    """
    members = []
    while data:
        member = zlib.decompressobj(wbits=31)
        try:
            member.decompress(data)
        except zlib.error:
            return [*members, data]
        rest = member.unused_data
        members.append(data[: len(data) - len(rest)])
        data = rest
    return members
