"""Exact duplicates: the same marks as brute force, however shards are grouped and keys divided; edit lists are applied by export."""

from __future__ import annotations

import gzip
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccpipe.counts import Counts
from ccpipe.dedup.files import BadFile, write_rows
from ccpipe.exact import ExactConfig, ParagraphConfig
from ccpipe.exact.links import FirstLinker
from ccpipe.exact.mark import DocumentMark, ParagraphMark
from ccpipe.exact.match import KeyMatch, ParagraphMatch
from ccpipe.exact.route import ParagraphRoute, TextRoute, UrlRoute
from ccpipe.exact.substrings import FindRepeats, MarkRepeats, SubstringConfig, hash_windows, token_runs
from ccpipe.exact.urls import canonical_url
from ccpipe.export import drop_ranges
from ccpipe.stage import Stage, Unit
from ccpipe.tokens import token_ranges
from ccpipe.wet import text_digest

CLASSES: dict[str, tuple[type[Any], type[Any], type[Any], type[Any]]] = {
    "same_url": (ExactConfig, UrlRoute, KeyMatch, DocumentMark),
    "same_text": (ExactConfig, TextRoute, KeyMatch, DocumentMark),
    "paragraphs": (ParagraphConfig, ParagraphRoute, ParagraphMatch, ParagraphMark),
}


def write_shards(folder: Path, shards: list[list[str]], urls: list[list[str | None]] | None = None) -> None:
    """WET and base of each shard; `chosen` is a column to select by: false for texts that begin with #."""
    folder.mkdir(exist_ok=True)
    for shard, texts in enumerate(shards):
        offsets, lengths = [], []
        with (folder / f"wet{shard}").open("wb") as file:
            for text in texts:
                body = text.encode()
                head = f"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                offsets.append(file.tell())
                lengths.append(file.write(gzip.compress(head + body + b"\r\n\r\n", mtime=0)))
        columns = {
            "url": pa.array(urls[shard] if urls else [f"http://example.org/{shard}/{i}" for i in range(len(texts))], pa.string()),
            "chosen": pa.array([not text.startswith("#") for text in texts], pa.bool_()),
            "wet_offset": pa.array(offsets, pa.uint64()),
            "wet_length": pa.array(lengths, pa.uint32()),
            "digest": pa.array([text_digest(text.encode()) for text in texts], pa.string()),
        }
        pq.write_table(pa.table(columns), folder / f"base{shard}")


def members(folder: Path, shards: list[int]) -> dict[str, list[Path]]:
    return {kind: [folder / f"{kind}{shard}" for shard in shards] for kind in ("wet", "base")}


def run_stage(stage: Stage, index: int, shards: list[int], inputs: dict[str, list[Path]], dataset: str, out: Path) -> Counts:
    counts = stage.run(Unit(str(index), index, tuple(shards), {}), inputs, {dataset: out})
    assert counts.read == counts.kept + sum(counts.dropped.values())
    return counts


def run_family(family: str, folder: Path, n_shards: int, group: int = 2, partitions: int = 1, **config: Any) -> list[dict[str, list[Any]]]:
    """The columns of every shard, after route, match and mark."""
    kind, route, match, mark = CLASSES[family]
    settings = kind(partitions=partitions, group_shards=group, **config)
    groups = [list(range(first, min(first + group, n_shards))) for first in range(0, n_shards, group)]
    routes, links, marks = ([folder / f"{family}-{what}-{i}" for i in range(n_shards + partitions)] for what in ("route", "links", "mark"))
    for i, shards in enumerate(groups):
        run_stage(route(f"{family}.route", settings), i, shards[::-1], members(folder, shards[::-1]), f"{family}.route", routes[i])
    for p in range(partitions):
        run_stage(match(f"{family}.match", settings), p, [], {f"{family}.route": routes[: len(groups)][::-1]}, f"{family}.links", links[p])
    for shard in range(n_shards):
        inputs = {**members(folder, [shard]), f"{family}.links": links[:partitions]}
        run_stage(mark(f"{family}.mark", settings), shard, [shard], inputs, f"meta/{family}", marks[shard])
    return [pq.read_table(marks[shard]).to_pydict() for shard in range(n_shards)]


# --- documents ---


