"""A task watches its workers: the killed are blamed and started again, stop signals end in committed slices."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from toy import Squares, in_child, make_squares, outputs

import hpc.workers.board
import hpc.workers.task
from hpc.dispatch.gate import run_gate
from hpc.fs.files import read_json
from hpc.state.attempt import new_attempt, process_alive
from hpc.state.launch import start_order
from hpc.state.state import MAX_FAILURES, StageState
from hpc.workers.commit import record_failure
from hpc.workers.task import StopFlag, Task, visible_gpus
from hpc.workers.worker import EXIT_DONE, EXIT_LEFT, EXIT_STOPPED, Worker

SIZES = [7, 0, 3, 10]
WORKER = Path(__file__).parents[1] / "toy_worker.py"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hpc.workers.task, "POLL_S", 0.02)
    monkeypatch.setattr(hpc.workers.task, "MAX_RESTARTS", 5)


def task(state: StageState, mode: str, procs: int = 2, gpus: tuple[str, ...] = (), **more: Any) -> Task:
    environment = {"PYTHONPATH": str(Path(hpc.__file__).parents[1])}
    arguments = [sys.executable, str(WORKER), str(state.run), state.fp12]
    return Task(state, lambda w: [*arguments, str(w), str(procs), mode], procs, gpus, environment=environment, **more)


def undisturbed(folder: Path, sizes: list[int]) -> dict[str, bytes]:
    state = make_squares(folder, sizes)
    Worker(state, Squares(), start_order(state.plan.largest_first, 0, 1), lambda: False).run()
    return outputs(state)


def worker_pids(task_pid: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{task_pid}/task/{task_pid}/children").read_text().split()]


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
    return value


def test_all_workers_together_do_every_unit_once(tmp_path: Path) -> None:
    state = make_squares(tmp_path / "run", SIZES)
    assert task(state, "well").run(StopFlag()) == EXIT_DONE
    assert outputs(state) == undisturbed(tmp_path / "undisturbed", SIZES)


def test_a_unit_that_kills_its_worker_is_parked_and_the_rest_completes(tmp_path: Path) -> None:
    """Out of memory, or a crash in native code: no Python exception tells of it, only the signal."""
    state = make_squares(tmp_path, SIZES)
    assert task(state, "poison").run(StopFlag()) == EXIT_LEFT
    assert state.done_units() == {"000", "001", "003"}
    report = run_gate(state)
    assert set(report.missing) == {"002"}
    assert "parked after" in report.missing["002"] and "worker killed by SIGKILL" in report.missing["002"]
    assert len(state.failures()["002"]) >= MAX_FAILURES
    assert {read_json(path)["cause"] for path in state.failures()["002"]} == {"worker killed by SIGKILL"}
    assert not list(state.folder.glob("claims/*"))


@pytest.mark.parametrize(("mode", "cause"), [("exits", "SystemExit: 7"), ("exits natively", "worker left with exit code 0")])
def test_a_unit_that_ends_its_worker_is_parked_and_the_rest_completes(tmp_path: Path, mode: str, cause: str) -> None:
    """`sys.exit` in somebody's code, `exit()` in native code: whatever the exit code is."""
    state = make_squares(tmp_path, SIZES)
    assert task(state, mode, procs=1).run(StopFlag()) == EXIT_LEFT
    assert state.done_units() == {"000", "001", "003"}
    assert {read_json(path)["cause"] for path in state.failures()["002"]} == {cause}
    assert len(state.failures()["002"]) >= MAX_FAILURES and not list(state.folder.glob("claims/*"))


