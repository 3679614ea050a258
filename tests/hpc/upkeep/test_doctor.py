"""What `doctor` says of real filesystems, and of clusters that are not at hand."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest
from filesystems import exfat, ext4, tmpfs
from rich.console import Console
from toy import pipeline, run_flow

from hpc.fs import exclusive
from hpc.fs.mounts import Mount
from hpc.fs.scratch import MIN_FREE_BYTES
from hpc.planning.planner import plan_pipeline
from hpc.site import Site
from hpc.upkeep import doctor
from hpc.upkeep.doctor import check_filesystem, check_scratch, check_slurm, inodes_needed, run_doctor
from hpc.upkeep.doctor_slurm import (
    ASSOC_FIELDS,
    judge_accounting,
    judge_arrays,
    judge_ends,
    judge_partitions,
    judge_preemption,
    judge_submission,
)
from hpc.upkeep.finding import Finding


def by_what(findings: Any) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def only(findings: Any) -> Finding:
    (finding,) = findings
    return finding


# --- filesystems ------------------------------------------------------------------------------------------------------------


def test_a_posix_filesystem_passes_and_no_probe_is_left(tmp_path: Path) -> None:
    with ext4(tmp_path / "disk", mib=16) as folder:
        found = by_what(check_filesystem(folder / "run"))
        told = {name for name, finding in found.items() if finding.level != "ok"}
        assert told - {"fsync"} == {"filesystem", "disk", "inodes"}  # a busy disk may be slow today
        assert "ext4" in found["filesystem"].text and "this machine only" in found["filesystem"].text
        assert "made by link" in found["exclusive names"].text
        assert "ms for a sentinel" in found["fsync"].text
        assert list((folder / "run").iterdir()) == []


def test_where_there_are_no_links_it_says_what_is_used_instead(tmp_path: Path) -> None:
    with exfat(tmp_path / "stick") as folder:
        found = by_what(check_filesystem(folder))
        assert "fail" not in {finding.level for finding in found.values()}
        assert "renaming folders" in found["exclusive names"].text and found["exclusive names"].level == "warn"
        assert "copied" in found["links"].text
        assert "text file" in found["current"].text
        assert list(folder.iterdir()) == []


def test_renameat2_is_named_where_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(exclusive, "_known", {})
    monkeypatch.setattr(os, "link", fail)
    found = by_what(check_filesystem(tmp_path))
    assert "renameat2" in found["exclusive names"].text and found["exclusive names"].level == "ok"


@pytest.mark.parametrize(("needed", "level"), [(0, "warn"), (100, "warn"), (10_000, "fail")])
def test_inodes_are_held_against_what_the_plan_needs(tmp_path: Path, needed: int, level: str) -> None:
    with tmpfs(tmp_path / "small", inodes=500) as folder:
        assert by_what(check_filesystem(folder, needed))["inodes"].level == level


def test_a_folder_that_others_can_write_to_is_told_unless_the_site_allows_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)
    assert "chmod go-w" in by_what(check_filesystem(tmp_path))["permissions"].text
    assert by_what(check_filesystem(tmp_path, shared_state=True))["permissions"].level == "ok"
    tmp_path.chmod(0o755)
    assert "permissions" not in by_what(check_filesystem(tmp_path))


@pytest.mark.parametrize(
    ("call", "what"),
    [("rename", "rename"), ("fsync", "fsync"), ("link", "exclusive names"), ("symlink", "current"), ("utime", "heartbeats")],
)
def test_what_a_filesystem_cannot_do_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, what: str) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    finding = by_what(check_filesystem(tmp_path))[what]
    assert finding.level == "fail" and "put it elsewhere" in finding.text


def test_a_filesystem_that_gives_a_name_twice_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusive, "_known", {})
    monkeypatch.setattr(os, "link", lambda source, target: source.replace(target))
    finding = by_what(check_filesystem(tmp_path))["exclusive names"]
    assert finding.level == "fail" and "a name was given twice" in finding.text


def test_times_that_cannot_be_set_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "utime", lambda *args: None)
    assert by_what(check_filesystem(tmp_path))["heartbeats"].level == "warn"


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("nfs4", {"hard", "acdirmax=60"}, [("ok", "shared")]),
        ("lustre", {"flock"}, [("ok", "shared")]),
        ("nfs4", {"hard", "actimeo=600"}, [("ok", "shared"), ("warn", "600 s late")]),
        ("nfs", {"soft"}, [("ok", "shared"), ("warn", "mount hard")]),
        ("fuse.gcsfuse", set(), [("fail", "object store")]),
        ("xfs", set(), [("warn", "this machine only")]),
    ],
)
def test_mounts_are_judged(kind: str, options: set[str], said: list[tuple[str, str]]) -> None:
    found = list(doctor._check_mount(Mount(Path("/x"), kind, "source", frozenset(options))))
    assert [finding.level for finding in found] == [level for level, _ in said]
    assert all(text in finding.text for finding, (_, text) in zip(found, said, strict=True))


# --- scratch ------------------------------------------------------------------------------------------------------------------


def test_scratch_is_looked_at_only_where_the_profile_names_it() -> None:
    assert list(check_scratch(Site())) == []


def test_scratch_on_a_disk_of_this_machine_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_DISK", str(tmp_path))
    finding = only(check_scratch(Site(scratch="$NODE_DISK/ccpipe")))
    assert finding.level == "ok" and "will be made" in finding.text and "GB free" in finding.text
    assert not (tmp_path / "ccpipe").exists()


def test_scratch_that_cannot_serve_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NODE_DISK", raising=False)
    assert "a variable is not set here" in only(check_scratch(Site(scratch="$NODE_DISK/x"))).text
    assert "expected an absolute path" in only(check_scratch(Site(scratch="scratch"))).text
    (tmp_path / "file").touch()
    assert "cannot be written here" in only(check_scratch(Site(scratch=f"{tmp_path}/file/x"))).text
    with tmpfs(tmp_path / "small") as small:
        assert "too little for a unit" in only(check_scratch(Site(scratch=str(small)))).text
    monkeypatch.setattr(doctor, "mount_of", lambda path: Mount(Path("/"), "nfs4", "server:/", frozenset()))
    assert "it is shared" in only(check_scratch(Site(scratch=str(tmp_path)))).text


def test_scratch_is_too_small_where_workers_would_not_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for room, level in ((MIN_FREE_BYTES - 1, "warn"), (MIN_FREE_BYTES, "ok")):
        monkeypatch.setattr(doctor, "free_bytes", lambda path, room=room: room)
        assert only(check_scratch(Site(scratch=str(tmp_path)))).level == level


# --- a run ------------------------------------------------------------------------------------------------------------------------


def doctored(run: Path) -> tuple[int, str]:
    out = io.StringIO()
    return run_doctor(run, Site(), Console(file=out, width=200)), out.getvalue()


def test_free_inodes_are_held_against_what_the_stages_of_the_run_still_need(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", inodes=300) as folder:
        plan_pipeline(pipeline(folder / "run", [1] * 150))
        code, text = doctored(folder / "run")
        assert code == 1 and f"{inodes_needed(folder / 'run', Site()):,} needed" in text and "fail  inodes" in text


def test_a_complete_run_needs_no_more_inodes_and_one_without_a_plan_none_that_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no Slurm
    described = pipeline(tmp_path / "run", [1] * 5)
    plan_pipeline(described)
    before = inodes_needed(tmp_path / "run", Site())
    run_flow(described)
    assert before > 20 and inodes_needed(tmp_path / "run", Site()) == 0 == inodes_needed(tmp_path / "none", Site())
    code, text = doctored(tmp_path / "run")
    assert code == 0 and " needed" not in text and "fsync" in text and "gpus" in text


def test_a_run_directory_that_cannot_be_made_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, text = doctored(tmp_path / "file" / "run")
    assert code == 1 and "expected a folder that can be made and written" in text


# --- clusters -------------------------------------------------------------------------------------------------------------------


def part(name: str = "main", **fields: str) -> dict[str, dict[str, str]]:
    return {name: {"PartitionName": name, "Default": "YES", "State": "UP", "MaxTime": "UNLIMITED", "AllocNodes": "ALL", **fields}}


@pytest.mark.parametrize(
    ("config", "site", "levels", "said"),
    [
        ({"MaxArraySize": "1001"}, {}, ["ok"], "1001"),
        ({"MaxArraySize": "200"}, {}, ["fail"], "set max_array_size = 200"),
        ({"MaxArraySize": "5001", "MaxJobCount": "500"}, {}, ["ok", "fail"], "set max_tasks"),
    ],
)
def test_arrays_fit(config: dict[str, str], site: dict[str, Any], levels: list[str], said: str) -> None:
    found = list(judge_arrays(config, Site(**site)))
    assert [finding.level for finding in found] == levels and said in found[-1].text


@pytest.mark.parametrize(
    ("partitions", "site", "level", "said"),
    [
        (part("main"), {"partition": "gpu"}, "fail", "there are main"),
        (part(State="DRAIN"), {}, "warn", "main is DRAIN"),
        (part(MaxTime="02:00:00"), {"max_time_min": 300}, "fail", "set max_time_min = 120"),
        (part(MaxTime="1-00:00:00"), {}, "warn", "set max_time_min = 1440"),
        (part("gpu", MaxTime="02:00:00"), {"partition": "gpu", "max_time_min": 120}, None, ""),
        (part("a") | part("b"), {"partition": "a,b"}, None, ""),
    ],
)
def test_partitions_exist_and_last(partitions: Any, site: dict[str, Any], level: str | None, said: str) -> None:
    found = list(judge_partitions(partitions, Site(**site)))
    assert [finding.level for finding in found] == ([level] if level else []) and all(said in finding.text for finding in found)


SIGNALS = {"PreemptType": "preempt/partition_prio", "PreemptMode": "REQUEUE", "SlurmctldParameters": "preempt_send_user_signal"}


@pytest.mark.parametrize(
    ("config", "partitions", "site", "level", "said"),
    [
        ({"PreemptType": "preempt/none"}, part(), {}, "ok", "left alone"),
        (SIGNALS, part(PreemptMode="REQUEUE", GraceTime="60"), {}, "ok", "told 60 s before"),
        (SIGNALS | {"SlurmctldParameters": "(null)"}, part(PreemptMode="REQUEUE", GraceTime="60"), {}, "ok", "is not sure"),
        (SIGNALS, part(PreemptMode="REQUEUE", GraceTime="0"), {}, "ok", "no time to commit"),
        (SIGNALS, part(PreemptMode="REQUEUE", GraceTime="60"), {"requeue": False}, "warn", "set requeue = true"),
        (SIGNALS, part(PreemptMode="CANCEL", GraceTime="60"), {}, "ok", "is told before, and puts itself into the queue again"),
        (SIGNALS, part(PreemptMode="CANCEL", GraceTime="0"), {}, "ok", "does not come back"),
        (SIGNALS, part(PreemptMode="GANG,SUSPEND", GraceTime="0"), {}, "ok", "claims look dead meanwhile"),
        (SIGNALS, part(PreemptMode="OFF"), {}, "ok", "not preempted"),
        (SIGNALS, part(GraceTime="60"), {}, "ok", "comes again"),
    ],
)
def test_preemption_is_explained(config: dict[str, str], partitions: Any, site: dict[str, Any], level: str, said: str) -> None:
    finding = only(judge_preemption(config, partitions, Site(**site)))
    assert (finding.level, said in finding.text) == (level, True), finding.text


def test_ends_of_jobs_are_explained() -> None:
    found = by_what(judge_ends({"KillWait": "30 sec", "JobRequeue": "0", "MinJobAge": "300 sec"}, Site()))
    assert "30 s between SIGTERM and SIGKILL" in found["end of a job"].text and "120 s early" in found["end of a job"].text
    assert "--requeue" in found["requeue"].text and "300 s" in found["memory of jobs"].text


def test_gates_that_cannot_submit_are_foreseen_where_they_can_be() -> None:
    assert "cannot be seen from here" in only(judge_submission(part(), Site())).text
    fenced = only(judge_submission(part(AllocNodes="login1,login2"), Site()))
    assert fenced.level == "warn" and "takes jobs only from login1,login2" in fenced.text
    assert "what to type" in only(judge_submission(part(AllocNodes="login1"), Site(submit_from_compute=False))).text


def assoc(*values: str) -> dict[str, str]:
    return dict(zip(ASSOC_FIELDS, values, strict=True))


@pytest.mark.parametrize(
    ("rows", "site", "config", "levels", "said"),
    [
        ([assoc("lab", "", "", "", "", "")], {}, {}, ["ok"], "a QOS may have one"),
        ([assoc("lab", "", "", "2000", "", "")], {}, {}, ["ok"], "together have to fit"),
        ([assoc("lab", "", "", "1000", "", "")], {}, {}, ["fail"], "set max_tasks well below 1000"),
        ([assoc("lab", "", "", "", "", "500")], {}, {}, ["fail"], "500"),
        ([assoc("lab", "", "64", "2000", "", "")], {}, {}, ["ok", "ok"], "at most 64 at once"),
        ([assoc("lab", "gpu", "", "10", "", ""), assoc("lab", "", "", "3000", "", "")], {"partition": "cpu"}, {}, ["ok"], "3000"),
        ([assoc("other", "", "", "10", "", ""), assoc("lab", "", "", "3000", "", "")], {"account": "lab"}, {}, ["ok"], "3000"),
        ([assoc("other", "", "", "", "", "")], {"account": "lab"}, {}, ["warn"], "there are: other"),
        ([], {}, {"AccountingStorageEnforce": "associations,limits"}, ["fail"], "there are: none"),
    ],
)
def test_limits_of_the_user(rows: Any, site: dict[str, Any], config: dict[str, str], levels: list[str], said: str) -> None:
    found = list(judge_accounting(rows, "ada", config, Site(**site)))
    assert [finding.level for finding in found] == levels and said in found[-1].text


def test_without_slurm_it_says_what_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert only(check_slurm(Site())).level == "warn"
