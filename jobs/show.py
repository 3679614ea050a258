"""Tables for people: status of a run, the plan before a launch, the summary after one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpc.status import StageStatus
from jobs.planning import FlowPlan, StagePlan

MAX_REASONS = 8


def status_table(run: Path, stages: Sequence[StageStatus]) -> Table:
    """One line per stage: bar, units, who works, failures, pace."""
    table = Table(title=str(run), title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("stage", "", "units", "working", "failed", "units/h", "ETA", "read", "kept"):
        table.add_column(heading, justify="left" if heading in ("stage", "") else "right", no_wrap=True)
    for s in stages:
        bar = ProgressBar(total=max(s.units, 1), completed=s.done, width=16)
        failed = Text(f"{s.failed}" + (f" ({s.parked} parked)" if s.parked else ""), style="red" if s.failed else "dim")
        approx = "~" if s.estimated else ""
        read, kept = (f"{approx}{s.counts.get(key, 0):,}" if s.counts else "" for key in ("read", "kept"))
        name = Text(s.stage, style="green" if s.complete else "")
        working = f"{s.working or ''}" + (f" ({s.silent} silent)" if s.silent else "")
        pace = f"{s.rate:,.0f}" if s.rate else ""
        table.add_row(name, bar, f"{s.done}/{s.units}", working, failed, pace, duration(s.eta_s), read, kept)
    return table


def show_status(console: Console, run: Path, stages: Sequence[StageStatus]) -> None:
    console.print(status_table(run, stages))
    for s in stages:
        for cause, units in s.causes.items():
            console.print(f"{s.stage}: {units} units failed: {cause}", style="red", highlight=False)
        if s.example:
            console.print(f"  look closer: cat {s.example.partition(': ')[2]}", highlight=False)
        if s.parked:
            console.print(f"  try again:   make stage={s.stage} retry", highlight=False)


def plan_table(flow: FlowPlan, stages: Sequence[StagePlan]) -> Table:
    """What would be sent: arrays, units and resources."""
    title = f"{flow.run}: {len(flow.manifest.files)} files in {flow.manifest.n_shards} shards, site {flow.config.site.name}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("stage", "fingerprint", "units to do", "tasks", "procs", "cpus", "gpus", "memory", "time limit", "est. task"):
        table.add_column(heading, justify="left" if heading in ("stage", "fingerprint") else "right", no_wrap=True)
    for s in stages:
        r, p = s.resources, s.packing
        asked = (
            str(p.tasks),
            str(p.procs),
            str(r.cpus),
            str(r.gpus or ""),
            f"{r.task_mem_gb:g} GB",
            duration(r.time_min * 60),
            duration(p.minutes * 60),
        )
        table.add_row(s.name, s.state.fp12, f"{len(s.pending)}/{len(s.plan.units)}", *(asked if s.pending else [""] * len(asked)))
    return table


def plan_reason(stage: StagePlan) -> str:
    """Why these units, and why this many tasks."""
    if not stage.pending:
        return "complete"
    causes = Counter(stage.pending.values())
    why = "; ".join(f"{cause}: {n} units" for cause, n in causes.most_common(3))
    after = f"; waits for {', '.join(stage.stage.upstream)}" if stage.stage.upstream else ""
    return f"{stage.packing.reason}. Units run because {why}{after}"


def summary_table(stages: Sequence[StageStatus]) -> Table:
    """What became of the documents: read, kept, dropped by reason, seconds of work."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("stage", "read", "kept", "dropped by reason", "seconds"):
        table.add_column(
            heading, justify="right" if heading in ("read", "kept", "seconds") else "left", no_wrap=heading != "dropped by reason"
        )
    for s in stages:
        counts = s.counts or {"read": 0, "kept": 0, "dropped": {}}
        table.add_row(s.stage, f"{counts['read']:,}", f"{counts['kept']:,}", reasons(counts["dropped"]), f"{s.wall_s:.1f}")
    return table


def reasons(dropped: dict[str, int]) -> str:
    """`too_short 12, url_blocked 3`, most frequent first."""
    ranked = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    text = ", ".join(f"{reason} {n:,}" for reason, n in ranked[:MAX_REASONS])
    rest = sum(n for _, n in ranked[MAX_REASONS:])
    return f"{text}, {len(ranked) - MAX_REASONS} more reasons {rest:,}" if rest else text


def duration(seconds: float | None) -> str:
    """
    >>> duration(None), duration(42), duration(4000)
    ('', '42s', '1h06m')
    """
    if seconds is None:
        return ""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def size(n_bytes: float) -> str:
    """
    >>> size(1536)
    '1.5 KiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} TiB"
