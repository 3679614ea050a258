"""Notes when slice records and sentinels were first seen, while a flow runs: a slice or unit was committed then, at the latest.

A thread that reads a few small folders twenty times a second. Only what is on disk is looked at, nothing of the code under test.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

Piece = tuple[str, str, str, int | None]
"""Stage, fp12, unit, number of the slice; None: the whole unit."""

LOOK_S = 0.05


@dataclass
class Watcher:
    """`seen`: when a piece was first seen committed (seconds since the epoch). `winners`: unit -> the attempt its first sentinel named."""

    run: Path
    seen: dict[Piece, float] = field(default_factory=dict)
    winners: dict[Piece, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.look()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        for version in self.run.glob("state/*/*"):
            if version.is_dir():
                stage, fp12 = version.parent.name, version.name
                for record in version.glob("slices/*/[0-9]*.json"):
                    self._note((stage, fp12, record.parent.name, int(record.stem)), None)
                for sentinel in version.glob("done/[!.]*.json"):
                    self._note((stage, fp12, sentinel.stem, None), sentinel)

    def _note(self, piece: Piece, sentinel: Path | None) -> None:
        if piece in self.seen:
            return
        if sentinel is not None:
            with contextlib.suppress(FileNotFoundError):  # folded or taken back meanwhile
                self.winners[piece] = json.loads(sentinel.read_text())["attempt"]["id"]
        self.seen[piece] = time.time()
