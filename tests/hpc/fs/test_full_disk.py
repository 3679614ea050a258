"""Full, over quota, or broken: whatever a disk does at write, fsync or close, no name appears that vouches for lost bytes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from filesystems import exfat, ext4, failing_ext4, fill, fill_inodes, tmpfs
from toy import make_squares, outputs

from hpc.fs import exclusive, files
from hpc.fs.files import link_or_copy, move_into_place, publish_once, read_json, replace_json, seal
from hpc.state.state import StageState
from hpc.workers.worker import EXIT_DONE, EXIT_STOPPED

HERE = Path(__file__).parents[1]
BIG = "x" * 400_000
Mount = Callable[[Path], AbstractContextManager[Path]]

SMALL: dict[str, Mount] = {
    "tmpfs": lambda folder: tmpfs(folder, kib=1024, inodes=200),
    "ext4": lambda folder: ext4(folder, mib=8),
    "exfat": lambda folder: exfat(folder, mib=8),
}


@pytest.fixture(params=sorted(SMALL))
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A small real filesystem."""
    with SMALL[request.param](tmp_path / "mounted") as folder:
        yield folder


def prepare(folder: Path) -> None:
    """What stands before the disk is full: an older value, a finished private file, a committed output."""
    replace_json(folder / "value.json", "old")
    (folder / "private").write_bytes(b"p" * 100)
    (folder / "committed").write_bytes(b"c" * 100_000)
    os.sync()


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "filler"}


def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)


PUBLISH: dict[str, Callable[[Path], object]] = {
    "publish": lambda folder: publish_once(folder / "sentinel.json", BIG),
    "publish in a new folder": lambda folder: publish_once(folder / "new" / "sentinel.json", BIG),
    "replace": lambda folder: replace_json(folder / "value.json", BIG),
    "copy": lambda folder: link_or_copy(folder / "committed", folder / "second"),
}


@pytest.mark.parametrize("path", sorted(PUBLISH))
def test_on_a_full_disk_nothing_appears_and_with_room_it_works(small: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    prepare(small)
    filler = fill(small)
    before = snapshot(small)
    with monkeypatch.context() as patch:
        if path == "copy":
            no_links(patch)
        with pytest.raises(OSError) as caught:
            PUBLISH[path](small)
        assert caught.value.errno == errno.ENOSPC
        assert snapshot(small) == before
        assert not [entry for entry in (small / "new").glob("*") if entry.is_file()]
        filler.unlink()
        PUBLISH[path](small)
    assert snapshot(small) != before or (small / "new" / "sentinel.json").exists()
    assert all(read_json(entry) == BIG for entry in small.glob("**/sentinel.json"))


def test_without_inodes_nothing_appears_and_with_inodes_it_works(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "mounted", inodes=60) as folder:
        prepare(folder)
        before = snapshot(folder)
        made = fill_inodes(folder)
        for path in ("publish", "publish in a new folder", "replace"):
            with pytest.raises(OSError) as caught:
                PUBLISH[path](folder)
            assert caught.value.errno == errno.ENOSPC
        for entry in made:
            entry.unlink()
        assert snapshot(folder) == before
        assert publish_once(folder / "new" / "sentinel.json", 1)


# --- a disk that loses what it has taken ---------------------------------------------------------------------------------


def lose(folder: Path, path: Path) -> Path:
    """Write to a failing disk until not even a small file can be written back; that is only told by fsync, and only once."""
    for size in (200_000, 20_000, 2_000):
        for number in range(100):
            try:
                seal(_written(folder / f"ballast{size}-{number}", size))
            except OSError:
                break
        else:
            raise AssertionError("the disk takes everything")
    return _written(path, 200_000)


def _written(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(size))
    return path


def test_lost_writes_are_told_by_fsync_once_so_the_attempt_is_never_published(tmp_path: Path) -> None:
    """`write` and `close` have succeeded. A second fsync would succeed as well: nobody here calls one."""
    with failing_ext4(tmp_path / "mounted") as folder:
        path = lose(folder, folder / "output")
        with pytest.raises(OSError) as caught:
            seal(path)
        assert caught.value.errno in (errno.EIO, errno.ENOSPC)
        seal(path)  # the kernel has told it once, and now says that all is well: why an attempt ends with its first error
        path = _written(folder / "again", 200_000)
        with pytest.raises(OSError):
            move_into_place(path, folder / "final")
        assert not (folder / "final").exists()


def test_writes_that_were_lost_before_anybody_called_fsync_are_still_told(tmp_path: Path) -> None:
    """The stage has written and closed its file, the kernel has written it back in vain, and only then do we look."""
    with failing_ext4(tmp_path / "mounted") as folder:
        path = lose(folder, folder / "output")
        os.sync()
        with pytest.raises(OSError):
            seal(path)


@pytest.mark.parametrize("path", ["publish", "replace", "copy"])
def test_a_failing_disk_leaves_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    with failing_ext4(tmp_path / "mounted") as folder:
        prepare(folder)
        lose(folder, folder / "output")
        before = set(snapshot(folder))
        if path == "copy":
            no_links(monkeypatch)
        with pytest.raises(OSError):
            PUBLISH[path](folder)
        assert set(snapshot(folder)) == before
        assert read_json(folder / "value.json") == "old"


# --- every call that can say it --------------------------------------------------------------------------------------------

CALLS = {
    "publish": (lambda folder: publish_once(folder / "sentinel.json", 1), ("open", "write", "fsync", "close", "link")),
    "replace": (lambda folder: replace_json(folder / "value.json", 1), ("open", "write", "fsync", "close", "rename")),
    "move": (lambda folder: move_into_place(folder / "private", folder / "final"), ("open", "fsync", "close", "rename")),
    "copy": (lambda folder: link_or_copy(folder / "committed", folder / "second"), ("fsync", "close", "rename")),
}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO], ids=lambda code: errno.errorcode[code])
@pytest.mark.parametrize(("path", "call"), [(path, call) for path, (_, calls) in CALLS.items() for call in calls])
def test_an_error_of_any_call_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, call: str, code: int
) -> None:
    """A quota is told at write, fsync or close; a broken network filesystem at close."""
    prepare(tmp_path)
    before = snapshot(tmp_path)
    real = getattr(os, call)

    def fail(*args: Any, **kwargs: Any) -> None:
        if call == "close":
            real(*args, **kwargs)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(exclusive, "_known", {})
        if path == "copy":
            no_links(patch)
        patch.setattr(files.os, call, fail)
        with pytest.raises(OSError) as caught:
            CALLS[path][0](tmp_path)
    assert caught.value.errno == code
    assert snapshot(tmp_path) == before
    CALLS[path][0](tmp_path)
    assert snapshot(tmp_path) != before


