"""Damaged, foreign and lost files are named, and nothing is merged on wrong data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dedup_run import SMALL, Run, planted

from ccpipe.dedup.cluster import Cluster
from ccpipe.dedup.files import BadFile, write_rows
from ccpipe.dedup.mark import Mark
from ccpipe.dedup.match import Match
from ccpipe.dedup.route import Route
from ccpipe.stage import Inputs, Unit


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def foreign(path: Path) -> None:
    path.write_bytes(b"PAR1" + path.read_bytes()[4:])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lost(path: Path) -> None:
    path.unlink()


def of_another_run(path: Path) -> None:
    """Header and index of this file, records of another one of the same size."""
    data = bytearray(path.read_bytes())
    data[-16:-8] = (5).to_bytes(8, "little")
    path.write_bytes(bytes(data))


def float_array(path: Path) -> None:
    np.save(path, np.zeros((3, 4)))


def bad_index(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[64:72] = b"\x09" * 8
    path.write_bytes(bytes(data))


def other_rows(path: Path) -> None:
    np.save(path, np.zeros((3, 16), np.uint64))


DAMAGE = [
    (Route, "sig", truncate, "type ccpipe redo --stage sig "),
    (Route, "sig", foreign, "type ccpipe redo --stage sig "),
    (Route, "sig", empty, "type ccpipe redo --stage sig "),
    (Route, "sig", float_array, "expected uint64"),
    (Route, "sig", other_rows, "has 3 signatures, the base of its shard 10"),
    (Match, "route", truncate, "its header promises"),
    (Match, "route", foreign, "CCBANDS1"),
    (Match, "route", empty, "CCBANDS1"),
    (Match, "route", bad_index, "index does not fit"),
    (Match, "route", of_another_run, "the records are not those of the index; type ccpipe redo --stage dedup.route"),
    (Route, "sig", lost, "is gone, expected what sig committed: type ccpipe redo --stage sig "),
    (Match, "route", lost, "is gone, expected what dedup.route committed: type ccpipe redo --stage dedup.route "),
    (Cluster, "links", lost, "is gone, expected what dedup.match committed: type ccpipe redo --stage dedup.match "),
    (Mark, "clusters", lost, "is gone, expected what dedup.cluster committed: type ccpipe redo --stage dedup.cluster "),
    (Cluster, "links", truncate, "type ccpipe redo --stage dedup.match "),
    (Cluster, "links", foreign, "type ccpipe redo --stage dedup.match "),
    (Cluster, "links", other_rows, "expected uint64 of shape"),
    (Mark, "clusters", truncate, "type ccpipe redo --stage dedup.cluster "),
    (Mark, "clusters", foreign, "type ccpipe redo --stage dedup.cluster "),
]


@pytest.mark.parametrize(("stage", "dataset", "damage", "message"), DAMAGE, ids=lambda value: getattr(value, "__name__", None))
def test_damaged_files_are_named_and_nothing_is_written(
    tmp_path: Path, stage: Any, dataset: str, damage: Callable[[Path], None], message: str
) -> None:
    run = Run(tmp_path / "run", planted(np.random.default_rng(0), (10, 2000)), {**SMALL, "partitions": 1})
    run.all()
    broken = run.path(dataset, 0)
    damage(broken)
    inputs: Inputs = {kind: [run.path(kind, 0)] for kind in ("sig", "base", "route", "links", "clusters")}
    out = tmp_path / "out"
    outs = dict.fromkeys(("route", "links", "clusters", "meta/dedup"), out)
    with pytest.raises(BadFile, match=message) as caught:
        stage("dedup.x", stage.Config(**run.config)).run(Unit("0", 0, (0,), {"n_shards": 1}), inputs, outs)
    assert str(broken) in str(caught.value)
    assert not out.exists()


def test_clusters_of_other_documents_are_refused(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", planted(np.random.default_rng(0), (10,)), {**SMALL, "partitions": 1})
    run.all()
    write_rows(run.path("clusters", 0), 4, [np.array([[50, 0, 0, 2]], np.uint64)])
    inputs: Inputs = {kind: [run.path(kind, 0)] for kind in ("sig", "base", "clusters")}
    with pytest.raises(BadFile, match="links row 50 of shard 0, which has 10 documents"):
        Mark("dedup.mark", Mark.Config()).run(Unit("0", 0, (0,), {}), inputs, {"meta/dedup": tmp_path / "out"})


def test_signatures_of_different_width_or_banding_are_refused(tmp_path: Path) -> None:
    sigs = [*planted(np.random.default_rng(0), (5,)), *planted(np.random.default_rng(0), (5,), width=32)]
    with pytest.raises(BadFile, match="different width"):
        Run(tmp_path / "one", sigs, SMALL).all()
    with pytest.raises(BadFile, match="different bandings"):
        Run(tmp_path / "two", sigs, SMALL, group_size=1).all()
