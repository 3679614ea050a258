"""What is known of a stage, from one bounded look at its state folder. Everything that `status` says is concluded from this.

Directories are read once each. Of committed units at most `TIMES` are asked when they were committed and at most `SENTINELS` are
opened; the same units every time, chosen by a hash of their names. The scheduler is never asked.
"""

from __future__ import annotations

import gc
import heapq
import json
import os
import struct
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from hpc.fs.files import names_in
from hpc.state.claims import HEARTBEAT_S, STALE_BEATS
from hpc.state.state import StageState

TIMES = 2000
SENTINELS = 500
CLAIMS = 2000
TASKS = 2000
"""Files of each kind that are looked at, at most; where there are more, the rest is concluded from these."""

RECORD_S = 60.0
"""A task rewrites its record this often."""


@dataclass(frozen=True)
class Commit:
    """A committed unit that was looked at. `at`: seconds, by the clock of the filesystem; `sentinel`: None where it was not opened."""

    unit: str
    at: float
    sentinel: Mapping[str, Any] | None


@dataclass(frozen=True)
class Held:
    """A claim. `at`: its last sign of life, `began`: when work began (None: unknown), both by the holder's clock."""

    unit: str
    host: str
    pid: int
    job: str
    began: float | None
    beat_s: float
    at: float

    @property
    def elapsed_s(self) -> float | None:
        """Seconds of work up to the last sign of life: one clock, no comparison between hosts."""
        return None if self.began is None else max(0.0, self.at - self.began)


@dataclass(frozen=True)
class TaskSeen:
    """A task's record. `at`: when it was last written, by the clock of the filesystem."""

    record: Mapping[str, Any]
    at: float

    @property
    def host(self) -> str:
        return str(self.record.get("host", ""))

    @property
    def heard(self) -> float:
        """The same moment by the clock of the task's host, 0.0 where the record does not tell."""
        return float(self.record.get("began") or 0.0) + float(self.record.get("wall_s") or 0.0)


@dataclass
class Evidence:
    """`costs`: declared cost of every unit. `in_hand`: claimed units that are not committed; `held`: those claims that were read.

    Claims carry the times of their hosts' clocks, which are compared only with times of the same host. Sentinels and records carry those
    of the filesystem.
    """

    costs: Mapping[str, float]
    done: Collection[str]
    commits: list[Commit] = field(default_factory=list)
    in_hand: list[str] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    tasks: list[TaskSeen] = field(default_factory=list)

    @property
    def newest(self) -> float:
        """The newest sign of life in the stage by whatever clock, seconds, 0.0 without any: good for "nothing moves", for nothing else."""
        return max((self.newest_written, *(claim.at for claim in self.held)))

    @property
    def newest_written(self) -> float:
        """When a sentinel or a record was last written, by the clock of the filesystem; 0.0 without any."""
        return max((*(c.at for c in self.commits), *(task.at for task in self.tasks)), default=0.0)

    def silent(self) -> list[Held]:
        """Claims that missed more than six of their own beats, measured from the newest sign of life of their own host.

        Where a host has shown nothing newer, nobody can tell a dead holder from a clock that is slow: it counts as working.
        """
        newest = self._newest_of_hosts()
        return [claim for claim in self.held if _is_silent(claim, newest)]

    def live(self) -> list[Held]:
        newest = self._newest_of_hosts()
        return [claim for claim in self.held if not _is_silent(claim, newest)]

    def _newest_of_hosts(self) -> dict[str, float]:
        """Host -> its newest sign of life, by its own clock."""
        newest: dict[str, float] = {}
        signs = [*((claim.host, claim.at) for claim in self.held), *((task.host, task.heard) for task in self.tasks)]
        for host, at in signs:
            newest[host] = max(at, newest.get(host, 0.0))
        return newest

    def running(self) -> list[TaskSeen]:
        """Tasks that have not ended and still write their records."""
        newest = self.newest_written
        return [task for task in self.tasks if not task.record.get("ended") and newest - task.at <= STALE_BEATS * RECORD_S]

    def sentinels(self) -> list[Mapping[str, Any]]:
        return [commit.sentinel for commit in self.commits if commit.sentinel is not None]


def _is_silent(claim: Held, newest: Mapping[str, float]) -> bool:
    return newest[claim.host] - claim.at > STALE_BEATS * claim.beat_s


def look_closely(state: StageState) -> Evidence:
    """Everything about a stage that is under way."""
    costs = plan_costs(state.plan_path)
    done = state.done_units()
    if not costs.keys() >= done:
        done &= costs.keys()
    evidence = Evidence(costs, done, read_commits(state, done))
    evidence.in_hand = sorted(unit for unit in names_in(state.folder / "claims") if unit in costs and unit not in done)
    evidence.held = [claim for unit in _some(evidence.in_hand, CLAIMS) if (claim := _read_claim(state.claim_path(unit))) is not None]
    evidence.tasks = read_tasks(state)
    return evidence


