"""What `python -m hpc` says when something is not as it should be: what it saw, what it expected, what to type next."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import filesystems
import pytest
from toy import Squares, pipeline, run_flow

from hpc import cli
from hpc.planning.planner import Flow
from hpc.planning.spec import Pipeline

HERE = Path(__file__).parent

FLOWS = """
import os
from pathlib import Path
from toy import pipeline
def flow():
    return pipeline(Path(os.environ["TOY_RUN"]), [2, 4])
def fails():
    return inner()
def inner():
    raise RuntimeError("no such table [rows]")
def needs(what):
    return flow()
def imports():
    import nosuch_module
def wrong():
    return 3
value = 3
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that is complete, described by `flows_of_test:flow`; working in `tmp_path`."""
    monkeypatch.setenv("TOY_RUN", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "flows_of_test.py").write_text(FLOWS)
    (tmp_path / "broken_of_test.py").write_text("def flow(:\n    pass\n")
    run_flow(pipeline(tmp_path / "run", [2, 4]))
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def forget_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    import sys

    sys.modules.pop("flows_of_test", None)


def flow_of(run: Path) -> Flow:
    from hpc.planning.planner import plan_pipeline

    described: Pipeline = pipeline(run, [2, 4])
    return plan_pipeline(described)


def typed(verb: str, *arguments: str, flow: str = "flows_of_test:flow") -> int:
    return cli.main([verb, "--flow", flow, *arguments])


# --- redo -----------------------------------------------------------------------------------------------------------------


def test_redo_of_everything_must_be_asked_for(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("redo") == 2
    told = capsys.readouterr().err
    assert "2 stages, 4 committed units" in told and "expected --stage STAGE" in told and "--all" in told
    assert all(len(stage.state.done_units()) == 2 for stage in flow_of(run).stages)
    assert typed("redo", "--all") == 0
    assert not any(stage.state.done_units() for stage in flow_of(run).stages)


def test_redo_with_one_wrong_unit_takes_nothing_back(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("redo", "--stage", "squares", "000", "007") == 2
    assert typed("redo", "--all", "000", "007") == 2
    assert "has no unit 007" in capsys.readouterr().err
    assert all(len(stage.state.done_units()) == 2 for stage in flow_of(run).stages)
    assert typed("redo", "--stage", "squares", "000") == 0
    assert flow_of(run).find("squares").state.done_units() == {"001"}


# --- brackets -------------------------------------------------------------------------------------------------------------


def test_brackets_in_messages_are_shown_and_do_no_harm(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object) -> None:
        raise OSError("cannot open [/data/x.warc] now [x] :smile:")

    monkeypatch.setattr(Squares, "slice", fail)
    monkeypatch.setenv("TOY_RUN", str(tmp_path / "run [x] [/y]"))
    assert typed("local", "--in-process") == 1
    assert "cannot open [/data/x.warc] now [x] :smile:" in capfd.readouterr().out
    assert typed("plan") == 0
    assert cli.main(["gc", "--run", str(tmp_path / "run [x] [/y]")]) == 0


# --- messages, not tracebacks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flow", "words"),
    [
        ("flows_of_test:fails", ["raised RuntimeError: no such table [rows]", "in fails", "in inner", "mend"]),
        ("flows_of_test:needs", ["needs arguments (what)", "expected a function without"]),
        ("flows_of_test:imports", ["raised ModuleNotFoundError: No module named 'nosuch_module'", "in imports"]),
        ("flows_of_test:wrong", ["returned int", "Pipeline"]),
        ("flows_of_test:value", ["'value' is int", "a function that returns"]),
        ("flows_of_test:nothing", ["no 'nothing' in", "flows_of_test.py"]),
        ("flows_of_test", ["expected package.module:function"]),
        ("nosuch_of_test:flow", ["No module named 'nosuch_of_test'", "importable from"]),
        ("broken_of_test:flow", ["raised SyntaxError", "broken_of_test.py", "line 1", "def flow(:"]),
    ],
)
def test_a_flow_function_that_does_not_work(run: Path, capsys: pytest.CaptureFixture[str], flow: str, words: list[str]) -> None:
    """The user's own lines of the traceback are shown, ours are not."""
    assert typed("plan", flow=flow) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"--flow {flow}") and all(word in told for word in words), told
    assert "hpc/cli.py" not in told and "importlib" not in told


