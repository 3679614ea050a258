"""Named steps of the commit protocol: where a process can die, and what is on disk if it does.

`reached("sentinel.linked")` does nothing, unless a test has asked for the process to die there: HPC_DIE_AT="sentinel.linked"
or, the third time that it comes by, HPC_DIE_AT="sentinel.linked:3".
"""

from __future__ import annotations

import os
import signal

POINTS: dict[str, str] = {
    "claim.taken": "a claim; nothing of the unit",
    "scratch.made": "an empty private folder",
    "slice.written": "files of a slice, not fsynced, in the private folder; no record",
    "slice.synced": "the same, fsynced; no record, so the slice does not count",
    "slice.recorded": "the record: the slice counts, and the next attempt goes on behind it",
    "unit.written": "all outputs under private names, not fsynced",
    "output.moved": "some outputs under final names, without a sentinel: nobody reads them, the next attempt replaces them",
    "outputs.synced": "all outputs under final names, fsynced; no sentinel",
    "sentinel.linked": "the sentinel: committed. A claim, the private folder and slices are left to be tidied up",
    "slices.discarded": "the sentinel; the private folder may be left",
    "claim.released": "nothing is left to do for this unit",
    "gate.units": "units.json of a complete stage; no _SUCCESS.json",
    "gate.success": "_SUCCESS.json; `current` may still point to the last version",
    "fold.archived": "done.zip holds every sentinel, and so does done/",
    "fold.unlinked": "done.zip holds every sentinel, done/ some of them",
    "adopt.linked": "outputs of an older version under this version's names; no sentinel",
    "adopt.published": "the sentinel: the unit is committed without having been run",
    "retire.moved": "a sentinel taken back, kept in retired/; slices may be left",
}

_wanted, _, _count = os.environ.get("HPC_DIE_AT", "").partition(":")
_left = int(_count or 1)


def reached(point: str) -> None:
    """Die here if a test wants it."""
    if point == _wanted:
        _die()


def _die() -> None:
    global _left
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def die_at(point: str, time: int = 1) -> None:
    """For tests that fork: let this process die the `time`-th time that it reaches `point`. Raises `KeyError` for an unknown one."""
    global _wanted, _left
    POINTS[point]
    _wanted, _left = point, time
