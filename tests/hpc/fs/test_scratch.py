"""Node-local scratch: the same bytes, on the shared filesystem in the end, and nothing left on the node's disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from filesystems import fill, tmpfs
from toy import Squares, Total, make_squares, make_total, outputs

from hpc.dispatch.gate import run_gate
from hpc.fs import scratch
from hpc.fs.scratch import MIN_FREE_BYTES, bring, local_scratch
from hpc.state.plan import PlannedUnit
from hpc.state.state import StageState
from hpc.workers.worker import EXIT_DONE, Worker

SIZES = [7, 0, 3, 10]


@pytest.fixture
def disk(tmp_path: Path) -> Any:
    """The node's own disk: really another filesystem, where no rename leads to the shared one."""
    with tmpfs(tmp_path / "node", kib=4096) as folder:
        assert folder.stat().st_dev != tmp_path.stat().st_dev
        yield folder


def work(state: StageState, local: Path | None, did: Any = None, stop: Callable[[], bool] = lambda: False, **asked: Any) -> Worker:
    worker = Worker(state, did or Squares(), list(state.plan.largest_first), stop, asked, poll_s=0.01, local=local)
    worker.run()
    return worker


class Watched(Squares):
    """Remembers in which folders it was asked to write."""

    def __init__(self) -> None:
        super().__init__()
        self.folders: set[Path] = set()

    def slice(self, unit: PlannedUnit, inputs: Any, folder: Path, cursor: Any) -> tuple[dict[str, Any], Any]:
        self.folders.add(folder.parent.parent)
        return super().slice(unit, inputs, folder, cursor)

    def join(self, unit: PlannedUnit, inputs: Any, slices: Any, out: Mapping[str, Path]) -> None:
        self.folders |= {path.parent.parent for path in out.values()}
        super().join(unit, inputs, slices, out)


def test_attempts_write_on_the_nodes_disk_and_the_bytes_are_the_same(tmp_path: Path, disk: Path) -> None:
    plain, near = make_squares(tmp_path / "plain", SIZES), make_squares(tmp_path / "near", SIZES)
    work(plain, None)
    did = Watched()
    assert work(near, disk, did).report.exit_code == EXIT_DONE
    assert did.folders == {disk}
    assert outputs(near) == outputs(plain)
    assert not list(disk.iterdir())
    assert run_gate(near).complete and not near.scratch.exists()
    totals = [make_total(state.run, state) for state in (plain, near)]
    for state, local in zip(totals, (None, disk), strict=True):
        assert work(state, local, Total()).report.exit_code == EXIT_DONE
    assert outputs(totals[0]) == outputs(totals[1]) and not list(disk.iterdir())


def test_committed_slices_are_on_the_shared_filesystem_and_survive_the_node(tmp_path: Path, disk: Path) -> None:
    """Stopped behind two slices; the next attempt is on another node, without this disk."""
    state, first = make_squares(tmp_path / "run", SIZES), Squares()
    report = work(state, disk, first, lambda: len(first.slices_run) >= 2).report
    assert report.stopped and not state.done_units()
    assert not list(disk.iterdir()), "nothing is left when it leaves"
    assert len(list(state.folder.glob("slices/003/*.json"))) == 2
    second = Squares()
    assert work(state, None, second).report.exit_code == EXIT_DONE
    assert not set(first.slices_run) & set(second.slices_run)
    assert outputs(state)[state.plan.outputs["squares"].format(unit="003")] == b"".join(b"%d\n" % (i * i) for i in range(10))


@pytest.mark.parametrize("where", ["slice", "join"])
def test_the_nodes_disk_is_empty_after_an_exception(tmp_path: Path, disk: Path, where: str) -> None:
    class Fails(Squares):
        failures = 0

        def slice(self, unit: PlannedUnit, inputs: Any, folder: Path, cursor: Any) -> tuple[dict[str, Any], Any]:
            if where == "slice" and cursor == {"at": 6}:
                (folder / "half").write_text("x" * 1000)
                self.fail()
            return super().slice(unit, inputs, folder, cursor)

        def join(self, unit: PlannedUnit, inputs: Any, slices: Any, out: Mapping[str, Path]) -> None:
            if where == "join":
                out["squares"].write_text("half")
                self.fail()
            super().join(unit, inputs, slices, out)

        def fail(self) -> None:
            Fails.failures += 1
            raise RuntimeError("bad input")

    state = make_squares(tmp_path / "run", [10])
    report = work(state, disk, Fails(), max_failures=2).report
    assert report.parked == {"000"} and Fails.failures == 2
    assert not list(disk.iterdir())
    did = Squares()
    for path in state.folder.glob("failed/*.json"):
        path.unlink()
    assert work(state, disk, did).report.exit_code == EXIT_DONE
    assert len(did.slices_run) == (2 if where == "slice" else 0), "slices before the failure count"
    assert not list(disk.iterdir()) and not list(state.scratch.iterdir())


