"""Programs get what people see: JSON with stable keys, and metrics that Prometheus can read whatever is in names and causes."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from status_files import claim, commit, make_stage, save_task

from hpc.state.attempt import new_attempt
from hpc.watch.causes import FailureGroup
from hpc.watch.metrics import MAX_CAUSES, METRICS, PREFIX, render_metrics, to_json, write_metrics
from hpc.watch.status import StageStatus, stage_status
from hpc.workers.commit import record_failure

STAGE_KEYS = {
    *("stage", "fp12", "units", "done", "working", "silent", "failed", "parked", "states", "complete", "workers"),
    *("rate", "eta_s", "eta_low_s", "eta_high_s", "stalled_s", "counts", "estimated", "wall_s", "cpu_s", "peak_rss_bytes"),
    *("s_per_cost", "failures", "stragglers", "efficiency"),
}
FAILURE_KEYS = {"cause", "kind", "units", "parked", "hosts", "unit", "error", "where", "log", "path", "command", "requested"}
STRAGGLER_KEYS = {"unit", "host", "pid", "job", "elapsed_s", "expected_s", "slices", "log", "command"}
EFFICIENCY_KEYS = {
    *("tasks", "running", "lost", "lower_bound", "cpu", "memory", "gpu", "time", "occupancy", "mem_used_gb", "mem_requested_gb"),
    *("time_used_min", "time_limit_min", "suggested", "instead_of", "remarks"),
}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Samples:
    """(name, labels) -> value, read by the parser of the Prometheus project."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.type == "gauge", family
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[(name, tuple(sorted({"run": "corpus", "stage": "squares", **labels}.items())))]


def busy_stage(run: Path) -> StageStatus:
    """Committed, worked on, silent, slow, failed, parked and waiting units."""
    state, now = make_stage(run, [10] * 16), time.time()
    for i in range(8):
        commit(state, f"{i:03d}", now - 90 + 10 * i, 10.0)
    claim(state, "008", now - 9, now - 1)
    claim(state, "009", now - 500, now - 400)
    claim(state, "010", now - 100, now)
    record_failure(state, "011", new_attempt(), 'ValueError: "quoted" \\ and\nmore')
    for _ in range(3):
        record_failure(state, "012", new_attempt(), "OSError: Größe 大きさ")
    save_task(state, "t", now, procs=2, gpus=2, gpu_busy=0.25)
    return stage_status(state)


def test_the_parser_of_prometheus_reads_what_was_written(tmp_path: Path) -> None:
    status = busy_stage(tmp_path / "run")
    path = tmp_path / "textfile" / "ccpipe.prom"
    write_metrics(path, "corpus", [status])
    samples = parsed(path.read_text(encoding="utf-8"))
    states = {state: value(samples, "ccpipe_units", state=state) for state in ("done", "working", "silent", "failed", "parked", "waiting")}
    assert states == {"done": 8, "working": 2, "silent": 1, "failed": 1, "parked": 1, "waiting": 3}
    assert sum(states.values()) == status.units
    assert [value(samples, "ccpipe_documents", kind=kind) for kind in ("read", "kept", "dropped")] == [80, 64, 16]
    assert value(samples, "ccpipe_documents_dropped", reason="too_short") == 16
    assert value(samples, "ccpipe_work_seconds", kind="wall") == 80
    assert value(samples, "ccpipe_work_seconds", kind="cpu") == 40
    assert value(samples, "ccpipe_peak_rss_bytes") == 1 << 30
    assert value(samples, "ccpipe_cpu_efficiency") == 0.75 and value(samples, "ccpipe_memory_efficiency") == 0.25
    assert value(samples, "ccpipe_gpu_efficiency") == 0.25 and value(samples, "ccpipe_time_efficiency") == 0.2
    assert value(samples, "ccpipe_stragglers") == 1 and value(samples, "ccpipe_stage_complete") == 0
    assert status.rate is not None and value(samples, "ccpipe_commit_rate") == pytest.approx(status.rate / 3600)
    low, expected, high = (value(samples, "ccpipe_eta_seconds", bound=bound) for bound in ("low", "expected", "high"))
    assert 0 < low <= expected <= high
    assert samples[("ccpipe_status_timestamp_seconds", (("run", "corpus"),))] == pytest.approx(time.time(), abs=60)


