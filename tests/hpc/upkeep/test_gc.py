"""Garbage: exactly what nobody needs is found, nothing is removed unless asked, and the living lose nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import filesystems
import pytest
from toy import SLICE, Squares, in_child, make_squares, outputs, pipeline, run_flow

from hpc.dispatch.gate import run_gate
from hpc.fs.files import names_in, point_link, publish_once
from hpc.fs.points import die_at
from hpc.planning.planner import Flow, plan_pipeline
from hpc.planning.spec import Pipeline, StageSpec
from hpc.state.attempt import Attempt, new_attempt
from hpc.state.claims import Heart, try_claim
from hpc.state.pending import retire
from hpc.state.plan import PlannedUnit
from hpc.state.state import StageState
from hpc.upkeep import gc
from hpc.upkeep.gc import Garbage, find_garbage
from hpc.verbs import do_gc
from hpc.workers.worker import Worker

HERE = Path(__file__).parents[1]
BEFORE, AFTER = [7, 0, 3, 10], [7, 0, 4, 10]
FAR = Attempt("0000-far-1", "far-away", 1, "77_3", 1)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "HIDDEN_S", 0.01)
    monkeypatch.setattr(gc, "POLL_S", 0.02)
    monkeypatch.setattr(gc, "STALE_S", 2.0)
    monkeypatch.setattr("hpc.state.claims.STALE_S", 2.0)


def everything(run: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of every name, by an independent walk."""
    found = {}
    for folder, folders, files in os.walk(run):
        for name in folders + files:
            path = Path(folder, name)
            found[str(path.relative_to(run))] = (path.lstat().st_ino, path.lstat().st_mtime_ns)
    return found


def used(run: Path) -> tuple[int, int]:
    """Bytes of files and inodes below `run`; what has several names there counts once."""
    inodes: dict[int, int] = {}
    for folder, folders, files in os.walk(run):
        for name in folders + files:
            found = Path(folder, name).lstat()
            inodes[found.st_ino] = 0 if Path(folder, name).is_dir() else found.st_blocks * 512
    return sum(inodes.values()), len(inodes)


def told(found: list[Garbage], run: Path) -> dict[str, str]:
    return {str(item.path.relative_to(run)): item.why for item in found}


def collect(run: Path) -> list[Garbage]:
    found = find_garbage(run)
    for item in found:
        item.remove()
    return found


def committed(state: StageState, *units: str) -> None:
    Worker(state, Squares(), units, lambda: False, poll_s=0.01).run()


def die_in(run: Path, point: str, time: int = 1, described: Pipeline | None = None) -> Flow:
    def die() -> None:
        die_at(point, time)
        run_flow(described or pipeline(run, AFTER))

    assert os.WIFSIGNALED(in_child(die))
    return plan_pipeline(described or pipeline(run, AFTER))


def test_a_run_that_nothing_happened_to_has_no_garbage(tmp_path: Path) -> None:
    run_flow(pipeline(tmp_path, BEFORE))
    assert find_garbage(tmp_path) == []


def test_old_versions_go_with_outputs_scratch_and_state(tmp_path: Path) -> None:
    old, new = run_flow(pipeline(tmp_path, BEFORE)), run_flow(pipeline(tmp_path, AFTER))
    one, two = (stage.state.fp12 for stage in old.stages)
    expected = {
        f"squares/{one}": "old version of squares",
        f"state/squares/{one}": "old version of squares",
        f"total/{two}": "old version of total",
        f"state/total/{two}": "old version of total",
    }
    assert told(find_garbage(tmp_path), tmp_path) == expected
    before = {stage.name: outputs(stage.state) for stage in new.stages}
    collect(tmp_path)
    assert {stage.name: outputs(stage.state) for stage in new.stages} == before
    assert not [name for name in everything(tmp_path) if one in name or two in name]


def test_a_stage_that_left_the_flow_goes(tmp_path: Path) -> None:
    described = pipeline(tmp_path, BEFORE)
    flow = run_flow(described)
    plan_pipeline(replace(described, stages=described.stages[:1]))
    (tmp_path / "total" / "current").unlink()
    found = told(find_garbage(tmp_path), tmp_path)
    fp12 = flow.find("total").state.fp12
    assert found == dict.fromkeys((f"total/{fp12}", f"state/total/{fp12}"), "total is no longer in the flow")


