"""Which filesystem is below a path; and patience with what other nodes wrote, where there can be other nodes."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filesystems import exfat, ext4, fill_inodes, tmpfs

from hpc.fs import mounts
from hpc.fs.mounts import free_bytes, free_inodes, is_shared, mount_of, settled

TABLE = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
30 27 0:40 / /lustre rw,noatime shared:2 master:3 - lustre 10.0.0.1@tcp:/scratch rw,flock
31 27 0:41 / /lustre/projects rw - nfs4 server:/projects rw,vers=4.2,acdirmax=60
32 27 0:42 / /media/my\040disk\134 rw - fuse.sshfs me@host:/x rw,user_id=0
33 27 0:43 / /media/stick rw - fuseblk /dev/sdb1 rw
34 27 0:44 / /bucket rw - fuse.gcsfuse bucket rw
35 27 0:45 / /mnt rw - xfs /dev/sdc rw
36 27 0:46 / /mnt rw - gpfs fs1 rw
37 27 0:47 / /odd rw - tmpfs tmpfs
27 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(TABLE)
    return path


@pytest.mark.parametrize(
    ("path", "kind", "shared"),
    [
        ("/etc", "ext4", False),
        ("/lustre/a/b", "lustre", True),
        ("/lustre/projects/x", "nfs4", True),
        ("/lustre/projectsx", "lustre", True),
        ("/lustrex", "ext4", False),
        ("/media/my disk\\/x", "fuse.sshfs", True),
        ("/media/stick/x", "fuseblk", False),
        ("/bucket", "fuse.gcsfuse", True),
        ("/mnt/x", "gpfs", True),
        ("/odd/y", "tmpfs", False),
    ],
)
def test_the_longest_mount_point_above_a_path_counts_and_of_equals_the_last(table: Path, path: str, kind: str, shared: bool) -> None:
    mount = mount_of(Path(path), table)
    assert mount is not None and (mount.kind, mount.is_shared) == (kind, shared)
    assert mount.is_object_store == (path == "/bucket")


def test_options_are_those_of_the_mount_and_of_the_filesystem(table: Path) -> None:
    mount = mount_of(Path("/lustre/projects"), table)
    assert mount is not None and mount.options == {"rw", "vers=4.2", "acdirmax=60"} and mount.source == "server:/projects"


def test_without_a_table_nothing_is_known_and_nothing_is_shared(tmp_path: Path) -> None:
    assert mount_of(tmp_path, tmp_path / "missing") is None


def kind_of(path: Path) -> str:
    mount = mount_of(path)
    assert mount is not None
    return mount.kind


def test_real_mounts_are_told_apart_also_behind_symbolic_links(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "with space") as memory, ext4(tmp_path / "disk") as disk:
        (tmp_path / "link").symlink_to(memory)
        assert kind_of(memory / "not" / "yet") == kind_of(tmp_path / "link" / "x") == "tmpfs"
        assert kind_of(disk) == "ext4" and not is_shared(disk)
        found = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "--target", tmp_path], capture_output=True, text=True)
        assert kind_of(tmp_path) == found.stdout.strip() or found.returncode


def test_a_stick_behind_fuse_is_local(tmp_path: Path) -> None:
    with exfat(tmp_path / "stick") as stick:
        assert kind_of(stick) == "fuseblk" and not is_shared(stick)


def test_room_is_told_in_bytes_and_in_files(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", kib=512, inodes=50) as folder:
        assert free_bytes(folder / "not" / "yet") == 512 * 1024
        (folder / "x").write_bytes(b"x" * 100_000)
        assert 512 * 1024 - free_bytes(folder) in range(100_000, 110_000)
        before = free_inodes(folder)
        assert before is not None and before in range(40, 50)
        assert len(fill_inodes(folder)) == before
        assert free_inodes(folder) == 0


def test_a_filesystem_that_does_not_count_files_says_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    monkeypatch.setattr(mounts.os, "statvfs", lambda path: os.statvfs_result([*real[:5], 0, 0, 0, *real[8:]]))
    assert free_inodes(tmp_path) is None


# --- patience ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder counts as shared, and the first pause is short."""
    monkeypatch.setattr(mounts, "is_shared", lambda path: True)
    monkeypatch.setattr(mounts, "ATTRIBUTE_CACHE_S", 20.0)
    monkeypatch.setattr(mounts, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(mounts, "_in_vain", {})


def has_size(path: Path, size: int) -> Callable[[], bool]:
    return lambda: path.stat().st_size == size


def counting(check: Callable[[], bool], calls: list[float]) -> Callable[[], bool]:
    return lambda: (calls.append(time.monotonic()), check())[1]


def test_on_a_local_filesystem_nothing_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts.time, "sleep", lambda seconds: pytest.fail("waited"))
    calls: list[float] = []
    assert not settled(counting(has_size(tmp_path / "missing", 3), calls), tmp_path / "missing")
    assert len(calls) == 1


