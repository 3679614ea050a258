"""The state folder of one stage at one fingerprint: names of files, and the questions that their existence answers.

state/<stage>/<fp12>/
  plan.json           what is to be done; never changes
  launches/<id>.json  one launch: its pending units; never changes
  claims/<unit>       somebody works on this unit (advisory)
  slices/<unit>/      committed pieces of a unit in progress
  done/<unit>.json    sentinels: this unit is committed
  failed/             one file for each failed attempt; those in failed/forgiven/ no longer count (`retry`)
  retired/            sentinels taken back, because their inputs were committed anew
  logs/               output of tasks
  _SUCCESS.json       the stage is complete: all sentinels folded into one file

tmp/<stage>/<fp12>/   beside `state`: what attempts are writing; emptied when the stage is complete
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hpc.files import names_in, read_json_if_exists
from hpc.plan import Plan, load_plan


@dataclass(frozen=True)
class StageState:
    run: Path
    stage: str
    fp12: str

    @cached_property
    def folder(self) -> Path:
        return self.run / "state" / self.stage / self.fp12

    @cached_property
    def plan(self) -> Plan:
        return load_plan(self.plan_path)

    @property
    def plan_path(self) -> Path:
        return self.folder / "plan.json"

    @property
    def success_path(self) -> Path:
        return self.folder / "_SUCCESS.json"

    @property
    def scratch(self) -> Path:
        """Where attempts write, on the filesystem of the outputs, so that a rename is enough to publish."""
        return self.run / "tmp" / self.stage / self.fp12

    def done_path(self, unit: str) -> Path:
        return self.folder / "done" / f"{unit}.json"

    def claim_path(self, unit: str) -> Path:
        return self.folder / "claims" / unit

    def slices_path(self, unit: str) -> Path:
        return self.folder / "slices" / unit

    def failed_path(self, unit: str, attempt: str) -> Path:
        return self.folder / "failed" / f"{unit}@{attempt}.json"

    def launch_path(self, launch: str) -> Path:
        return self.folder / "launches" / f"{launch}.json"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def sentinel(self, unit: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = read_json_if_exists(self.done_path(unit))
        return found

    def is_done(self, unit: str) -> bool:
        return self.done_path(unit).exists()

    def done_units(self) -> set[str]:
        """Ids of committed units; one directory read."""
        return {name.removesuffix(".json") for name in names_in(self.folder / "done")}

    def failures(self) -> dict[str, list[Path]]:
        """Failed attempts by unit; one directory read."""
        found: dict[str, list[Path]] = {}
        for name in sorted(names_in(self.folder / "failed")):
            if name.endswith(".json"):
                found.setdefault(name.partition("@")[0], []).append(self.folder / "failed" / name)
        return found

    def success(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = read_json_if_exists(self.success_path)
        return found


def latest(failures: Sequence[Path]) -> Path:
    """The failure that was recorded last; their names hold random ids and tell no order."""
    return max(failures, key=lambda path: (path.stat().st_mtime_ns, path.name))
