"""The local executor: the stages of a flow one after the other on this machine, no scheduler."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from hpc.dispatch.gate import GateReport, run_gate
from hpc.dispatch.launching import make_launch, prepare
from hpc.entry import LOG_LINE_S, run_in_process, worker_command
from hpc.planning.planner import Flow, StagePlan
from hpc.planning.reuse import reusable_units
from hpc.state.launch import Launch, launch_name
from hpc.state.pending import NOT_COMMITTED, pending_units
from hpc.workers.meter import start_meter
from hpc.workers.task import StopFlag, Task, visible_gpus

FULL_PATIENCE_S = "60"
"""Somebody sits in front of it, and can make room and type the command again."""


@dataclass
class LocalRun:
    """`procs`: worker processes, None for the cores of this machine within the stage's cpus."""

    flow: Flow
    procs: int | None
    in_process: bool
    console: Console

    def run(self, stages: Iterable[StagePlan], stop: StopFlag) -> bool:
        """Run stages in order; False when one stays incomplete, which is said on the console."""
        for stage in stages:
            report = self._stage(stage, stop)
            if stop:
                self._say(f"stopped by {stop.signal.name if stop.signal else 'a signal'}; run the same command again to go on")
                return False
            if not report.complete:
                self._say(report.text(), "red")
                self._say(f"to try again: {self.flow.typed('retry', stage.name)}")
                return False
        return True

    def _say(self, text: str, style: str | None = None) -> None:
        """A line as it is, whatever names and messages are in it: brackets are no markup, and it can be copied."""
        self.console.print(Text(text), style=style, soft_wrap=True, highlight=False)

    def _stage(self, stage: StagePlan, stop: StopFlag) -> GateReport:
        todo = pending_units(stage.state, {})
        total, limit = len(stage.plan.units), stage.resources.max_failures
        if not todo:
            self._say(f"{stage.name:<20} complete, {total} of {total} units committed; nothing to do", "dim")
            return run_gate(stage.state, limit)
        reusable = reusable_units(stage.state, todo)
        now = StagePlan(stage.spec, stage.state, stage.plan, todo, stage.packing, reusable, stage.site)
        if len(reusable) < len(todo) and (waits := self._waits(stage)) is not None:
            return GateReport(stage.name, total, dict.fromkeys(todo, waits))
        units, adopted = prepare(now)
        taken = f", {adopted} of them taken over from an older version" if adopted else ""
        why = next((reason for reason in todo.values() if reason != NOT_COMMITTED), NOT_COMMITTED)
        self._say(f"{stage.name:<20} {len(todo)} of {total} units to do ({why}){taken}")
        if units:
            self._launch(now, units, stop)
        return run_gate(stage.state, limit)

    def _waits(self, stage: StagePlan) -> str | None:
        """What must be run before the stage, or None. Folds stages before it that were killed just before their end."""
        for name in stage.upstream:
            before = self.flow.find(name)
            left = len(before.plan.units) - len(before.state.done_units() & before.plan.by_id.keys())
            if left:
                return f"it reads {name}, of which {left} units are not committed; run that first: --stage {name}"
            if before.state.success() is None:
                run_gate(before.state)
        return None

    def _launch(self, stage: StagePlan, units: list[str], stop: StopFlag) -> None:
        launch = make_launch(self.flow, stage, launch_name("local"), units, tasks=1)
        if self.in_process:
            run_in_process(stage.state, launch, stop)
            return
        wanted = self.procs or min(stage.resources.procs, os.cpu_count() or 1)
        self._processes(stage, launch, max(1, min(wanted, len(units))), stop)

    def _processes(self, stage: StagePlan, launch: Launch, procs: int, stop: StopFlag) -> None:
        log = stage.state.logs / f"{launch.id}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        args = argparse.Namespace(task=0, tasks=1)
        gpus = visible_gpus() if stage.resources.gpus else []
        with log.open("ab") as output, _progress(self.console) as progress:
            bar = progress.add_task(stage.name, total=len(launch.units))
            units, last, every_s = set(launch.units), time.monotonic(), 0.5 if self.console.is_terminal else LOG_LINE_S

            def tick() -> None:
                nonlocal last
                if time.monotonic() - last > every_s:
                    done = len(stage.state.done_units() & units)
                    progress.update(bar, completed=done)
                    if not self.console.is_terminal:
                        self._say(f"{stage.name:<20} {done} of {len(units)} units committed")
                    last = time.monotonic()

            task = Task(
                stage.state,
                lambda w: worker_command(args, stage.state, launch, w, procs),
                procs,
                gpus,
                tick,
                {"CCPIPE_LOG": str(log), "HPC_FULL_PATIENCE_S": FULL_PATIENCE_S},
                output.fileno(),
                launch.requested,
                start_meter(stage.state, launch, 0, procs, str(log), gpus),
            )
            task.run(stop)
            progress.update(bar, completed=len(stage.state.done_units() & units))


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("  {task.description:<18}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("units"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
