"""The marks depend neither on partitions, groups, order, memory nor kills."""

from __future__ import annotations

import os
import random
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dedup_run import SMALL, Run, brute_force, planted, verdicts
from hypothesis import given, settings
from hypothesis import strategies as st

import ccpipe.dedup.external
from ccpipe.dedup import DedupConfig
from ccpipe.dedup.match import Match
from ccpipe.dedup.route import Route
from ccpipe.stage import Unit

PHASES = ("dedup.route", "dedup.match", "dedup.cluster")


@pytest.fixture
def tiny_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 KiB for each phase: 128 pairs."""
    monkeypatch.setattr(DedupConfig, "memory_bytes", 4096)


def test_route_file_does_not_depend_on_the_order_of_shards(tmp_path: Path) -> None:
    sigs = planted(np.random.default_rng(2), (30, 30, 30))
    made = []
    for i in range(4):
        run = Run(tmp_path / str(i), sigs, SMALL, group_size=3, shuffle=random.Random(i).shuffle)
        run.all()
        made.append(run.path("route", 0).read_bytes())
    assert len(set(made)) == 1


@pytest.mark.parametrize("keep", ["first", "component"])
def test_marks_depend_neither_on_partitions_nor_groups_nor_order_nor_memory(tmp_path: Path, keep: str) -> None:
    sigs = planted(np.random.default_rng(7), (40, 3, 0, 60, 17), width=32)
    common = {"bands": 8, "rows": 4, "keep": keep}
    expected = Run(tmp_path / "plain", sigs, {**common, "partitions": 1}, group_size=5).all()
    assert len(set(expected)) == 5
    for i, (partitions, group_size) in enumerate([(1, 1), (4, 2), (64, 3), (64, 5), (2560, 2)]):
        config = {**common, "partitions": partitions, "memory_mb": 1}
        run = Run(tmp_path / str(i), sigs, config, group_size=group_size, shuffle=random.Random(i).shuffle)
        assert run.all() == expected


@settings(max_examples=12)
@given(
    st.integers(0, 1000),
    st.lists(st.integers(0, 25), min_size=1, max_size=6).map(tuple),
    st.sampled_from([1, 4, 64]),
    st.integers(1, 6),
    st.sampled_from(["first", "component"]),
    st.booleans(),
)
def test_any_way_to_cut_the_work_equals_brute_force(
    seed: int, shards: tuple[int, ...], partitions: int, group_size: int, keep: str, tiny: bool
) -> None:
    sigs = planted(np.random.default_rng(seed), shards) if sum(shards) else [np.empty((0, 16), np.uint64) for _ in shards]
    config = {"bands": 4, "rows": 4, "partitions": partitions, "keep": keep}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        if tiny:
            patch.setattr(DedupConfig, "memory_bytes", 2048)
        run = Run(Path(folder, "run"), sigs, config, group_size=group_size, shuffle=random.Random(seed).shuffle)
        marks = run.marks()
    ids = [shard << 32 | row for shard, part in enumerate(sigs) for row in range(len(part))]
    assert verdicts(marks, ids) == brute_force(sigs, 4, 4, keep)


@pytest.mark.parametrize("keep", ["first", "component"])
def test_what_does_not_fit_the_memory_goes_to_disk(tmp_path: Path, keep: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every phase spills, nothing of it is left, and all files equal those of a run in memory."""
    sigs = planted(np.random.default_rng(3), (300, 200, 100), width=32)
    config = {"bands": 8, "rows": 4, "partitions": 2, "keep": keep}
    whole = Run(tmp_path / "whole", sigs, config)
    expected = whole.all()
    assert [whole.counts[phase].extra["spilled_bytes"] for phase in PHASES] == [0, 0, 0]
    monkeypatch.setattr(DedupConfig, "memory_bytes", 4096)
    tiny = Run(tmp_path / "tiny", sigs, config)
    assert tiny.all() == expected
    assert min(tiny.counts[phase].extra["spilled_bytes"] for phase in PHASES) > 0
    names = sorted(path.name for path in whole.folder.iterdir())
    assert sorted(path.name for path in tiny.folder.iterdir()) == names
    assert all((whole.folder / name).read_bytes() == (tiny.folder / name).read_bytes() for name in names)


@pytest.mark.usefixtures("tiny_memory")
@pytest.mark.parametrize("partitions", [1, 64])
def test_more_documents_with_one_key_than_memory_holds(tmp_path: Path, partitions: int) -> None:
    """No range of keys is small enough for them; they are sorted on disk and all linked to the smallest."""
    sigs = planted(np.random.default_rng(4), (150, 150, 100))
    for part in sigs:
        part[::2] = 77
    run = Run(tmp_path / "run", sigs, {**SMALL, "partitions": partitions}, group_size=1, shuffle=random.Random(0).shuffle)
    ids = [shard << 32 | row for shard, part in enumerate(sigs) for row in range(len(part))]
    assert verdicts(run.marks(), ids) == brute_force(sigs, 4, 4, "first")
    assert run.counts["dedup.cluster"].extra["largest_cluster"] >= 200


@pytest.mark.usefixtures("tiny_memory")
def test_memory_stays_within_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No array of pairs that is sorted is larger than the memory, however much there is."""
    seen = []
    sort = ccpipe.dedup.external.sort_pairs
    monkeypatch.setattr("ccpipe.dedup.external.sort_pairs", lambda pairs: (seen.append(len(pairs)), sort(pairs))[1])
    Run(tmp_path / "run", planted(np.random.default_rng(5), (500, 500)), {**SMALL, "partitions": 1}, group_size=2).all()
    assert len(seen) > 20 and max(seen) <= 4096 // 32


def die_at(calls: int) -> None:
    """SIGKILL to this process when it sorts, reads or opens a scratch file for the nth time."""
    left = [calls]

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in ("sort_pairs", "unique_pairs"):
        setattr(ccpipe.dedup.external, name, dying(getattr(ccpipe.dedup.external, name)))
    np.fromfile = dying(np.fromfile)
    tempfile.TemporaryFile = dying(tempfile.TemporaryFile)  # type: ignore[misc]


@pytest.mark.usefixtures("tiny_memory")
@pytest.mark.parametrize("kind", ["route", "links"])
def test_killed_at_any_call_nothing_is_left_and_the_next_attempt_writes_the_same(tmp_path: Path, kind: str) -> None:
    run = Run(tmp_path / "run", planted(np.random.default_rng(6), (60, 60)), {**SMALL, "partitions": 1})
    run.all()
    expected = run.path(kind, 0).read_bytes()
    stage = {"route": Route, "links": Match}[kind]
    inputs = {name: [run.path(name, number) for number in (0, 1)] for name in ("sig", "base")} | {"route": [run.path("route", 0)]}
    out = tmp_path / "out"

    def work() -> None:
        config = stage.Config.model_validate({**SMALL, "partitions": 1})
        stage("dedup.x", config).run(Unit("0", 0, (0, 1), {}), inputs, {kind: out / "file"})

    deaths, calls = 0, 1
    while True:
        out.mkdir()
        pid = os.fork()
        if pid == 0:
            die_at(calls)
            work()
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        assert {path.name for path in out.iterdir()} <= {"file"}
        work()
        assert (out / "file").read_bytes() == expected
        (out / "file").unlink()
        out.rmdir()
        deaths += killed
        if not killed:
            break
        calls += 1 + calls // 3
    assert deaths > 5
