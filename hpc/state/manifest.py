"""The manifest: the frozen list of inputs and the shard that each belongs to. The same shards from first stage to last.

In: paths, globs or @list files. Out: `manifest.jsonl`, one line per file: path, bytes, shard, version, mtime_ns.
It is written once. Inputs that have changed since are told, and taken in only when asked for (`refreeze`): then whatever they
do not touch keeps its place, so that units and document ids of other shards stay what they are.
"""

from __future__ import annotations

import glob
import hashlib
import heapq
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from hpc.fs.files import publish_text_once, replace_text
from hpc.state.plan import FP_CHARS


class ManifestError(Exception):
    """Inputs that cannot become a manifest."""


@dataclass(frozen=True)
class InputFile:
    """`version`: how often the file was taken in changed; part of what its shard is. `mtime_ns`: only to notice a change (0: unknown)."""

    path: str
    bytes: int
    shard: int
    version: int = 0
    mtime_ns: int = 0


class Seen(NamedTuple):
    """A file as it lies there now."""

    path: str
    bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class Manifest:
    """`files` and `gone` in the order of shards, by path within a shard.

    `gone` are files that were inputs once. They are in no shard, but their shard numbers stay taken, and one that comes back
    gets its old place.
    """

    files: tuple[InputFile, ...]
    gone: tuple[InputFile, ...] = ()

    @property
    def n_shards(self) -> int:
        """Shard numbers given out so far; shards whose files are all gone are among them, and empty."""
        return 1 + max((file.shard for file in (*self.files, *self.gone)), default=-1)

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of what decides the content of shards: not of times of change, which may differ between equal copies."""
        lines = [_line(_place(file)) for file in self.files]
        if self.n_shards > Manifest(self.files).n_shards:
            lines.append(_line({"n_shards": self.n_shards}))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def text(self) -> str:
        return "".join([*(_line(asdict(file)) for file in self.files), *(_line({**asdict(file), "gone": True}) for file in self.gone)])

    def shards(self) -> list[list[InputFile]]:
        """Files of each shard, by shard number; an empty list for a shard whose files are all gone."""
        found: list[list[InputFile]] = [[] for _ in range(self.n_shards)]
        for file in self.files:
            found[file.shard].append(file)
        return found


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False) + "\n"


def _place(file: InputFile) -> dict[str, Any]:
    """A file as the fingerprint sees it; unchanged files look as they did before there were versions."""
    place = {"path": file.path, "bytes": file.bytes, "shard": file.shard}
    return {**place, "version": file.version} if file.version else place


@dataclass(frozen=True)
class Changes:
    """Paths, sorted, of inputs that are not as frozen. `touched` of the changed ones have the same size and another mtime."""

    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    touched: int = 0

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.gone or self.back)

    def text(self) -> str:
        """One line.

        >>> Changes(new=("/in/c", "/in/d"), changed=("/in/a",), touched=1).text()
        '2 new (c, ...), 1 changed (a; 1 of them only in mtime, which counts as changed)'
        """
        note = f"; {self.touched} of them only in mtime, which counts as changed" if self.touched else ""
        named = {"new": self.new, "changed": self.changed, "gone": self.gone, "back again": self.back}
        told = [
            f"{len(paths)} {kind} ({Path(paths[0]).name}{', ...' if len(paths) > 1 else ''}{note if kind == 'changed' else ''})"
            for kind, paths in named.items()
            if paths
        ]
        return ", ".join(told) or "no changes"


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


def look_at(paths: Iterable[str]) -> list[Seen]:
    """One stat for each file."""
    found = [(path, Path(path).stat()) for path in paths]
    return [Seen(path, stat.st_size, stat.st_mtime_ns) for path, stat in found]


def make_manifest(paths: Sequence[str], shard_bytes: int) -> Manifest:
    return take_in(Manifest(()), look_at(paths), shard_bytes)[0]


def take_in(manifest: Manifest, seen: Iterable[Seen], shard_bytes: int) -> tuple[Manifest, Changes]:
    """The manifest with the inputs of now, and what is different. Nothing moves but what changed.

    An unchanged file keeps its shard; one of another size or time of change keeps its shard too, and its version rises by one. That is
    the safe side: a file touched without being changed costs one shard's work, a changed one taken for unchanged would stay in
    the corpus for ever. Files gone leave their shard, whose number stays, perhaps empty. New files become new shards
    behind all others.
    """
    now = {file.path: file for file in seen}
    known = {file.path: file for file in (*manifest.files, *manifest.gone)}
    kept = [_kept(known[path], now[path]) for path in sorted(known.keys() & now.keys())]
    new = [now[path] for path in sorted(now.keys() - known.keys())]
    shards = balance([file.bytes for file in new], shard_bytes)
    first = manifest.n_shards
    added = [InputFile(file.path, file.bytes, first + shard, 0, file.mtime_ns) for file, shard in zip(new, shards, strict=True)]
    gone = [file for path, file in known.items() if path not in now]
    return Manifest(_ordered([*kept, *added]), _ordered(gone)), _changes(manifest, now)


def _kept(frozen: InputFile, now: Seen) -> InputFile:
    version = frozen.version + _is_changed(frozen, now)
    return replace(frozen, bytes=now.bytes, version=version, mtime_ns=now.mtime_ns)


def _is_changed(frozen: InputFile, now: Seen) -> bool:
    return frozen.bytes != now.bytes or frozen.mtime_ns not in (0, now.mtime_ns)


def _ordered(files: Iterable[InputFile]) -> tuple[InputFile, ...]:
    return tuple(sorted(files, key=lambda file: (file.shard, file.path)))


def _changes(manifest: Manifest, now: dict[str, Seen]) -> Changes:
    frozen = {file.path: file for file in manifest.files}
    absent = {file.path: file for file in manifest.gone}
    known = {**frozen, **absent}
    changed = sorted(path for path in known.keys() & now.keys() if _is_changed(known[path], now[path]))
    return Changes(
        new=tuple(sorted(now.keys() - known.keys())),
        changed=tuple(changed),
        gone=tuple(sorted(frozen.keys() - now.keys())),
        back=tuple(sorted(absent.keys() & now.keys())),
        touched=sum(known[path].bytes == now[path].bytes for path in changed),
    )


# --- the file of a run ------------------------------------------------------------------------------------------------


def freeze(run: Path, patterns: Iterable[str], folder: Path, shard_bytes: int) -> tuple[Manifest, str | None]:
    """The run's manifest, made now if there is none. The second value says how the inputs have changed since, or None.

    Inputs that can no longer be found do not stop a run whose manifest is frozen: they may have been read and deleted.
    """
    path = run / "manifest.jsonl"
    if not path.exists():
        publish_text_once(path, make_manifest(expand_inputs(patterns, folder), shard_bytes).text())
    manifest = load_manifest(path)
    return manifest, _notice(path, manifest, patterns, folder, shard_bytes)


def refreeze(run: Path, patterns: Iterable[str], folder: Path, shard_bytes: int) -> tuple[Manifest, Changes]:
    """Take in the inputs as they are today; the rules are those of `take_in`.

    The manifest is replaced in one step. The older one stays beside it as `manifest.<12 hex digits of its fingerprint>.jsonl`.
    Raises `ManifestError` for a pattern that finds nothing: that is rather a filesystem that is not mounted than a wish.
    """
    path = run / "manifest.jsonl"
    if not path.exists():
        publish_text_once(path, make_manifest(expand_inputs(patterns, folder), shard_bytes).text())
        return load_manifest(path), Changes()
    old = load_manifest(path)
    manifest, changes = take_in(old, look_at(expand_inputs(patterns, folder)), shard_bytes)
    if manifest.fingerprint != old.fingerprint:
        publish_text_once(path.with_name(f"manifest.{old.fingerprint[:FP_CHARS]}.jsonl"), old.text())
    if manifest != old:
        replace_text(path, manifest.text())
    return manifest, changes


def _notice(path: Path, manifest: Manifest, patterns: Iterable[str], folder: Path, shard_bytes: int) -> str | None:
    """What the config and the inputs say now that the frozen manifest does not."""
    try:
        seen = look_at(expand_inputs(patterns, folder))
    except ManifestError as error:
        return f"{error}. {path} is frozen and names {len(manifest.files)} files; stages that do not read them go on"
    changes = _changes(manifest, {file.path: file for file in seen})
    if changes:
        return (
            f"the inputs have changed since {path} was frozen: {changes.text()}. They are not taken in; to do that, plan, run "
            "or submit with --take-inputs: only the shards of these files, and what depends on them, are worked on again"
        )
    files = sorted(manifest.files, key=lambda file: file.path)
    balanced = balance([file.bytes for file in files], shard_bytes) == [file.shard for file in files]
    if not balanced and not _was_replaced(path):
        return f"shard_bytes has changed since {path} was frozen; its {manifest.n_shards} shards stay. Use another run directory for others"
    return None


def _was_replaced(path: Path) -> bool:
    """Whether inputs were taken in later: shards that grew in steps need not be what one step would make of them."""
    return next(path.parent.glob("manifest.*.jsonl"), None) is not None


def load_manifest(path: Path) -> Manifest:
    # not splitlines(): a file name may hold what Unicode calls a line separator
    files: dict[bool, list[InputFile]] = {False: [], True: []}
    for line in filter(None, path.read_text(encoding="utf-8").split("\n")):
        value = json.loads(line)
        files[value.pop("gone", False)].append(InputFile(**value))
    return Manifest(tuple(files[False]), tuple(files[True]))
