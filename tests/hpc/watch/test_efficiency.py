"""What tasks used of what they asked for, and requests that can be pasted into a config."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from status_files import commit, make_stage, save_task, task_record

from hpc.site import Resources
from hpc.state.attempt import new_attempt
from hpc.watch.efficiency import Committed, Efficiency, efficiency
from hpc.watch.evidence import TaskSeen
from hpc.watch.status import stage_status
from hpc.workers.commit import record_failure

UNITS = Committed(50, 4000.0, 3000.0, 1 << 30, {"cpus": 4, "gpus": 0, "mem_gb": 4.0})
NONE = Committed(0, 0.0, 0.0, 0, {})


def of(*records: dict[str, Any], running: int = 0, complete: bool = False, starved: dict[str, float] | None = None) -> Efficiency:
    found = efficiency([TaskSeen(record, 0.0) for record in records], running, UNITS, starved, complete)
    assert found is not None
    return found


def test_used_against_requested_over_all_tasks() -> None:
    found = of(task_record(), task_record(wall_s=2400.0, cpu_s=2400.0, peak_rss_bytes=8 << 30))
    assert found.cpu == pytest.approx(6000 / (4 * 3600))
    assert (found.memory, found.mem_used_gb, found.mem_requested_gb) == (0.5, 8.0, 16.0)
    assert (found.time, found.time_used_min, found.time_limit_min) == (0.4, 40.0, 100.0)
    assert (found.tasks, found.running, found.lost, found.gpu) == (2, 0, 0, None)


def test_suggested_requests_are_the_peak_with_a_margin_and_can_be_pasted() -> None:
    """`mem_gb` is per worker process: 4 GiB over 4 processes, times 1.3."""
    found = of(task_record())
    text = found.toml("dedup.match")
    assert "mem_gb = 1.3  # instead of 4" in text and "time_limit_min = 30  # instead of 100" in text
    parsed = tomllib.loads(text)
    assert parsed == {"resources": {"dedup.match": {"mem_gb": 1.3, "time_limit_min": 30}}}
    Resources.model_validate(parsed["resources"]["dedup.match"])


def test_a_request_that_nearly_fits_is_left_alone_and_one_too_small_is_raised() -> None:
    fits = of(task_record(mem_gb=5.4, time_min=28))
    assert fits.suggested == {} and fits.toml("extract") == ""
    tight = of(task_record(mem_gb=4.1, time_min=28))
    assert tight.suggested == {"mem_gb": 1.3}


def test_a_task_without_an_end_is_a_lower_bound_and_is_counted() -> None:
    killed = task_record(ended=False, exit=None, wall_s=60.0, cpu_s=100.0, peak_rss_bytes=8 << 30)
    found = of(task_record(), killed)
    assert (found.lost, found.running, found.lower_bound, found.mem_used_gb) == (1, 0, True, 8.0)
    assert found.suggested["mem_gb"] == 2.6
    assert any("1 of 2 tasks were killed" in remark for remark in found.remarks)
    found = of(task_record(), killed, running=1)
    assert (found.lost, found.running, found.remarks) == (0, 1, [])


def test_no_time_limit_is_suggested_from_tasks_that_run_or_were_told_to_leave() -> None:
    assert "time_limit_min" not in of(task_record(signal="SIGTERM")).suggested
    assert "time_limit_min" not in of(task_record(ended=False)).suggested
    assert "time_limit_min" not in of(task_record(), task_record(ended=False), running=1).suggested


def test_nothing_less_than_what_was_too_little_is_suggested() -> None:
    found = of(task_record(), starved={"mem_gb": 4.0, "time_limit_min": 100})
    assert found.suggested == {"mem_gb": 6.0, "time_limit_min": 150}


def test_gpus_that_idle_are_told_and_cores_of_gpu_tasks_are_suggested() -> None:
    gpu = {"gpus": 2, "procs": 2, "cpus": 16, "cpu_s": 3600.0, "mem_gb": 16.0}
    found = of(task_record(**gpu, gpu_busy=0.2), task_record(**gpu, gpu_busy=0.4))
    assert found.gpu == pytest.approx(0.3)
    assert found.suggested["cpus"] == 4 and found.instead_of["cpus"] == 16
    assert any("GPUs were busy 30% of the time" in remark for remark in found.remarks)
    assert of(task_record(**gpu, gpu_busy=None)).gpu is None


def test_idle_workers_and_waiting_for_files_are_told_apart() -> None:
    idle = of(task_record(cpu_s=1000.0, wall_s=2000.0), complete=True)  # 4,000 s of units in 8,000 s of processes
    assert idle.occupancy == 0.5 and "Workers waited for work" in idle.remarks[0]
    slow = of(task_record(cpu_s=500.0, wall_s=1000.0), complete=True)
    assert slow.occupancy == 1.0 and "Workers waited for files" in slow.remarks[0]
    assert of(task_record(cpu_s=3900.0)).remarks == []


def test_where_there_are_no_records_committed_units_tell() -> None:
    found = efficiency([], 0, UNITS)
    assert found is not None and (found.tasks, found.cpu, found.memory) == (0, 0.75, 0.25)
    assert found.suggested == {"mem_gb": 1.3} and found.instead_of == {"mem_gb": 4.0}
    assert efficiency([], 0, NONE) is None
    few = efficiency([], 0, Committed(4, 10.0, 5.0, 1 << 30, UNITS.requested))
    assert few is not None and few.suggested == {}


def test_requests_left_to_sizing_are_suggested_without_an_old_value() -> None:
    found = efficiency([], 0, Committed(50, 10.0, 5.0, 1 << 30, {"cpus": 4, "mem_gb": None}))
    assert found is not None and found.toml("extract") == "[resources.extract]\nmem_gb = 1.3"
    assert of(task_record(mem_gb=None, time_min=None)).memory is None


def test_records_are_read_from_the_state_folder_and_damaged_ones_left_out(tmp_path: Path) -> None:
    state = make_stage(tmp_path, [1] * 8)
    commit(state, "000", 1000.0, 1.0)
    save_task(state, "good")
    (state.folder / "tasks" / "half.json").write_text('{"id": "half"')
    (state.folder / "tasks" / "empty.json").write_text("")
    record_failure(state, "001", new_attempt(), "killed", kind="out_of_memory", requested={"mem_gb": 3.0})
    found = stage_status(state).efficiency
    assert found is not None and found.tasks == 1 and found.suggested["mem_gb"] == 4.5