@pytest.mark.parametrize("name", ["flow.json", "plan.json"])
@pytest.mark.parametrize("verb", ["status", "gc", "gate", "plan"])
def test_files_of_the_run_that_are_cut_off(run: Path, capsys: pytest.CaptureFixture[str], name: str, verb: str) -> None:
    state = flow_of(run).find("squares").state
    path = run / name if name == "flow.json" else state.plan_path
    path.write_bytes(path.read_bytes()[:40])
    capsys.readouterr()
    arguments = {"status": ["--run", str(run)], "gc": ["--run", str(run)], "gate": ["--run", str(run), "--stage", "squares"]}
    code = cli.main([verb, *arguments.get(verb, ["--flow", "flows_of_test:flow"])])
    told = capsys.readouterr().err
    if (verb, name) == ("gc", "plan.json") or (not code and verb in ("gate", "status", "plan")):
        return  # not read there
    assert code == 2 and f"{path}: 40 bytes that are not JSON" in told and "Traceback" not in told, told


def test_a_missing_plan_is_told_by_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = flow_of(run).find("squares").state.plan_path
    (run / "state/squares" / plan.parent.name / "_SUCCESS.json").unlink(missing_ok=True)
    plan.unlink()
    assert cli.main(["status", "--run", str(run)]) == 2
    told = capsys.readouterr().err
    assert f"{plan} is gone" in told and "xpected the plan" in told and "Plan the run again" in told and "not a run directory" not in told


def test_status_of_no_run_and_of_no_stage(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--run", str(tmp_path)]) == 1
    assert "is not a run directory yet" in capsys.readouterr().err
    for more in ([], ["--json"]):
        assert cli.main(["status", "--run", str(run), "--stage", "nope", *more]) == 2
        told = capsys.readouterr()
        assert "no stage 'nope' in " in told.err and "stages: squares, total" in told.err and not told.out


def test_a_gate_of_no_launch(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = [path.stem for path in (flow_of(run).find("squares").state.folder / "launches").glob("*.json")]
    for more in ([], ["--fp12", flow_of(run).find("squares").state.fp12]):
        assert cli.main(["gate", "--run", str(run), "--stage", "squares", "--launch", "zzz", *more]) == 2
        told = capsys.readouterr().err
        assert "no launch 'zzz' of stage squares" in told and (not known or known[-1] in told)


def test_a_run_directory_on_a_disk_without_room(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with filesystems.tmpfs(tmp_path / "small") as small:
        filesystems.fill(small)
        monkeypatch.setenv("TOY_RUN", str(small / "run"))
        assert typed("plan") == 1
        told = capsys.readouterr().err
        assert str(small / "run") in told and "No space left on device; make room and run the same command again" in told


def test_a_run_directory_that_cannot_be_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with filesystems.tmpfs(tmp_path / "fixed") as fixed:
        filesystems._run("mount", "-o", "remount,ro", fixed)
        monkeypatch.setenv("TOY_RUN", str(fixed / "run"))
        assert typed("plan") == 1
        told = capsys.readouterr().err
        assert "Read-only file system; expected to read and write there" in told and str(fixed) in told
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("TOY_RUN", str(tmp_path / "file"))
    assert typed("plan") == 1
    assert "a file stands where a folder is expected" in capsys.readouterr().err


def test_json_for_programs_is_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--run", os.fspath(run), "--stage", "squares", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["stages"]) == 1
