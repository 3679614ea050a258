"""Scopes, earlier crawls, survivors and the guard against false merges: each against a result computed by other means."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from dedup_flow import Flow, Marks, planted, shuffled, text_flow
from pydantic import ValidationError

from ccpipe.dedup import WEIGHTS, DedupConfig, signed_by
from ccpipe.dedup.exact import jaccard, shingle_set
from ccpipe.dedup.files import Array2D, BadFile
from ccpipe.dedup.match import Match
from ccpipe.dedup.past import OURS, BadIndex, name_past
from ccpipe.dedup.route import Route
from ccpipe.dedup.survivor import Survivor
from ccpipe.sig import Sign

SMALL: dict[str, Any] = {"bands": 4, "rows": 4}
ODD_CONFIGS = [({"partitions": 1}, 5), ({"partitions": 4, "memory_mb": 1}, 1), ({"partitions": 64}, 3)]


def kept(marks: Marks) -> set[int]:
    return {document for document, mark in marks.items() if mark["keep"]}


def ids(sigs: list[np.ndarray], first: int = 0) -> list[int]:
    return [shard << 32 | row for shard, part in enumerate(sigs, first) for row in range(len(part))]


def same_whatever_the_order(
    folder: Path, sigs: list[np.ndarray], config: dict[str, Any], meta: list[pa.Table], more: tuple[Any, ...] = ()
) -> None:
    """The bytes of the marks do not depend on partitions, groups, memory or the order of anything."""
    expected = Flow(folder / "expected", sigs, config, meta).all()
    assert len(set(expected)) > 1
    for i, (odd, group_size) in enumerate([*ODD_CONFIGS, *more]):
        assert Flow(folder / str(i), sigs, {**config, **odd}, meta, group_size=group_size, shuffle=shuffled(i)).all() == expected


# --- scopes ---


def test_documents_of_different_scopes_never_meet(tmp_path: Path) -> None:
    """As if each scope were deduplicated by itself; documents without one are a scope of their own."""
    rng = np.random.default_rng(0)
    sigs = planted(rng, (60, 60))
    labels = rng.choice(["en", "zh", ""], 120)
    columns = [pa.table({"lid_label": pa.array(part, mask=part == "")}) for part in np.split(labels, 2)]
    marks = Flow(tmp_path / "run", sigs, {**SMALL, "scope": "language"}, columns).marks()
    together = Flow(tmp_path / "together", sigs, SMALL, columns).marks()
    alone: set[int] = set()
    for label in ("en", "zh", ""):
        where = f"lid_label = '{label}'" if label else "lid_label IS NULL"
        alone |= kept(Flow(tmp_path / f"only-{label}", sigs, {**SMALL, "where": where}, columns).marks())
    assert kept(marks) == alone and kept(marks) > kept(together)
    same_whatever_the_order(tmp_path / "odd", sigs, {**SMALL, "scope": "language"}, columns)


def test_a_scope_per_crawl_is_read_from_the_path_of_the_warc(tmp_path: Path) -> None:
    sigs = [np.ones((4, 16), np.uint64)]
    paths = [f"s3/crawl-data/CC-MAIN-2024-{week}/segments/1/warc/x.warc.gz" for week in (10, 10, 18, 18)]
    marks = Flow(tmp_path / "run", sigs, {**SMALL, "scope": "crawl"}, [pa.table({"warc_path": paths})]).marks()
    assert [mark["of"] for mark in marks.values()] == [None, 0, None, 2]


def test_a_scope_that_is_no_expression_is_told_with_the_columns(tmp_path: Path) -> None:
    types = {"url": pa.string(), "text_bytes": pa.uint32()}
    for scope, message in [
        ("url +", "syntax error"),
        ("sum(text_bytes)", "aggregates"),
        ("random()", "differs from time to time"),
        ("1", "column"),
    ]:
        route = Route("dedup.route", DedupConfig(scope=scope))
        with pytest.raises(ValueError, match=f"^scope = .*{message}"):
            route.check()
            route.check_inputs(types, {"sig": Sign("sig", Sign.Config())})
    assert Route("dedup.route", DedupConfig(scope="left(url, text_bytes)")).needs() == ("text_bytes", "url")


# --- earlier crawls ---


@pytest.mark.parametrize("extra", [{}, {"keep": "component"}, {"verify": 0.8}, {"verify": 0.7, "representatives": 1}], ids=str)
def test_two_crawls_one_after_the_other_keep_what_one_run_keeps(tmp_path: Path, extra: dict[str, Any]) -> None:
    """The later crawl's documents are kept and dropped as in one run over both, and by the same document where keep = "first"."""
    config = {**SMALL, **extra}
    for seed in range(4):
        sigs = planted(np.random.default_rng(seed), (30, 25, 40, 20))
        folder = tmp_path / str(seed)
        whole = Flow(folder / "whole", sigs, config).marks()
        past = Flow(folder / "past", sigs[:2], config)
        before = past.marks()
        index = past.save(folder / "index", "before")
        later = Flow(folder / "later", sigs[2:], {**config, "against": [index]})
        now = later.marks()
        assert (Array2D(later.path("links"), "dedup.match", 2).read_all()[:, 0] >= OURS).all(), "the past drops nothing of its own"
        assert {d for d in kept(whole) if d >> 32 < 2} == kept(before)
        assert {d for d in kept(whole) if d >> 32 >= 2} == {d + (2 << 32) for d in kept(now)}
        of_past = {d: mark["of"] for d, mark in now.items() if mark["reason"] == "duplicate_of_past"}
        assert of_past and all(mark["past"] == (name_past(of_past[d], ["before"]) if d in of_past else None) for d, mark in now.items())
        assert later.counts["dedup.mark"].dropped["duplicate_of_past"] == len(of_past)
        for document, mark in now.items() if config.get("keep") != "component" else ():
            expected = whole[document + (2 << 32)]
            mine = None if mark["of"] is None else mark["of"] - (1 << 56) if document in of_past else mark["of"] + (2 << 32)
            assert mine == expected["of"] and mark["similarity"] == expected["similarity"]


