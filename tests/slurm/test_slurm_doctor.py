"""What `doctor` reads of a real Slurm."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import SlurmCluster

from hpc.site import Site
from hpc.upkeep.doctor import check_slurm
from hpc.upkeep.finding import Finding

pytestmark = pytest.mark.slurm


def doctor(**site: object) -> dict[str, Finding]:
    return {finding.what: finding for finding in check_slurm(Site.model_validate(site))}


@pytest.fixture
def limited(slurm: SlurmCluster) -> Iterator[SlurmCluster]:
    slurm.run("sacctmgr", "--immediate", "modify", "user", "root", "set", "MaxSubmitJobs=50", "MaxJobs=20")
    yield slurm
    slurm.run("sacctmgr", "--immediate", "modify", "user", "root", "set", "MaxSubmitJobs=-1", "MaxJobs=-1")


def test_the_cluster_of_the_tests_is_read(slurm: SlurmCluster) -> None:
    found = doctor(max_array_size=200)
    assert {finding.level for finding in found.values()} == {"ok"}, found
    assert "cluster ccpipe" in found["slurm"].text
    assert "main: a preempted task goes back to the queue" in found["preemption"].text
    assert "told 5 s before" in found["preemption"].text
    assert "5 s between SIGTERM and SIGKILL" in found["end of a job"].text
    assert "3600 s" in found["memory of jobs"].text
    assert "none in the association of root" in found["submit limit"].text


def test_what_the_profile_says_wrongly_is_told(slurm: SlurmCluster) -> None:
    found = doctor(max_array_size=1001, partition="scrap", gpu_partition="gpu", account="nobody")
    assert "set max_array_size = 200" in found["array size"].text
    assert "there are main, scrap, urgent" in found["partition"].text
    assert re.search(r"root has no association with account nobody \(there are: (\w+, )*root\)", found["accounting"].text)


def test_limits_of_the_user_are_found_by_one_call(limited: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by programs that stand in front of the real ones on the path."""
    for name in ("sacctmgr", "scontrol"):
        real = limited.run("sh", "-c", f"command -v {name}")
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name}" >>"{tmp_path}/calls"\nexec {real} "$@"\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = doctor(max_array_size=200)
    assert found["submit limit"].level == "fail" and "set max_tasks well below 50" in found["submit limit"].text
    assert "at most 20 at once" in found["running jobs"].text
    assert sorted((tmp_path / "calls").read_text().split()) == ["sacctmgr", "scontrol", "scontrol"]
    (tmp_path / "calls").unlink()
    doctor(sacct=False)
    assert (tmp_path / "calls").read_text().split() == ["scontrol", "scontrol"]


def test_a_controller_that_does_not_answer_is_a_failure_not_a_crash(slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", "/nonexistent/slurm.conf")
    found = doctor()
    assert found["slurm"].level == "fail" and "Try: scontrol ping" in found["slurm"].text
