"""Status for programs: JSON with stable keys, and a text file for Prometheus (node_exporter's textfile collector).

    ccpipe status --json
    ccpipe status --prometheus /var/lib/node_exporter/textfile/ccpipe.prom

The file is replaced in one step. All its metrics are gauges, in base units: what is scaled up from a sample may also fall a little,
which a counter must not; use `deriv()` where you would use `rate()`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.fs.files import replace_text
from hpc.watch.status import StageStatus

JSON_FORMAT = 1
"""Rises when a key changes its meaning or goes; new keys may come at any time."""

MAX_CAUSES = 20
"""Causes with a metric of their own for each stage; the rest is summed up as "other"."""

PREFIX = "ccpipe_"

METRICS = {
    "units": "Units of a stage by state; each unit is in one state.",
    "stage_complete": "1 where the stage is complete.",
    "workers": "Worker processes at work, as far as known.",
    "documents": "What committed units have read, kept and dropped.",
    "documents_dropped": "What committed units have dropped, by reason.",
    "work_seconds": "Wall and CPU seconds spent on committed units.",
    "estimated": "1 where documents and work_seconds are scaled up from a sample.",
    "commit_rate": "Units committed per second, over the recent past.",
    "eta_seconds": "Seconds until the stage is complete: expected, and the bounds of the 80 % range.",
    "stalled_seconds": "Seconds without any sign of life in a stage that is being worked on, by the clock of the host that looked.",
    "stragglers": "Units in hand that take far longer than their cost suggests.",
    "failures": "Units that are not committed, by the cause of their last failure.",
    "peak_rss_bytes": "Most memory that one worker process held.",
    "cpu_efficiency": "CPU time used of that requested, 0 to 1.",
    "memory_efficiency": "Memory used of that requested, by the fullest task, 0 to 1.",
    "gpu_efficiency": "Share of the time that GPUs were busy, 0 to 1.",
    "time_efficiency": "Wall time used of the limit, by the longest task, 0 to 1.",
    "status_timestamp_seconds": "When this was looked at, seconds since 1970.",
}
"""Name behind the prefix -> help text."""


def to_json(run: Path, statuses: Sequence[StageStatus]) -> dict[str, Any]:
    """{"format", "run", "stages"}; the keys of a stage are the fields of `hpc.watch.status.StageStatus`, described there."""
    return {"format": JSON_FORMAT, "run": str(run), "stages": [status.to_dict() for status in statuses]}


def write_metrics(path: Path, run: str, statuses: Sequence[StageStatus]) -> None:
    """Write the text file for Prometheus. `run`: value of the label `run`. Raises OSError."""
    replace_text(path, render_metrics(run, statuses, time.time()))


def render_metrics(run: str, statuses: Sequence[StageStatus], now: float) -> str:
    """The text format 0.0.4. `now`: seconds since 1970."""
    samples = [sample for status in statuses for sample in _samples({"run": run, "stage": status.stage}, status)]
    samples.append(Sample("status_timestamp_seconds", {"run": run}, round(now, 3)))
    lines: list[str] = []
    for name, text in METRICS.items():
        mine = [sample for sample in samples if sample.name == name]
        if mine:
            lines += [f"# HELP {PREFIX}{name} {_escaped_help(text)}", f"# TYPE {PREFIX}{name} gauge", *map(_line, mine)]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Sample:
    name: str
    labels: Mapping[str, str]
    value: float


def _samples(labels: Mapping[str, str], status: StageStatus) -> Iterator[Sample]:
    def one(name: str, value: float | None, **more: str) -> Iterable[Sample]:
        return [] if value is None else [Sample(name, {**labels, **more}, value)]

    for state, units in status.states.items():
        yield from one("units", units, state=state)
    yield from one("stage_complete", int(status.complete))
    yield from one("workers", status.workers)
    yield from _counts(labels, status)
    for kind, seconds in (("wall", status.wall_s), ("cpu", status.cpu_s)):
        yield from one("work_seconds", seconds, kind=kind)
    yield from one("estimated", int(status.estimated))
    yield from one("commit_rate", None if status.rate is None else status.rate / 3600)
    for bound, eta in (("low", status.eta_low_s), ("expected", status.eta_s), ("high", status.eta_high_s)):
        yield from one("eta_seconds", eta, bound=bound)
    yield from one("stalled_seconds", status.stalled_s)
    yield from one("stragglers", len(status.stragglers))
    yield from _failures(labels, status)
    yield from one("peak_rss_bytes", status.peak_rss_bytes)
    if (used := status.efficiency) is not None:
        for name, share in (("cpu", used.cpu), ("memory", used.memory), ("gpu", used.gpu), ("time", used.time)):
            yield from one(f"{name}_efficiency", share)


def _counts(labels: Mapping[str, str], status: StageStatus) -> Iterator[Sample]:
    if not status.counts:
        return
    dropped = status.counts.get("dropped", {})
    totals = {"read": status.counts.get("read", 0), "kept": status.counts.get("kept", 0), "dropped": sum(dropped.values())}
    for kind, n in totals.items():
        yield Sample("documents", {**labels, "kind": kind}, n)
    for reason, n in dropped.items():
        yield Sample("documents_dropped", {**labels, "reason": reason}, n)


def _failures(labels: Mapping[str, str], status: StageStatus) -> Iterator[Sample]:
    """The most frequent causes, and the sum of the others."""
    for group in status.failures[:MAX_CAUSES]:
        yield Sample("failures", {**labels, "kind": group.kind, "cause": group.cause}, group.units)
    if rest := status.failures[MAX_CAUSES:]:
        yield Sample("failures", {**labels, "kind": "other", "cause": "other"}, sum(group.units for group in rest))


# --- the text format --------------------------------------------------------------------------------------------------


def _line(sample: Sample) -> str:
    labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
    return f"{PREFIX}{sample.name}{{{labels}}} {_number(sample.value)}"


def _escaped(value: str) -> str:
    r"""
    >>> print(_escaped('a "b" \\ c' + chr(10)))
    a \"b\" \\ c\n
    """
    # a surrogate stands for a byte of a file name that is no UTF-8; the format allows only UTF-8
    readable = value.encode("utf-8", "replace").decode()
    return readable.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    """
    >>> _number(3), _number(0.25), _number(float("inf"))
    ('3', '0.25', '+Inf')
    """
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)