def test_results_against_the_past_depend_on_no_order(tmp_path: Path) -> None:
    sigs = planted(np.random.default_rng(3), (30, 25, 40, 20))
    past = Flow(tmp_path / "past", sigs[:2], {**SMALL, "partitions": 3})
    past.all()
    config = {**SMALL, "verify": 0.8, "against": [past.save(tmp_path / "index")]}
    same_whatever_the_order(tmp_path / "odd", sigs[2:], config, [])


def test_two_indices_are_two_pasts(tmp_path: Path) -> None:
    """The same document in both: the first folder's is named; each has ids of its own."""
    doc, other = np.full((1, 16), 7, np.uint64), np.full((1, 16), 8, np.uint64)
    indices = []
    for name, sigs in (("a", [doc]), ("b", [doc, other])):
        flow = Flow(tmp_path / name, sigs, SMALL)
        flow.all()
        indices.append(flow.save(tmp_path / f"index-{name}", name))
    marks = Flow(tmp_path / "run", [np.concatenate([other, doc])], {**SMALL, "against": indices}).marks()
    assert [mark["past"] for mark in marks.values()] == ["b/00001-0", "a/00000-0"]
    assert [mark["of"] for mark in marks.values()] == [2 << 56 | 1 << 32, 1 << 56]
    assert [mark["similarity"] for mark in marks.values()] == [1.0, 1.0]


def test_an_index_of_survivors_alone_finds_what_resembles_a_survivor(tmp_path: Path) -> None:
    chain = np.random.default_rng(0).integers(0, 1 << 63, (3, 16)).astype(np.uint64)
    chain[1, :8], chain[2, 8:] = chain[0, :8], chain[1, 8:]  # the second resembles the first, the third the second alone
    past = Flow(tmp_path / "past", [chain[:2]], SMALL)
    assert kept(past.marks()) == {0}
    found = {}
    for survivors in (False, True):
        index = past.save(tmp_path / f"index-{survivors}", survivors=survivors)
        later = np.concatenate([chain[2:], chain[:1]])
        found[survivors] = kept(Flow(tmp_path / f"later-{survivors}", [later], {**SMALL, "against": [index]}).marks())
        assert json.loads(Path(index).read_text())["documents"] == ("kept" if survivors else "all")
    assert found == {False: set(), True: {0}}