def test_what_current_shows_stays_until_the_new_version_is_complete(tmp_path: Path) -> None:
    old = run_flow(pipeline(tmp_path, BEFORE))
    state = plan_pipeline(pipeline(tmp_path, AFTER)).find("squares").state
    committed(state, "002")
    assert find_garbage(tmp_path) == []
    run_flow(pipeline(tmp_path, AFTER))
    assert {item.path for item in find_garbage(tmp_path)} >= {stage.state.folder for stage in old.stages}


def test_an_old_version_that_somebody_works_on_stays(tmp_path: Path) -> None:
    old = run_flow(pipeline(tmp_path, BEFORE)).find("squares").state
    run_flow(pipeline(tmp_path, AFTER))
    claim = try_claim(old.claim_path("000"), new_attempt())
    assert claim is not None
    assert not [name for name in told(find_garbage(tmp_path), tmp_path) if old.fp12 in name]
    with claim:
        pass
    assert [name for name in told(find_garbage(tmp_path), tmp_path) if old.fp12 in name]


def test_scratch_of_a_dead_attempt_goes_but_not_the_slices_that_count(tmp_path: Path) -> None:
    """Killed behind its second slice: two slices stay for the next attempt, the third, half-written one goes."""
    state = die_in(tmp_path, "slice.written", 3).find("squares").state
    (attempt,) = state.scratch.iterdir()
    kept = sorted(path.name for path in attempt.iterdir())
    assert len(kept) == 3 and len(list(names_in(state.slices_path("003")))) == 2
    (state.scratch / "000@gone").mkdir()
    (state.scratch / "000@gone" / "half").write_text("x" * 5000)
    found = told(find_garbage(tmp_path), tmp_path)
    base = f"tmp/squares/{state.fp12}"
    assert found == {
        f"{base}/{attempt.name}/{kept[2]}": "left by an attempt that ended",
        f"{base}/000@gone": "left by an attempt that ended",
        f"state/squares/{state.fp12}/claims/003": "claim of a process that is gone",
    }
    collect(tmp_path)
    assert find_garbage(tmp_path) == []
    work = Squares()
    Worker(state, work, ["003"], lambda: False, poll_s=0.01).run()
    assert work.slices_run == [("003", 2 * SLICE), ("003", 3 * SLICE)], "committed slices are still good"


def test_outputs_without_a_sentinel_go(tmp_path: Path) -> None:
    state = die_in(tmp_path, "outputs.synced").find("squares").state
    orphan = f"squares/{state.fp12}/003.txt"
    assert (tmp_path / orphan).is_file() and told(find_garbage(tmp_path), tmp_path)[orphan] == "no sentinel names it"
    collect(tmp_path)
    assert not (tmp_path / orphan).exists()
    assert len(outputs(run_flow(pipeline(tmp_path, AFTER)).find("squares").state)) == 4


def test_hidden_files_of_writes_cut_short_go(tmp_path: Path) -> None:
    state = run_flow(pipeline(tmp_path, AFTER)).find("squares").state
    hidden = [state.folder / "done" / ".000.json.5f3a", state.folder / ".done.zip.77aa", tmp_path / "squares" / state.fp12 / ".000.txt.9b"]
    (state.folder / "launches" / "sent").mkdir()
    hidden.append(state.folder / "launches" / "sent" / ".submission_file_77.sh")  # sent to a full disk
    for path in hidden:
        path.write_text("x")
    assert told(find_garbage(tmp_path), tmp_path) == {
        str(path.relative_to(tmp_path)): "left by a write that was cut short" for path in hidden
    }


def test_retired_sentinels_go_once_the_unit_is_committed_again(tmp_path: Path) -> None:
    state = run_flow(pipeline(tmp_path, AFTER)).find("squares").state
    retire(state, {"001"})
    output = f"squares/{state.fp12}/001.txt"
    assert told(find_garbage(tmp_path), tmp_path) == {output: "no sentinel names it"}
    run_flow(pipeline(tmp_path, AFTER))
    names = [name.rpartition("/")[2].partition("@")[0] for name in told(find_garbage(tmp_path), tmp_path)]
    assert names == ["001", "001"]  # of squares, and of the total that read it