# --- the worker --------------------------------------------------------------------------------------------------------------

WORKER = """
import sys
from pathlib import Path
from toy import Squares
from hpc.state.state import StageState
from hpc.workers.worker import Worker
state = StageState(Path(sys.argv[1]), "squares", sys.argv[2])
units = [unit.id for unit in state.plan.units]
sys.exit(Worker(state, Squares(), units, lambda: False, poll_s=0.01, full_patience_s=float(sys.argv[3])).run().exit_code)
"""
SIZES = [7, 150, 3, 10]


def start(state: StageState, patience_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(state.run), state.fp12, str(patience_s)]
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def work(state: StageState) -> tuple[int, str]:
    """Exit code and log of a worker without patience."""
    process = start(state, 0.0)
    _, said = process.communicate(timeout=120)
    return process.returncode, said


@pytest.fixture
def undisturbed(tmp_path: Path) -> dict[str, bytes]:
    state = make_squares(tmp_path / "undisturbed", SIZES)
    assert work(state)[0] == EXIT_DONE
    return outputs(state)


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
@pytest.mark.parametrize("leave", [0, 60_000])
def test_a_worker_on_a_full_disk_commits_nothing_and_with_room_the_same_command_finishes(
    tmp_path: Path, undisturbed: dict[str, bytes], kind: str, leave: int
) -> None:
    """`leave`: room for claims and some slices, but not for all of the largest unit."""
    with tmpfs(tmp_path / "m", 2048, 3000) if kind == "tmpfs" else ext4(tmp_path / "m", 8) as folder:
        state = make_squares(folder / "run", SIZES)
        filler = fill(folder, leave)
        code, said = work(state)
        assert code == EXIT_STOPPED, said
        assert "No space left on device" in said and "waiting for room" in said
        assert not state.failures(), "the disk was full: no unit is to blame, and none may be parked for it"
        assert "001" not in state.done_units()
        for unit in state.done_units():
            sentinel = state.sentinel(unit)
            assert sentinel is not None
            for entry in sentinel["outputs"].values():
                assert (state.run / entry["path"]).read_bytes() == undisturbed[entry["path"]]
        filler.unlink()
        code, said = work(state)
        assert code == EXIT_DONE, said
        assert outputs(state) == undisturbed
        assert not list(state.scratch.iterdir())


def test_a_worker_waits_for_room_and_goes_on(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    with tmpfs(tmp_path / "m", 2048, 3000) as folder:
        state = make_squares(folder / "run", SIZES)
        filler = fill(folder, 0)
        process = start(state, 60.0)
        assert process.stderr is not None
        assert any("waiting for room" in line for line in process.stderr)
        filler.unlink()
        process.communicate(timeout=60)
        assert process.returncode == EXIT_DONE
        assert outputs(state) == undisturbed and not state.failures()
