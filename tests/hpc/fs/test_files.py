"""Durable files: a name appears once, complete, or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.fs import files
from hpc.fs.files import (
    file_digest,
    link_or_copy,
    move_into_place,
    names_in,
    point_link,
    publish_once,
    read_json,
    read_link,
    replace_json,
    seal,
    sync_folders,
    to_json,
    tree_digest,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_equal_values_give_equal_bytes_and_come_back(value: Any) -> None:
    text = to_json(value)
    assert json.loads(text) == value and text.endswith(b"\n")
    if isinstance(value, dict):
        assert to_json(dict(reversed(value.items()))) == text


def test_of_many_writers_one_is_first_and_its_file_stands(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "sentinel.json"
    children = []
    for _ in range(8):
        if (pid := os.fork()) == 0:
            os._exit(0 if publish_once(path, {"pid": os.getpid()}) else 1)
        children.append(pid)
    winners = [pid for pid in children if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0]
    assert [read_json(path)["pid"]] == winners
    assert [entry.name for entry in path.parent.iterdir()] == ["sentinel.json"]


def test_readers_of_a_replaced_file_see_the_old_or_the_new_never_half(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    replace_json(path, ["old"] * 5000)
    pid = os.fork()
    if pid == 0:
        for i in range(40):
            replace_json(path, [["old", "new"][i % 2]] * 5000)
        os._exit(0)
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        assert set(read_json(path)) in ({"old"}, {"new"}) and len(read_json(path)) == 5000


@pytest.mark.parametrize("call", ["write", "fsync", "link", "rename"])
def test_a_failing_filesystem_leaves_no_name_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """ENOSPC may come from write, from fsync, or from making the name."""
    path = tmp_path / "sentinel.json"

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, call, full)
    with pytest.raises(OSError, match="No space left"):
        publish_once(path, {"a": 1}) if call != "rename" else replace_json(path, {"a": 1})
    assert list(tmp_path.iterdir()) == []


def test_writes_that_the_system_cuts_short_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(files.os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    publish_once(tmp_path / "value.json", {"key": "x" * 100})
    assert read_json(tmp_path / "value.json") == {"key": "x" * 100}


def test_contents_reach_the_disk_before_the_name_and_the_name_before_the_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of system calls is the promise: fsync of the file, then link or rename, then fsync of the folder."""
    calls: list[str] = []

    def note(name: str) -> None:
        real = getattr(os, name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            what = os.readlink(f"/proc/self/fd/{args[0]}") if name == "fsync" else ""
            calls.append("fsync folder" if what and Path(what).is_dir() else name)
            return real(*args, **kwargs)

        monkeypatch.setattr(files.os, name, noted)

    for name in ("fsync", "link", "rename"):
        note(name)
    publish_once(tmp_path / "a.json", 1)
    assert calls == ["fsync", "link", "fsync folder"]
    calls.clear()
    replace_json(tmp_path / "a.json", 2)
    assert calls == ["fsync", "rename", "fsync folder"]
    calls.clear()
    for name in "xyz":
        (tmp_path / name).write_text(name)
    (tmp_path / "out").mkdir()
    move_into_place(tmp_path / "x", tmp_path / "out" / "x")
    assert calls == ["fsync", "rename", "fsync folder"]
    calls.clear()
    for name in "yz":
        move_into_place(tmp_path / name, tmp_path / "out" / name, sync_folder=False)
    sync_folders([tmp_path / "out", tmp_path / "out"])
    assert calls == ["fsync", "rename", "fsync", "rename", "fsync folder"]
    calls.clear()
    publish_once(tmp_path / "a" / "b" / "c.json", 1)
    assert calls == ["fsync folder", "fsync folder", "fsync", "link", "fsync folder"]  # the names of new folders too
    calls.clear()
    for name in ("d", "e"):
        publish_once(tmp_path / f"{name}.json", 1, sync_folder=False)
    assert calls == ["fsync", "link", "fsync", "link"]


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "half.json"
    path.write_text('{"a": ')
    with pytest.raises(ValueError, match=r"half.json: 6 bytes that are not JSON .*; remove the file"):
        read_json(path)


def test_digests_are_those_of_sha256sum(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(100_000))
    assert file_digest(path) == subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    assert tree_digest(path) == file_digest(path)


def test_a_folder_is_digested_by_the_names_and_contents_of_its_files(tmp_path: Path) -> None:
    def folder(name: str, contents: dict[str, str]) -> str:
        for inner, text in contents.items():
            path = tmp_path / name / inner
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tree_digest(tmp_path / name)

    first = folder("a", {"config.json": "1", "sub/weights": "2"})
    assert folder("b", {"sub/weights": "2", "config.json": "1"}) == first
    assert len({first, folder("c", {"config.json": "1", "sub/weights": "3"}), folder("d", {"config.json": "1", "weights": "2"})}) == 3
    assert first != hashlib.sha256(b"").hexdigest()


def test_unfinished_names_are_not_listed(tmp_path: Path) -> None:
    for name in ("00001.json", ".00002.json.0123"):
        (tmp_path / name).touch()
    assert list(names_in(tmp_path)) == ["00001.json"]
    assert list(names_in(tmp_path / "missing")) == []


def test_a_link_moves_in_one_step(tmp_path: Path) -> None:
    for target in ("one", "one", "two"):
        point_link(tmp_path / "current", target)
        assert os.readlink(tmp_path / "current") == target
    assert [entry.name for entry in tmp_path.iterdir()] == ["current"]


def refuse(monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, call, fail)


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS, errno.ENOTSUP])
def test_where_there_are_no_symbolic_links_a_text_file_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    refuse(monkeypatch, "symlink", code)
    for target in ("one", "one", "two/three"):
        point_link(tmp_path / "current", target)
        assert read_link(tmp_path / "current") == target
    assert [(entry.name, entry.is_symlink()) for entry in tmp_path.iterdir()] == [("current", False)]
    monkeypatch.undo()
    point_link(tmp_path / "current", "four")  # the run directory was moved to a better filesystem
    assert os.readlink(tmp_path / "current") == read_link(tmp_path / "current") == "four"
    with pytest.raises(FileNotFoundError):
        read_link(tmp_path / "missing")