def test_a_dry_run_removes_nothing_and_says_what_a_wet_one_frees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_flow(pipeline(tmp_path, BEFORE))
    die_in(tmp_path, "slice.synced", 1)
    before = everything(tmp_path)
    assert do_gc(tmp_path, really=False) == 0
    dry = capsys.readouterr().out
    assert "nothing is removed without --yes" in dry
    assert everything(tmp_path) == before
    assert do_gc(tmp_path, really=True) == 0
    assert capsys.readouterr().out.replace("removed", "can go; nothing is removed without --yes") == dry
    assert everything(tmp_path) != before
    assert do_gc(tmp_path, really=True) == 0 and "0 things" in capsys.readouterr().out


@pytest.mark.parametrize("shared", ["reused", "nothing", "named twice in what goes"])
def test_what_is_told_is_what_is_freed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: str) -> None:
    """Hard links of units taken over: removing one of two names frees nothing."""
    monkeypatch.setattr(Squares, "size", 50_000)
    sizes = [40000, 30000, 300]
    old = run_flow(pipeline(tmp_path, sizes)).find("squares").state
    if shared == "reused":
        run_flow(pipeline(tmp_path, [*sizes[:2], 301]))
    elif shared == "nothing":
        run_flow(pipeline(tmp_path, sizes, version=2))
    else:  # the second version shares its files with the first, and both go
        run_flow(pipeline(tmp_path, [*sizes[:2], 301]))
        run_flow(pipeline(tmp_path, sizes, version=2))
    before = used(tmp_path)
    found = find_garbage(tmp_path)
    assert any(item.path == old.folder for item in found)
    for item in found:
        item.remove()
    after = used(tmp_path)
    assert sum(item.bytes for item in found) == before[0] - after[0]
    assert sum(item.inodes for item in found) == before[1] - after[1]
    assert (before[0] - after[0] > 250_000) is (shared != "reused")


# --- beside the living ----------------------------------------------------------------------------------------------------


def test_nothing_of_a_unit_in_the_hands_of_somebody_far_away_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it lives shows only in its beats: gc waits for them."""
    state = die_in(tmp_path, "outputs.synced").find("squares").state
    state.claim_path("003").unlink()
    heart = Heart(0.05)
    claim = try_claim(state.claim_path("003"), FAR, heart)
    assert claim is not None
    with claim:
        said: list[str] = []
        assert find_garbage(tmp_path, said.append) == []
        assert said and "1 claims" in said[0]
    heart.stop()
    assert f"squares/{state.fp12}/003.txt" in told(find_garbage(tmp_path), tmp_path)


def test_a_claim_far_away_that_does_not_beat_is_dead_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = die_in(tmp_path, "outputs.synced").find("squares").state
    state.claim_path("003").unlink()
    assert try_claim(state.claim_path("003"), FAR, Heart(0.01)) is not None
    monkeypatch.setattr("hpc.state.claims.STALE_S", 0.3)
    found = told(find_garbage(tmp_path), tmp_path)
    assert found[f"state/squares/{state.fp12}/claims/003"] == "claim of a process that is gone"


def test_what_cannot_be_told_counts_as_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = die_in(tmp_path, "outputs.synced").find("squares").state
    state.claim_path("003").unlink()
    assert try_claim(state.claim_path("003"), FAR, Heart(1000.0)) is not None
    monkeypatch.setattr(gc, "STALE_S", 0.1)
    assert find_garbage(tmp_path) == []


def one_file(run: Path) -> Pipeline:
    """A stage of one unit, whose output is called like nothing of the unit."""
    spec = StageSpec(
        "picture",
        {},
        [PlannedUnit("all", 0, 1.0, (), {"n": 4})],
        {"squares": "picture/{fp}/picture.pgm"},
        {"factory": "toy:Squares", "path": str(HERE)},
    )
    return Pipeline("toy", run, [spec])


def test_an_output_that_does_not_have_its_units_name_is_safe_while_somebody_works_on_it(tmp_path: Path) -> None:
    state = die_in(tmp_path, "outputs.synced", 1, one_file(tmp_path)).find("picture").state
    state.claim_path("all").unlink()
    claim = try_claim(state.claim_path("all"), new_attempt())
    assert claim is not None
    assert find_garbage(tmp_path) == []
    with claim:
        pass
    assert f"picture/{state.fp12}/picture.pgm" in told(find_garbage(tmp_path), tmp_path)


def test_what_is_committed_while_garbage_is_looked_for_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that comes after gc has looked at the claims."""
    state = plan_pipeline(pipeline(tmp_path, AFTER)).find("squares").state
    files_in = gc._files_in

    def slowly(folder: Path) -> list[Path]:
        committed(state, "003")
        return files_in(folder)

    monkeypatch.setattr(gc, "_files_in", slowly)
    assert find_garbage(tmp_path) == []
    assert state.is_done("003")


