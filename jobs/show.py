"""The summary of a run for people: what became of the documents, and why."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from hpc.watch.status import StageStatus

MAX_REASONS = 8


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
