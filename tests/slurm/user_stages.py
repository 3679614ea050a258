"""A user's own stages, as they would lie beside a run.toml; tests copy this file there.

Each slice is noted in a journal before it is worked on. From the slice `hold_after` + 1 on it then waits while the file
`hold` exists, so that a test can disturb it in the middle, and later read what was done, by whom, and whether twice.
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

ALL = -1
HOG_S = 4.0
"""Long enough for Slurm to see the memory, which it samples every second."""


def begin_slice(config: Any, unit: int, begin: Any) -> None:
    """One line in the journal for each slice (a short append is never torn); then the waiting, and the trouble."""
    if config.journal:
        line = {"unit": unit, "begin": begin, "pid": os.getpid(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "")}
        line |= {"restart": os.environ.get("SLURM_RESTART_COUNT", "0"), "array": os.environ.get("SLURM_ARRAY_JOB_ID", "")}
        line |= {"element": os.environ.get("SLURM_ARRAY_TASK_ID", "")}
        with Path(config.journal).open("a") as file:
            file.write(json.dumps(line) + "\n")
        if len(Path(config.journal).read_text().splitlines()) > config.hold_after and config.hold_unit in (ALL, unit):
            while config.hold and Path(config.hold).exists():
                time.sleep(0.05)
    if config.hog_mb and unit == config.hog_unit:
        hog = bytearray(config.hog_mb << 20)
        time.sleep(HOG_S)
        del hog
    if config.broken and unit == config.broken_unit and Path(config.broken).exists():
        raise ValueError(f"shard {unit} cannot be counted")
    time.sleep(config.slice_s)


class Slow(Annotator):
    """Counts characters."""

    class Config(Annotator.Config):
        journal: str = tuning("", "where slices are noted")
        hold: str = tuning("", "while this file exists, slices wait")
        hold_after: int = tuning(0, "slices that do not wait", ge=0)
        hold_unit: int = tuning(ALL, "shard whose slices wait; -1: all")
        broken: str = tuning("", "while this file exists, one shard fails")
        broken_unit: int = tuning(1, "the shard that fails")
        hog_mb: int = tuning(0, "memory that slices of one shard take, MB")
        hog_unit: int = tuning(1, "the shard that takes it")
        slice_s: float = tuning(0.0, "how long a slice lasts at least, seconds")

    def new_columns(self) -> dict[str, pa.DataType]:
        return {"chars": pa.int32()}

    def annotate(self, docs: Documents) -> Mapping[str, Any]:
        shard, row = divmod(int(docs.ids[0]), 1 << 32)
        begin_slice(self.config, shard, row)
        return {"chars": [len(text) for text in docs.texts()]}


class SlowExtract(Extract):
    """The real extraction."""

    class Config(Extract.Config):
        journal: str = tuning("", "where slices are noted")
        hold: str = tuning("", "while this file exists, slices wait")
        hold_after: int = tuning(0, "slices that do not wait", ge=0)
        hold_unit: int = tuning(ALL, "shard whose slices wait; -1: all")
        broken: str = tuning("", "while this file exists, one shard fails")
        broken_unit: int = tuning(1, "the shard that fails")
        hog_mb: int = tuning(0, "memory that slices of one shard take, MB")
        hog_unit: int = tuning(1, "the shard that takes it")
        slice_s: float = tuning(0.0, "how long a slice lasts at least, seconds")

    def slice(self, unit: Any, inputs: Mapping[str, Sequence[Path]], folder: Path, cursor: Cursor | None) -> tuple[Counts, Cursor | None]:
        begin_slice(self.config, unit.index, cursor)
        return super().slice(unit, inputs, folder, cursor)