def plan_costs(path: Path) -> dict[str, float]:
    """Unit -> declared cost. A plan never changes, so it is parsed once in each process."""
    stat = path.stat()
    return _plan_costs(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=64)
def _plan_costs(path: Path, stamp: tuple[int, int, int]) -> dict[str, float]:
    data = path.read_bytes()
    collecting = gc.isenabled()
    gc.disable()  # half of the time of parsing a hundred thousand units would go into looking for garbage
    try:
        return {unit["id"]: float(unit["cost"]) for unit in json.loads(data)["units"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no plan ({error!r}); expected JSON with units of an id and a cost. Plan the stage again") from None
    finally:
        if collecting:
            gc.enable()


# --- committed units --------------------------------------------------------------------------------------------------


def read_commits(state: StageState, done: Collection[str]) -> list[Commit]:
    """A sample of committed units with the times of their commits; all of them while they are few."""
    found = []
    for n, unit in enumerate(_some(done, TIMES)):
        if (commit := _read_commit(state, unit, n < SENTINELS)) is not None:
            found.append(commit)
    return found


def _read_commit(state: StageState, unit: str, opened: bool) -> Commit | None:
    path = state.done_path(unit)
    try:
        at = path.stat().st_mtime
    except FileNotFoundError:  # folded, or taken back just now
        at = 0.0
    if not opened:
        return Commit(unit, at, None) if at else None
    try:
        sentinel = state.sentinel(unit)
    except ValueError:  # damaged: the gate says so
        return None
    return Commit(unit, at, sentinel) if sentinel is not None else None


def _some(units: Collection[str], at_most: int) -> list[str]:
    """At most so many units, in the order of a hash of their names: nothing in common but chance.

    >>> sorted(_some(["00", "01"], 5)), len(_some([str(i) for i in range(100)], 5))
    (['00', '01'], 5)
    """
    return heapq.nsmallest(at_most, units, key=_shuffled)


def _shuffled(name: str) -> int:
    # a CRC alone keeps neighbours together
    return zlib.crc32(name.encode()) * 2654435761 & 0xFFFFFFFF


TAIL_BYTES = 512
"""The end of an archive: its last two records, 98 bytes, and the comment behind them."""


def folded_units(path: Path) -> int | None:
    """How many sentinels an archive holds, from its last bytes; None where there is no archive that says so."""
    try:
        with path.open("rb") as file:
            file.seek(-min(os.fstat(file.fileno()).st_size, TAIL_BYTES), os.SEEK_END)
            tail = file.read()
    except FileNotFoundError:
        return None
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 12:
        return None
    (entries,) = struct.unpack_from("<H", tail, at + 10)
    if entries == 0xFFFF and tail[at - 20 : at - 16] == b"PK\x06\x07" and tail[at - 76 : at - 72] == b"PK\x06\x06":
        (entries,) = struct.unpack_from("<Q", tail, at - 44)  # more than 65,535 members: the record of ZIP64 has the number
    return int(entries)


# --- claims and tasks -------------------------------------------------------------------------------------------------


def _read_claim(path: Path) -> Held | None:
    """None where the claim has been given up meanwhile, or says nothing yet."""
    value, at = _read_with_time(path)
    if not isinstance(value, dict):
        return None
    began = value.get("began")
    return Held(
        unit=path.name,
        host=str(value.get("host", "")),
        pid=int(value.get("pid", 0)),
        job=str(value.get("job", "")),
        began=float(began) if began is not None else None,
        beat_s=float(value.get("beat_s") or HEARTBEAT_S),
        at=at,
    )


def read_tasks(state: StageState) -> list[TaskSeen]:
    """Records of tasks. One that cannot be read is left out: records are for people, nothing depends on them."""
    folder = state.folder / "tasks"
    names: Iterable[str] = _some(list(names_in(folder)), TASKS)
    seen = [_read_with_time(folder / name) for name in names if name.endswith(".json")]
    return [TaskSeen(value, at) for value, at in seen if isinstance(value, dict)]


def _read_with_time(path: Path) -> tuple[Any, float]:
    """Parsed contents and time of change of one open file; (None, 0.0) where it is gone or holds no JSON."""
    try:
        with path.open("rb") as file:
            return json.loads(file.read()), os.fstat(file.fileno()).st_mtime
    except (FileNotFoundError, ValueError):
        return None, 0.0
