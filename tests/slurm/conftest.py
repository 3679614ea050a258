"""Fixture `slurm`: a real Slurm on this machine, one for the whole test session, skipped with a reason where it cannot start.

`cluster` is the same without clearing the queue after each test, so that long chains can run beside other tests of a module;
`demo` and `new_run` prepare what `ccpipe` works on.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import SlurmCluster, why_not
from pipeline import Demo, NewRun, Pipeline

REPO = Path(__file__).resolve().parents[2]


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


@pytest.fixture(scope="module")
def cluster(slurm_session: SlurmCluster) -> Iterator[SlurmCluster]:
    yield slurm_session
    slurm_session.reset()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo's pages, block list and models; models are made where they are missing."""
    folder = tmp_path_factory.mktemp("demo")
    models = REPO / ".cache" / "models"
    subprocess.run([sys.executable, "-m", "jobs.demo.prepare", folder, models], cwd=REPO, check=True, capture_output=True)
    return Demo(folder, (folder / "run.toml").read_text())


@pytest.fixture(scope="session")
def real_warcs() -> list[Path]:
    """A small real WARC, where there are any beside the checkout."""
    return sorted((REPO.parent / "shared" / "data" / "extraction" / "dev").glob("dev-extra-*.warc.gz"))


@pytest.fixture(scope="session")
def extracted(slurm_session: SlurmCluster, demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A folder whose run directory holds the extracted pages and the stage `slow`, undisturbed: what other runs must equal."""
    made = Pipeline(slurm_session, tmp_path_factory.mktemp("extracted"))
    made.configure(demo.slow_toml())
    made.ok("local", "--stage", "extract")
    shutil.copytree(made.run, made.folder / "only-extracted", symlinks=True)
    made.ok("local")
    return made


@pytest.fixture
def new_run(demo: Demo, extracted: Pipeline, tmp_path: Path) -> NewRun:
    return NewRun(demo, extracted, tmp_path)