def test_a_unit_begun_while_garbage_is_looked_for_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, but it has only got as far as its final names, or its private folder."""
    state = plan_pipeline(pipeline(tmp_path, AFTER)).find("squares").state
    files_in = gc._files_in

    def slowly(folder: Path) -> list[Path]:
        if not state.claim_path("003").exists():
            try_claim(state.claim_path("003"), new_attempt())
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "003.txt").write_text("0\n1\n")
            (state.scratch / "003@me").mkdir(parents=True)
            (state.folder / "done").mkdir()
            (state.folder / "done" / ".003.json.5f3a").write_text("x")
        return files_in(folder)

    monkeypatch.setattr(gc, "_files_in", slowly)
    assert find_garbage(tmp_path) == []


def test_what_was_replaced_since_it_was_found_stays(tmp_path: Path) -> None:
    """An orphan output when gc looked, a committed one when it removes: the next attempt took the same name."""
    state = die_in(tmp_path, "outputs.synced").find("squares").state
    found = find_garbage(tmp_path)
    assert any(item.why == "no sentinel names it" for item in found)
    flow = run_flow(pipeline(tmp_path, AFTER))
    for item in found:
        item.remove()
    assert len(outputs(flow.find("squares").state)) == 4
    assert len(state.done_units()) == 4


LIVING = """
import sys, time
from pathlib import Path
from toy import Squares
from hpc.state.claims import Heart
from hpc.state.launch import start_order
from hpc.state.state import StageState
from hpc.workers.worker import Worker

class Slow(Squares):
    def slice(self, *args):
        time.sleep(0.01)
        return super().slice(*args)

state = StageState(Path(sys.argv[1]), "squares", sys.argv[2])
sys.exit(Worker(state, Slow(), list(state.plan.largest_first), lambda: False, poll_s=0.05, heart=Heart(0.05)).run().exit_code)
"""


@pytest.fixture
def living(tmp_path: Path) -> Iterator[tuple[StageState, subprocess.Popen[bytes]]]:
    state = plan_pipeline(pipeline(tmp_path, [30 + i for i in range(10)])).find("squares").state
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    process = subprocess.Popen([sys.executable, "-c", LIVING, str(tmp_path), state.fp12], env=os.environ | {"PYTHONPATH": path})
    yield state, process
    process.kill()
    process.wait()


def test_a_worker_loses_nothing_to_gc_beside_it(living: tuple[StageState, subprocess.Popen[bytes]]) -> None:
    """A real one, in its own process; gc removes whatever it finds, again and again, until the worker has ended."""
    state, process = living
    rounds = 0
    while process.poll() is None:
        assert collect(state.run) == [], "everything here is somebody's"
        rounds += 1
    assert process.returncode == 0 and rounds > 3
    assert not state.failures() and len(outputs(state)) == 10
    assert run_gate(state).complete


def test_a_frozen_worker_is_left_alone(living: tuple[StageState, subprocess.Popen[bytes]]) -> None:
    """It is a process of this host, so it lives, however long it has been silent."""
    state, process = living
    deadline = time.monotonic() + 20
    while not list(names_in(state.folder / "claims")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    try:
        before = everything(state.run)
        assert len(list(names_in(state.folder / "claims"))) <= 1
        collect(state.run)
        assert everything(state.run) == before
    finally:
        process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=60) == 0
    assert not state.failures() and len(outputs(state)) == 10


def test_a_run_of_no_plan_has_no_version(tmp_path: Path) -> None:
    """Folders of other formats are kept out of harm's way only if they are planned; their state is an old version otherwise."""
    run_flow(pipeline(tmp_path, AFTER))
    (tmp_path / "state" / "squares" / "0123456789ab").mkdir()
    (tmp_path / "state" / "squares" / "0123456789ab" / "plan.json").write_text("{}")
    assert told(find_garbage(tmp_path), tmp_path) == {"state/squares/0123456789ab": "old version of squares"}