@pytest.mark.parametrize(
    ("config", "sign", "message"),
    [
        ({"bands": 3}, {}, "bands = 4 there, 3 here"),
        ({"rows": 3}, {}, "rows = 4 there, 3 here"),
        ({}, {"seed": 2}, "signed.seed = 1 there, 2 here"),
        ({}, {"shingle": 4}, "signed.shingle = 5 there, 4 here"),
        ({"scope": "x"}, {}, "scope = None there, 'x' here"),
        ({"verify": 0.8}, {}, "holds no signatures, which verify and"),
        ({"giant": "split"}, {}, "save it again with `ccpipe save-index --signatures`, or take these out"),
    ],
)
def test_an_index_that_was_made_in_another_way_is_refused(
    tmp_path: Path, config: dict[str, Any], sign: dict[str, Any], message: str
) -> None:
    sign_16 = {"n_hashes": 16}
    past = Flow(
        tmp_path / "past", planted(np.random.default_rng(0), (5,)), {**SMALL, "signed": signed_by(Sign("sig", Sign.Config(**sign_16)))}
    )
    past.all()
    index = past.save(tmp_path / "index", sigs=False)
    match = Match("dedup.match", DedupConfig(**{**SMALL, **config, "against": [index]}))
    match.check()
    with pytest.raises(BadIndex) as caught:
        match.check_inputs({}, {"sig": Sign("sig", Sign.Config(**{**sign_16, **sign}))})
    assert message in str(caught.value) and index in str(caught.value)


def test_a_lost_or_cut_file_of_an_index_is_named(tmp_path: Path) -> None:
    past = Flow(tmp_path / "past", planted(np.random.default_rng(0), (5,)), SMALL)
    past.all()
    index = Path(past.save(tmp_path / "index"))
    route = next((tmp_path / "index" / "route").iterdir())
    match = Match("dedup.match", DedupConfig(**SMALL, against=[str(index)]))
    match.check()
    data = route.read_bytes()
    route.unlink()
    for damage, message in [(data[:-16], "has .* bytes"), (None, "is not there")]:
        if damage is not None:
            route.write_bytes(damage)
        else:
            route.unlink()
        with pytest.raises(BadIndex, match=f"{route.name} {message}.*promises .* bytes: save it again"):
            match.check()
    index.write_text('{"format": "something"}')
    with pytest.raises(BadIndex, match="format 'something', expected 'ccpipe band index 1'"):
        match.check()
    with pytest.raises(BadIndex, match="holds an index already"):
        past.save(tmp_path / "index")


def test_a_run_against_the_past_has_room_for_so_many_shards(tmp_path: Path) -> None:
    past = Flow(tmp_path / "past", planted(np.random.default_rng(0), (5,)), SMALL)
    past.all()
    later = Flow(tmp_path / "later", planted(np.random.default_rng(0), (5,)), {**SMALL, "against": [past.save(tmp_path / "index")]})
    inputs = {kind: [later.path(kind, 0)] for kind in ("sig", "base")}
    later.run_phase(Route, 0, [1 << 24], inputs, "route")
    with pytest.raises(BadFile, match=r"may have 16,777,216 shards: make its shards larger"):
        later.run_phase(Match, 0, [], {"route": [later.path("route")]}, "links")


# --- survivors ---


def clusters_of(marks: Marks) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for document, mark in marks.items():
        found.setdefault(mark["cluster"], set()).add(document)
    return found


@pytest.mark.parametrize("keep", ["first", "component"])
def test_the_best_of_each_cluster_survives(tmp_path: Path, keep: str) -> None:
    """Best by one column falling, then another rising, nulls last, then by id; who belongs together stays as it is."""
    rng = np.random.default_rng(5)
    sigs = planted(rng, (40, 3, 0, 37))
    score = [None if x < 0 else float(x) for x in rng.integers(-1, 3, 80)]
    score[7] = float("nan")
    length = rng.integers(0, 3, 80).tolist()
    tables = [pa.table({"score": score[a:b], "text_bytes": length[a:b]}, pa.schema([("score", pa.float64()), ("text_bytes", pa.uint32())]))
              for a, b in ((0, 40), (40, 43), (43, 43), (43, 80))]  # fmt: skip
    config = {**SMALL, "keep": keep}
    plain = Flow(tmp_path / "plain", sigs, config, tables).marks()
    flow = Flow(tmp_path / "best", sigs, {**config, "survivor": "score DESC, text_bytes"}, tables)
    best = flow.marks()
    known = dict(zip(ids(sigs), zip(score, length, strict=True), strict=True))

    def rank(document: int) -> tuple[Any, ...]:
        value, size = known[document]
        nothing = value is None or value != value
        return (nothing, 0 if nothing else -value, size, document)

    expected = {min(members, key=rank): members for members in clusters_of(plain).values()}
    assert clusters_of(best) == expected and kept(best) == set(expected) != kept(plain)
    for document, mark in best.items():
        assert mark["of"] == (None if mark["keep"] else mark["cluster"]) and mark["size"] == plain[document]["size"]
    assert flow.counts["dedup.survivor"].extra["other_survivors"] == len(kept(best) - kept(plain))
    same_whatever_the_order(tmp_path / "odd", sigs, {**config, "survivor": "score DESC, text_bytes"}, tables)


