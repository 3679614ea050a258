"""A pipeline that cannot be is refused before anything is planned, with everything that is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpc.errors import UsageError
from hpc.planning.spec import Pipeline, Source, StageSpec, check_pipeline
from hpc.state.plan import PlannedUnit

UNITS = [PlannedUnit("a", 0, 1.0), PlannedUnit("b", 1, 1.0)]
GOOD = StageSpec("one", {}, UNITS, {"x": "x/{fp}/{unit}.txt"}, {"factory": "toy:Squares"})
BEHIND = StageSpec("two", {}, [PlannedUnit("a", 0, 1.0, ("a",))], {"y": "y/{fp}/y.txt"}, {"factory": "toy:Total"}, (Source("x", "one"),))


def check(*stages: StageSpec) -> None:
    check_pipeline(Pipeline("p", Path("run"), stages))


def test_a_sound_pipeline_passes() -> None:
    check(GOOD, BEHIND, replace(GOOD, name="größe.3", outputs={"x": "z/{fp}/{unit}"}), replace(GOOD, name="none", units=[], outputs={}))


@pytest.mark.parametrize("name", ["a/b", "..", ".hid", "a@1", "", "a b", "a\nb"])
def test_names_that_cannot_be_names_of_files(name: str) -> None:
    with pytest.raises(UsageError, match="expected an id of letters, digits"):
        check(replace(GOOD, units=[PlannedUnit(name, 0, 1.0)]))
    with pytest.raises(UsageError, match="expected a name of letters, digits"):
        check(replace(GOOD, name=name))


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({"x": "x/{fp}/same.txt"}, "2 units would write one file"),
        ({"x": "x/v{fp}/{unit}"}, r"expected \{fp\} as the name of one of its folders"),
        ({"x": "x/{unit}"}, r"expected \{fp\} as the name"),
        ({"x": "../{fp}/{unit}"}, "below the run directory"),
        ({"x": "/x/{fp}/{unit}"}, "below the run directory"),
        ({"x": "x/{fp}/{unit}{ext}"}, "unknown ext"),
        ({"x": "x/{fp}/{unit}", "y": "x/{fp}/{unit}"}, "stage one writes there too"),
    ],
)
def test_outputs_that_would_meet_or_leave_the_run(outputs: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check(replace(GOOD, outputs=outputs))


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ((BEHIND, GOOD), "reads 'one', which no stage before it is"),
        ((GOOD, replace(BEHIND, sources=(Source("z", "one"),))), "reads 'z' of one; it writes x"),
        ((GOOD, replace(BEHIND, sources=(Source("x", "one", "some"),))), "expected members or all"),
        ((GOOD, replace(BEHIND, units=[PlannedUnit("a", 0, 1.0, ("c",))])), "member 'c' is no unit of one"),
        ((GOOD, GOOD), "two stages are called 'one'"),
        ((replace(GOOD, units=[*UNITS, UNITS[0]]),), "two units are called 'a'"),
    ],
)
def test_stages_that_do_not_fit_together(stages: tuple[StageSpec, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check(*stages)


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        check(replace(GOOD, name="a b", outputs={"x": "x"}), BEHIND)
    assert len(str(caught.value).splitlines()) >= 4