def test_an_output_that_is_a_folder_is_brought_over_whole(tmp_path: Path, disk: Path) -> None:
    made = disk / "model"
    (made / "inside").mkdir(parents=True)
    (made / "inside" / "weights").write_bytes(bytes(range(256)))
    target = tmp_path / "shared"
    target.mkdir()
    assert bring(made, target) == target / "model"
    assert (target / "model" / "inside" / "weights").read_bytes() == bytes(range(256)) and not made.exists()
    assert bring(target / "model", target) == target / "model"
    (disk / "file").write_bytes(b"abc")
    assert bring(disk / "file", target).read_bytes() == b"abc" and not (disk / "file").exists()


def test_variables_are_those_of_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "MIN_FREE_BYTES", 1)
    monkeypatch.setenv("NODE_DISK", str(tmp_path / "node"))
    assert local_scratch("$NODE_DISK/ours") == tmp_path / "node" / "ours"
    assert (tmp_path / "node" / "ours").is_dir()


def test_no_scratch_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    assert local_scratch(None) is None and local_scratch("") is None
    assert not caplog.records


def test_an_unset_variable_falls_back_and_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("NODE_DISK", raising=False)
    with caplog.at_level(logging.WARNING):
        assert local_scratch("$NODE_DISK/ours") is None
        assert local_scratch("${NODE_DISK}") is None
    assert caplog.text.count("NODE_DISK is not set on this node; working on the shared filesystem") == 2


def test_a_variable_that_is_empty_is_no_place_to_work(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """`$NODE_DISK/x` would be `/x`, and `$NODE_DISK` the folder in which the task happens to be."""
    monkeypatch.setattr(scratch, "MIN_FREE_BYTES", 1)
    monkeypatch.setenv("NODE_DISK", "")
    with caplog.at_level(logging.WARNING):
        assert local_scratch("$NODE_DISK") is None
        assert local_scratch("$NODE_DISK/ccpipe-test-of-scratch") is None
    assert "working on the shared filesystem" in caplog.text
    assert not Path("/ccpipe-test-of-scratch").exists()


def test_a_relative_path_falls_back_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """It would be below wherever the task happens to be, which is on the shared filesystem."""
    with caplog.at_level(logging.WARNING):
        assert local_scratch("scratch") is None
    assert "expected an absolute path" in caplog.text and not Path("scratch").exists()


def test_a_folder_that_cannot_be_made_falls_back_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        assert local_scratch(str(tmp_path / "file" / "inside")) is None
        assert local_scratch("/proc/nothing/here") is None
    assert caplog.text.count("working on the shared filesystem") == 2


def test_a_folder_that_cannot_be_written_falls_back_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A read-only mount: real, since root may write wherever it can be written."""
    with tmpfs(tmp_path / "node", kib=1024) as folder:
        assert os.system(f"mount -o remount,ro {folder}") == 0
        with caplog.at_level(logging.WARNING), pytest.MonkeyPatch.context() as patch:
            patch.setattr(scratch, "MIN_FREE_BYTES", 1)
            assert local_scratch(str(folder)) is None
    assert "working on the shared filesystem" in caplog.text


def test_a_full_disk_falls_back_and_says_how_much_is_free(tmp_path: Path, disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(disk)
    with caplog.at_level(logging.WARNING):
        assert local_scratch(str(disk)) is None
    assert f"0 MB free, expected {MIN_FREE_BYTES >> 20}; working on the shared filesystem" in caplog.text


def test_a_disk_that_is_full_before_the_first_unit_changes_no_result(tmp_path: Path, disk: Path) -> None:
    state = make_squares(tmp_path / "run", SIZES)
    fill(disk)
    assert work(state, local_scratch(str(disk))).report.exit_code == EXIT_DONE
    assert len(outputs(state)) == 4
