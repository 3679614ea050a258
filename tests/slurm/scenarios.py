"""Scenarios: functions that start a run, disturb it and see it to its end. Most of that is waiting for Slurm, so the chosen ones of a
file run side by side in threads, and the test of each one waits for its own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pipeline import PATIENCE_S, SENT, NewRun, Pipeline, Sent

Scenario = Callable[[NewRun], None]
COMPLETED, FAILED, CANCELLED = {"COMPLETED"}, {"FAILED"}, {"CANCELLED"}
ROUND = re.compile(r"^round (\d+): array ([\d, ]+), (\d+) tasks for (\d+) units; gate (\d+)$", re.MULTILINE)


class Scenarios(dict[str, Scenario]):
    """`@SCENARIOS.add` before each function."""

    def add(self, function: Scenario) -> Scenario:
        self[function.__name__] = function
        return function

    def run(self, request: pytest.FixtureRequest, make: Callable[[str], NewRun]) -> Iterator[dict[str, Future[None]]]:
        """Those whose tests were chosen, all under way."""
        chosen = [name for name in self if any(f"[{name}]" in item.name for item in request.session.items)]
        with ThreadPoolExecutor(max(1, len(chosen))) as pool:
            yield {name: pool.submit(self[name], make(name)) for name in chosen}


def start(pipeline: Pipeline, *words: str, slices: int) -> dict[str, Sent]:
    """Submit, and wait until so many slices have begun; they wait in their middle."""
    pipeline.hold.touch()
    sent = pipeline.submit(*words)
    pipeline.slurm.wait_until(lambda: len(pipeline.noted()) >= slices, PATIENCE_S, f"{slices} slices in {pipeline.journal}")
    return sent


def wait_gate_says(pipeline: Pipeline, stage: str, gate: str, says: str, times: int = 1) -> str:
    """Wait until the log of a gate holds a text; the whole log."""
    log = pipeline.state(stage) / "logs" / f"gate-{gate}.log"
    pipeline.slurm.wait_until(lambda: log.exists() and log.read_text().count(says) >= times, PATIENCE_S, f"{says!r} in {log}")
    return log.read_text()


def round_of(pipeline: Pipeline, stage: str, gate: str) -> Sent:
    """Wait until a gate has launched what was missing again; what it sent."""
    said = wait_gate_says(pipeline, stage, gate, "\nround ")
    pipeline.slurm.wait_until(lambda: ROUND.search(wait_gate_says(pipeline, stage, gate, "\nround ")), 10, f"a whole line in {said}")
    found = ROUND.search(wait_gate_says(pipeline, stage, gate, "\nround "))
    assert found
    return Sent(tuple(found[2].split(", ")), int(found[3]), int(found[4]), found[5])


def ends(pipeline: Pipeline, job: str) -> set[str]:
    return pipeline.ends(job)


def kill_task_of(pipeline: Pipeline, worker: int) -> None:
    """SIGKILL of the batch process that has started a worker process."""
    os.kill(parent_of(worker), signal.SIGKILL)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def type_what_it_says(pipeline: Pipeline, said: str) -> str:
    """Run the command that a message ends in, letter by letter but for the name of the program; its output."""
    (command,) = re.findall(r"type: (.*)$", said, re.MULTILINE)
    words = shlex.split(command)
    assert words[0] == "ccpipe"
    return typed(pipeline, words[1:])


def typed(pipeline: Pipeline, words: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *words], cwd=pipeline.folder, env=pipeline.slurm.env(), capture_output=True, text=True
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def sent_by(said: str) -> dict[str, Sent]:
    """Stage -> its jobs, from what `submit` or `retry` printed."""
    found = SENT.findall(said)
    return {stage: Sent(tuple(arrays.split(", ")), int(tasks), int(units), gate) for stage, arrays, tasks, units, gate in found}


def option_of(pipeline: Pipeline, job: str, key: str) -> str:
    """`scontrol show job`: the value of one key, such as TimeLimit."""
    shown = pipeline.slurm.run("scontrol", "show", "job", job).split("\n\n")[0]
    return dict(word.partition("=")[::2] for word in shown.split() if "=" in word)[key]


def depends_on(pipeline: Pipeline, job: str) -> set[str]:
    """Jobs that a queued job waits for."""
    return set(re.findall(r"\d+", option_of(pipeline, job, "Dependency").replace("_*", "")))


def launches(pipeline: Pipeline, stage: str) -> list[dict[str, Any]]:
    """All launches of a stage, in the order in which they were made."""
    files = sorted((pipeline.state(stage) / "launches").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return [json.loads(path.read_text()) for path in files]


def failures(pipeline: Pipeline, stage: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((pipeline.state(stage) / "failed").glob("*.json"))]


def done_twice(pipeline: Pipeline) -> int:
    """Slices that were begun again."""
    return len(pipeline.begun()) - len(set(pipeline.begun()))


def same(new_run: NewRun, pipeline: Pipeline, *stages: str) -> None:
    """The files are those of the undisturbed run, byte for byte."""
    assert pipeline.digests(*stages) == new_run.extracted.digests(*stages)
