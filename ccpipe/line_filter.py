"""Line-level dedup as a stage uses it: what `ccpipe.lines` says of one document, counted, and remembered over the slices of a shard.

In: documents in the order of the shard. Out: their texts without repeated lines. The keys that a slice adds are a file of that slice
(`SLICE_LINES`), so that an attempt that goes on behind committed slices knows what they held: the result does not depend on where
slices were cut, or on who cut them. Memory: 16 bytes for each line remembered, at most 16 * `max_lines`, half as much more while
the table grows; on disk 8 bytes each, until the unit is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ccpipe.lines import NOTHING_SEEN, Kept, Key, SeenLines, drop_repeated

SLICE_LINES = "lines.npy"

Scope = Literal["off", "document", "shard"]


class LineFilter:
    """One for all units of a process; `go_on` before every slice, `save` behind it."""

    def __init__(self, scope: Scope, key: Key, min_letters: int, max_lines: int) -> None:
        self._scope, self._key, self._min_letters, self._max_lines = scope, key, min_letters, max_lines
        self._folders: list[Path] = []
        self._new: list[np.ndarray] | None = []
        self._seen = SeenLines(max_lines)

    def go_on(self, slices: Sequence[Path]) -> None:
        """Know the lines of these committed slices, in order, and no others."""
        folders = list(slices)
        if not self._is_behind(folders):
            self._seen = SeenLines(self._max_lines)
            for folder in folders if self._scope == "shard" else ():
                self._seen.add(np.load(folder / SLICE_LINES))
        self._folders, self._new = folders, None

    def _is_behind(self, folders: list[Path]) -> bool:
        """Whether what is remembered is what these slices hold: the last is the one that was saved here, not another attempt's."""
        if self._new is None or folders[:-1] != self._folders or not folders or self._scope != "shard":
            return False
        return np.array_equal(np.load(folders[-1] / SLICE_LINES), _joined(self._new))

    def start(self, n_before: int) -> None:
        """Begin a slice that comes behind `n_before` others. Raises `RuntimeError` where `go_on` was not told of them."""
        if self._scope == "shard" and len(self._folders) != n_before:
            raise RuntimeError(
                f"a slice behind {n_before} others, but {len(self._folders)} are known; expected all: call earlier_slices() before slice()"
            )
        self._fresh: list[np.ndarray] = []

    def drop(self, text: bytes, extra: Counter[str]) -> Kept:
        """The document without repeated lines, counted. It is remembered only once it is told to `keep`."""
        kept = drop_repeated(text, self._key, self._min_letters, self._seen.slots if self._scope == "shard" else NOTHING_SEEN)
        extra["lines_read"] += kept.n_lines
        extra["lines_dropped_document"] += kept.in_document
        extra["lines_dropped_shard"] += kept.in_shard
        if kept.n_dropped:
            extra["chars_dropped_with_lines"] += len(text.decode()) - len(kept.text.decode())
        return kept

    def keep(self, kept: Kept, extra: Counter[str]) -> None:
        """The document is kept: later ones are compared with its lines."""
        extra["lines_kept"] += kept.n_lines - kept.n_dropped
        if self._scope == "shard":
            new = self._seen.add(kept.keys)
            extra["lines_not_remembered"] += len(kept.keys) - len(new)
            self._fresh.append(new)

    def give_up(self, kept: Kept, extra: Counter[str]) -> None:
        """Too little of the document is left: its other lines stay unknown, so that the next document may keep them."""
        extra["lines_of_dropped_documents"] += kept.n_lines - kept.n_dropped

    def save(self, folder: Path) -> None:
        """Write what this slice has added into its folder."""
        if self._scope == "shard":
            np.save(folder / SLICE_LINES, _joined(self._fresh))
            self._new = self._fresh


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype=np.uint64), *parts])
