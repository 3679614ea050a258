"""What the dry run says of memory and disk is what the phases then take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dedup_run import Run, planted

import ccpipe.dedup.cluster
from ccpipe.dedup import DedupConfig
from ccpipe.dedup.external import Arrays
from ccpipe.dedup.sizes import Sizes

BANDS = 8
CONFIG = {"bands": BANDS, "rows": 4, "partitions": 2, "group_shards": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("sizes") / "run", planted(np.random.default_rng(0), (4000, 4000, 4000, 4000), width=32), CONFIG)
    run.all()
    return run


def sizes(run: Run, **more: int) -> Sizes:
    linked = run.counts["dedup.cluster"].extra["linked_documents"]
    return Sizes(sum(map(len, run.sigs)), len(run.sigs), BANDS, DedupConfig(**{**CONFIG, **more}), linked)


def bytes_of(run: Run, kind: str, count: int) -> int:
    return sum(run.path(kind, number).stat().st_size for number in range(count))


def test_disk_is_predicted(run: Run) -> None:
    """Route and clusters to the hundredth; links and marks are bounded from above."""
    predicted = sizes(run)
    assert 0.98 * predicted.route_disk() <= bytes_of(run, "route", 2) <= predicted.route_disk()
    assert predicted.clusters_disk() <= bytes_of(run, "clusters", 1) <= predicted.clusters_disk() + 128
    assert bytes_of(run, "links", 2) <= predicted.links_disk()
    assert bytes_of(run, "dedup", 4) <= predicted.mark_disk() + 4 * 4096


def test_arrays_of_cluster_are_predicted(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """12 bytes for each linked document and 1.125 bits for every document, of which each shard may waste one block of 512 bits."""
    made: list[Arrays] = []
    monkeypatch.setattr(ccpipe.dedup.cluster, "Arrays", lambda *args: made.append(Arrays(*args)) or made[-1])
    Run(tmp_path / "again", run.sigs, CONFIG).all()
    predicted = sizes(run).cluster_arrays()
    assert 0.9 * predicted <= made[0]._held <= predicted + len(run.sigs) * 72


@pytest.mark.parametrize("memory", [1 << 16, 1 << 18, 1 << 30])
def test_runs_and_ranges_are_predicted(run: Run, tmp_path: Path, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a plan says that a phase is split, it is, and nowhere else."""
    monkeypatch.setattr(DedupConfig, "memory_bytes", memory)
    again = Run(tmp_path / "again", run.sigs, CONFIG)
    again.all()
    predicted = sizes(run)
    spilled = again.counts["dedup.route"].extra["spilled_bytes"]
    assert bool(spilled) == bool(predicted.route_runs())
    assert not spilled or spilled == 16 * BANDS * predicted.documents
    assert bool(again.counts["dedup.cluster"].extra["spilled_bytes"]) == (predicted.cluster_arrays() > memory)


@pytest.mark.parametrize("phase", ["route", "match", "cluster", "mark"])
def test_what_would_not_fit_is_said_to_be_split(phase: str) -> None:
    crawl = Sizes(3_000_000_000, 10_500, 16, DedupConfig(partitions=64))
    said = " ".join(crawl.explain(phase))
    assert "bytes a" in said and "GiB" in said
    expected = {
        "route": "sorted in 9 runs",
        "match": "done in 45 ranges",
        "cluster": "GiB of it mapped from scratch files",
        "mark": "30% of the",
    }
    assert expected[phase] in said
    assert "if 30%" in said or phase == "route"
    counted = " ".join(Sizes(3_000_000_000, 10_500, 16, DedupConfig(partitions=64), 10**6).explain(phase))
    assert "if 30%" not in counted
