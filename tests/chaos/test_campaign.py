"""A short chaos campaign with a fixed seed: every kind of fault once, and afterwards a run directory as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaign import run_campaign
from cluster import why_not

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SEED = 20261124
MINUTES = 2.5


def test_a_campaign_leaves_no_trace(tmp_path: Path) -> None:
    """Bytes of an undisturbed run, every unit committed once, nothing committed done again, nobody left, no orphan behind `gc`."""
    if reason := why_not():
        pytest.skip(reason)
    tally = run_campaign(SEED, MINUTES, tmp_path)
    assert tally.violations == []
    assert tally.injected.total() >= 15, "of 21 kinds most find a victim"