def test_a_unit_that_others_have_parked_since_the_pass_began_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass over a long list takes hours; whether a unit is parked is looked at again meanwhile."""
    monkeypatch.setattr(hpc.workers.board, "MIN_REFRESH_S", 0.0)
    monkeypatch.setattr(hpc.workers.board, "MAX_SHARE", 1e9)
    state = make_squares(tmp_path, [3, 3])

    class Slow(Squares):
        def slice(self, unit: Any, inputs: Any, folder: Path, cursor: Any) -> Any:
            for _ in range(MAX_FAILURES):
                record_failure(state, "001", new_attempt(), "worker killed by SIGKILL")
            return super().slice(unit, inputs, folder, cursor)

    work = Slow()
    report = Worker(state, work, ["000", "001"], lambda: False).run()
    assert {unit for unit, _ in work.slices_run} == {"000"}
    assert report.parked == {"001"} and report.exit_code == EXIT_LEFT and not list(state.folder.glob("claims/*"))


def test_workers_that_die_without_a_unit_are_not_started_for_ever(tmp_path: Path) -> None:
    state = make_squares(tmp_path, SIZES)
    assert task(state, "idle").run(StopFlag()) == EXIT_LEFT
    assert state.failures() == {} and not state.done_units()


def test_a_worker_that_cannot_start_gives_the_task_its_exit_code(tmp_path: Path) -> None:
    state = make_squares(tmp_path, SIZES)
    with (tmp_path / "log").open("wb") as log:
        assert task(state, "crash", output=log.fileno()).run(StopFlag()) == 1
    assert "cannot even start" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_stop_signal_to_the_task_commits_slices_and_the_next_resumes_after_them(tmp_path: Path, number: signal.Signals) -> None:
    sizes = [60, 45]
    state = make_squares(tmp_path / "run", sizes)
    pid = os.fork()
    if pid == 0:
        os._exit(task(state, "slow").run(StopFlag().install()))
    wait_for(lambda: len(list(state.folder.glob("slices/*/*.json"))) >= 3)
    os.kill(pid, number)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == EXIT_STOPPED
    records = {path: read_json(path)["attempt"] for path in state.folder.glob("slices/*/*.json")}
    assert len(records) >= 3 and not state.done_units() and not state.failures() and not list(state.folder.glob("claims/*"))
    second = Squares()
    Worker(state, second, ["000", "001"], lambda: False).run()
    again = {(unit, first // 3) for unit, first in second.slices_run}
    assert not again & {(path.parent.name, int(path.stem)) for path in records}
    assert outputs(state) == undisturbed(tmp_path / "undisturbed", sizes)


def test_workers_leave_when_their_task_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the task alone: orphans must not go on for hours beside the task's next life."""
    state = make_squares(tmp_path, [3000])
    pid = os.fork()
    if pid == 0:
        os._exit(task(state, "slow", procs=1).run(StopFlag()))
    wait_for(lambda: list(state.folder.glob("slices/*/*.json")))
    (worker,) = worker_pids(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wait_for(lambda: not process_alive(worker))
    assert not state.done_units() and not list(state.folder.glob("claims/*"))


def test_each_worker_gets_its_gpu_and_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert visible_gpus() == ["4", "7"]
    assert task(make_squares(tmp_path, SIZES), "well", procs=2, gpus=("4", "7")).run(StopFlag()) == EXIT_DONE
    for worker, gpu in enumerate("47"):
        lines = (tmp_path / f"env-{worker}.txt").read_text().splitlines()
        assert {f"CUDA_VISIBLE_DEVICES={gpu}", "OMP_NUM_THREADS=1", "NUMBA_NUM_THREADS=1"} <= set(lines)


@pytest.mark.parametrize(
    ("value", "found"), [({}, []), ("", []), ("NoDevFiles", []), ("-1", []), ("0", ["0"]), ("GPU-8f,GPU-9a", ["GPU-8f", "GPU-9a"])]
)
def test_gpus_are_those_that_the_scheduler_gave(value: str | Mapping[str, str], found: list[str]) -> None:
    assert visible_gpus({} if isinstance(value, dict) else {"CUDA_VISIBLE_DEVICES": str(value)}) == found


def test_the_stop_flag_replaces_inherited_handlers() -> None:
    """submitit's handler is inherited by what it starts, and would only log."""

    def check() -> None:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
        stop = StopFlag().install()
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop() and stop.signal is signal.SIGTERM

    assert in_child(check) == 0
