"""Stages of a chaos campaign: real ones, stretched so that faults hit the middle of them; a campaign copies this file beside its run.toml.

Each slice, and each unit that has none, is noted in a journal before it is worked on. Which unit, attempt and slice it is
says the folder that a stage is given: `tmp/<stage>/<fp12>/<unit>@<attempt>/slice-<number>`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from ccpipe.annotate import Annotator, Documents
from ccpipe.counts import Counts
from ccpipe.extract import Extract
from ccpipe.sig import Sign
from ccpipe.stage import Cursor, Inputs, Outputs, Unit, tuning


def note(config: Any, attempt: Path, piece: Path | None) -> None:
    """One line in the journal (a short append is never torn), then half of the pause.

    attempt, piece: the attempt's folder and the slice's, which is empty still: its time of change is that of its making.
    """
    if config.journal:
        unit, _, name = attempt.name.partition("@")
        line = {"stage": attempt.parents[1].name, "fp12": attempt.parent.name, "unit": unit, "attempt": name, "pid": os.getpid()}
        line |= {
            "slice": int(piece.name.rpartition("-")[2]) if piece else None,
            "at": time.time(),
            "made": (piece or attempt).stat().st_mtime,
        }
        with Path(config.journal).open("a") as file:
            file.write(json.dumps(line) + "\n")
    time.sleep(config.pause_s / 2)


class SlowExtract(Extract):
    """The real extraction."""

    class Config(Extract.Config):
        journal: str = tuning("", "where slices are noted")
        pause_s: float = tuning(0.0, "seconds that a slice lasts at least", ge=0)

    def slice(self, unit: Unit, inputs: Inputs, folder: Path, cursor: Cursor | None) -> tuple[Counts, Cursor | None]:
        note(self.config, folder.parent, folder)
        made = super().slice(unit, inputs, folder, cursor)
        time.sleep(self.config.pause_s / 2)
        return made


class SlowCount(Annotator):
    """Counts characters; documents of fewer than `floor` are too short."""

    class Config(Annotator.Config):
        floor: int = Field(0, description="characters", ge=0)
        journal: str = tuning("", "where slices are noted")
        pause_s: float = tuning(0.0, "seconds that a slice lasts at least", ge=0)

    def new_columns(self) -> dict[str, pa.DataType]:
        return {"chars": pa.int32(), "reason": pa.string()}

    def annotate(self, docs: Documents) -> Mapping[str, Any]:
        chars = [len(text) for text in docs.texts()]
        return {"chars": chars, "reason": ["short" if n < self.config.floor else None for n in chars]}

    def slice(self, unit: Unit, inputs: Inputs, folder: Path, cursor: Cursor | None) -> tuple[Counts, Cursor | None]:
        note(self.config, folder.parent, folder)
        made = super().slice(unit, inputs, folder, cursor)
        time.sleep(self.config.pause_s / 2)
        return made


class SlowSign(Sign):
    """The real signatures; a unit has no slices."""

    class Config(Sign.Config):
        journal: str = tuning("", "where units are noted")
        pause_s: float = tuning(0.0, "seconds that a unit lasts at least", ge=0)

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        note(self.config, out["sig"].parent, None)
        counts = super().run(unit, inputs, out)
        time.sleep(self.config.pause_s / 2)
        return counts


__all__: Sequence[str] = ("SlowCount", "SlowExtract", "SlowSign")
