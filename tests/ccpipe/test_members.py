"""Framing of gzip members: ranges, bounds, damage."""

from __future__ import annotations

import io
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warc_pages import bomb, member, page

from ccpipe.warc.members import Member, MemberReader


def read(data: bytes, limit: int = 1 << 20, offset: int = 0) -> list[Member]:
    return list(MemberReader(io.BytesIO(data), offset, limit))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=2000), max_size=8), st.integers(1, 3000))
def test_members_tile_the_file_and_give_the_first_bytes(parts: list[bytes], limit: int) -> None:
    """Ranges follow each other without gap; a member read again by its range is the same; no more than `limit` is held."""
    data = b"".join(map(member, parts))
    found = read(data, limit)
    assert [m.data for m in found] == [part[:limit] for part in parts]
    assert [m.size for m in found] == [len(part) for part in parts]
    assert [m.offset for m in found] == [sum(len(member(p)) for p in parts[:i]) for i in range(len(parts))]
    assert sum(m.length for m in found) == len(data)
    assert all(m.damage is None for m in found)


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_a_flipped_byte_costs_one_member(at: float) -> None:
    first, second, third = (member(page(n)) for n in (1, 2, 3))
    damaged = bytearray(second)
    damaged[10 + int(at * (len(second) - 10))] ^= 0xFF
    found = read(first + bytes(damaged) + third)
    assert [m.damage for m in found] == [None, "corrupt", None]
    assert found[2].data == page(3)
    assert found[2].offset == len(first) + len(second)


def test_junk_between_members_is_skipped() -> None:
    found = read(member(page(1)) + b"\x1f\x8bnonsense" * 50_000 + member(page(2)))
    assert [m.damage for m in found] == [None, "junk", None]
    assert found[2].data == page(2)


def test_a_cut_member_is_named_and_ends_the_file() -> None:
    whole = member(page(1))
    found = read(member(page(0)) + whole[: len(whole) // 2])
    assert [m.damage for m in found] == [None, "cut"]
    assert found[1].length == len(whole) // 2


def test_zeros_after_a_member_are_padding() -> None:
    found = read(member(b"a") + b"\0" * 500 + member(b"b") + b"\0" * 9)
    assert [(m.data, m.damage) for m in found] == [(b"a", None), (b"b", None)]


def test_a_bomb_is_measured_without_being_held() -> None:
    data = bomb(300)
    (found,) = read(data + b"", limit=1000)
    assert (len(found.data), found.size, found.length) == (1000, 300_000_000, len(data))


def test_reading_starts_at_any_member() -> None:
    data = member(page(1)) + member(page(2))
    (found,) = read(data, offset=len(member(page(1))))
    assert found.data == page(2)
    assert zlib.decompress(data[found.offset :], 31) == page(2)
