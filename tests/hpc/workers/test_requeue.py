"""A task puts itself back into the queue, but not for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc.workers.requeue import MAX_RESTARTS, requeue_self


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Inside job 7 of a Slurm whose scontrol notes how it was called, and fails where SLURM_REFUSES is set."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/called\nexit ${{SLURM_REFUSES:-0}}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    return tmp_path / "called"


def test_a_task_asks_for_its_own_requeue(called: Path) -> None:
    assert requeue_self()
    assert called.read_text() == "requeue 7\n"


def test_after_many_restarts_it_stays_away(called: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(MAX_RESTARTS - 1))
    assert requeue_self()
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(MAX_RESTARTS))
    assert not requeue_self()
    assert called.read_text() == "requeue 7\n"


def test_a_refusal_and_a_missing_scontrol_are_survived(called: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_REFUSES", "1")
    assert not requeue_self()
    monkeypatch.setenv("PATH", str(called.parent / "nowhere"))
    assert not requeue_self()


def test_outside_a_job_nobody_is_asked(called: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID")
    assert not requeue_self()
    assert not called.exists()