def test_the_longest_and_text_columns_of_any_length(tmp_path: Path) -> None:
    sigs = [np.ones((3, 16), np.uint64)]
    table = [pa.table({"text_bytes": pa.array([1, 3, 2], pa.uint32()), "url": ["b" * 300, "c", "b" * 299 + "a"]})]
    for rule, expected in (("longest", 1), ("url", 2), ("length(url)", 1), ("first", 0)):
        assert kept(Flow(tmp_path / rule, sigs, {**SMALL, "survivor": rule}, table).marks()) == {expected}


def test_a_document_of_the_past_survives_whatever_the_rule(tmp_path: Path) -> None:
    past = Flow(tmp_path / "past", [np.ones((1, 16), np.uint64)], SMALL, [pa.table({"q": [0]})])
    past.all()
    sigs = [np.array([[1] * 16, [2] * 16, [1] * 16, [2] * 16], np.uint64)]
    config = {**SMALL, "against": [past.save(tmp_path / "index")], "survivor": "q DESC"}
    marks = Flow(tmp_path / "later", sigs, config, [pa.table({"q": [1, 2, 3, 4]})]).marks()
    assert kept(marks) == {3} and [mark["of"] for mark in marks.values()] == [1 << 56, 3, 1 << 56, None]


def test_a_survivor_rule_that_does_not_fit_is_told_with_the_columns() -> None:
    types = {"url": pa.string(), "score": pa.float32()}
    for rule, message in [
        ("score DSC", "syntax error"),
        ("3", "an order is"),
        ("max(score)", "aggregates"),
        ("score LIMIT 1", "an order is"),
    ]:
        stage = Survivor("dedup.survivor", DedupConfig(survivor=rule))
        with pytest.raises(ValueError, match=f'^survivor = "{re.escape(rule)}.*{message}'):
            stage.check()
            stage.check_inputs(types, {})
    assert Survivor("dedup.survivor", DedupConfig(survivor="score DESC NULLS FIRST, lower(url)")).needs() == ("score", "url")
    assert not Survivor.wanted(DedupConfig())


def test_weights_by_cluster_size(tmp_path: Path) -> None:
    """FineWeb2's table at its borders; a table of one's own; nonsense is refused."""
    sizes = [1, 2, 3, 4, 5, 99, 100]
    sigs = [np.repeat(np.arange(len(sizes), dtype=np.uint64), sizes)[:, None].repeat(16, axis=1)]
    first = (np.cumsum(sizes) - sizes).tolist()
    for weights, expected in (("fineweb2", [1, 2, 3, 3, 5, 5, 8]), ([[1, 0.5], [4, 2]], [0.5, 0.5, 0.5, 2, 2, 2, 2])):
        marks = Flow(tmp_path / str(weights)[:4], sigs, {**SMALL, "weights": weights}).marks()
        assert [marks[i]["weight"] for i in first] == expected
        assert all(mark["weight"] is None for i, mark in marks.items() if i not in first)
    assert WEIGHTS["fineweb2"][-1] == (1000, 1)
    for wrong in ([[2, 1]], [[1, 1], [1, 2]], [[1, -1]], []):
        with pytest.raises(ValidationError, match="rising sizes"):
            DedupConfig(weights=wrong)


def test_the_difference_between_first_and_component_is_counted(tmp_path: Path) -> None:
    """Compared with running both."""
    rng = np.random.default_rng(8)
    sigs = planted(rng, (200, 100))
    for part in sigs:
        for i in range(10, len(part), 3):  # like two documents before it that are unlike each other
            one, other = rng.integers(0, i, 2)
            part[i] = np.concatenate([part[one, :8], part[other, 8:]])
    runs = {keep: Flow(tmp_path / keep, sigs, {**SMALL, "keep": keep}) for keep in ("first", "component")}
    dropped = {keep: set(ids(sigs)) - kept(run.marks()) for keep, run in runs.items()}
    assert dropped["first"] < dropped["component"]
    for run in runs.values():
        extra = run.counts["dedup.cluster"].extra
        assert extra["dropped_by_first"] == len(dropped["first"]) and extra["dropped_by_component"] == len(dropped["component"])
        assert extra["dropped_by_component_alone"] == len(dropped["component"] - dropped["first"])


# --- the guard ---


