"""Killed at every named step of the protocol, the first and the second time that it comes by: the next worker or gate finishes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from toy import RAN, in_child, outputs, pipeline, run_flow

from hpc.dispatch.gate import run_gate
from hpc.fs.files import names_in, read_json
from hpc.fs.points import POINTS, die_at
from hpc.planning.planner import Flow, plan_pipeline
from hpc.state.pending import retire
from hpc.state.state import StageState
from hpc.upkeep.gc import find_garbage

REPO = Path(__file__).parents[3]
BEFORE, AFTER = [7, 0, 3, 10], [7, 0, 4, 10]


def redo(run: Path) -> None:
    """Take two units back, as `redo` does, then work."""
    retire(plan_pipeline(pipeline(run, AFTER)).find("squares").state, {"000", "003"})
    run_flow(pipeline(run, AFTER))


def gate_again(run: Path) -> None:
    """A unit of each stage is committed anew, so that both stages are published and folded anew."""
    retire(plan_pipeline(pipeline(run, AFTER)).find("squares").state, {"001"})
    run_flow(pipeline(run, AFTER))


@dataclass(frozen=True)
class Scenario:
    """`before` is done undisturbed; then a process dies in `action`."""

    before: Callable[[Path], object]
    action: Callable[[Path], object]


WORK = Scenario(lambda run: None, lambda run: run_flow(pipeline(run, AFTER)))
REUSE = Scenario(lambda run: run_flow(pipeline(run, BEFORE)), lambda run: run_flow(pipeline(run, AFTER)))
REDO = Scenario(lambda run: run_flow(pipeline(run, AFTER)), redo)
GATE = Scenario(lambda run: run_flow(pipeline(run, AFTER)), gate_again)

SCENARIOS: dict[str, tuple[Scenario, ...]] = {
    **dict.fromkeys(("claim.taken", "scratch.made", "slice.written", "slice.synced", "slice.recorded", "unit.written"), (WORK, REUSE)),
    **dict.fromkeys(("output.moved", "outputs.synced", "sentinel.linked", "slices.discarded", "claim.released"), (WORK, REDO)),
    **dict.fromkeys(("gate.units", "gate.success", "fold.archived", "fold.unlinked"), (WORK, GATE)),
    **dict.fromkeys(("adopt.linked", "adopt.published"), (REUSE,)),
    "retire.moved": (REDO,),
}
"""In which scenarios a process comes by a point at least twice. A new point needs a line here."""


@pytest.fixture(autouse=True)
def small_stages_are_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpc.dispatch.gate.FOLD_UNITS", 3)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return every_output(run_flow(pipeline(tmp_path_factory.mktemp("undisturbed"), AFTER)))


def every_output(flow: Flow) -> dict[str, bytes]:
    return {path: data for stage in flow.stages for path, data in outputs(stage.state).items()}


def states(run: Path) -> list[StageState]:
    return [StageState(run, path.parents[1].name, path.parent.name) for path in sorted(run.glob("state/*/*/plan.json"))]


def attempts(run: Path) -> dict[tuple[str, str, str], str]:
    """Who has committed what, at this moment."""
    found = {}
    for state in states(run):
        for unit in state.done_units():
            sentinel = state.sentinel(unit)
            assert sentinel is not None
            found[state.stage, state.fp12, unit] = sentinel["attempt"]["id"]
    return found


def committed_slices(run: Path) -> set[tuple[str, str, int]]:
    """(stage, unit, first number) of slices that have a record; a unit's toy slices are of three numbers."""
    found = set()
    for state in states(run):
        for unit in names_in(state.folder / "slices"):
            found |= {(state.stage, unit, 3 * int(Path(name).stem)) for name in names_in(state.slices_path(unit))}
    return found


