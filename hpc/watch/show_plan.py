"""The dry run for people: a table of what would be sent, and for each stage why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from hpc.planning.planner import Flow, StagePlan
from hpc.planning.reuse import other_versions
from hpc.state.identity import difference_line, differing_keys
from hpc.watch.show import duration

MAX_KEYS = 8


def print_plan(
    console: Console, flow: Flow, stages: Sequence[StagePlan], more: dict[str, Iterable[str]] | None = None, title: str = ""
) -> None:
    """`more`: further lines by stage."""
    console.print(plan_table(flow, stages, title))
    for stage in stages:
        console.print(f"{stage.name}: {plan_reason(stage)}", highlight=False, soft_wrap=True)
        for line in [*staleness(stage), *(stage.packing.reasons if stage.pending else ()), *(more or {}).get(stage.name, ())]:
            console.print(f"    {line}", highlight=False, soft_wrap=True)


def plan_table(flow: Flow, stages: Sequence[StagePlan], title: str = "") -> Table:
    """What would be sent: arrays, units and resources."""
    table = Table(title=title or f"{flow.run}, site {flow.site.name}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("stage", "fingerprint", "units to do", "reused", "tasks", "procs", "cpus", "gpus", "memory", "time limit", "est. task"):
        table.add_column(heading, justify="left" if heading in ("stage", "fingerprint") else "right", no_wrap=True)
    for s in stages:
        p, r = s.packing, s.packing.resources
        asked = (
            str(p.tasks),
            str(p.procs),
            str(r.cpus),
            str(r.gpus or ""),
            f"{r.task_mem_gb:g} GB",
            duration(r.time_min * 60),
            duration(p.minutes * 60),
        )
        todo = f"{len(s.pending) - len(s.reusable)}/{len(s.plan.units)}"
        table.add_row(s.name, s.state.fp12, todo, str(len(s.reusable) or ""), *(asked if p.tasks else [""] * len(asked)))
    return table


def plan_reason(stage: StagePlan) -> str:
    """Why these units run, and what they wait for."""
    if not stage.pending:
        return "complete"
    causes = Counter(stage.pending.values())
    why = "; ".join(f"{cause}: {n} units" for cause, n in causes.most_common(3))
    after = f"; waits for {', '.join(stage.upstream)}" if stage.upstream else ""
    return f"units run because {why}{after}"


def staleness(stage: StagePlan) -> list[str]:
    """What has changed since the version before, where this one is new and not complete."""
    if not stage.pending:
        return []
    before = next(other_versions(stage.state), None)
    if before is None:
        return []
    # the digest of the units' keys says nothing that a person could read
    keys = [key for key in differing_keys(before.plan.identity, stage.plan.identity) if key[0] != "units"]
    told = [difference_line(key) for key in keys[:MAX_KEYS]] + ([f"{len(keys) - MAX_KEYS} more keys"] if len(keys) > MAX_KEYS else [])
    differs = "; ".join(told) or "other units, or units that read other files"
    lines = [f"Another version than {before.fp12}, which stays until `gc`: {differs}."]
    if stage.reusable:
        rest = len(stage.pending) - len(stage.reusable)
        lines.append(f"{len(stage.reusable)} of its units were made from the same and are taken over; {rest} run.")
    return lines
