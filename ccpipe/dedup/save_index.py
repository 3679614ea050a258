"""Saving the band index of a run, so that later runs can be deduplicated against it (`ccpipe.dedup.past`).

In: the route files of a run, on demand its signatures and its marks. Out: a folder with hard links to them (copies on another
filesystem) and `index.json`, written last: a folder without it is no index. With the marks only keys of documents that were
kept are saved: smaller, and a later document that resembles only a dropped one is then kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ccpipe.dedup.files import BandFile, write_bands
from ccpipe.dedup.indexfile import INDEX
from ccpipe.dedup.past import FORMAT, BadIndex, identity

BLOCK_RECORDS = 1 << 18
LAST_KEY = (1 << 64) - 1

Keeps = Callable[[int], np.ndarray]
"""Shard -> which of its documents were kept: bool, shape (n_docs,)."""


def save_index(
    folder: Path,
    name: str,
    routes: Sequence[Path],
    made: Mapping[str, Any],
    sigs: Sequence[Path] = (),
    keeps: Keeps | None = None,
) -> dict[str, Any]:
    """Write the index; returns what index.json says. Raises `BadIndex`, `BadFile`.

    name: what marks call it; made: `signed` and `scope` of the run's config.
    """
    if (folder / INDEX).exists():
        raise BadIndex(f"{folder} holds an index already, expected a new folder: give --to another one, or remove this one first")
    files = [BandFile(path) for path in routes]
    bandings = {(file.header.bands, file.header.rows) for file in files}
    if len(bandings) != 1:
        raise BadIndex(f"{len(files)} route files of bandings {sorted(bandings)}, expected one banding: run dedup.route to its end first")
    bands, rows = bandings.pop()
    value = {
        "format": FORMAT,
        "name": name,
        "identity": identity(bands, rows, made["signed"], made["scope"]),
        "documents": "kept" if keeps else "all",
        "route": [_save(file, folder, keeps) for file in files],
        "sig": [_link(path, folder / "sig" / path.name) for path in sigs],
    }
    written = folder / f".{INDEX}"
    written.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    written.replace(folder / INDEX)
    return value


def _save(file: BandFile, folder: Path, keeps: Keeps | None) -> dict[str, Any]:
    out = folder / "route" / file.path.name
    if keeps is None:
        return _link(file.path, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    n_records = sum(len(block) for block in _kept(file, keeps))
    write_bands(out, replace(file.header, n_docs=n_records // file.header.bands), _kept(file, keeps))
    return _entry(out, folder)


def _kept(file: BandFile, keeps: Keeps) -> Iterator[np.ndarray]:
    known: dict[int, np.ndarray] = {}
    for block in file.read_blocks(0, LAST_KEY, BLOCK_RECORDS):
        shards, rows = block[:, 1] >> np.uint64(32), block[:, 1] & np.uint64(0xFFFFFFFF)
        chosen = np.zeros(len(block), dtype=bool)
        for shard in map(int, np.unique(shards)):
            if shard not in known:
                known[shard] = keeps(shard)
            here = shards == np.uint64(shard)
            chosen[here] = known[shard][rows[here].astype(np.int64)]
        yield block[chosen]


def _link(path: Path, out: Path) -> dict[str, Any]:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    try:
        os.link(path, out)
    except OSError:
        shutil.copyfile(path, out)
    return _entry(out, out.parent.parent)


def _entry(path: Path, folder: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": str(path.relative_to(folder)), "bytes": path.stat().st_size, "sha256": digest}