def verified_by_hand(sigs: list[np.ndarray], config: dict[str, Any]) -> dict[int, int]:
    """Document -> smallest representative that it was linked to, by Python lists; every key's documents in their order."""
    bands, rows, need, most = config["bands"], config["rows"], config["verify"], config.get("representatives", 8)
    docs = dict(zip(ids(sigs), [list(map(int, row)) for part in sigs for row in part], strict=True))
    leads: dict[int, int] = {}
    for band in range(bands):
        groups: dict[tuple[int, ...], list[int]] = {}
        for document, sig in docs.items():
            groups.setdefault(tuple(sig[band * rows : band * rows + rows]), []).append(document)
        for members in groups.values():
            representatives: list[int] = []
            for document in members:
                near = [r for r in representatives if sum(map(int.__eq__, docs[document], docs[r])) >= need * len(docs[r])]
                if near:
                    leads[document] = min(leads.get(document, near[0]), near[0])
                elif len(representatives) < most:
                    representatives.append(document)
    return leads


@pytest.mark.parametrize("most", [1, 2, 8])
@pytest.mark.parametrize("seed", range(4))
def test_verified_links_equal_those_found_by_hand(tmp_path: Path, seed: int, most: int) -> None:
    sigs = planted(np.random.default_rng(seed), (50, 40, 30))
    config = {**SMALL, "verify": 0.75, "representatives": most}
    marks = Flow(tmp_path / "run", sigs, config).marks()
    assert {d: mark["of"] for d, mark in marks.items() if mark["of"] is not None} == verified_by_hand(sigs, config)
    assert all(mark["similarity"] >= 0.75 for mark in marks.values() if mark["of"] is not None)


@pytest.mark.parametrize("memory", [1 << 20, 200, 1])
def test_verification_in_small_pieces_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    """Signatures of a few records at a time, a key's documents spread over pieces and over blocks of records."""
    from ccpipe.dedup.verify import Signed, Verifier

    sigs = planted(np.random.default_rng(1), (60, 60))
    config = {**SMALL, "verify": 0.75, "representatives": 2}
    flow = Flow(tmp_path / "run", sigs, config)
    expected = sorted((d, of["of"]) for d, of in flow.marks().items() if of["of"] is not None)
    from ccpipe.dedup.files import BandFile
    from ccpipe.dedup.pairs import sort_pairs

    records = sort_pairs(np.concatenate([BandFile(path).read(0, (1 << 64) - 1) for path in flow.routes]))
    for step in (1, 7, len(records)):
        verifier = Verifier(flow.settings, Signed({0: flow.all_of("sig")}), None)
        verifier.memory = memory
        links = np.concatenate([verifier.link(records[at : at + step]) for at in range(0, len(records), step)])
        leads: dict[int, int] = {}
        for document, other in links.tolist():
            leads[document] = min(leads.get(document, other), other)
        assert sorted(leads.items()) == expected


def test_marks_with_verification_depend_on_no_order(tmp_path: Path) -> None:
    sigs = planted(np.random.default_rng(2), (60, 60, 1, 40))
    for keep in ("first", "component"):
        same_whatever_the_order(
            tmp_path / keep, sigs, {**SMALL, "verify": 0.75, "keep": keep}, [], [({"partitions": 2560}, 2)][keep == "component" :]
        )


def test_a_shared_footer_merges_nothing_under_verify(tmp_path: Path) -> None:
    """Five hundred unlike pages with one band in common: all but one lost without verification, none with; a copy is found."""
    rng = np.random.default_rng(0)
    sigs = rng.integers(0, 1 << 63, (500, 16)).astype(np.uint64)
    sigs[:, :4] = 1
    sigs[499] = sigs[3]
    assert len(kept(Flow(tmp_path / "blind", [sigs], SMALL).marks())) == 1
    verified = Flow(tmp_path / "verified", [sigs], {**SMALL, "verify": 0.8})
    assert kept(verified.marks()) == set(range(499))
    extra = verified.counts["dedup.match"].extra
    assert extra["rejected_documents"] == 498 and extra["beyond_representatives"] == 491


def words(rng: np.random.Generator, n: int) -> list[str]:
    return [f"w{x}" for x in rng.integers(0, 1 << 40, n)]