def test_every_metric_has_help_and_is_used(tmp_path: Path) -> None:
    text = render_metrics("corpus", [busy_stage(tmp_path)], 0.0)
    seen = {name.removeprefix(PREFIX) for name, _ in parsed(text)}
    assert METRICS.keys() - seen == {"stalled_seconds"}
    assert not [name for name in METRICS if name.endswith(("_total", "_count", "_sum", "_ms", "_kb"))]


@pytest.mark.parametrize("name", ['a "b"', "a\\nb", "a\nb", "größe 大きさ 🦊", "{x=1}, ", "back\\", "tab\there", ""])
def test_labels_come_back_as_they_were(name: str) -> None:
    status = StageStatus(name, "f" * 12, 3, states={"done": 3}, failures=[FailureGroup(name, name, 2)])
    samples = parsed(render_metrics(name, [status], 0.0))
    assert samples[("ccpipe_units", tuple(sorted({"run": name, "stage": name, "state": "done"}.items())))] == 3
    assert samples[("ccpipe_failures", tuple(sorted({"run": name, "stage": name, "cause": name, "kind": name}.items())))] == 2


def test_a_file_name_that_is_no_utf8_does_not_spoil_the_file(tmp_path: Path) -> None:
    status = StageStatus("squares", "f" * 12, 1, failures=[FailureGroup(os.fsdecode(b"cannot read \xff"), "error", 1)])
    write_metrics(tmp_path / "x.prom", "corpus", [status])
    text = (tmp_path / "x.prom").read_text(encoding="utf-8")
    assert value(parsed(text), "ccpipe_failures", kind="error", cause="cannot read ?") == 1


def test_the_number_of_causes_is_bounded_and_none_is_lost() -> None:
    groups = [FailureGroup(f"cause {chr(97 + i)}", "error", 100 - i) for i in range(MAX_CAUSES + 5)]
    samples = parsed(render_metrics("corpus", [StageStatus("squares", "f" * 12, 1, failures=groups)], 0.0))
    found = [n for (name, _), n in samples.items() if name == "ccpipe_failures"]
    assert len(found) == MAX_CAUSES + 1 and sum(found) == sum(group.units for group in groups)


def test_the_metrics_file_is_replaced_in_one_step_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """What lies beside it meanwhile is not called *.prom: the collector would read it."""
    path = tmp_path / "ccpipe.prom"
    write_metrics(path, "corpus", [])
    first = path.stat().st_ino
    write_metrics(path, "corpus", [])
    assert path.stat().st_ino != first
    assert [entry.name for entry in tmp_path.iterdir()] == ["ccpipe.prom"]
    with pytest.raises(OSError):
        write_metrics(path / "below a file", "corpus", [])


def test_numbers_are_those_of_the_format() -> None:
    status = StageStatus("squares", "f" * 12, 1, eta_s=math.inf, wall_s=1e-7, cpu_s=1e20)
    samples = parsed(render_metrics("corpus", [status], 0.0))
    assert value(samples, "ccpipe_eta_seconds", bound="expected") == math.inf
    assert value(samples, "ccpipe_work_seconds", kind="wall") == 1e-7 and value(samples, "ccpipe_work_seconds", kind="cpu") == 1e20


def test_json_has_these_keys_and_no_others(tmp_path: Path) -> None:
    """A key that goes, or changes its meaning, raises JSON_FORMAT."""
    made = to_json(tmp_path, [busy_stage(tmp_path)])
    again: dict[str, Any] = json.loads(json.dumps(made, allow_nan=False))
    assert again == made and again.keys() == {"format", "run", "stages"} and again["format"] == 1
    (stage,) = again["stages"]
    assert stage.keys() == STAGE_KEYS == {field.name for field in fields(StageStatus)}
    assert stage["failures"][0].keys() == FAILURE_KEYS
    assert stage["stragglers"][0].keys() == STRAGGLER_KEYS
    assert stage["efficiency"].keys() == EFFICIENCY_KEYS
