"""What the phases are made of: sorting, ranges of keys, numbering, components; each equal to plain Python."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from dedup_run import Run, planted
from hypothesis import given
from hypothesis import strategies as st

from ccpipe.dedup.cluster import find_components
from ccpipe.dedup.external import Arrays, PairSorter
from ccpipe.dedup.files import BandFile
from ccpipe.dedup.keys import key_range
from ccpipe.dedup.numbering import Numbering
from ccpipe.dedup.pairs import sort_pairs, unique_pairs

U64 = st.integers(0, (1 << 64) - 1)


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


@given(st.integers(0, 1000), st.integers(0, 2000), st.sampled_from([2, 40, 1 << 63]), st.integers(1, 90), st.booleans())
def test_sorting_on_disk_equals_sorting(seed: int, n: int, values: int, block: int, unique: bool) -> None:
    """Whatever the blocks in which pairs come; no block that is given back is larger than the memory, unless of equal pairs."""
    pairs = list(map(tuple, np.random.default_rng(seed).integers(0, values, (n, 2)).tolist()))
    with tempfile.TemporaryDirectory() as folder:
        sorter = PairSorter(64 * 32, Path(folder), unique)
        for first in range(0, len(pairs), block):
            sorter.add(np.array(pairs[first : first + block], np.uint64))
        found = list(sorter.blocks())
        assert not list(Path(folder).iterdir())
    # with two values there are four pairs in all, and equal ones are never parted
    assert values == 2 or max(map(len, found)) <= 64
    expected = sorted(set(pairs)) if unique else sorted(pairs)
    assert [tuple(pair) for part in found for pair in part.tolist()] == expected
    assert bool(sorter.spilled_bytes) or len(pairs) <= 64 or unique


@pytest.mark.parametrize("n", [20_000, 200_000])
@pytest.mark.parametrize("values", [2, 1000, 1 << 63])
def test_many_pairs_are_sorted_however_their_values_crowd(n: int, values: int) -> None:
    pairs = np.random.default_rng(n).integers(0, values, (n, 2)).astype(np.uint64)
    pairs[::7, 0] = 5
    expected = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    assert (sort_pairs(pairs) == expected).all()


@given(st.sets(st.tuples(st.sampled_from([0, 1, 2, 4095, 4096, 1 << 20, (1 << 32) - 1]), st.integers(0, 2000)), max_size=200))
def test_documents_are_numbered_in_their_order(members: set[tuple[int, int]]) -> None:
    docs = np.array(sorted(shard << 32 | row for shard, row in members), np.uint64)
    shuffled = np.random.default_rng(0).permutation(docs)
    numbering = Numbering(Arrays(1 << 20, Path()))
    numbering.note_rows(shuffled)
    assert numbering.mark([shuffled, shuffled]) == len(docs)
    assert numbering.number(docs).tolist() == list(range(len(docs)))
    assert numbering.documents(np.arange(len(docs))).tolist() == docs.tolist()


def test_arrays_beyond_the_memory_are_files_without_a_name(tmp_path: Path) -> None:
    arrays = Arrays(1000, tmp_path)
    small, large = arrays.zeros(100, np.uint64), arrays.zeros(1000, np.uint32)
    large[:] = np.arange(1000)
    assert not list(tmp_path.iterdir()) and arrays.spilled_bytes == 4000
    assert large.sum() == 499_500 and small.sum() == 0


def test_a_full_disk_is_an_error_and_no_crash(tmp_path: Path) -> None:
    """Room is reserved before an array is mapped: running out while writing to it would kill the process."""
    with pytest.raises(OSError, match=r"No space|too large"):
        Arrays(0, tmp_path).zeros(1 << 50, np.uint8)