@pytest.mark.parametrize(
    "spellings",
    [
        [
            "http://example.com",
            "https://example.com/",
            "HTTP://WWW.Example.COM:80/",
            "https://example.com:443/#top",
            " http://example.com/?utm_source=x ",
        ],
        ["http://a.org/x/?b=2&a=1", "http://a.org/x?a=1&b=2&fbclid=3", "https://user@a.org/x?a=1&&b=2"],
        ["http://a.org/%7ejohn/%e4%b8%ad", "http://a.org/~john/%E4%B8%AD/"],
        ["http://a.org/p;jsessionid=0123?x=1", "http://a.org/p?x=1"],
        ["http://a.org/#!/page", "https://a.org/#!/page"],
        ["not a url", "not a url "],
        ["http://[broken/", "http://[broken/"],
    ],
)
def test_spellings_of_one_address(spellings: list[str]) -> None:
    assert len({canonical_url(url) for url in spellings}) == 1


def test_other_addresses_stay_apart() -> None:
    urls = [
        *(
            "http://a.org/",
            "http://b.org/",
            "http://a.org/A",
            "http://a.org/a",
            "http://a.org/a?x=1",
            "http://a.org/a?x=2",
            "http://a.org:8080/",
        ),
        *("http://a.org/#!/one", "http://a.org/#!/two", "http://m.a.org/", "http://a.org/a%2Fb", "http://a.org/a/b", "ftp://a.org:21/"),
    ]
    assert len({canonical_url(url) for url in urls}) == len(urls)


@given(st.text(max_size=40))
def test_canonical_is_final(text: str) -> None:
    """Any string has a canonical form, and with a scheme before it that is its own."""
    once = canonical_url(f"http://example.org/{text}")
    assert canonical_url(f"http://{once}") == once or "@" in once.partition("/")[0]
    canonical_url(text)


def first_seen(shards: list[list[Any]], chosen: list[list[bool]]) -> list[tuple[list[bool | None], list[int | None]]]:
    """Brute force: keep and of for each shard."""
    seen: dict[Any, int] = {}
    found = []
    for shard, values in enumerate(shards):
        keep: list[bool | None] = []
        of: list[int | None] = []
        for row, value in enumerate(values):
            first = None if value is None or not chosen[shard][row] else seen.setdefault(value, shard << 32 | row)
            duplicate = first is not None and first != shard << 32 | row
            keep.append(not duplicate if chosen[shard][row] else None)
            of.append(first if duplicate else None)
        found.append((keep, of))
    return found


@pytest.mark.parametrize("group", [1, 2, 5])
@pytest.mark.parametrize("partitions", [1, 7])
def test_marks_of_documents_equal_brute_force(tmp_path: Path, group: int, partitions: int) -> None:
    rng = random.Random(1)
    shards = [[f"{'#' if rng.random() < 0.2 else ''}text {rng.randrange(40)}" for _ in range(30)] for _ in range(5)]
    urls = [
        [f"http://{rng.choice(['', 'www.'])}a.org/{rng.randrange(60)}" if rng.random() < 0.9 else None for _ in range(30)] for _ in shards
    ]
    write_shards(tmp_path, shards, urls)
    chosen = [[not text.startswith("#") for text in texts] for texts in shards]
    for family, values in (("same_text", shards), ("same_url", [[url and url.replace("www.", "") for url in row] for row in urls])):
        marks = run_family(family, tmp_path, 5, group, partitions, where="chosen")
        for found, (keep, of), there in zip(marks, first_seen(values, chosen), chosen, strict=True):
            assert (found[f"{family}_keep"], found[f"{family}_of"]) == (keep, of)
            assert found[f"{family}_reason"] == [None if k else family if c else "not_in_where" for k, c in zip(keep, there, strict=True)]


def test_groups_of_their_own_never_meet(tmp_path: Path) -> None:
    write_shards(tmp_path, [["a"], ["a"], ["a"], ["b"]])
    marks = run_family("same_text", tmp_path, 4, group=2, scope="group")
    assert [row["same_text_keep"] for row in marks] == [[True], [False], [True], [True]]


def test_links_of_other_documents_are_refused(tmp_path: Path) -> None:
    """Nothing is marked on links that name a document that the shard does not have."""
    write_shards(tmp_path, [["a", "b"]])
    write_rows(tmp_path / "links", 2, [np.array([[7, 1]], np.uint64)])
    stage = DocumentMark("same_text.mark", ExactConfig())
    with pytest.raises(BadFile, match=r"rerun same_text\.route"):
        stage.run(
            Unit("0", 0, (0,), {}),
            {**members(tmp_path, [0]), "same_text.links": [tmp_path / "links"]},
            {"meta/same_text": tmp_path / "out"},
        )


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 7))
def test_links_do_not_depend_on_blocks(keys: list[int], size: int) -> None:
    """A key whose records go on in the next block links to its first record, and counts as shared once."""
    pairs = np.array([[key, number] for number, key in enumerate(sorted(keys))], np.uint64).reshape(-1, 2)
    linker = FirstLinker()
    found = [link for first in range(0, len(pairs), size) for link in linker.link(pairs[first : first + size]).tolist()]
    firsts = {key: min(number for k, number in pairs.tolist() if k == key) for key in keys}
    assert found == [[number, firsts[key]] for key, number in pairs.tolist() if number != firsts[key]]
    assert linker.shared == sum(keys.count(key) > 1 for key in set(keys))


