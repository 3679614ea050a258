"""A slice is vouched for with all that its folder holds, and a record is never a way out of the stage's own folder of attempts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from toy import Squares, in_child, make_squares, outputs

from hpc.fs import files
from hpc.fs.files import names_in, publish_once
from hpc.fs.points import die_at
from hpc.state import slices
from hpc.state.slices import discard_slices, remove_uncommitted
from hpc.state.state import StageState
from hpc.upkeep.gc import find_garbage
from hpc.workers.worker import Worker


class Nested(Squares):
    """Keeps its numbers in a folder of the slice's folder, and in a hidden file."""

    def slice(self, unit: Any, inputs: Any, folder: Path, cursor: Any) -> Any:
        found = super().slice(unit, inputs, folder, cursor)
        (folder / "a/b").mkdir(parents=True)
        (folder / "numbers.txt").rename(folder / "a/b/numbers.txt")
        (folder / ".index").write_text("i")
        return found

    def join(self, unit: Any, inputs: Any, folders: Any, out: Any) -> None:
        assert all((folder / ".index").read_text() == "i" for folder in folders)
        out["squares"].write_text("".join((folder / "a/b/numbers.txt").read_text() for folder in folders))


def work(state: StageState) -> Squares:
    done = Nested()
    Worker(state, done, ["000"], lambda: False, poll_s=0.01).run()
    return done


@pytest.fixture
def state(tmp_path: Path) -> StageState:
    """A stage whose only unit was killed behind its second slice."""
    state = make_squares(tmp_path / "run", [10])

    def die() -> None:
        die_at("slice.written", 3)
        work(state)

    assert os.WIFSIGNALED(in_child(die))
    return state


def records(state: StageState) -> dict[Path, dict[str, Any]]:
    folder = state.slices_path("000")
    return {folder / name: json.loads((folder / name).read_text()) for name in sorted(names_in(folder))}


def test_files_in_folders_and_hidden_ones_are_vouched_for(state: StageState) -> None:
    assert [record["files"] for record in records(state).values()] == [
        {".index": 1, "a/b/numbers.txt": 6},
        {".index": 1, "a/b/numbers.txt": 8},
    ]
    assert work(state).slices_run == [("000", 6), ("000", 9)]
    assert next(iter(outputs(state).values())) == "".join(f"{i * i}\n" for i in range(10)).encode()


@pytest.mark.parametrize("lost", [".index", "a/b/numbers.txt"])
def test_a_slice_that_lost_any_file_is_run_again(state: StageState, lost: str) -> None:
    (record, _) = records(state).values()
    (state.run / record["folder"] / lost).unlink()
    assert work(state).slices_run[0] == ("000", 0)
    assert next(iter(outputs(state).values())).count(b"\n") == 10


def test_all_files_and_folders_of_a_slice_are_forced_to_disk_before_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file before the folder that it is in, and all before the record has its name."""
    state = make_squares(tmp_path, [1])
    seen: list[str] = []
    fsync_file, publish = files.fsync_file, files.publish_once

    def note(path: Path) -> None:
        seen.append(path.name)
        fsync_file(path)

    def published(path: Path, value: Any) -> bool:
        seen.append(path.name)
        return publish(path, value)

    monkeypatch.setattr(slices, "fsync_file", note)
    monkeypatch.setattr(slices, "fsync_folder", note)
    monkeypatch.setattr(slices, "publish_once", published)
    work(state)
    at = {name: seen.index(name) for name in seen}
    assert at["numbers.txt"] < at["b"] < at["a"] < at["slice-00000"] < at["00000.json"] and at[".index"] < at["slice-00000"]


OUT = [
    "/precious",
    "../precious",
    "tmp/../../precious",
    "tmp/squares/{fp}/../../../squares",
    "tmp/squares/{fp}",
    "tmp/squares/{fp}/",
    "",
    ".",
]


@pytest.mark.parametrize("name", [*OUT, "tmp/squares/{fp}/000@x/link/precious"])
def test_a_record_that_names_another_folder_is_refused_before_anything_is_removed(state: StageState, tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "mine").write_text("x")
    (precious / "precious").mkdir()
    (state.scratch / "000@x").mkdir()
    (state.scratch / "000@x" / "link").symlink_to(precious)
    path, first = next(iter(records(state).items()))
    folder = str(precious) if name == "/precious" else name.format(fp=state.fp12)
    path.unlink()
    publish_once(path, {**first, "folder": folder})
    before = sorted(str(inner) for inner in tmp_path.rglob("*"))
    told = f"{path}: .*expected a folder below tmp/squares/{state.fp12}; remove"
    with pytest.raises(ValueError, match=told):
        discard_slices(state, "000")
    with pytest.raises(ValueError, match=told):
        remove_uncommitted(state, "000", next(path for path in state.scratch.iterdir() if path.name != "000@x"))
    publish_once(state.run / "flow.json", {"stages": [{"stage": "squares", "fp12": state.fp12}]})
    with pytest.raises(ValueError, match=told):
        find_garbage(state.run)
    (state.run / "flow.json").unlink()
    assert sorted(str(inner) for inner in tmp_path.rglob("*")) == before
    work(state)
    assert not state.is_done("000") and (precious / "mine").exists() and (precious / "precious").exists()
