"""Fixture `slurm`: a real Slurm on this machine, one for the whole test session, skipped with a reason where it cannot start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster import SlurmCluster, why_not


@pytest.fixture(scope="session")
def slurm_session() -> Iterator[SlurmCluster]:
    if reason := why_not():
        pytest.skip(reason)
    with SlurmCluster.start() as cluster:
        yield cluster


@pytest.fixture
def slurm(slurm_session: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """The cluster with an empty queue and all nodes up; this process's own environment points at it, so submitit finds it too."""
    before = slurm_session.env()
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, before[name])
    yield slurm_session
    slurm_session.reset()
