"""Earlier crawls: saved band indices, merge-joined in match instead of being built again.

A band index is a folder: `index.json`, the route files of an earlier run under `route/`, and, where links are to be verified
against it, its signatures under `sig/`. index.json names the files with their sizes and digests, and what makes keys comparable:
bands, rows, what signed, scope. `ccpipe save-index` writes it.

Ids between match and mark, where there is a past: a document of ours is `OURS | id`, one of the past `number << 56 | id`,
number = 1 for the first folder of `against`. So the past comes before all of ours, is never a duplicate itself, and is never
mistaken for one of ours: documents of a run have less than 56 bits. Marks hold ids of ours as ever, those of the past in this form.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ccpipe.dedup.files import BadFile, BandFile

FORMAT = "ccpipe band index 1"
PAST_SHIFT = 56
OURS = 1 << 63


class BadIndex(ValueError):
    """A saved index that is none, or that does not fit this run."""


@dataclass(frozen=True)
class PastIndex:
    """A saved index, opened. `sigs`: by shard, empty where they were not saved."""

    path: Path
    number: int
    name: str
    identity: Mapping[str, Any]
    routes: tuple[Path, ...]
    sigs: tuple[Path, ...]


def identity(bands: int, rows: int, signed: Mapping[str, Any] | None, scope: str | None) -> dict[str, Any]:
    """What must be equal for keys of two runs to be comparable."""
    return {"bands": bands, "rows": rows, "scope": scope, "signed": dict(signed or {})}


def open_index(path: Path, number: int) -> PastIndex:
    """Open one index and look at all of its files. Raises `BadIndex`."""
    again = f"save it again with `ccpipe save-index --to {path.parent}`, or take it out of against"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.get("format") != FORMAT:
            raise BadIndex(f"{path} has format {value.get('format')!r}, expected {FORMAT!r}: {again}")
        files = {kind: [(path.parent / item["path"], item["bytes"]) for item in value[kind]] for kind in ("route", "sig")}
        for file, size in files["route"] + files["sig"]:
            found = file.stat().st_size if file.is_file() else None
            if found != size:
                seen = "is not there" if found is None else f"has {found} bytes"
                raise BadIndex(f"{file} {seen}, {path} promises {size} bytes: {again}")
        routes, sigs = (tuple(file for file, _ in files[kind]) for kind in ("route", "sig"))
        return PastIndex(path, number, str(value["name"]), value["identity"], routes, sigs)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise BadIndex(f"{path} is no index of a run ({type(error).__name__}: {error}), expected index.json: {again}") from None


def open_indices(against: Sequence[str]) -> list[PastIndex]:
    """All indices, numbered from 1. Raises `BadIndex`."""
    return [open_index(Path(path), number) for number, path in enumerate(against, 1)]


def check_identity(index: PastIndex, ours: Mapping[str, Any], verified: bool) -> None:
    """Raises `BadIndex` naming every difference between the index and this run."""
    theirs = _flat(index.identity)
    mine = _flat(ours)
    seen = [
        f"{key} = {theirs.get(key)!r} there, {mine.get(key)!r} here" for key in sorted({*theirs, *mine}) if theirs.get(key) != mine.get(key)
    ]
    if seen:
        raise BadIndex(
            f"against: {index.path} was made in another way ({'; '.join(seen)}), and equal keys mean nothing: give this run the same "
            f"settings, or make the index anew from the earlier run with these"
        )
    if verified and not index.sigs:
        raise BadIndex(
            f'against: {index.path} holds no signatures, which verify and giant = "split" compare: save it again with '
            "`ccpipe save-index --signatures`, or take these out"
        )


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else {prefix + key: inner}
    return found


# --- the join ---


class TaggedFile(BandFile):
    """A band file whose documents are read in the form that tells runs apart. Raises `BadFile` for ids that leave no room for it."""

    def __init__(self, path: Path, tag: int) -> None:
        super().__init__(path)
        self.tag = tag

    def read_blocks(self, first: int, last: int, block_records: int) -> Iterator[np.ndarray]:
        for block in super().read_blocks(first, last, block_records):
            if len(block) and int(block[:, 1].max()) >> PAST_SHIFT:
                raise BadFile(
                    f"{self.path} has document {int(block[:, 1].max())}, and with `against` a run may have {1 << (PAST_SHIFT - 32):,} "
                    "shards: make its shards larger (shard_bytes), or take against out"
                )
            block[:, 1] |= np.uint64(self.tag)
            yield block


def tag_all(routes: Sequence[Path], past: Sequence[PastIndex]) -> list[BandFile]:
    """The route files of all indices and of ours, to be read as one."""
    theirs = [TaggedFile(path, index.number << PAST_SHIFT) for index in past for path in index.routes]
    return [*theirs, *(TaggedFile(path, OURS) for path in routes)]


def only_ours(links: np.ndarray) -> np.ndarray:
    """Without the links of one document of the past to another: uint64, shape (n, 2)."""
    return links[links[:, 0] >= np.uint64(OURS)]


def name_past(of: int, names: Sequence[str]) -> str | None:
    """What a mark says of a document of the past; None for one of ours.

    >>> name_past(1 << 56 | 12 << 32 | 345, ["cc-2024-10"]), name_past(12 << 32 | 345, [])
    ('cc-2024-10/00012-345', None)
    """
    number, document = of >> PAST_SHIFT, of & ((1 << PAST_SHIFT) - 1)
    return f"{names[number - 1]}/{document >> 32:05d}-{document & 0xFFFFFFFF}" if number else None
