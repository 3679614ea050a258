"""Flows for the tests of jobs: the demo's without its two transformers, in many small shards, run in this process or in forks."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from hpc.dispatch.gate import run_gate
from hpc.dispatch.launching import make_launch, prepare
from hpc.dispatch.local import LocalRun
from hpc.fs.files import file_digest
from hpc.state.launch import Launch, launch_name, start_order
from hpc.state.work import make_work
from hpc.workers.task import StopFlag
from hpc.workers.worker import Worker
from jobs.config import load_config
from jobs.demo.prepare import fill_template
from jobs.planning import FlowPlan, StagePlan, plan_flow

TRANSFORMERS = re.compile(r"\[stage\.classify\.(edu|hq)\]\n(?:.+\n)*\n")

SMALL = {"extract": "slice_bytes = 8192", "lid": "slice_rows = 4", "quality": "slice_rows = 4"}
"""Tuning that cuts units into many slices; no result depends on it."""


def short_flow(demo: Path, models: Path, run: Path, extra: str = "") -> str:
    """The text of the demo's run.toml with its inputs at `demo` and its run directory at `run`, without transformers."""
    text = TRANSFORMERS.sub("", fill_template(files("jobs.demo").joinpath("run.toml").read_text(encoding="utf-8"), demo, models))
    text = text.replace('scores = ["edu_score", "hq_score", "fasttext_score"]', 'scores = ["fasttext_score"]')
    assert "classify.edu" not in text and "hq_score" not in text
    text = re.sub(r'^dir = ".*"', f'dir = "{run}"', text, flags=re.MULTILINE)
    text = re.sub(r'^shard_bytes = ".*?"', 'shard_bytes = "1 KiB"', text, flags=re.MULTILINE)
    return text + extra


def tuned(text: str, tuning: dict[str, str] | None = None) -> str:
    """With further keys in the tables of stages; without `tuning`, with slices so small that every unit has many."""
    for stage, line in (SMALL if tuning is None else tuning).items():
        assert tuning is None or f"[stage.{stage}]\n" in text
        text = text.replace(f"[stage.{stage}]\n", f"[stage.{stage}]\n{line}\n")
    return text


def tables(text: str) -> dict[str, str]:
    """The TOML text by its tables, comments with the table they stand in."""
    parts = re.split(r"^(?=\[)", text, flags=re.MULTILINE)
    return {part.split("]")[0][1:]: part for part in parts if part.startswith("[")}


def until(text: str, *stages: str) -> str:
    """Only [run], [resources] and the tables of these stages (their inner tables with them)."""
    kept = [
        part
        for name, part in tables(text).items()
        if not name.startswith("stage.") or any(f"{name}.".startswith(f"stage.{s}.") for s in stages)
    ]
    return "".join(kept)


def plan(folder: Path, text: str) -> FlowPlan:
    """Write `text` as folder/run.toml and plan it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.toml").write_text(text, encoding="utf-8")
    return plan_flow(load_config(folder / "run.toml"))


def run_here(flow: FlowPlan, stages: Iterable[StagePlan] | None = None, procs: int | None = None) -> tuple[bool, str]:
    """Run in this process, or with `procs` child processes. Returns whether all is complete, and what the console said."""
    console = Console(file=StringIO(), width=300)
    complete = LocalRun(flow, procs, procs is None, console).run(flow.stages if stages is None else stages, StopFlag())
    return complete, console.file.getvalue()  # type: ignore[attr-defined]


def run_in_forks(
    flow: FlowPlan, tasks: int, in_child: Callable[[int], None] = lambda task: None, stages: Iterable[str] | None = None
) -> None:
    """Each stage as `tasks` tasks of one worker at the same time, as array elements would; `in_child` runs first in each."""
    for stage in flow.stages:
        if stages is None or stage.name in stages:
            work_in_forks(flow, stage, tasks, in_child)
            assert run_gate(stage.state).complete, run_gate(stage.state).text()


def work_in_forks(flow: FlowPlan, stage: StagePlan, tasks: int, in_child: Callable[[int], None] = lambda task: None) -> list[int]:
    """One launch of one stage; returns the tasks' exit codes (negative: killed by that signal)."""
    launch = make_launch(flow, stage, launch_name("forks"), prepare(stage)[0], tasks)
    pids = [_fork(stage, launch, task, tasks, in_child) for task in range(tasks)]
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def _fork(stage: StagePlan, launch: Launch, task: int, tasks: int, in_child: Callable[[int], None]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            in_child(task)
            units = start_order(launch.units, task, tasks)
            code = Worker(stage.state, make_work(launch.work), units, lambda: False, poll_s=0.05).run().exit_code
        finally:
            os._exit(code)
    return pid


def outputs(flow: FlowPlan) -> dict[str, str]:
    """`<stage>/<unit>/<dataset>` -> digest, for every file that a sentinel names; each file is as its sentinel says."""
    found = {}
    for stage in flow.stages:
        for unit in stage.plan.units:
            sentinel = stage.state.sentinel(unit.id)
            assert sentinel is not None, f"{stage.name} {unit.id} is not committed"
            for dataset, entry in sentinel["outputs"].items():
                digest = file_digest(flow.run / entry["path"])
                assert digest == entry["digest"], f"{entry['path']} is not what its sentinel says"
                found[f"{stage.name}/{unit.id}/{dataset}"] = digest
    return found


def attempts(flow: FlowPlan) -> dict[str, str]:
    """`<stage>/<unit>` -> the attempt that committed it."""
    found = {}
    for stage in flow.stages:
        for unit in stage.plan.units:
            if (sentinel := stage.state.sentinel(unit.id)) is not None:
                found[f"{stage.name}/{unit.id}"] = sentinel["attempt"]["id"]
    return found


def slice_records(stage: StagePlan) -> dict[tuple[str, int], str]:
    """(unit, number) -> attempt, of the committed slices of units in progress."""
    from hpc.fs.files import read_json

    return {(path.parent.name, int(path.stem)): read_json(path)["attempt"] for path in stage.state.folder.glob("slices/*/[0-9]*.json")}


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
    return value
