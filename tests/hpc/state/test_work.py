"""What hpc says of a stage that breaks a law, in words that fit whatever the stage reads."""

from __future__ import annotations

from typing import Any

import pytest

from hpc.state.work import BrokenStage, check_counts, counts


@pytest.mark.parametrize("returned", [None, 3, {"read": 3}, {}])
def test_a_run_that_returns_no_counts_is_told_what_to_return(returned: Any) -> None:
    with pytest.raises(BrokenStage, match=r"run\(\) of copy 007 returned .*; expected counts: return counts\(read=\.\.\.\)"):
        check_counts(returned, "copy 007")


def test_counts_speak_of_nothing_but_what_was_read() -> None:
    with pytest.raises(BrokenStage, match=r"read 3, but kept 1 .* everything read must be kept or dropped once"):
        check_counts(counts(3, kept=1, dropped={"x": 1}), "copy 007")
    check_counts(counts(3, dropped={"x": 1}), "copy 007")
