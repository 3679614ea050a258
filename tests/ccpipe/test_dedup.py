"""Dedup: the marks follow from the signatures and the config alone, and damaged files never merge anything."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ccpipe.counts import Counts
from ccpipe.dedup import DedupConfig, family
from ccpipe.dedup.cluster import Cluster, find_components
from ccpipe.dedup.external import Arrays
from ccpipe.dedup.files import BadFile, BandFile, write_rows
from ccpipe.dedup.keys import key_range
from ccpipe.dedup.mark import Mark
from ccpipe.dedup.match import Match
from ccpipe.dedup.pairs import sort_pairs, unique_pairs
from ccpipe.dedup.route import Route
from ccpipe.meta import write_group
from ccpipe.minhash import signatures
from ccpipe.stage import Inputs, Unit

U64 = st.integers(0, (1 << 64) - 1)


@dataclass
class Run:
    """All phases over the shards of a folder, by hand."""

    folder: Path
    sigs: list[np.ndarray]
    config: dict[str, Any]
    meta: list[pa.Table] = field(default_factory=list)
    group_size: int = 2
    shuffle: Callable[[list[int]], None] = lambda order: None
    counts: dict[str, Counts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        for shard, sigs in enumerate(self.sigs):
            np.save(self.path("sig", shard), sigs)
            write_group(self.path("base", shard), self.meta[shard] if self.meta else pa.table({"x": np.arange(len(sigs))}))

    def path(self, kind: str, number: int) -> Path:
        return self.folder / f"{kind}-{number}.npy"

    def inputs(self, kind: str, count: int) -> list[Path]:
        order = list(range(count))
        self.shuffle(order)
        return [self.path(kind, number) for number in order]

    def all(self) -> list[bytes]:
        """Bytes of the mark files."""
        config = DedupConfig(**self.config)
        shards, partitions = list(range(len(self.sigs))), config.partitions or 1
        groups = [shards[i : i + self.group_size] for i in range(0, len(shards), self.group_size)]
        units: list[tuple[Any, int, list[int], Inputs, str]] = []
        for i, group in enumerate(groups):
            self.shuffle(group)
            sig, base = ([self.path(kind, shard) for shard in group] for kind in ("sig", "base"))
            units.append((Route, i, group, {"sig": sig, "base": base}, "route"))
        for p in range(partitions):
            units.append((Match, p, [], {"route": self.inputs("route", len(groups))}, "links"))
        units.append((Cluster, 0, [], {"links": self.inputs("links", partitions)}, "clusters"))
        sig = [self.path("sig", shard) for shard in shards]
        for shard in shards:
            inputs: Inputs = {"base": [self.path("base", shard)], "sig": sig, "clusters": [self.path("clusters", 0)]}
            units.append((Mark, shard, [shard], inputs, "meta/dedup"))
        totals: dict[str, list[Counts]] = {}
        for stage, index, members, inputs, out in units:
            name = f"dedup.{stage.__name__.lower()}"
            unit = Unit(str(index), index, tuple(members), {"n_shards": len(shards)})
            counts = stage(name, stage.Config(**self.config)).run(unit, inputs, {out: self.path(out.rpartition("/")[2], index)})
            assert counts.read == counts.kept + sum(counts.dropped.values())
            totals.setdefault(name, []).append(counts)
        self.counts = {name: Counts.total(parts) for name, parts in totals.items()}
        return [self.path("dedup", shard).read_bytes() for shard in shards]

    def marks(self) -> list[dict[str, Any]]:
        self.all()
        return [row for shard in range(len(self.sigs)) for row in pq.read_table(self.path("dedup", shard)).to_pylist()]


def planted(rng: np.random.Generator, shards: tuple[int, ...], width: int = 16) -> list[np.ndarray]:
    """Signatures of which half are copies of earlier ones with some positions changed."""
    n = sum(shards)
    sigs = rng.integers(0, 1 << 63, (n, width)).astype(np.uint64)
    for i in range(1, n):
        if rng.random() < 0.5:
            changed = rng.random(width) < rng.choice([0.0, 0.1, 0.3])
            sigs[i] = np.where(changed, sigs[i], sigs[rng.integers(0, i)])
    return np.split(sigs, np.cumsum(shards)[:-1])


def brute_force(sigs: list[np.ndarray], bands: int, rows: int, keep: str, chosen: Callable[[int], bool] = lambda i: True) -> list[Any]:
    """(cluster, size, of) of every document by comparing all pairs with Python lists; None where it takes no part."""
    ids = [shard << 32 | row for shard, part in enumerate(sigs) for row in range(len(part))]
    docs = [list(map(int, row)) for part in sigs for row in part]
    n = len(ids)
    keys = [{(b, *doc[b * rows : b * rows + rows]) for b in range(bands)} if chosen(i) else set() for i, doc in enumerate(docs)]
    near = [[j for j in range(n) if keys[i] & keys[j]] for i in range(n)]
    lead = [min(near[i], default=i) for i in range(n)]
    # all documents of one key know its smallest member, so the smallest neighbour is the smallest link
    if keep == "component":
        for _ in range(n):
            lead = [min([lead[j] for j in near[i]], default=i) for i in range(n)]
    root = []
    for i in range(n):
        root.append(i if lead[i] == i else root[lead[i]])
    return [(ids[root[i]], root.count(root[i]), ids[lead[i]]) if chosen(i) else None for i in range(n)]


def verdicts(marks: list[dict[str, Any]], ids: list[int]) -> list[Any]:
    return [
        None if m["dedup_keep"] is None else (m["dedup_cluster"], m["dedup_size"], i if m["dedup_of"] is None else m["dedup_of"])
        for m, i in zip(marks, ids, strict=True)
    ]


SMALL = {"bands": 4, "rows": 4, "partitions": 3}


@pytest.mark.parametrize("keep", ["first", "component"])
@pytest.mark.parametrize("seed", range(6))
def test_marks_equal_brute_force(tmp_path: Path, keep: str, seed: int) -> None:
    sigs = planted(np.random.default_rng(seed), (20, 0, 31, 9))
    run = Run(tmp_path / "run", sigs, {**SMALL, "keep": keep})
    marks = run.marks()
    ids = [shard << 32 | row for shard, part in enumerate(sigs) for row in range(len(part))]
    assert verdicts(marks, ids) == brute_force(sigs, 4, 4, keep)
    flat = dict(zip(ids, np.concatenate(sigs), strict=True))
    for i, mark in zip(ids, marks, strict=True):
        dropped = mark["dedup_of"] is not None
        assert mark["dedup_keep"] is not dropped and mark["dedup_reason"] == ("duplicate" if dropped else None)
        expected = pytest.approx((flat[i] == flat[mark["dedup_of"]]).mean()) if dropped else None
        assert mark["dedup_similarity"] == expected
    kept = [mark for mark in marks if mark["dedup_keep"]]
    assert {mark["dedup_cluster"] for mark in marks} == {mark["dedup_cluster"] for mark in kept}
    assert sum(mark["dedup_size"] for mark in kept) == len(marks)
    assert run.counts["dedup.mark"].dropped == {"duplicate": len(marks) - len(kept)}
    assert run.counts["dedup.cluster"].extra["duplicates"] == len(marks) - len(kept)


def test_first_and_component_differ_where_resemblance_is_a_chain(tmp_path: Path) -> None:
    """0 and 1 are unlike, 2 is like both: first keeps 0 and 1, component only 0."""
    rng = np.random.default_rng(0)
    sigs = rng.integers(0, 1 << 63, (3, 8)).astype(np.uint64)
    sigs[2, :4], sigs[2, 4:] = sigs[0, :4], sigs[1, 4:]
    kept = {}
    for keep in ("first", "component"):
        marks = Run(tmp_path / keep, [sigs], {"bands": 2, "rows": 4, "partitions": 1, "keep": keep}).marks()
        kept[keep] = [mark["dedup_keep"] for mark in marks]
    assert kept == {"first": [True, True, False], "component": [True, False, False]}


def test_bands_meet_only_their_own_kind(tmp_path: Path) -> None:
    """The same values in another band are no resemblance."""
    sigs = np.array([[1, 2, 3, 4], [3, 4, 5, 6], [7, 8, 3, 4]], np.uint64)
    marks = Run(tmp_path / "run", [sigs], {"bands": 2, "rows": 2, "partitions": 1}).marks()
    assert [mark["dedup_of"] for mark in marks] == [None, None, 0]


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


def test_documents_outside_where_are_null_and_drop_nobody(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sigs = planted(rng, (30, 30))
    wanted = rng.random(60) < 0.6
    meta = [pa.table({"lid_label": pa.array(np.where(part, "zh", "en"))}) for part in np.split(wanted, 2)]
    run = Run(tmp_path / "run", sigs, {**SMALL, "where": "lid_label = 'zh'"}, meta)
    ids = [shard << 32 | row for shard in (0, 1) for row in range(30)]
    assert verdicts(run.marks(), ids) == brute_force(sigs, 4, 4, "first", lambda i: bool(wanted[i]))
    absent = int((~wanted).sum())
    assert run.counts["dedup.route"].dropped == {"not_in_where": absent}
    assert run.counts["dedup.mark"].dropped["not_in_where"] == absent
    assert run.counts["dedup.route"].kept == 60 - absent


def test_a_giant_component_is_reported_and_not_merged(tmp_path: Path) -> None:
    """A chain 0-1-2-...: each resembles the next alone. Capped, a document is only a duplicate of what it resembles."""
    n, rows = 12, 2
    rng = np.random.default_rng(0)
    sigs = rng.integers(0, 1 << 63, (n, 2 * n)).astype(np.uint64)
    for i in range(1, n):
        sigs[i, 2 * i : 2 * i + 2] = sigs[i - 1, 2 * i : 2 * i + 2]
    config = {"bands": n, "rows": rows, "partitions": 2, "keep": "component"}
    whole = Run(tmp_path / "whole", [sigs], config)
    assert {mark["dedup_of"] for mark in whole.marks()[1:]} == {0}
    assert whole.counts["dedup.cluster"].extra["giant_components"] == 0
    capped = Run(tmp_path / "capped", [sigs], {**config, "max_cluster": n - 1})
    assert [mark["dedup_of"] for mark in capped.marks()] == [None, *range(n - 1)]
    extra = capped.counts["dedup.cluster"].extra
    assert (extra["giant_components"], extra["giant_documents"], extra["largest_component"]) == (1, n, n)


def test_nothing_at_all(tmp_path: Path) -> None:
    """Empty shards, and shards of which no document takes part, go through every phase."""
    nothing = np.empty((0, 16), np.uint64)
    assert Run(tmp_path / "empty", [nothing, nothing], SMALL).marks() == []
    run = Run(tmp_path / "where", planted(np.random.default_rng(0), (5, 5)), {**SMALL, "where": "x < 0"})
    assert [mark["dedup_keep"] for mark in run.marks()] == [None] * 10
    assert run.counts["dedup.mark"].dropped == {"not_in_where": 10}


def test_similarity_is_left_out_on_demand(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", planted(np.random.default_rng(0), (30,)), {**SMALL, "measure_similarity": False})
    marks = run.marks()
    assert any(mark["dedup_of"] is not None for mark in marks)
    assert {mark["dedup_similarity"] for mark in marks} == {None}


def test_columns_carry_the_name_of_the_family() -> None:
    assert family("dedup.mark") == "dedup"
    assert list(Mark("near.mark", Mark.Config()).columns())[:2] == ["near_cluster", "near_size"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def foreign(path: Path) -> None:
    path.write_bytes(b"PAR1" + path.read_bytes()[4:])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def float_array(path: Path) -> None:
    np.save(path, np.zeros((3, 4)))


def bad_index(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[64:72] = b"\x09" * 8
    path.write_bytes(bytes(data))


def other_rows(path: Path) -> None:
    np.save(path, np.zeros((3, 16), np.uint64))


DAMAGE = [
    (Route, "sig", truncate, "rerun sig"),
    (Route, "sig", foreign, "rerun sig"),
    (Route, "sig", empty, "rerun sig"),
    (Route, "sig", float_array, "expected uint64"),
    (Route, "sig", other_rows, "has 3 signatures, the base of its shard 10"),
    (Match, "route", truncate, "its header promises"),
    (Match, "route", foreign, "CCBANDS1"),
    (Match, "route", empty, "CCBANDS1"),
    (Match, "route", bad_index, "index does not fit"),
    (Cluster, "links", truncate, "rerun dedup.match"),
    (Cluster, "links", foreign, "rerun dedup.match"),
    (Cluster, "links", other_rows, "expected uint64 of shape"),
    (Mark, "clusters", truncate, "rerun dedup.cluster"),
    (Mark, "clusters", foreign, "rerun dedup.cluster"),
]


@pytest.mark.parametrize(("stage", "dataset", "damage", "message"), DAMAGE, ids=lambda value: getattr(value, "__name__", None))
def test_damaged_files_are_named_and_nothing_is_written(
    tmp_path: Path, stage: Any, dataset: str, damage: Callable[[Path], None], message: str
) -> None:
    run = Run(tmp_path / "run", planted(np.random.default_rng(0), (10, 10)), {**SMALL, "partitions": 1})
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


def test_match_without_partitions_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="partitions = nodes x cores"):
        Match("dedup.match", Match.Config()).run(Unit("0", 0, (), {}), {"route": []}, {"links": tmp_path / "out"})


def test_impossible_bands_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="give both, or neither"):
        DedupConfig(bands=3)
    with pytest.raises(ValueError, match="need 144 hashes, the signatures have 128"):
        DedupConfig(bands=9, rows=16).banding(128)


@given(st.lists(st.tuples(st.one_of(U64, st.integers(0, 5)), st.integers(0, 5)), max_size=60))
def test_sorting_equals_python(pairs: list[tuple[int, int]]) -> None:
    def array() -> np.ndarray:
        return np.array(pairs, np.uint64).reshape(-1, 2)

    assert list(map(tuple, sort_pairs(array()).tolist())) == sorted(pairs)
    assert list(map(tuple, unique_pairs(array()).tolist())) == sorted(set(pairs))


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=40))
def test_union_find_equals_brute_force(edges: list[tuple[int, int]]) -> None:
    links = [(max(edge), min(edge)) for edge in edges if edge[0] != edge[1]]
    groups = [{i} for i in range(21)]
    for a, b in links:
        joined = next(g for g in groups if a in g) | next(g for g in groups if b in g)
        groups = [g for g in groups if not g & joined] + [joined]
    arrays = np.array(links, np.int64).reshape(-1, 2)
    leads, components = find_components(21, iter([(arrays[:, 0], arrays[:, 1])]), Arrays(1 << 20, Path()))
    assert components.tolist() == [min(next(g for g in groups if i in g)) for i in range(21)]
    assert leads.tolist() == [min([b for a, b in links if a == i], default=i) for i in range(21)]


@given(st.integers(1, 5000), U64)
def test_every_key_is_in_exactly_one_range(count: int, key: int) -> None:
    index = key * count >> 64
    first, last = key_range(index, count)
    assert first <= key <= last
    assert index == 0 or key_range(index - 1, count)[1] == first - 1
    assert key_range(0, count)[0] == 0 and key_range(count - 1, count)[1] == (1 << 64) - 1


def test_route_file_is_sorted_and_any_range_can_be_read(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", planted(np.random.default_rng(0), (3000, 500), width=8), {"bands": 8, "rows": 1, "partitions": 1})
    run.all()
    file = BandFile(run.path("route", 0))
    whole = file.read(0, (1 << 64) - 1)
    assert len(whole) == 3500 * 8 and len(file.index) > 9
    assert (np.lexsort((whole[:, 1], whole[:, 0])) == np.arange(len(whole))).all()
    rng = random.Random(0)
    for _ in range(200):
        first, last = sorted(rng.choice([rng.getrandbits(64), int(rng.choice(whole[:, 0]))]) for _ in range(2))
        inside = (whole[:, 0] >= np.uint64(first)) & (whole[:, 0] <= np.uint64(last))
        assert (file.read(first, last) == whole[inside]).all()


def real_texts(shared_data: Path) -> list[str]:
    texts = []
    for path in sorted((shared_data / "extraction" / "dev").glob("*.gold.jsonl")):
        for line in path.read_text().splitlines():
            texts.append(json.loads(line)["text"] or "")
    paragraphs = (shared_data / "corpora" / "wikipedia_cmrc2018.zh.txt").read_text().splitlines()
    texts += [part for part in paragraphs if len(part) > 200][:600]
    return [text for text in dict.fromkeys(texts) if len(text) > 200]


def damage_text(text: str, share: float, rng: random.Random) -> str:
    """Delete, repeat or replace characters in bursts, as an edited copy does."""
    pieces = text.split() if text.count(" ") > len(text) / 20 else list(text)
    glue = " " if text.count(" ") > len(text) / 20 else ""
    edits = max(1, round(len(pieces) * share))
    for _ in range(edits):
        pieces[rng.randrange(len(pieces))] = rng.choice(["", "edited", "修改", rng.choice(pieces)])
    return glue.join(pieces)


@pytest.mark.shared
def test_real_text_with_planted_near_duplicates(tmp_path: Path, shared_data: Path) -> None:
    """Real pages in many languages and Chinese paragraphs; a third gets an edited copy. Judged by the exact Jaccard similarity
    of shingle sets computed in Python. Floors: 97 % of the pairs above 0.85 found, 90 % above 0.8, no pair below 0.4 and at
    most 1 in 1,000 kept texts lost to something less similar than 0.5."""
    from ccpipe.tokens import hash_tokens

    rng = random.Random(0)
    originals = real_texts(shared_data)
    copies = [(i, damage_text(text, rng.choice([0.002, 0.01, 0.02, 0.04, 0.1]), rng)) for i, text in enumerate(originals) if i % 3 == 0]
    texts = originals + [text for _, text in copies]
    parts = [text.encode() for text in texts]
    data, offsets = np.frombuffer(b"".join(parts), np.uint8), np.cumsum([0, *map(len, parts)])
    tokens, ends = hash_tokens(data, offsets)

    def shingles(i: int) -> set[tuple[int, ...]]:
        mine = tokens[ends[i] : ends[i + 1]].tolist()
        return {tuple(mine[j : j + 5]) for j in range(max(1, len(mine) - 4))}

    def exact(i: int, j: int) -> float:
        one, other = shingles(i), shingles(j)
        return len(one & other) / len(one | other)

    sigs = np.array_split(signatures(data, offsets), 3)
    starts = np.cumsum([0, *map(len, sigs)])
    marks = Run(tmp_path / "run", sigs, {"partitions": 2}).marks()
    found: dict[str, list[bool]] = {"0.85": [], "0.8": []}
    for number, (i, _) in enumerate(copies):
        copy = len(originals) + number
        similarity = exact(i, copy)
        together = marks[copy]["dedup_cluster"] == marks[i]["dedup_cluster"]
        for floor, hits in found.items():
            if similarity >= float(floor):
                hits.append(together)
    dropped = [(i, mark) for i, mark in enumerate(marks) if mark["dedup_of"] is not None]
    truth = np.array([exact(i, int(starts[mark["dedup_of"] >> 32]) + (mark["dedup_of"] & 0xFFFFFFFF)) for i, mark in dropped])
    estimates = np.array([mark["dedup_similarity"] for _, mark in dropped])
    print(
        f"{len(texts)} texts, {len(dropped)} dropped; found {np.mean(found['0.85']):.3f} of {len(found['0.85'])} pairs above 0.85, "
        f"{np.mean(found['0.8']):.3f} of {len(found['0.8'])} above 0.8; dropped below 0.7: {(truth < 0.7).mean():.3f}, "
        f"below 0.5: {(truth < 0.5).sum()}, lowest {truth.min():.2f}"
    )
    assert len(found["0.85"]) > 100
    assert np.mean(found["0.85"]) >= 0.97 and np.mean(found["0.8"]) >= 0.9
    assert truth.min() >= 0.4 and (truth < 0.5).sum() <= len(texts) / 1000
    assert np.abs(estimates - truth).max() < 0.25 and np.abs(estimates - truth).mean() < 0.03
