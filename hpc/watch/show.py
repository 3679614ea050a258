"""Tables for people: the status of a run, its failures and stragglers, and what its tasks used of what they asked for."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpc.fs.files import read_json_if_exists
from hpc.watch.causes import FailureGroup
from hpc.watch.efficiency import Efficiency
from hpc.watch.status import StageStatus

SHOWN_CAUSES = 8
SHOWN_STRAGGLERS = 5
SHOWN_HOSTS = 3

BAD_NODE_SHARE = 0.8
BAD_NODE_UNITS = 5
"""So many failures of one kind, and that share of them on one host, point to the host."""

WORTH_MIN = 5.0
"""Of tasks that were over sooner, starting the workers is most of what they did: nothing is to be learnt from them."""


def show_status(console: Console, run: Path, stages: Sequence[StageStatus], least_min: float = WORTH_MIN) -> None:
    """Everything about a run; efficiency of stages with a task that lasted at least `least_min` minutes."""
    console.print(status_table(run, stages))
    for status in stages:
        _show_stalled(console, status)
        _show_failures(console, status, f"{_retry(run)} --stage {shlex.quote(status.stage)}")
        _show_stragglers(console, status)
    show_efficiency(console, stages, least_min)


def status_table(run: Path, stages: Sequence[StageStatus]) -> Table:
    """One line per stage: bar, units, who works, failures, pace."""
    table = _table(str(run))
    for heading in ("stage", "", "units", "working", "failed", "units/h", "ETA (80 %)", "read", "kept"):
        table.add_column(heading, justify="left" if heading in ("stage", "") else "right", no_wrap=True)
    for s in stages:
        bar = ProgressBar(total=max(s.units, 1), completed=s.done, width=16)
        failed = Text(f"{s.failed:,}" + (f" ({s.parked:,} parked)" if s.parked else ""), style="red" if s.failed else "dim")
        approx = "~" if s.estimated else ""
        read, kept = (f"{approx}{s.counts.get(key, 0):,}" if s.counts else "" for key in ("read", "kept"))
        name = Text(s.stage, style="green" if s.complete else "")
        working = f"{s.working or ''}" + (f" ({s.silent} silent)" if s.silent else "")
        pace = f"{s.rate:,.0f}" if s.rate else ""
        table.add_row(name, bar, f"{s.done}/{s.units}", working, failed, pace, eta(s), read, kept)
    return table


def eta(status: StageStatus) -> str:
    """`2h10m (1h50m-3h05m)`; one figure where the bounds read the same."""
    if status.eta_s is None:
        return ""
    low, high = duration(status.eta_low_s), duration(status.eta_high_s)
    return duration(status.eta_s) + (f" ({low}-{high})" if low != high else "")


def _show_stalled(console: Console, status: StageStatus) -> None:
    if status.stalled_s is not None and not status.complete:
        minutes = max(1, round(status.stalled_s / 60))
        console.print(f"{status.stage}: nothing has moved for about {minutes} min by this host's clock", style="yellow", highlight=False)


def _retry(run: Path) -> str:
    """What the user of this run types to try failed units again, up to the stage; flow.json knows it."""
    flow = read_json_if_exists(run / "flow.json") or {}
    return str(flow.get("command") or f"python -m hpc {{verb}} --run {shlex.quote(str(run))}").replace("{verb}", "retry")


def _show_failures(console: Console, status: StageStatus, retry: str) -> None:
    for group in status.failures[:SHOWN_CAUSES]:
        parked = f", {group.parked:,} of them parked" if group.parked else ""
        kind = "" if group.kind == "error" else f" ({group.kind.replace('_', ' ')})"
        _say(console, f"{status.stage}: {group.units:,} units failed{parked}{kind}: {group.cause}", "red")
        _say(console, f"  on           {_hosts(group)}")
        where = f" ({group.where})" if group.where else ""
        _say(console, f"  for example  {group.unit}: {group.error}{where}")
        _say(console, f"  log          {group.log or 'none; the record of the failure: ' + group.path}")
        _say(console, f"  look closer  {group.command}")
    if len(status.failures) > SHOWN_CAUSES:
        rest = status.failures[SHOWN_CAUSES:]
        _say(console, f"{status.stage}: {sum(g.units for g in rest):,} more units failed, of {len(rest)} other causes; see --json", "red")
    if status.failures:
        _say(console, f"  try again    {retry}" + ("" if status.parked else "  (units that are not parked are tried again anyway)"))


def _hosts(group: FailureGroup) -> str:
    """The hosts with most failures first; one that has nearly all is pointed to."""
    ranked = list(group.hosts.items())
    if not ranked:
        return "unknown hosts"
    text = ", ".join(f"{host} ({n:,})" for host, n in ranked[:SHOWN_HOSTS])
    if len(ranked) > SHOWN_HOSTS:
        text += f" and {len(ranked) - SHOWN_HOSTS} more hosts"
    host, most = ranked[0]
    if most >= BAD_NODE_UNITS and most >= BAD_NODE_SHARE * sum(group.hosts.values()):
        text += f"; nearly all on {host}: is that node in order?"
    return text


def _show_stragglers(console: Console, status: StageStatus) -> None:
    for slow in status.stragglers[:SHOWN_STRAGGLERS]:
        job = f", job {slow.job}" if slow.job else ""
        _say(
            console,
            f"{status.stage}: {slow.unit} on {slow.host}{job} takes {duration(slow.elapsed_s)} so far, "
            f"expected {duration(slow.expected_s)}; {slow.slices} slices committed",
            "yellow",
        )
        if slow.log:
            _say(console, f"  log          {slow.log}")
        _say(console, f"  look closer  {slow.command}")
    if (more := len(status.stragglers) - SHOWN_STRAGGLERS) > 0:
        _say(console, f"{status.stage}: {more} more units are as slow; see --json", "yellow")


def _say(console: Console, text: str, style: str = "") -> None:
    """A line that can be copied: not wrapped, and brackets in it are no markup."""
    console.print(Text(text, style=style), soft_wrap=True, highlight=False)


# --- efficiency -------------------------------------------------------------------------------------------------------


def show_efficiency(console: Console, stages: Sequence[StageStatus], least_min: float = WORTH_MIN) -> None:
    """Used against requested, and requests to paste, of stages with a task that lasted at least `least_min` minutes."""
    known = [(s.stage, s.efficiency) for s in stages if s.efficiency is not None and (s.efficiency.time_used_min or 0.0) >= least_min]
    if not known:
        return
    console.print()
    console.print(efficiency_table(known))
    for stage, found in known:
        for remark in found.remarks:
            _say(console, f"{stage}: {remark}")
    pasted = [text for stage, found in known if (text := found.toml(stage))]
    if pasted:
        _say(console, "suggested requests (most that was used x 1.3), to paste into the config:", "bold")
        for text in pasted:
            _say(console, text)


def efficiency_table(known: Sequence[tuple[str, Efficiency]]) -> Table:
    """One line per stage."""
    table = _table("used of what was requested")
    for heading in ("stage", "tasks", "CPU", "memory", "GPU busy", "time"):
        table.add_column(heading, justify="left" if heading == "stage" else "right", no_wrap=True)
    for stage, e in known:
        least = ">=" if e.lower_bound else ""
        memory = _used(e.mem_used_gb, e.mem_requested_gb, e.memory, "GB", least)
        time = _used(e.time_used_min, e.time_limit_min, e.time, "min", least)
        table.add_row(stage, str(e.tasks or ""), percent(e.cpu), memory, percent(e.gpu), time)
    return table


def _used(used: float | None, asked: float | None, share: float | None, unit: str, least: str) -> str:
    if used is None:
        return ""
    return f"{least}{used:.1f} of {asked:g} {unit} ({percent(share)})" if asked else f"{least}{used:.1f} {unit}"


def _table(title: str) -> Table:
    return Table(title=Text(title), title_justify="left", box=None, padding=(0, 2, 0, 0))


# --- words ------------------------------------------------------------------------------------------------------------


def percent(share: float | None) -> str:
    """
    >>> percent(0.314), percent(None)
    ('31%', '')
    """
    return "" if share is None else f"{share:.0%}"


def duration(seconds: float | None) -> str:
    """
    >>> duration(None), duration(42), duration(4000), duration(200_000)
    ('', '42s', '1h06m', '2d07h')
    """
    if seconds is None:
        return ""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m" if whole < 172_800 else f"{whole // 86_400}d{whole % 86_400 // 3600:02d}h"
