"""The manifest: the frozen list of inputs and the shard that each belongs to. Written once; the same shards from first stage to last.

In: paths, globs or @list files. Out: `manifest.jsonl`, one line per file: path, bytes, shard.
"""

from __future__ import annotations

import glob
import hashlib
import heapq
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hpc.files import publish_text_once


class ManifestError(Exception):
    """Inputs that cannot become a manifest."""


@dataclass(frozen=True)
class InputFile:
    path: str
    bytes: int
    shard: int


@dataclass(frozen=True)
class Manifest:
    """`files` in the order of shards, by path within a shard."""

    files: tuple[InputFile, ...]

    @property
    def n_shards(self) -> int:
        return 1 + max((file.shard for file in self.files), default=-1)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.text().encode()).hexdigest()

    def text(self) -> str:
        return "".join(json.dumps(asdict(file), sort_keys=True, ensure_ascii=False) + "\n" for file in self.files)

    def shards(self) -> list[list[InputFile]]:
        """Files of each shard, by shard number."""
        found: list[list[InputFile]] = [[] for _ in range(self.n_shards)]
        for file in self.files:
            found[file.shard].append(file)
        return found


def expand_inputs(patterns: Iterable[str], folder: Path) -> list[str]:
    """Absolute paths of the inputs, sorted, each once. Raises `ManifestError` for a pattern that finds nothing."""
    found: set[str] = set()
    for pattern in patterns:
        if pattern.startswith("@"):
            listing = folder / pattern[1:]
            if not listing.is_file():
                raise ManifestError(f"input list {listing} does not exist; expected a text file with one path per line")
            lines = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines()]
            matches = [str(folder / line) for line in lines if line and not line.startswith("#")]
        elif (folder / pattern).is_file():
            matches = [str(folder / pattern)]  # a name as it is, also with brackets in it
        else:
            # root_dir: a bracket in the name of the folder is no pattern
            matches = [str(folder / match) for match in glob.glob(pattern, root_dir=folder, recursive=True)]
        files = {os.path.abspath(match) for match in matches if Path(match).is_file()}
        missing = [match for match in matches if not Path(match).exists()]
        if missing:
            raise ManifestError(f"{pattern} names {len(missing)} files that do not exist, the first is {missing[0]}")
        if not files:
            raise ManifestError(
                f"inputs {pattern!r} match no file (looked from {folder}); check the path, or quote a glob as it would be typed in a shell"
            )
        found |= files
    odd = next((path for path in found if path != path.encode(errors="replace").decode()), None)
    if odd is not None:
        raise ManifestError(f"the name {odd!r} is not UTF-8, as a manifest must be; rename the file or link it under another name")
    return sorted(found)


def balance(sizes: Sequence[int], shard_bytes: int) -> list[int]:
    """The shard of each file: as few shards as hold `shard_bytes` each on average, filled largest file first.

    Every file is in exactly one shard, no shard is empty, and the heaviest holds at most the mean plus one file.

    >>> balance([5, 1, 4, 2], 6)
    [0, 0, 1, 1]
    """
    if not sizes:
        return []
    n_shards = min(len(sizes), max(1, math.ceil(sum(sizes) / shard_bytes)))
    heap = [(0, 0, shard) for shard in range(n_shards)]
    shards = [0] * len(sizes)
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        load, files, shard = heapq.heappop(heap)
        shards[i] = shard
        heapq.heappush(heap, (load + sizes[i], files + 1, shard))
    return shards


def make_manifest(paths: Sequence[str], shard_bytes: int) -> Manifest:
    sizes = [Path(path).stat().st_size for path in paths]
    shards = balance(sizes, shard_bytes)
    files = [InputFile(path, size, shard) for path, size, shard in zip(paths, sizes, shards, strict=True)]
    return Manifest(tuple(sorted(files, key=lambda file: (file.shard, file.path))))


def freeze(run: Path, patterns: Iterable[str], folder: Path, shard_bytes: int) -> tuple[Manifest, str | None]:
    """The run's manifest, made now if there is none. The second value says how the inputs have changed since, or None.

    Inputs that can no longer be found do not stop a run whose manifest is frozen: they may have been read and deleted.
    """
    path = run / "manifest.jsonl"
    if not path.exists():
        publish_text_once(path, make_manifest(expand_inputs(patterns, folder), shard_bytes).text())
    manifest = load_manifest(path)
    return manifest, _notice(path, manifest, patterns, folder, shard_bytes)


def _notice(path: Path, manifest: Manifest, patterns: Iterable[str], folder: Path, shard_bytes: int) -> str | None:
    """What the config says now that the frozen manifest does not."""
    try:
        now = set(expand_inputs(patterns, folder))
    except ManifestError as error:
        return f"{error}. {path} is frozen and names {len(manifest.files)} files; stages that do not read them go on"
    files = sorted(manifest.files, key=lambda file: file.path)
    frozen = {file.path for file in files}
    new, gone = len(now - frozen), len(frozen - now)
    if new or gone:
        return (
            f"the inputs have changed since {path} was frozen: {new} new files, {gone} no longer named; they are not taken in. "
            "Use another run directory for another input list"
        )
    if balance([file.bytes for file in files], shard_bytes) != [file.shard for file in files]:
        return f"shard_bytes has changed since {path} was frozen; its {manifest.n_shards} shards stay. Use another run directory for others"
    return None


def load_manifest(path: Path) -> Manifest:
    # not splitlines(): a file name may hold what Unicode calls a line separator
    lines = path.read_text(encoding="utf-8").split("\n")
    return Manifest(tuple(InputFile(**json.loads(line)) for line in lines if line))
