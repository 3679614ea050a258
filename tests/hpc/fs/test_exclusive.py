"""A name is made by one process only, whichever way the filesystem leaves to us, and whatever dies in between."""

from __future__ import annotations

import errno
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filesystems import exfat
from toy import die_at_call, in_child

from hpc.fs import exclusive
from hpc.fs.exclusive import WAYS, renameat2, take_name, way_in_use
from hpc.fs.files import publish_once, read_json

NAMES = exclusive.NAMES


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusive, "_known", {})


def refuse(monkeypatch: pytest.MonkeyPatch, way: str, code: int = errno.EPERM) -> None:
    """Let the ways before `way` be unknown to the filesystem."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(code, os.strerror(code))

    if way != "link":
        monkeypatch.setattr(os, "link", fail)
    if way == "folder":
        monkeypatch.setattr(exclusive, "renameat2", fail)


@pytest.fixture(params=[*NAMES, "exfat"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which one of the ways is in use; `exfat` is a real filesystem that has neither links nor renameat2."""
    if request.param == "exfat":
        with exfat(tmp_path / "exfat") as mounted:
            assert way_in_use(mounted) == "folder"
            yield mounted
    else:
        refuse(monkeypatch, request.param)
        assert way_in_use(tmp_path) == request.param
        yield tmp_path


def publish_in_children(path: Path, n: int, before: Callable[[int], None] = lambda i: None) -> list[int]:
    """`n` processes publish at the same moment; indices of those that were told that they were first."""
    start = time.monotonic() + 0.05
    pids = []
    for i in range(n):
        if (pid := os.fork()) == 0:
            code = 99
            try:
                before(i)
                time.sleep(max(0.0, start - time.monotonic()))
                code = 0 if publish_once(path, {"i": i, "text": "x" * 3000}) else 1
            finally:
                os._exit(code)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert set(codes) <= {0, 1, -9}
    return [i for i, code in enumerate(codes) if code == 0]


def test_of_many_racing_processes_one_is_first_and_knows_it(folder: Path) -> None:
    for race in range(12):
        path = folder / f"{race}.json"
        winners = publish_in_children(path, 8)
        assert winners == [read_json(path)["i"]]
    assert {entry.name for entry in folder.iterdir() if not entry.name.endswith(".img")} == {f"{race}.json" for race in range(12)}


def test_a_published_name_stands(folder: Path) -> None:
    assert publish_once(folder / "a.json", 1)
    before = (folder / "a.json").read_bytes()
    assert not publish_once(folder / "a.json", 2)
    assert (folder / "a.json").read_bytes() == before
    assert [entry.name for entry in folder.iterdir() if not entry.name.endswith(".img")] == ["a.json"]


def test_killed_at_any_call_the_name_is_whole_or_absent_and_the_next_publisher_succeeds(folder: Path) -> None:
    """SIGKILL before the k-th system call, for every k. Then the name is there for good: the dead one's value, or the next one's."""
    for call in range(1, 100):
        path = folder / f"{call}.json"

        def die(path: Path = path, call: int = call) -> None:
            die_at_call(call)
            publish_once(path, ["dead"] * 500)

        status = in_child(die)
        published = path.exists()
        if published:
            assert read_json(path) == ["dead"] * 500
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0 and published
            break
        first = publish_once(path, ["next"] * 500)
        assert read_json(path) == (["next"] if first else ["dead"]) * 500
        assert not (first and published)
    assert call > 5


def test_killed_racers_leave_one_whole_file_and_no_closed_door(folder: Path) -> None:
    """Half of the racers are killed at a random system call; whoever is told to be first has its value there."""
    chance = random.Random(7)
    for race in range(10):
        path = folder / f"{race}.json"
        calls = {i: chance.randrange(2, 14) for i in range(0, 8, 2)}
        winners = publish_in_children(path, 8, lambda i, calls=calls: die_at_call(calls[i]) if i in calls else None)
        assert len(winners) <= 1
        assert read_json(path)["i"] in (winners or calls)
        before = path.read_bytes()
        assert not publish_once(path, "late")
        assert path.read_bytes() == before


