"""The worker: one process that claims units, runs them and commits them until nothing is left that nobody works on.

The same worker is started by submitit, by a plain sbatch script, by the local executor, and in process for debugging.
It begins with its own share of the launch and then helps with whatever is unclaimed.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc.attempt import Attempt, new_attempt
from hpc.claims import Claim, Watch, read_claim, take_over, try_claim
from hpc.commit import Work, record_failure, run_unit
from hpc.files import names_in
from hpc.inputs import NotReady
from hpc.state import StageState

log = logging.getLogger("hpc.worker")

EXIT_DONE = 0
EXIT_STOPPED = 75
"""Asked to stop with work left (EX_TEMPFAIL)."""
EXIT_LEFT = 3
"""Units are parked, failing or not ready: the gate says which."""

MAX_FAILURES = 3
POLL_S = 2.0
FIRST_POLL_S = 0.05
"""A worker that waits for others looks again after this long, then after twice as long, up to `POLL_S`: the last unit of a
short stage must not cost seconds, that of a long one no storm of directory reads."""


@dataclass
class Report:
    """What one worker did."""

    committed: int = 0
    lost: int = 0
    failed: int = 0
    not_ready: dict[str, str] = field(default_factory=dict)
    parked: set[str] = field(default_factory=set)
    stopped: bool = False

    @property
    def exit_code(self) -> int:
        if self.stopped:
            return EXIT_STOPPED
        return EXIT_LEFT if self.parked or self.not_ready else EXIT_DONE


@dataclass
class Worker:
    """`units` in the order of trying; `stop` turns true when the worker must leave (signal, time limit)."""

    state: StageState
    work: Work
    units: Sequence[str]
    stop: Callable[[], bool]
    requested: dict[str, Any] = field(default_factory=dict)
    max_failures: int = MAX_FAILURES
    poll_s: float = POLL_S

    def __post_init__(self) -> None:
        self.report = Report()
        self.watch = Watch()
        self.loaded = False
        # our own failures are counted here too: on a full disk they cannot be recorded
        self.tries: Counter[str] = Counter()
        # one identity for the process: claims of a killed process can be told by its pid
        self.me = new_attempt()

    def run(self) -> Report:
        """Pass over what is left until it is done, parked, not ready, or in the hands of others."""
        left, pause = list(self.units), FIRST_POLL_S
        while left and not self.report.stopped:
            left, waiting, progress = self._pass(left)
            if progress:
                pause = FIRST_POLL_S
            elif waiting:
                time.sleep(min(pause, self.poll_s))
                pause *= 2
            else:
                break
        return self.report

    def _pass(self, units: Sequence[str]) -> tuple[list[str], bool, bool]:
        """Try every unit once. Returns what is left, whether a claim may still turn out dead, and whether anything moved."""
        done, failures = self.state.done_units(), self.state.failures()
        left: list[str] = []
        waiting = progress = False
        for unit in units:
            if self.stop():
                self.report.stopped = True
                break
            if unit in done or self.state.is_done(unit):
                continue
            if self._is_parked(unit, failures):
                continue
            try:
                claim, verdict = self._claim(unit)
            except OSError as error:
                self._fail(unit, new_attempt(), error)
                left.append(unit)
                progress = True
                continue
            if claim is None:
                left.append(unit)
                waiting = waiting or verdict == "unknown"
                continue
            with claim:
                # again: others may have failed on it since this pass began, hours ago
                again = not self._is_parked(unit, self.state.failures()) and self._try(unit)
            progress = True
            if again:
                left.append(unit)
        return left, waiting, progress

    def _is_parked(self, unit: str, failures: Mapping[str, Sequence[Path]]) -> bool:
        if max(len(failures.get(unit, ())), self.tries[unit]) < self.max_failures:
            return False
        self.report.parked.add(unit)
        return True

    def _claim(self, unit: str) -> tuple[Claim | None, str]:
        path = self.state.claim_path(unit)
        if (claim := try_claim(path, self.me)) is not None:
            return claim, "ours"
        verdict = self.watch.judge(path, self.me)
        if verdict == "dead":
            log.info("%s %s: its worker is gone, taking over", self.state.stage, unit)
            return take_over(path, self.me), "ours"
        return None, verdict

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
            outcome = run_unit(self.state, self.work, self.state.plan.by_id[unit_id], attempt, self.stop, self.requested)
        except NotReady as error:
            log.warning("%s", error)
            self.report.not_ready[unit_id] = str(error)
            return False
        except Exception as error:
            self._fail(unit_id, attempt, error)
            return True
        log.info("%s %s %s in %.1f s", self.state.stage, unit_id, outcome, time.monotonic() - started)
        self.report.stopped = outcome == "stopped"
        self.report.committed += outcome == "committed"
        self.report.lost += outcome == "lost"
        return False

    def _fail(self, unit: str, attempt: Attempt, error: Exception) -> None:
        log.error("%s %s failed", self.state.stage, unit, exc_info=error)
        record_failure(self.state, unit, attempt, f"{type(error).__name__}: {error}", error)
        self.tries[unit] += 1
        self.report.failed += 1


def blame_killed(state: StageState, host: str, pid: int, cause: str) -> list[str]:
    """Record a failure for every unit that a killed worker process held; returns the units and frees their claims."""
    held = []
    for unit in sorted(names_in(state.folder / "claims")):
        holder = read_claim(state.claim_path(unit)) or {}
        if holder.get("host") == host and holder.get("pid") == pid:
            record_failure(state, unit, new_attempt(), cause)
            state.claim_path(unit).unlink(missing_ok=True)
            held.append(unit)
    return held
