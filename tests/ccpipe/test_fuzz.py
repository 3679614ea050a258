"""Mutated archives and pages: no exception, no endless loop, bounds kept, everything accounted for. The long run is `make fuzz`."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

import pytest
from test_extract import run
from warc_pages import html, page, record, response

_SPEC = importlib.util.spec_from_file_location("mutations", Path(__file__).parents[1] / "fuzz" / "mutations.py")
assert _SPEC and _SPEC.loader
mutations = importlib.util.module_from_spec(_SPEC)
sys.modules["mutations"] = mutations
_SPEC.loader.exec_module(mutations)

OWN = [record(response(html()), 1), page(2), record(b"fields: x\r\n", 3, "metadata"), page(4)]
SEEDS = mutations.seeds(OWN)


@pytest.mark.parametrize("packing", SEEDS)
def test_mutated_archives_are_read_to_their_end(tmp_path: Path, packing: str) -> None:
    dice = random.Random(packing)
    for _ in range(150):
        mutations.check_archive(tmp_path / "a", mutations.mutate(SEEDS[packing], dice))


def test_mutated_pages_are_extracted_or_refused() -> None:
    dice = random.Random(7)
    for _ in range(150):
        mutations.check_page(mutations.mutate(html(), dice), "text/html; charset=utf-8")


@pytest.mark.parametrize("packing", SEEDS)
def test_the_stage_accounts_for_mutated_archives(tmp_path: Path, packing: str) -> None:
    """read = kept + dropped, and the same bytes however the slices are cut; `run` checks the former."""
    dice = random.Random(packing)
    paths = []
    for n in range(12):
        paths.append(tmp_path / f"{n:02d}.warc.gz")
        paths[-1].write_bytes(mutations.mutate(SEEDS[packing], dice))
    whole = run(tmp_path / "whole", paths, page_seconds=0)
    cut = run(tmp_path / "cut", paths, slice_bytes=1 << 10, page_seconds=0)
    assert (cut.wet, cut.base, cut.counts) == (whole.wet, whole.base, whole.counts)
