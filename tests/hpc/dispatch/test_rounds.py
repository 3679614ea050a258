"""Why a task ended, from logs as Slurm 22.05 has written them (docs/slurm-facts.md), and newer ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc.dispatch.rounds import cause_of_loss
from hpc.workers.commit import Kind

BEGAN = "2026-01-02 03:04:05,678 INFO slow: task 0 of 2, 4 processes, launch slurm-20260102-030405-7f3a"
SAID = "slurmstepd-n2: error: *** JOB 11 ON n2 CANCELLED AT 2026-01-02T03:04:05{} ***"
TIME, PREEMPTED, REQUEUED, CANCELLED = (SAID.format(why) for why in (" DUE TO TIME LIMIT", " DUE TO PREEMPTION", " DUE TO JOB REQUEUE", ""))
SAMPLED = "slurmstepd-n2: error: StepId=2.batch exceeded memory limit (325726208 > 104857600), being killed"
EXCEEDED = "slurmstepd-n2: error: Exceeded job memory limit"
KERNEL = (
    "slurmstepd-n1: error: Detected 1 oom-kill event(s) in StepId=1.batch. "
    "Some of your processes may have been killed by the cgroup out-of-memory handler."
)
NEWER = "[2026-01-02T03:04:05.678] error: *** JOB 11 ON n2 CANCELLED AT 2026-01-02T03:04:05 DUE TO TIME LIMIT ***"
KERNEL_NEWER = "slurmstepd: error: Detected 1 oom_kill event in StepId=1.batch. Some of the step tasks have been OOM Killed."
LEAVING = "2026-01-02 03:04:06,000 WARNING SIGTERM: 4 workers commit their current slice and leave"

CASES: dict[str, tuple[list[str], Kind, str]] = {
    "nothing said, as after SIGKILL and on a dead node": ([BEGAN], "lost", ""),
    "time limit": ([BEGAN, TIME, LEAVING], "time_limit", TIME),
    "time limit, newer": ([BEGAN, NEWER], "time_limit", NEWER),
    "preemption": ([BEGAN, PREEMPTED], "lost", PREEMPTED),
    "scancel": ([BEGAN, CANCELLED, LEAVING], "lost", CANCELLED),
    "memory sampled, and the cancellation that follows": ([BEGAN, SAMPLED, EXCEEDED, CANCELLED], "out_of_memory", SAMPLED),
    "the kernel killed the task itself": ([BEGAN, KERNEL], "out_of_memory", KERNEL),
    "the same, newer": ([BEGAN, KERNEL_NEWER], "out_of_memory", KERNEL_NEWER),
    "a worker was killed for its memory, the task went on into the time limit": ([BEGAN, TIME, KERNEL], "time_limit", TIME),
    "a worker was killed for its memory, and the task by scancel": ([BEGAN, CANCELLED, KERNEL], "lost", CANCELLED),
    "an earlier life reached the time limit": ([BEGAN, TIME, BEGAN], "lost", ""),
    "an earlier life was requeued, the last one reached the time limit": ([BEGAN, REQUEUED, BEGAN, TIME], "time_limit", TIME),
    "killed in the time limit before the task was up": ([BEGAN, REQUEUED, "module load x", TIME], "time_limit", TIME),
    "behind a line without its end": ([BEGAN, "half a li" + TIME], "time_limit", "half a li" + TIME),
    "words of others": ([BEGAN, "INFO page says: CANCELLED AT noon DUE TO TIME LIMIT, out of memory, oom-kill"], "lost", ""),
}


@pytest.mark.parametrize(("lines", "kind", "line"), CASES.values(), ids=CASES)
def test_why_a_task_ended(tmp_path: Path, lines: list[str], kind: Kind, line: str) -> None:
    log = tmp_path / "7_0.log"
    log.write_text("\n".join(lines) + "\n\n")
    assert cause_of_loss(log) == (kind, line)


def test_a_log_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert cause_of_loss(tmp_path / "7_0.log") == ("lost", "")


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "7_0.log"
    log.write_text(f"{BEGAN}\n{'x' * 79}\n" + "é\n" * 100_000 + f"{TIME}\n")
    assert cause_of_loss(log) == ("time_limit", TIME)
