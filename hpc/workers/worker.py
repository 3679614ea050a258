"""The worker: one process that claims units, runs them and commits them until nothing is left that nobody works on.

The same worker is started by submitit, by a plain sbatch script, by the local executor, and in process for debugging.
It begins with its own share of the launch and then helps with whatever is unclaimed.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc.errors import FULL
from hpc.fs.files import names_in, read_json_if_exists, sync_folders
from hpc.state.attempt import Attempt, new_attempt
from hpc.state.claims import HEARTBEAT_S, Claim, Heart, Watch, read_claim, take_over, try_claim
from hpc.state.inputs import NotReady
from hpc.state.state import MAX_FAILURES, StageState, latest
from hpc.state.work import Work
from hpc.workers.board import Board
from hpc.workers.commit import Kind, UnitRun, record_failure

log = logging.getLogger("hpc.workers.worker")

EXIT_DONE = 0
EXIT_STOPPED = 75
"""Asked to stop with work left (EX_TEMPFAIL)."""
EXIT_LEFT = 3
"""Units are parked, failing or not ready: the gate says which."""

MAX_BACKOFF_S = 300.0
"""The pause before a unit is tried again doubles each time, up to this."""
FIRST_POLL_S = 0.05
POLL_S = HEARTBEAT_S
"""A worker that waits for others looks again after `FIRST_POLL_S`, then after twice as long, up to `POLL_S`: the last unit of a
short stage must not cost seconds, that of a long one no storm of reads. Nothing can be seen to live before its next heartbeat."""

WATCHED = 16
"""Claims of others that an idle worker watches; with many workers each claim is watched by some."""

MAX_TROUBLES = 8
"""Times in a row that the state folder cannot be read, some four minutes, before the worker gives up."""

FULL_PATIENCE_S = float(os.environ.get("HPC_FULL_PATIENCE_S", "900"))
"""How long a worker waits for room on a full disk, which is no fault of the unit in hand, before it leaves."""

SYNC_S = 1.0
"""How often a worker that commits unit after unit fsyncs the folder of the sentinels."""

OVERLAP_WAIT_S = 600.0
"""How long a worker of an overlapping stage waits for units to become ready before it leaves the rest to the next round."""


@dataclass
class Report:
    """What one worker did. `left`: units that this launch cannot do, and why."""

    committed: int = 0
    lost: int = 0
    failed: int = 0
    not_ready: dict[str, str] = field(default_factory=dict)
    parked: set[str] = field(default_factory=set)
    left: dict[str, str] = field(default_factory=dict)
    stopped: bool = False

    @property
    def exit_code(self) -> int:
        if self.stopped:
            return EXIT_STOPPED
        return EXIT_LEFT if self.parked or self.not_ready or self.left else EXIT_DONE


@dataclass
class Pass:
    """One round over what is left. `wait_s`: after how long another round can find something new; None: nothing can."""

    left: list[str] = field(default_factory=list)
    progress: bool = False
    wait_s: float | None = None

    def wait(self, seconds: float) -> None:
        self.wait_s = seconds if self.wait_s is None else min(self.wait_s, seconds)


@dataclass
class Worker:
    """`units` in the order of trying; `stop` turns true when the worker must leave (signal, time limit).

    `requested`: resources of the launch (`mem_gb` per process, `max_failures`, `retry_backoff_s`); `local`: node-local scratch;
    `heart`: how often claims beat.
    """

    state: StageState
    work: Work
    units: Sequence[str]
    stop: Callable[[], bool]
    requested: dict[str, Any] = field(default_factory=dict)
    max_failures: int = 0
    poll_s: float = POLL_S
    overlap: bool = False
    local: Path | None = None
    full_patience_s: float = FULL_PATIENCE_S
    heart: Heart = field(default_factory=Heart)

    def __post_init__(self) -> None:
        self.report = Report()
        self.watch = Watch()
        self.board = Board(self.state, self.overlap)
        self.loaded = False
        # our own failures are counted here too: on a full disk they cannot be recorded
        self.tries: Counter[str] = Counter()
        self.not_before: dict[str, float] = {}
        self.idle_since = time.monotonic()
        self.full_since: float | None = None
        self.synced = 0.0
        self.troubles = 0
        # one identity for the process: claims of a killed process can be told by its pid
        self.me = new_attempt()
        self.max_failures = self.max_failures or int(self.requested.get("max_failures", MAX_FAILURES))

    def run(self) -> Report:
        """Pass over what is left until it is done, parked, not ready, or in the hands of others."""
        left, pause = list(self.units), FIRST_POLL_S
        try:
            while left and not self.report.stopped:
                turn = self._careful_pass(left)
                left = turn.left
                if turn.progress:
                    pause, self.idle_since = FIRST_POLL_S, time.monotonic()
                elif turn.wait_s is not None:
                    self._sleep(min(max(pause, turn.wait_s), max(self.poll_s, turn.wait_s)))
                    pause = min(2 * pause, self.poll_s)
                else:
                    break
        finally:
            self.heart.stop()
            self._sync_done(every_s=0.0)
        return self.report

    def _sync_done(self, every_s: float = SYNC_S) -> None:
        """Force the names of our sentinels to disk, if that was not done a moment ago."""
        if self.report.committed and time.monotonic() - self.synced >= every_s:
            self.synced = time.monotonic()
            try:
                sync_folders([self.state.done_path("any").parent])
            except OSError as error:  # the sentinels are there; only a server that loses its power now could lose their names
                log.error("%s: fsync of the sentinels' folder: %s", self.state.stage, error)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.stop() and (rest := until - time.monotonic()) > 0:
            time.sleep(min(rest, 0.2))

    def _careful_pass(self, units: Sequence[str]) -> Pass:
        """A filesystem that is away for a moment (ESTALE, EIO) when the state folder is read must not end the worker."""
        try:
            turn = self._pass(units)
        except OSError as error:
            self.troubles += 1
            if self.troubles > MAX_TROUBLES:
                raise
            log.error("%s: cannot read the state folder: %s; looking again", self.state.stage, error)
            return Pass(list(units), wait_s=min(2.0**self.troubles, MAX_BACKOFF_S))
        self.troubles = 0
        return turn

    # --- choosing -----------------------------------------------------------------------------------------------------

    def _pass(self, units: Sequence[str]) -> Pass:
        """Try every unit once that nobody has."""
        self.board.look()
        turn, held = Pass(), []
        for unit in units:
            if self.stop():
                self.report.stopped = True
                break
            self.board.look_if_due()
            if unit in self.board.done or self._is_hopeless(unit):
                continue
            if unit in self.board.claimed:
                held.append(unit)
            elif not self._must_wait(unit, turn):
                self._turn_to(unit, turn)
        if not turn.progress and not self.report.stopped:
            self._look_at_holders(held, turn)
        turn.left += held
        return turn

    def _turn_to(self, unit: str, turn: Pass) -> None:
        """Claim a unit that seems free, and run it."""
        if self.state.is_done(unit):
            return
        try:
            claim = try_claim(self.state.claim_path(unit), self.me, self.heart)
        except OSError as error:
            self._could_not_claim(unit, error)
            turn.left.append(unit)
            turn.progress = True
            return
        if claim is None:
            turn.left.append(unit)
            turn.wait(0)
            return
        self._run_claimed(unit, claim, turn)

    def _could_not_claim(self, unit: str, error: OSError) -> None:
        if error.errno in FULL:
            self._wait_for_room(unit, error)
        else:
            self._fail(unit, new_attempt(), error)

    def _run_claimed(self, unit: str, claim: Claim, turn: Pass) -> None:
        with claim:
            again = self._try(unit)
        turn.progress = True
        if again:
            turn.left.append(unit)

    def _look_at_holders(self, held: Sequence[str], turn: Pass) -> None:
        """Nothing is free: take over from the dead, wait where one cannot tell, leave where all live."""
        for unit in held if len(held) <= WATCHED else random.sample(held, WATCHED):
            path = self.state.claim_path(unit)
            verdict = self.watch.judge(path, self.me)
            if verdict == "dead" and not self.state.is_done(unit):
                log.info("%s %s: its worker is gone, taking over", self.state.stage, unit)
                try:
                    claim = take_over(path, self.me, self.heart)
                except OSError as error:
                    self._could_not_claim(unit, error)
                    continue
                self._run_claimed(unit, claim, turn)
                return
            if verdict != "alive":
                turn.wait(0)

    def _must_wait(self, unit: str, turn: Pass) -> bool:
        """Not yet: its last failure was a moment ago, or what it reads is still being made."""
        pause = self.not_before.get(unit, 0.0) - time.monotonic()
        if pause > 0:
            turn.wait(pause)
        elif self.overlap and (parked := self.board.never_ready(self.state.plan.by_id[unit])):
            self.report.not_ready[unit] = f"{parked}, which it reads, is parked"
            return True
        elif self.overlap and not self.board.is_ready(self.state.plan.by_id[unit]):
            if time.monotonic() - self.idle_since > OVERLAP_WAIT_S:
                self.report.not_ready[unit] = "what it reads was not committed in time"
                return True
            turn.wait(self.poll_s)
        else:
            return False
        turn.left.append(unit)
        return True

    def _is_hopeless(self, unit: str) -> bool:
        """Failed too often, or out of memory with as much as we have."""
        failures = self.board.failures.get(unit, ())
        if max(len(failures), self.tries[unit]) >= self.max_failures:
            self.report.parked.add(unit)
            return True
        if not failures:
            return False
        last = read_json_if_exists(latest(failures)) or {}
        had, have = (float((asked or {}).get("mem_gb") or 0) for asked in (last.get("requested"), self.requested))
        if last.get("kind") == "out_of_memory" and 0 < have <= had:
            self.report.left[unit] = f"ran out of memory with {had:g} GB a process, and this launch has {have:g}"
            return True
        return False

    # --- running ------------------------------------------------------------------------------------------------------

    def _try(self, unit_id: str) -> bool:
        """Run one claimed unit; True when it should be tried again."""
        attempt = new_attempt()
        started = time.monotonic()
        try:
            if self.state.is_done(unit_id):
                return False
            if not self.loaded:
                self.work.load()
                self.loaded = True
            unit = self.state.plan.by_id[unit_id]
            outcome = UnitRun(self.state, self.work, unit, attempt, self.stop, self.requested, self.local).run()
        except NotReady as error:
            log.warning("%s", error)
            self.report.not_ready[unit_id] = str(error)
            return False
        except OSError as error:
            if error.errno in FULL:
                return self._wait_for_room(unit_id, error)
            self._fail(unit_id, attempt, error)
            return True
        except (Exception, SystemExit) as error:  # a stage that calls exit() fails its unit, it does not end the worker
            self._fail(unit_id, attempt, error)
            return True
        self.full_since = None
        log.info("%s %s %s in %.1f s", self.state.stage, unit_id, outcome, time.monotonic() - started)
        self.report.stopped = outcome == "stopped"
        self.report.committed += outcome == "committed"
        self.report.lost += outcome == "lost"
        self._sync_done()
        return False

    def _wait_for_room(self, unit: str, error: OSError) -> bool:
        """A full disk: no unit is to blame, and all would fail. True when it is worth another try."""
        if self.local is not None:
            log.warning("%s; from now on without node-local scratch %s", error, self.local)
            self.local = None
            return True
        self.full_since = self.full_since or time.monotonic()
        log.error("%s %s: %s; waiting for room", self.state.stage, unit, error)
        if time.monotonic() - self.full_since >= self.full_patience_s:
            self.report.left[unit] = f"{error}; make room, and submit again"
            self.report.stopped = True
            return False
        self._sleep(min(max(1.0, time.monotonic() - self.full_since), MAX_BACKOFF_S, self.full_patience_s))
        return True

    def _fail(self, unit: str, attempt: Attempt, error: Exception | SystemExit) -> None:
        log.error("%s %s failed", self.state.stage, unit, exc_info=error)
        kind: Kind = "out_of_memory" if isinstance(error, MemoryError) else "error"
        record_failure(self.state, unit, attempt, f"{type(error).__name__}: {error}", error, kind, self.requested)
        self.tries[unit] += 1
        self.report.failed += 1
        first = float(self.requested.get("retry_backoff_s", 0.0))
        self.not_before[unit] = time.monotonic() + min(first * 2 ** (self.tries[unit] - 1), MAX_BACKOFF_S)


def blame_killed(state: StageState, host: str, pid: int, cause: str, kind: Kind, requested: dict[str, Any]) -> list[str]:
    """Record a failure for every unit that a killed worker process held; returns the units and frees their claims."""
    held = []
    for unit in sorted(names_in(state.folder / "claims")):
        holder = read_claim(state.claim_path(unit)) or {}
        if holder.get("host") == host and holder.get("pid") == pid:
            record_failure(state, unit, new_attempt(), cause, kind=kind, requested=requested)
            state.claim_path(unit).unlink(missing_ok=True)
            held.append(unit)
    return held


def holds_claim(state: StageState, pid: int) -> bool:
    """Whether a process of this host holds a claim of the stage."""
    host = socket.gethostname()
    holders = (read_claim(state.claim_path(unit)) or {} for unit in names_in(state.folder / "claims"))
    return any(holder.get("pid") == pid and holder.get("host") == host for holder in holders)
