"""A user's own stages, as they would lie beside a run.toml; tests copy this file there.

Each slice is noted in a journal before it is worked on and takes `pause_s` longer than it needs to, so that a test can
disturb it in the middle and later read what was done, by whom, and whether anything was done twice.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ccpipe.annotate import Annotator, Documents
from ccpipe.counts import Counts
from ccpipe.extract import Extract
from ccpipe.stage import Cursor, tuning


def note(journal: str, unit: int, begin: Any) -> None:
    """One line for each slice begun; a short append is never torn."""
    if journal:
        line = {"unit": unit, "begin": begin, "pid": os.getpid(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "")}
        line |= {"node": os.environ.get("SLURMD_NODENAME", ""), "restart": os.environ.get("SLURM_RESTART_COUNT", "0")}
        with Path(journal).open("a") as file:
            file.write(json.dumps(line) + "\n")


class Slow(Annotator):
    """Counts characters, slowly. While the file `broken` exists, shard 1 fails."""

    class Config(Annotator.Config):
        pause_s: float = tuning(0.0, "extra time for each slice, seconds", ge=0)
        journal: str = tuning("", "where slices are noted")
        broken: str = tuning("", "while this file exists, shard 1 fails")

    def new_columns(self) -> dict[str, pa.DataType]:
        return {"chars": pa.int32()}

    def annotate(self, docs: Documents) -> Mapping[str, Any]:
        shard, row = divmod(int(docs.ids[0]), 1 << 32)
        note(self.config.journal, shard, row)
        time.sleep(self.config.pause_s)
        if shard == 1 and self.config.broken and Path(self.config.broken).exists():
            raise ValueError("shard 1 cannot be counted")
        return {"chars": [len(text) for text in docs.texts()]}


class SlowExtract(Extract):
    """The real extraction, slowly."""

    class Config(Extract.Config):
        pause_s: float = tuning(0.0, "extra time for each slice, seconds", ge=0)
        journal: str = tuning("", "where slices are noted")

    def slice(self, unit: Any, inputs: Mapping[str, Sequence[Path]], folder: Path, cursor: Cursor | None) -> tuple[Counts, Cursor | None]:
        note(self.config.journal, unit.index, cursor)
        time.sleep(self.config.pause_s)
        return super().slice(unit, inputs, folder, cursor)
