"""How many inodes a stage takes: a budget that `plan` prints, since shared filesystems have quotas of them.

Files are counted with their folders. Outputs are one file for each unit and dataset; everything else is bookkeeping, of which
little is left once a stage of many units has been folded.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpc.state.fold import FOLD_UNITS
from hpc.state.plan import Plan

FIXED = 15
"""Folders and files of any stage: two folders in state/ and one in tmp/; those of done, claims, launches, tasks and logs; plan.json,
units.json, _SUCCESS.json, done.zip; a launch, its job script, the log of the gate."""

PER_DATASET = 3
"""Two folders and the link `current`."""

PER_TASK = 2
"""A log and a record."""

PER_SLICE = 2
"""A record and a folder, beside the files in it."""


@dataclass(frozen=True)
class Budget:
    """Inodes of one launch of a stage, in all.

    outputs: files that the stage is there for, with their folders. running: the most at any moment while tasks work.
    ended: when the last unit has been committed. kept: after the gate has folded the stage. units: of the plan.
    """

    units: int
    outputs: int
    running: int
    ended: int
    kept: int

    @property
    def per_unit(self) -> float:
        """Bookkeeping that stays, inodes per unit."""
        return (self.kept - self.outputs) / max(self.units, 1)

    def text(self) -> str:
        """One line for `plan`."""
        return (
            f"Inodes: {self.outputs:,} for outputs; with bookkeeping at most {self.running:,} while it runs, {self.ended:,} at its end, "
            f"{self.kept:,} after the gate ({self.per_unit:.2g} per unit beside the outputs)."
        )


def budget(plan: Plan, tasks: int, procs: int, folded: bool | None = None, slices: int = 1) -> Budget:
    """The inodes of a stage worked on by `tasks` tasks of `procs` processes.

    folded: whether the gate folds the sentinels; None: as it does by itself, from `FOLD_UNITS` units on. slices: of a unit, at most;
    each holds one file for each output.
    """
    units, datasets = len(plan.units), len(plan.outputs)
    folded = units >= FOLD_UNITS if folded is None else folded
    outputs = datasets * (units + PER_DATASET)
    fixed = FIXED + PER_TASK * tasks
    ended = outputs + fixed + units
    # a claim, a scratch folder with outputs and a file not yet renamed, a folder of slice records, the slices
    unit_in_flight = 4 + datasets + slices * (PER_SLICE + datasets)
    return Budget(
        units=units,
        outputs=outputs,
        running=ended + unit_in_flight * min(units, tasks * procs),
        ended=ended,
        kept=outputs + fixed + (0 if folded else units),
    )