def test_a_link_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "rename", errno.EIO)
    with pytest.raises(OSError):
        point_link(tmp_path / "current", "one")
    assert list(tmp_path.iterdir()) == []


def test_a_second_name_is_a_hard_link(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("data")
    for _ in range(2):  # twice: rename() between two links of one file does nothing, and must leave nothing
        assert link_or_copy(tmp_path / "old", tmp_path / "new" / "name")
    assert (tmp_path / "new" / "name").samefile(tmp_path / "old")
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["name"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOSYS, errno.EACCES])
def test_where_no_link_is_possible_it_is_a_copy_that_was_fsynced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    (tmp_path / "old").write_bytes(os.urandom(3_000_000))
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: (synced.append(os.fstat(descriptor).st_ino), fsync(descriptor))[1])
    refuse(monkeypatch, "link", code)
    assert not link_or_copy(tmp_path / "old", tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == (tmp_path / "old").read_bytes()
    assert [(tmp_path / "new").stat().st_ino, tmp_path.stat().st_ino] == synced


@pytest.mark.parametrize("links", [True, False])
def test_a_second_name_never_writes_into_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """The name that it takes may be one of several names of a file; the others keep their contents."""
    (tmp_path / "kept").write_text("kept")
    os.link(tmp_path / "kept", tmp_path / "name")
    (tmp_path / "source").write_text("source")
    if not links:
        refuse(monkeypatch, "link", errno.EPERM)
    link_or_copy(tmp_path / "source", tmp_path / "name")
    assert (tmp_path / "kept").read_text() == "kept" and (tmp_path / "name").read_text() == "source"


def test_a_file_is_on_disk_before_its_digest_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1000)
    assert seal(path) == (3000, file_digest(path))
    refuse(monkeypatch, "fsync", errno.EIO)
    monkeypatch.setattr(files.hashlib, "file_digest", lambda *args: pytest.fail("a digest of what is not on disk"))
    with pytest.raises(OSError, match=r"Input/output error: .*file'"):
        seal(path)


def test_who_gets_an_error_has_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it is the folder that cannot be forced to disk, after the name was made."""
    fsync = os.fsync

    def fail_on_folders(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir():
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", fail_on_folders)
    with pytest.raises(OSError, match="Input/output error"):
        publish_once(tmp_path / "a.json", 1)
    assert list(tmp_path.iterdir()) == []