def test_a_link_is_removed_and_not_what_it_points_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("precious")
    run = tmp_path / "run"
    state = run_flow(pipeline(run, AFTER)).find("squares").state
    point_link(run / "squares" / state.fp12 / "link", str(outside))
    state.scratch.mkdir(parents=True)
    point_link(state.scratch / "000@gone", str(outside))
    collect(run)
    assert (outside / "mine").read_text() == "precious"
    assert not (state.scratch / "000@gone").is_symlink()


def test_units_of_the_same_stage_name_elsewhere_are_not_touched(tmp_path: Path) -> None:
    """gc looks only into the run directory."""
    run_flow(pipeline(tmp_path / "one", AFTER))
    run_flow(pipeline(tmp_path / "two", BEFORE))
    before = everything(tmp_path / "two")
    run_flow(pipeline(tmp_path / "one", BEFORE))
    collect(tmp_path / "one")
    assert everything(tmp_path / "two") == before
    assert make_squares(tmp_path / "three", [1]).plan.units
    assert publish_once(tmp_path / "three" / "x.json", {})


# --- names, jobs that are sent, and what cannot be removed --------------------------------------------------------------------


def test_stages_with_a_slash_in_their_names_are_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`a/b` is not a version `b` of a stage `a`; its versions are found, and go, like others. Older programs took such names."""
    monkeypatch.setattr("hpc.planning.planner.check_pipeline", lambda pipeline: None)

    def described(version: int, *names: str) -> Pipeline:
        base = pipeline(tmp_path, BEFORE, version).stages[0]
        return Pipeline("toy", tmp_path, [replace(base, name=name, outputs={"squares": name + "/{fp}/{unit}.txt"}) for name in names])

    old = run_flow(described(1, "a/b", "a/c"))
    assert find_garbage(tmp_path) == []
    plan_pipeline(described(1, "a/c"))
    (tmp_path / "a/b/current").unlink()
    fp12 = old.find("a/b").state.fp12
    assert told(find_garbage(tmp_path), tmp_path) == dict.fromkeys((f"a/b/{fp12}", f"state/a/b/{fp12}"), "a/b is no longer in the flow")
    run_flow(described(2, "a/c"))
    collect(tmp_path)
    assert sorted(path.name for path in (tmp_path / "state/a/c").iterdir()) == [plan_pipeline(described(2, "a/c")).find("a/c").state.fp12]


def submitted(tmp_path: Path) -> StageState:
    """An old version whose launch was sent to Slurm, and that is not complete."""
    old = plan_pipeline(pipeline(tmp_path, BEFORE)).find("squares").state
    committed(old, "000")
    sent = old.folder / "launches" / "slurm-1" / "sent.json"
    publish_once(sent, {"jobs": ["7"], "gate": "8"})
    run_flow(pipeline(tmp_path, AFTER))
    return old


def test_a_version_whose_jobs_may_still_come_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = submitted(tmp_path)
    assert not [name for name in told(find_garbage(tmp_path), tmp_path) if old.fp12 in name]
    assert do_gc(tmp_path, really=True) == 0
    assert f"state/squares/{old.fp12}  kept: submitted, not complete; cancel its jobs and remove it with --all" in capsys.readouterr().out
    assert old.sentinel("000") is not None
    assert do_gc(tmp_path, really=True, everything=True) == 0
    assert not old.folder.exists() and "kept" not in capsys.readouterr().out


def test_a_complete_version_that_was_submitted_goes(tmp_path: Path) -> None:
    old = submitted(tmp_path)
    committed(old, *old.plan.by_id)
    assert run_gate(old).complete
    run_flow(pipeline(tmp_path, AFTER))
    assert [name for name in told(find_garbage(tmp_path), tmp_path) if old.fp12 in name]


def test_what_cannot_be_removed_is_told_and_its_state_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mount cannot be removed, by whomever; its stage's other files go, and the plan stays, by which the next gc finds it."""
    old = run_flow(pipeline(tmp_path, BEFORE))
    run_flow(pipeline(tmp_path, AFTER))
    state, total = old.find("squares").state, old.find("total").state
    stuck = tmp_path / "squares" / state.fp12 / "stuck"
    with filesystems.tmpfs(stuck):
        assert do_gc(tmp_path, really=True) == 1
        shown = capsys.readouterr()
        assert f"cannot remove {stuck.parent}: " in shown.err and "busy" in shown.err
        assert f"cannot remove {state.folder}: {stuck.parent} is still there" in shown.err
        assert "2 things" in shown.out and "removed" in shown.out
        assert state.plan_path.is_file() and not total.folder.exists()
    assert do_gc(tmp_path, really=True) == 0
    assert "2 things" in capsys.readouterr().out and not state.folder.exists() and not stuck.parent.exists()