def test_what_is_there_is_believed_at_once_without_asking_which_filesystem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "is_shared", lambda path: pytest.fail("asked"))
    (tmp_path / "file").write_text("abc")
    assert settled(has_size(tmp_path / "file", 3), tmp_path / "file")


def test_a_file_that_another_node_has_just_finished_is_waited_for(tmp_path: Path, shared: None) -> None:
    path = tmp_path / "late" / "file"

    def appear() -> None:
        time.sleep(0.1)
        path.parent.mkdir()
        path.write_text("a")
        time.sleep(0.1)
        path.write_text("abc")

    writer = threading.Thread(target=appear)
    writer.start()
    assert settled(has_size(path, 3), path)
    writer.join()


def test_a_lost_file_is_waited_for_as_long_as_caches_live_with_growing_pauses(
    tmp_path: Path, shared: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    now = [1000.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(mounts.time, "sleep", sleep)
    monkeypatch.setattr(mounts.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(mounts, "ATTRIBUTE_CACHE_S", 75.0)
    assert not settled(has_size(tmp_path / "missing", 3), tmp_path / "missing")
    assert sum(pauses) == pytest.approx(75) and max(pauses) <= mounts.LONGEST_PAUSE_S
    assert pauses[:-1] == sorted(pauses[:-1]) and len(pauses) < 25
    # a second lost file of that folder is looked at twice and not waited for, until the lesson is forgotten
    pauses.clear()
    calls: list[float] = []
    assert not settled(counting(has_size(tmp_path / "missing too", 3), calls), tmp_path / "missing too")
    assert pauses == [] and len(calls) == 2
    now[0] += mounts.FORGET_S
    assert not settled(has_size(tmp_path / "missing too", 3), tmp_path / "missing too")
    assert sum(pauses) == pytest.approx(75)


def test_the_server_is_asked_before_every_further_look(tmp_path: Path, shared: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a file and listing its folder is what makes a network filesystem ask."""
    path, asked = tmp_path / "file", []
    path.write_text("abc")
    scandir, real_open = os.scandir, os.open
    monkeypatch.setattr(mounts.os, "scandir", lambda folder: (asked.append("list"), scandir(folder))[1])
    monkeypatch.setattr(mounts.os, "open", lambda *args: (asked.append("open"), real_open(*args))[1])
    assert settled(lambda: len(asked) >= 6, path)
    assert asked == ["list", "open"] * 3


def test_a_stale_handle_is_waited_for_and_a_broken_disk_is_not(tmp_path: Path, shared: None) -> None:
    errors = iter([OSError(errno.ESTALE, "Stale file handle"), OSError(errno.ENOENT, "No such file or directory"), None])

    def check() -> bool:
        if (error := next(errors)) is not None:
            raise error
        return True

    assert settled(check, tmp_path / "x")

    def broken() -> bool:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        settled(broken, tmp_path / "x")