def test_texts_decide_where_the_estimate_is_near(tmp_path: Path) -> None:
    """Every link that is kept has an exact similarity of at least the limit, computed here from the texts; estimates alone err."""
    rng = np.random.default_rng(0)
    texts: list[list[str]] = [[], []]
    for i in range(60):
        one = words(rng, 300)
        other = list(one)
        for at in rng.choice(300, int(rng.integers(1, 12)), replace=False):
            other[at] = "edited"
        texts[i % 2].append(" ".join(one))
        texts[1 - i % 2].append(" ".join(other))
    exact, blind = (text_flow(tmp_path / name, texts, {"bands": 16, "rows": 8, **config}) for name, config in
                    (("exact", {"verify_text": 0.8}), ("blind", {"verify": 0.8})))  # fmt: skip

    def similarities(marks: Marks) -> list[float]:
        pairs = [(d, mark["of"]) for d, mark in marks.items() if mark["of"] is not None]
        sets = {d: shingle_set(texts[d >> 32][d & 0xFFFFFFFF].encode(), 5) for pair in pairs for d in pair}
        return [jaccard(sets[one], sets[other]) for one, other in pairs]

    found = similarities(exact.marks())
    assert min(found) >= 0.8 > min(similarities(blind.marks()))
    assert exact.counts["dedup.match"].extra["decided_by_text"] > 20
    odd = text_flow(tmp_path / "odd", texts, {"bands": 16, "rows": 8, "verify_text": 0.8, "partitions": 7, "memory_mb": 1})
    assert odd.all() == [path.read_bytes() for path in exact.all_of("meta/dedup")]


def test_jaccard_of_texts_is_that_of_their_shingles() -> None:
    one, other = "a b c d e f g", "a b c d e f h"
    assert jaccard(shingle_set(one.encode(), 3), shingle_set(other.encode(), 3)) == 4 / 6
    assert jaccard(shingle_set(b"", 5), shingle_set(b"", 5)) == 1.0 and jaccard(shingle_set(b"!", 5), shingle_set(b"?", 5)) == 0.0


def chain(n: int, same: int) -> np.ndarray:
    """Signatures of which each agrees with the one before in one band, the first `same` of them wholly."""
    rng = np.random.default_rng(0)
    sigs = rng.integers(0, 1 << 63, (n, 2 * n)).astype(np.uint64)
    for i in range(1, n):
        sigs[i] = sigs[i - 1] if i < same else sigs[i]
        sigs[i, 2 * i : 2 * i + 2] = sigs[i - 1, 2 * i : 2 * i + 2]
    return sigs


@pytest.mark.parametrize("keep", ["first", "component"])
def test_giants_are_treated_as_the_config_says(tmp_path: Path, keep: str) -> None:
    """A chain of 20 of which 5 are copies, and a small cluster beside it that no treatment touches."""
    sigs = chain(20, 5)
    pair = np.random.default_rng(1).integers(0, 1 << 63, (1, 40)).astype(np.uint64).repeat(2, axis=0)
    config = {"bands": 20, "rows": 2, "keep": keep, "max_cluster": 19}
    expected = {"first": {0, 20}, "refuse": {*range(20), 20}, "split": {0, *range(5, 20), 20}}
    for giant, survivors in expected.items():
        flow = Flow(tmp_path / giant, [np.concatenate([sigs, pair])], {**config, "giant": giant})
        marks = flow.marks()
        assert kept(marks) == survivors, giant
        extra = flow.counts["dedup.cluster"].extra
        assert (extra["giant_components"], extra["giant_documents"]) == (1, 20)
        sample = Array2D(flow.path("giants"), "dedup.cluster", 3).read_all()
        assert sample.tolist() == [[0, 20, i] for i in range(20)]
        same_whatever_the_order(tmp_path / f"odd-{giant}", [np.concatenate([sigs, pair])[:9], np.concatenate([sigs, pair])[9:]],
                                {**config, "giant": giant}, [])  # fmt: skip


def test_members_of_a_giant_are_sampled_from_all_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccpipe.dedup.giants.MAX_MEMBERS", 4)
    monkeypatch.setattr("ccpipe.dedup.giants.MAX_REPORTED", 2)
    sigs = np.repeat(np.arange(3, dtype=np.uint64), [10, 30, 20])[:, None].repeat(16, axis=1)
    flow = Flow(tmp_path / "run", [sigs], {**SMALL, "max_cluster": 5})
    flow.all()
    assert flow.counts["dedup.cluster"].extra["giant_components"] == 3
    assert Array2D(flow.path("giants"), "dedup.cluster", 3).read_all().tolist() == [
        *([10, 30, i] for i in (10, 18, 26, 34)),
        *([40, 20, i] for i in (40, 45, 50, 55)),
    ]