def test_a_removal_cut_short_leaves_the_plan_by_which_it_is_found(tmp_path: Path) -> None:
    old = run_flow(pipeline(tmp_path, BEFORE)).find("squares").state
    run_flow(pipeline(tmp_path, AFTER))
    with filesystems.tmpfs(old.folder / "a"):
        texts = [item.remove() for item in find_garbage(tmp_path)]
        assert sum(text is not None for text in texts) == 1
        assert sorted(path.name for path in old.folder.iterdir()) == ["a", "plan.json"]
    assert told(find_garbage(tmp_path), tmp_path) == {f"state/squares/{old.fp12}": "old version of squares"}


@pytest.mark.parametrize(
    "template", ["/precious/{fp}/x", "../precious/{fp}/x", "link/{fp}/x", "{fp}/x", "precious/x", "a/../../precious/{fp}/x"]
)
def test_a_plan_is_no_way_out_of_the_run(tmp_path: Path, template: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    old = run_flow(pipeline(run, BEFORE)).find("squares").state
    run_flow(pipeline(run, AFTER))
    precious = tmp_path / "precious"
    (precious / old.fp12).mkdir(parents=True)
    (precious / old.fp12 / "mine").write_text("x")
    (run / "link").symlink_to(precious)
    plan = json.loads(old.plan_path.read_text())
    named = template.format(fp=old.fp12).replace("/precious", str(precious)) if template.startswith("/") else template.format(fp=old.fp12)
    plan["outputs"] = {"squares": named}
    old.plan_path.write_text(json.dumps(plan))
    assert do_gc(run, really=True) == 0
    assert f"state/squares/{old.fp12}  kept: its plan names {named}, expected" in capsys.readouterr().out
    assert (precious / old.fp12 / "mine").exists() and old.plan_path.exists()


def test_a_sentinel_that_names_a_file_elsewhere_vouches_for_nothing(tmp_path: Path) -> None:
    """Only what lies in the folders of the version's outputs is looked at, whatever sentinels say."""
    run = tmp_path / "run"
    state = run_flow(pipeline(run, AFTER)).find("squares").state
    (tmp_path / "mine").write_text("x")
    sentinel = json.loads(state.done_path("000").read_text())
    sentinel["outputs"]["squares"]["path"] = "../mine"
    state.done_path("000").write_text(json.dumps(sentinel))
    assert set(told(find_garbage(run), run)) == {f"squares/{state.fp12}/000.txt"}
    collect(run)
    assert (tmp_path / "mine").exists()


def test_names_with_brackets_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run [x] [/data] :smile:"
    run_flow(pipeline(run, BEFORE))
    run_flow(pipeline(run, AFTER))
    assert do_gc(run, really=False) == 0
    assert f"  {run}/squares/" in capsys.readouterr().out