def accounted(flow: Flow) -> list[str]:
    """Files that no sentinel names and that are no state of a complete stage; what is named and absent."""
    wrong = []
    for stage in flow.stages:
        state = stage.state
        named = set(outputs(state))
        folders = {str(Path(template).parent) for template in stage.plan.outputs.values()}
        there = {str(path.relative_to(flow.run)) for folder in folders for path in (flow.run / folder).iterdir()}
        wrong += sorted(named ^ there)
        known = {"plan.json", "launches", "done.zip", "units.json", "_SUCCESS.json", "retired", "logs", "tasks"}
        wrong += sorted(f"{state.folder}/{path.name}" for path in state.folder.iterdir() if path.name not in known)
        members = [f"{unit.id}.json" for unit in stage.plan.units]
        archive = state.archive()
        assert archive is not None
        wrong += [] if archive.units == {name.removesuffix(".json") for name in members} else ["done.zip"]
        wrong += [f"{state.folder}/retired/{name}" for name in names_in(state.folder / "retired")]
    wrong += [str(path) for path in (flow.run / "tmp").rglob("*") if not path.is_dir()]
    wrong += [str(path) for path in flow.run.rglob(".*")]
    return wrong


CASES = [(point, number, time) for point in POINTS for number in range(len(SCENARIOS.get(point, (WORK,)))) for time in (1, 2)]


@pytest.mark.parametrize(("point", "number", "time"), CASES)
def test_killed_at_a_named_point_the_next_one_finishes(
    tmp_path: Path, undisturbed: dict[str, bytes], point: str, number: int, time: int
) -> None:
    assert point in SCENARIOS, f"no scenario for the new point {point!r}; add one to SCENARIOS"
    scenario = SCENARIOS[point][number]
    scenario.before(tmp_path)

    def die() -> None:
        die_at(point, time)
        scenario.action(tmp_path)

    status = in_child(die)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"{point} was not reached {time} times"
    committed, slices = attempts(tmp_path), committed_slices(tmp_path)

    RAN.clear()
    flow = run_flow(pipeline(tmp_path, AFTER))
    assert every_output(flow) == undisturbed
    assert not set(RAN) & slices, "committed slices were run again"
    assert len(RAN) == len(set(RAN)), "something was run twice"
    squares = flow.find("squares").state
    now = attempts(tmp_path)
    kept = {name: attempt for name, attempt in committed.items() if name[:2] == ("squares", squares.fp12)}
    assert {name: now[name] for name in kept} == kept, "what was committed has been committed again"

    for item in find_garbage(tmp_path):
        item.remove()
    assert not find_garbage(tmp_path)
    assert accounted(flow) == []
    assert every_output(flow) == undisturbed
    assert attempts(tmp_path) == {name: attempt for name, attempt in now.items() if name[1] in {s.state.fp12 for s in flow.stages}}
    RAN.clear()
    run_flow(pipeline(tmp_path, AFTER))
    assert not RAN and all(run_gate(stage.state).complete for stage in flow.stages)


def test_every_point_of_the_code_is_described_and_every_described_one_is_in_the_code() -> None:
    named = set()
    for folder in ("hpc", "jobs", "ccpipe"):
        for path in sorted((REPO / folder).rglob("*.py")):
            if path.name != "points.py":
                named |= set(re.findall(r"\breached\(\"([^\"]+)\"\)", path.read_text()))
    assert named == set(POINTS) == set(SCENARIOS)


def test_an_unknown_point_is_an_error() -> None:
    with pytest.raises(KeyError):
        die_at("sentinel.lnked")


@pytest.mark.parametrize(("wanted", "lines"), [("b", 1), ("b:3", 3), ("c", 5), ("", 5)])
def test_a_process_can_be_told_by_its_environment_where_to_die(wanted: str, lines: int) -> None:
    program = "from hpc.fs.points import reached\nfor i in range(5):\n    print(i, flush=True)\n    reached('b')\n"
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"HPC_DIE_AT": wanted}, capture_output=True, text=True)
    assert done.stdout.split() == [str(i) for i in range(lines)]
    assert done.returncode == (-signal.SIGKILL if lines < 5 else 0)


def test_the_scenarios_end_where_nothing_dies(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    for number, scenario in enumerate((WORK, REUSE, REDO, GATE)):
        run = tmp_path / str(number)
        scenario.before(run)
        scenario.action(run)
        assert every_output(plan_pipeline(pipeline(run, AFTER))) == undisturbed
        assert read_json(run / "flow.json")["run"] == "toy"
