"""A run directory that somebody else may have written to is refused; one of our own, whatever the umask made of it, is not touched."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc.fs import permissions
from hpc.fs.permissions import PermissionsError, check_private

SOMEBODY = 54321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

PLACES = [
    ".",
    "flow.json",
    "run.resolved.toml",
    "state",
    "state/sig",
    "state/sig/0123456789ab",
    "state/sig/0123456789ab/plan.json",
    "state/sig/0123456789ab/launches",
    "state/sig/0123456789ab/launches/local-1.json",
    "state/sig/0123456789ab/done",
    "state/sig/0123456789ab/done.zip",
    "state/sig/0123456789ab/slices",
    "state/sig/0123456789ab/failed",
    "state/sig/0123456789ab/claims",
    "state/sig/0123456789ab/tasks",
    "state/sig/0123456789ab/retired",
    "state/sig/0123456789ab/units.json",
    "state/sig/0123456789ab/_SUCCESS.json",
    "tmp",
    "tmp/sig",
    "tmp/sig/0123456789ab",
    "sig",
    "sig/0123456789ab",
    "meta",
    "meta/sig",
    "meta/sig/0123456789ab",
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory as a umask of 022 makes it."""
    run = tmp_path / "a run's"
    for place in PLACES:
        path = run / place
        if path.suffix:
            path.write_text("{}")
        else:
            path.mkdir(parents=True, exist_ok=True)
    for path in [run, *run.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return run


def modes(run: Path) -> dict[Path, int]:
    return {path: path.stat().st_mode for path in [run, *run.rglob("*")]}


def test_a_private_run_is_accepted_and_left_as_it_is(run: Path) -> None:
    before = modes(run)
    check_private(run, allow_shared=False)
    check_private(run, allow_shared=False, state=run / "state/sig/0123456789ab")
    assert modes(run) == before


def test_a_run_that_does_not_exist_yet_is_accepted_and_not_made(tmp_path: Path) -> None:
    check_private(tmp_path / "later", allow_shared=False)
    check_private(tmp_path / "later", allow_shared=False, state=tmp_path / "later/state/sig/0123456789ab")
    assert not (tmp_path / "later").exists()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("bits", "who"), [(0o020, "the group "), (0o002, "everybody"), (0o022, "everybody"), (0o1002, "everybody")])
def test_what_others_may_write_is_refused_with_the_command_that_mends_it(
    run: Path, place: str, bits: int, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sticky or not: the sticky bit stops others from renaming, not from adding a launch."""
    monkeypatch.setattr(permissions, "_is_own_group", lambda gid, uid: False)
    path = run / place
    path.chmod(path.stat().st_mode | bits)
    for state in (None, run / "state/sig/0123456789ab"):
        with pytest.raises(PermissionsError, match="can be written by") as caught:
            check_private(run, allow_shared=False, state=state)
        assert str(path) in str(caught.value) and who in str(caught.value) and "shared_state = true" in str(caught.value)
    typed = str(caught.value).partition("Type: ")[2].partition("   or")[0]
    assert shlex.split(typed)[-1] == str(run)
    subprocess.run(["bash", "-c", typed], check=True)
    check_private(run, allow_shared=False)


def test_folders_of_stages_with_a_slash_in_their_names_are_looked_at(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = run / "state/family/part/0123456789ab"
    for folder in (state / "launches", run / "tmp/family/part/0123456789ab"):
        folder.mkdir(parents=True)
    (state / "plan.json").write_text("{}")
    monkeypatch.setattr(permissions, "_is_own_group", lambda gid, uid: False)
    for path in [run, *run.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in (run / "state/family", state.parent, state, state / "plan.json", state / "launches", run / "tmp/family/part/0123456789ab"):
        mode = path.stat().st_mode
        path.chmod(mode | 0o002)
        for given in (None, state):
            with pytest.raises(PermissionsError, match="everybody"):
                check_private(run, allow_shared=False, state=given)
        path.chmod(mode)


def test_other_folders_in_a_run_and_files_of_outputs_are_not_looked_at(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of somebody's notes is no output of ours; of many outputs the folder says who may replace them."""
    monkeypatch.setattr(permissions, "_is_own_group", lambda gid, uid: False)
    (run / "notes").mkdir()
    (run / "notes").chmod(0o777)
    (run / "sig/0123456789ab/00000.npy").write_text("x")
    (run / "sig/0123456789ab/00000.npy").chmod(0o666)
    check_private(run, allow_shared=False)


def test_a_shared_run_is_accepted_when_told(run: Path) -> None:
    run.chmod(0o2777)
    check_private(run, allow_shared=True)


@as_root
@pytest.mark.parametrize("place", PLACES)
def test_what_belongs_to_somebody_else_is_refused(run: Path, place: str) -> None:
    os.chown(run / place, SOMEBODY, -1)
    with pytest.raises(PermissionsError, match=r"belongs to user 54321; expected user root.*Choose another \[run\] dir"):
        check_private(run, allow_shared=False)
    check_private(run, allow_shared=True)


@as_root
def test_what_belongs_to_root_is_accepted_by_a_user() -> None:
    """A site may make run directories for its users; root could do anything anyhow."""
    code = "import os, sys; from hpc.fs.permissions import *; os.setuid(54321); check_private(Path(sys.argv[1]), False)"
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        run.chmod(0o755)
        (run / "state").mkdir(mode=0o755)
        subprocess.run([sys.executable, "-c", code, run], check=True)
        os.chown(run / "state", 54322, -1)
        refused = subprocess.run([sys.executable, "-c", code, run], capture_output=True, text=True)
        assert "state belongs to user 54322; expected user 54321" in refused.stderr


def test_the_users_own_private_group_counts_as_the_user(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A umask of 002 with a group for each user is the rule on many systems."""
    run.chmod(0o775)
    me = pwd.getpwuid(os.geteuid())
    users = {os.geteuid(): pwd.struct_passwd((me.pw_name, "x", me.pw_uid, run.stat().st_gid, "", "/", "/bin/sh"))}
    monkeypatch.setattr(pwd, "getpwuid", users.__getitem__)

    def group(name: str, *members: str) -> Callable[[int], grp.struct_group]:
        return lambda gid: grp.struct_group((name, "x", gid, list(members)))

    monkeypatch.setattr(grp, "getgrgid", group(me.pw_name, me.pw_name))
    check_private(run, allow_shared=False)
    for other in (group("lab"), group(me.pw_name, me.pw_name, "colleague")):
        monkeypatch.setattr(grp, "getgrgid", other)
        with pytest.raises(PermissionsError, match="written by the group"):
            check_private(run, allow_shared=False)


def test_a_link_is_judged_by_where_it_leads(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run)
    check_private(tmp_path / "link", allow_shared=False)
    run.chmod(0o777)
    with pytest.raises(PermissionsError, match="everybody"):
        check_private(tmp_path / "link", allow_shared=False)
