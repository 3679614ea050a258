"""The state folder of one stage at one fingerprint: names of files, and the questions that their existence answers.

state/<stage>/<fp12>/
  plan.json           what is to be done; never changes
  launches/<id>.json  one launch: its pending units; never changes
  claims/<unit>       somebody works on this unit (advisory)
  slices/<unit>/      committed pieces of a unit in progress
  done/<unit>.json    sentinels: this unit is committed
  done.zip            the same of a complete stage of many units, folded into one file
  failed/             one file for each failed attempt; those in failed/forgiven/ no longer count (`retry`)
  retired/            sentinels taken back, because their inputs were committed anew, or by `redo`
  tasks/              one record for each execution of a task: what it asked for and what it used
  logs/               output of tasks
  units.json          outputs of all units of a complete stage, for those who read all of them
  _SUCCESS.json       the stage is complete: sums over its units

tmp/<stage>/<fp12>/   beside `state`: what attempts are writing; emptied when the stage is complete
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hpc.fs.files import names_in, read_json_if_exists
from hpc.state.fold import Archive, open_archive
from hpc.state.plan import Plan, load_plan

MAX_FAILURES = 3
"""After so many failures a unit is parked, where a launch says no other number."""


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

    @property
    def units_path(self) -> Path:
        return self.folder / "units.json"

    @property
    def archive_path(self) -> Path:
        return self.folder / "done.zip"

    def archive(self) -> Archive | None:
        return open_archive(self.archive_path)

    def task_path(self, attempt: str) -> Path:
        return self.folder / "tasks" / f"{attempt}.json"

    def retired_path(self, unit: str, attempt: str) -> Path:
        return self.folder / "retired" / f"{unit}@{attempt}.json"

    def sentinel(self, unit: str) -> dict[str, Any] | None:
        """The sentinel of a committed unit, folded or loose; None where the unit is not committed.

        The archive comes first: an attempt that was frozen while the stage was folded may publish a loose one beside it. It is
        asked again where there is none, since the stage may have been folded between the two looks.
        """
        return self.folded(unit) or read_json_if_exists(self.done_path(unit)) or self.folded(unit)

    def folded(self, unit: str) -> dict[str, Any] | None:
        """The unit's sentinel in the archive, unless it was taken back."""
        archive = self.archive()
        folded = archive.read(unit) if archive else None
        if folded is None or self.retired_path(unit, folded["attempt"]["id"]).exists():
            return None
        return folded

    def is_done(self, unit: str) -> bool:
        if self.done_path(unit).exists():
            return True
        archive = self.archive()
        return archive is not None and unit in archive.units and self.sentinel(unit) is not None

    def done_units(self) -> set[str]:
        """Ids of committed units; one directory read, and one more where the stage is folded."""
        loose = {name.removesuffix(".json") for name in names_in(self.folder / "done")}
        archive = self.archive()
        if archive is None:
            return loose
        retired = {name.rpartition("@")[0] for name in names_in(self.folder / "retired")} & (archive.units - loose)
        return loose | (archive.units - retired) | {unit for unit in retired if self.sentinel(unit) is not None}

    def failures(self) -> dict[str, list[Path]]:
        """Failed attempts by unit; one directory read."""
        found: dict[str, list[Path]] = {}
        for name in sorted(names_in(self.folder / "failed")):
            if name.endswith(".json"):
                found.setdefault(name.partition("@")[0], []).append(self.folder / "failed" / name)
        return found

    def last_failures(self, units: Set[str]) -> list[dict[str, Any]]:
        """The failure recorded last for each of these units that has failed, forgiven ones included; two directory reads."""
        found = self.failures()
        for name in names_in(self.folder / "failed" / "forgiven"):
            found.setdefault(name.partition("@")[0], []).append(self.folder / "failed" / "forgiven" / name)
        records = (read_json_if_exists(latest(paths)) for unit, paths in sorted(found.items()) if unit in units)
        return [record for record in records if record is not None]

    def success(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = read_json_if_exists(self.success_path)
        return found


def latest(failures: Sequence[Path]) -> Path:
    """The failure that was recorded last; their names hold random ids and tell no order."""
    return max(failures, key=lambda path: (_mtime_ns(path), path.name))


def _mtime_ns(path: Path) -> int:
    """0 for a file that has been moved away meanwhile (`retry`)."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