@pytest.mark.parametrize("code", sorted(exclusive.UNSUPPORTED), ids=lambda code: errno.errorcode[code])
@pytest.mark.parametrize("way", NAMES[1:])
def test_what_filesystems_say_when_they_know_no_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, way: str) -> None:
    refuse(monkeypatch, way, code)
    assert publish_once(tmp_path / "a.json", 1) and not publish_once(tmp_path / "a.json", 2)
    assert way_in_use(tmp_path) == way


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES])
def test_other_errors_are_raised_and_no_other_way_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    refuse(monkeypatch, "renameat2", code)
    with pytest.raises(OSError) as caught:
        publish_once(tmp_path / "a.json", 1)
    assert caught.value.errno == code
    assert list(tmp_path.iterdir()) == []


def test_the_way_is_looked_for_once_in_each_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fail(*args: object) -> None:
        tried.append(args)
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    assert all(publish_once(tmp_path / f"{i}.json", i) for i in range(5))
    assert len(tried) == 1


def test_renameat2_of_the_system_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    renameat2(tmp_path / "a", tmp_path / "b", exclusive.RENAME_NOREPLACE)
    (tmp_path / "a").write_text("another")
    with pytest.raises(FileExistsError):
        renameat2(tmp_path / "a", tmp_path / "b", exclusive.RENAME_NOREPLACE)
    assert (tmp_path / "b").read_text() == "a" and (tmp_path / "a").read_text() == "another"


def test_a_link_whose_reply_was_lost_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS: the server made the link, the reply was lost, the repeated request is told that the name exists."""
    link = os.link

    def link_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", link_twice)
    assert publish_once(tmp_path / "a.json", "ours")
    assert read_json(tmp_path / "a.json") == "ours"
    assert not publish_once(tmp_path / "a.json", "theirs")


def test_a_rename_into_the_gate_whose_reply_was_lost_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "folder")
    rename = os.rename

    def rename_twice(source: Path, target: Path) -> None:
        rename(source, target)
        if target.name == ".a.json.gate":
            rename(source, target)

    monkeypatch.setattr(os, "rename", rename_twice)
    assert publish_once(tmp_path / "a.json", "ours")
    assert read_json(tmp_path / "a.json") == "ours"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_one_that_sleeps_in_the_gate_is_finished_by_the_next_and_told_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands still after it has entered: the next one publishes the value of the sleeper and is second; the sleeper wakes, first."""
    refuse(monkeypatch, "folder")
    real, path = exclusive._pass_gate, tmp_path / "a.json"
    others: list[bool] = []

    def sleep_first(gate: Path, path: Path) -> str | None:
        monkeypatch.setattr(exclusive, "_pass_gate", real)
        others.append(publish_once(path, "the next"))
        return real(gate, path)

    monkeypatch.setattr(exclusive, "_pass_gate", sleep_first)
    assert publish_once(path, "the sleeper")
    assert others == [False]
    assert json.loads(path.read_text()) == "the sleeper"


def test_one_that_comes_late_to_the_gate_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has seen no file of that name, stands still, and enters the gate when another has published and gone."""
    refuse(monkeypatch, "folder")
    rename, path = os.rename, tmp_path / "a.json"

    def late(source: Path, target: Path) -> None:
        if target.name == ".a.json.gate":
            monkeypatch.setattr(os, "rename", rename)
            assert publish_once(path, "the quick one")
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert not publish_once(path, "the late one")
    assert read_json(path) == "the quick one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_an_empty_gate_left_behind_is_open_even_where_no_folder_replaces_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "folder")
    (tmp_path / ".a.json.gate").mkdir()
    rename = os.rename

    def strict(source: Path, target: Path) -> None:
        if target.is_dir():
            raise PermissionError(errno.EPERM, "Operation not permitted")
        rename(source, target)

    monkeypatch.setattr(os, "rename", strict)
    assert publish_once(tmp_path / "a.json", 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_take_name_says_which_call_failed(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(FileNotFoundError):
        take_name(tmp_path / "x", tmp_path / "missing" / "a")
    assert len(WAYS) == len(NAMES)
