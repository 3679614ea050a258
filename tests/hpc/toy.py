"""A stage that is not about text: unit i writes the squares of i numbers, in slices. Used to test hpc alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from hpc.dispatch.local import LocalRun
from hpc.planning.planner import Flow, plan_pipeline
from hpc.planning.spec import Pipeline, Source, StageSpec
from hpc.state.plan import FP_CHARS, InputFrom, Plan, PlannedUnit, fingerprint, save_plan
from hpc.state.state import StageState
from hpc.workers.task import StopFlag

SLICE = 3

RAN: list[tuple[str, str, int]] = []
"""(stage, unit, first number) of every slice, and of every unit without slices, that this process has run since it was cleared."""


class Squares:
    """Unit `i` counts to `detail["n"]` in slices of three numbers."""

    sliced = True
    size = SLICE

    def __init__(self) -> None:
        self.slices_run: list[tuple[str, int]] = []

    def load(self) -> None:
        pass

    def run(self, unit: PlannedUnit, inputs: Any, out: Mapping[str, Path]) -> dict[str, Any]:
        raise AssertionError("sliced")

    def earlier_slices(self, unit: PlannedUnit, slices: Sequence[Path]) -> None:
        pass

    def slice(self, unit: PlannedUnit, inputs: Any, folder: Path, cursor: Any) -> tuple[dict[str, Any], Any]:
        first, n = (cursor or {"at": 0})["at"], unit.detail["n"]
        last = min(first + self.size, n)
        self.slices_run.append((unit.id, first))
        RAN.append(("squares", unit.id, first))
        (folder / "numbers.txt").write_text("".join(f"{i * i}\n" for i in range(first, last)))
        counts = {"read": last - first, "kept": last - first, "dropped": {}, "extra": {"sum": sum(range(first, last))}}
        return counts, ({"at": last} if last < n else None)

    def join(self, unit: PlannedUnit, inputs: Any, slices: Sequence[Path], out: Mapping[str, Path]) -> None:
        out["squares"].write_text("".join((folder / "numbers.txt").read_text() for folder in slices))


class Total:
    """Reads the squares of its unit, or of all units, and writes their sum."""

    sliced = False

    def load(self) -> None:
        pass

    def run(self, unit: PlannedUnit, inputs: Mapping[str, Sequence[Path]], out: Mapping[str, Path]) -> dict[str, Any]:
        RAN.append(("total", unit.id, 0))
        numbers = [int(line) for path in inputs["squares"] for line in path.read_text().split()]
        out["total"].write_text(str(sum(numbers)))
        return {"read": len(numbers), "kept": len(numbers), "dropped": {}, "extra": {}}

    def earlier_slices(self, unit: PlannedUnit, slices: Sequence[Path]) -> None:
        pass

    def slice(self, unit: PlannedUnit, inputs: Any, folder: Path, cursor: Any) -> tuple[dict[str, Any], Any]:
        raise AssertionError("not sliced")

    def join(self, unit: PlannedUnit, inputs: Any, slices: Sequence[Path], out: Mapping[str, Path]) -> None:
        raise AssertionError("not sliced")


def pipeline(
    run: Path, sizes: Sequence[int], version: int = 1, of: str = "members", tail: int = 1, overlap: bool = False, **notes: Any
) -> Pipeline:
    """`squares` and behind it `total`, as a user of hpc describes them. `version`: of squares, `tail`: of total."""
    here = str(Path(__file__).parent)
    ids = [f"{i:03d}" for i in range(len(sizes))]
    squares = StageSpec(
        "squares",
        {"version": version},
        [PlannedUnit(name, i, float(n), (), {"n": n}) for i, (name, n) in enumerate(zip(ids, sizes, strict=True))],
        {"squares": "squares/{fp}/{unit}.txt"},
        {"factory": "toy:Squares", "path": here},
    )
    each = [PlannedUnit(name, i, 1.0, (name,)) for i, name in enumerate(ids)]
    total = StageSpec(
        "total",
        {"version": tail},
        each if of == "members" else [PlannedUnit("all", 0, 1.0)],
        {"total": "total/{fp}/{unit}.txt"},
        {"factory": "toy:Total", "path": here},
        (Source("squares", "squares", of),),
        overlap=overlap,
    )
    return Pipeline("toy", run, [squares, total], notes=notes)


def run_flow(described: Pipeline) -> Flow:
    """Plan, then work in this process until all is complete; returns the flow as it was planned at first."""
    flow = plan_pipeline(described)
    assert LocalRun(flow, 1, True, Console(quiet=True)).run(flow.stages, StopFlag())
    return flow


def units_run() -> set[tuple[str, str]]:
    """(stage, unit) of what this process has run since `RAN` was cleared."""
    return {(stage, unit) for stage, unit, _ in RAN}


def make_squares(run: Path, sizes: Sequence[int], version: int = 1) -> StageState:
    """Plan the stage `squares` with one unit for each size."""
    identity = {"stage": "squares", "version": version, "sizes": list(sizes)}
    fp = fingerprint(identity)
    units = tuple(PlannedUnit(f"{i:03d}", i, float(n), (f"{i:03d}",), {"n": n}) for i, n in enumerate(sizes))
    return _save(run, Plan("squares", fp, identity, units, (), {"squares": f"squares/{fp[:FP_CHARS]}/{{unit}}.txt"}))


def make_total(run: Path, squares: StageState, of: str = "members") -> StageState:
    """Plan the stage `total` behind `squares`: one unit each, or one over all."""
    source = InputFrom("squares", "squares", squares.plan.fingerprint, of)
    identity = {"stage": "total", "of": of, "inputs": squares.plan.fingerprint}
    fp = fingerprint(identity)
    units = squares.plan.units if of == "members" else (PlannedUnit("all", 0, 1.0),)
    return _save(run, Plan("total", fp, identity, units, (source,), {"total": f"total/{fp[:FP_CHARS]}/{{unit}}.txt"}))


def _save(run: Path, plan: Plan) -> StageState:
    state = StageState(run, plan.stage, plan.fp12)
    save_plan(state.plan_path, plan)
    return state


def outputs(state: StageState) -> dict[str, bytes]:
    """Bytes of every output, as the sentinels name them."""
    found = {}
    for unit in state.plan.units:
        sentinel = state.sentinel(unit.id)
        assert sentinel is not None, f"{unit.id} is not committed"
        for entry in sentinel["outputs"].values():
            found[entry["path"]] = (state.run / entry["path"]).read_bytes()
    return found


def in_child(action: Callable[[], None]) -> int:
    """Run `action` in a forked process; returns its exit status as `os.waitpid` gives it."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(99)
    return os.waitpid(pid, 0)[1]


SYSTEM_CALLS = ("fsync", "rename", "link", "unlink", "mkdir", "rmdir", "open", "write", "utime")


def die_at_call(number: int) -> None:
    """From now on, SIGKILL this process just before the `number`-th call that touches the filesystem."""
    calls = 0

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapped

    for name in SYSTEM_CALLS:
        setattr(os, name, wrap(getattr(os, name)))