@pytest.mark.parametrize("family", ["same_text", "paragraphs"])
def test_more_keys_than_memory_are_sorted_on_disk(tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ccpipe.dedup import external

    write_shards(tmp_path, [["same\ntext"] * 90, ["same\ntext", "other"] * 40])
    plenty = run_family(family, tmp_path, 2, partitions=2)
    monkeypatch.setattr(external, "BYTES_PER_PAIR", 1 << 14)
    assert run_family(family, tmp_path, 2, partitions=2, memory_mb=1) == plenty


# --- paragraphs ---


def ccnet_line(line: str) -> str:
    """What CCNet compares, for the characters of this test."""
    return re.sub(r"\d", "0", line.strip().lower()).replace("。", "").replace("，", "")


@pytest.mark.parametrize(("group", "partitions", "scope"), [(1, 1, "run"), (3, 5, "run"), (2, 3, "group")])
def test_repeated_lines_equal_brute_force(tmp_path: Path, group: int, partitions: int, scope: str) -> None:
    rng = random.Random(2)
    lines = [
        "Home",
        "home ",
        "Page 12",
        "page 34",
        "}",
        "",
        "中文，首页。",
        "中文首页",
        *(f"A sentence of its own, {c}." for c in "abcdefgh"),
    ]
    shards = [
        ["#" * (rng.random() < 0.1) + "\n".join(rng.choice(lines) for _ in range(rng.randrange(6))) for _ in range(8)] for _ in range(4)
    ]
    write_shards(tmp_path, shards)
    marks = run_family("paragraphs", tmp_path, 4, group, partitions, scope=scope, where="chosen")
    seen: set[tuple[int, str]] = set()
    dropped = 0
    for shard, texts in enumerate(shards):
        for row, text in enumerate(texts):
            wanted: list[int] | None = [] if not text.startswith("#") else None
            for number, line in enumerate(text.split("\n") if wanted is not None else []):
                key = (shard // group if scope == "group" else 0, ccnet_line(line))
                if wanted is not None and re.search(r"\w", line):
                    wanted += [number] if key in seen else []
                    seen.add(key)
            assert marks[shard]["paragraphs_drop_lines"][row] == wanted
            dropped += len(wanted or [])
            left = drop_ranges(text, wanted or [], [])
            size = marks[shard]["paragraphs_dropped_bytes"][row]
            assert (size is None) == (wanted is None)
            assert not wanted or len(text.encode()) - len(left.encode()) == min(size, len(text.encode()))
    assert dropped > 10


# --- substrings ---


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def brute_force(documents: list[list[str]], size: int) -> list[list[bool]]:
    """Windows in order; tokens of a window that was seen go, but for those that lie in the first one."""
    flat = [(doc, place) for doc, words in enumerate(documents) for place in range(len(words) - size + 1)]
    starts = np.cumsum([0, *map(len, documents)])
    drop = [[False] * len(words) for words in documents]
    seen: dict[tuple[str, ...], int] = {}
    for doc, place in flat:
        at = int(starts[doc]) + place
        first = seen.setdefault(tuple(documents[doc][place : place + size]), at)
        for i in range(place, place + size):
            drop[doc][i] |= first != at and int(starts[doc]) + i >= first + size
    return drop


def find_runs(folder: Path, n_shards: int, size: int, **config: Any) -> np.ndarray:
    settings = SubstringConfig(min_tokens=size, group_shards=n_shards, **config)
    shards = list(range(n_shards))
    run_stage(
        FindRepeats("substrings.find", settings), 0, shards[::-1], members(folder, shards[::-1]), "substrings.ranges", folder / "ranges"
    )
    return np.load(folder / "ranges")


def repetitive_texts(seed: int) -> list[list[str]]:
    """Shards of texts in which runs of words come again: inside, across documents and shards, and overlapping themselves."""
    rng = random.Random(seed)
    pieces = [" ".join(rng.choice("abc") + str(rng.randrange(9)) for _ in range(rng.randrange(3, 14))) for _ in range(6)] + [
        "la " * 9,
        "",
        "x",
    ]
    return [[", ".join(rng.choice(pieces) for _ in range(rng.randrange(5))) for _ in range(5)] for _ in range(2)]


@pytest.mark.parametrize("seed", range(6))
def test_repeated_runs_equal_brute_force(tmp_path: Path, seed: int) -> None:
    shards = repetitive_texts(seed)
    write_shards(tmp_path, shards)
    documents = [words_of(text) for texts in shards for text in texts]
    found = find_runs(tmp_path, 2, 5)
    drop = [[False] * len(words) for words in documents]
    for document, first, stop in found.tolist():
        doc = (document >> 32) * 5 + (document & 0xFFFFFFFF)
        drop[doc][first:stop] = [True] * (stop - first)
    assert drop == brute_force(documents, 5)
    assert any(map(any, drop))


def test_cut_texts_keep_one_of_each(tmp_path: Path) -> None:
    """Bytes: the copy goes from its first token to where the next begins, the original stays, and Chinese characters stay whole."""
    passage = "the quick brown fox jumps over the lazy dog, twice"
    chinese = "今天天气很好我们去公园散步吧"
    texts = [
        f"First. {passage}. End",
        f"Second! {passage}; after it\nmore",
        f"甲方：{chinese}。",
        f"乙言：{chinese}！完",
        passage.upper(),
        "# " + passage,
    ]
    write_shards(tmp_path, [texts])
    find_runs(tmp_path, 1, 8, where="chosen")
    stage = MarkRepeats("substrings.mark", SubstringConfig(min_tokens=8, where="chosen"))
    inputs = {**members(tmp_path, [0]), "substrings.ranges": [tmp_path / "ranges"]}
    counts = run_stage(stage, 0, [0], inputs, "meta/substrings", tmp_path / "mark")
    columns = pq.read_table(tmp_path / "mark").to_pydict()
    cut = [drop_ranges(text, [], [ranges or []]) for text, ranges in zip(texts, columns["substrings_drop_ranges"], strict=True)]
    assert cut == [texts[0], "Second! after it\nmore", texts[2], "乙言：完", "", texts[5]]
    assert columns["substrings_dropped_bytes"] == [
        *(len(a.encode()) - len(b.encode()) for a, b in zip(texts[:5], cut[:5], strict=True)),
        None,
    ]
    assert counts.extra["dropped_bytes"] == sum(columns["substrings_dropped_bytes"][:5]) and counts.extra["edited_documents"] == 3


def test_equal_hashes_of_other_words_are_no_repetition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every candidate is looked at token by token: with a hash that is always equal nothing false is dropped."""
    from ccpipe.exact import substrings

    def collide(*args: Any) -> int:
        n = hash_windows(*args)
        args[-1][:n, 0] = 1
        return n

    write_shards(tmp_path, [["a b c d e f", "g h i j k l", "a b c d e z"]])
    monkeypatch.setattr(substrings, "hash_windows", collide)
    assert find_runs(tmp_path, 1, 5).tolist() == [[2, 0, 5]]


@given(st.lists(st.lists(st.booleans(), max_size=6), max_size=6))
def test_runs_stay_within_documents(marks: list[list[bool]]) -> None:
    drop = np.array([x for part in marks for x in part], dtype=bool)
    ends = np.cumsum([len(part) for part in marks]).astype(np.int64)
    runs = token_runs(drop, ends, np.arange(len(marks), dtype=np.uint64))
    again = [[False] * len(part) for part in marks]
    for doc, first, stop in runs.tolist():
        assert not any(again[doc][max(first - 1, 0) : stop])
        again[doc][first:stop] = [True] * (stop - first)
    assert again == marks


def test_ranges_of_another_text_are_refused(tmp_path: Path) -> None:
    write_shards(tmp_path, [["a b c"]])
    write_rows(tmp_path / "ranges", 3, [np.array([[0, 0, 9]], np.uint64)])
    inputs = {**members(tmp_path, [0]), "substrings.ranges": [tmp_path / "ranges"]}
    with pytest.raises(BadFile, match=r"rerun substrings\.find"):
        run_stage(MarkRepeats("substrings.mark", SubstringConfig()), 0, [0], inputs, "meta/substrings", tmp_path / "mark")
    assert len(token_ranges(np.frombuffer(b"a b c", np.uint8), np.array([0, 5]))[0]) == 3
