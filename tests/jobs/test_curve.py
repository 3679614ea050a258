"""`ccpipe dedup-curve` tells the expected misses, and says what is wrong with what it was asked."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from ccpipe.bands import Banding, expect
from jobs import cli
from jobs.curve import plot


def run(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert cli.main(["dedup-curve", *args]) == 0
    return capsys.readouterr().out


def test_table_names_all_choices_and_published_misses(capsys: pytest.CaptureFixture[str]) -> None:
    """FineWeb (Penedo et al. 2024) finds 77 % of the pairs at 0.75 and 92.4 % at 0.8: 22.8 % and 7.6 % are missed."""
    out = run(capsys)
    assert all(name in out for name in ("chosen", "fineweb", "full", "strict", "refinedweb", "14 x 8", "450 x 20"))
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "22.8 %" in rows["0.75"] and "7.6 %" in rows["0.80"]
    assert "72,000" in rows["signature,"] and "7,200" in rows["route,"]


def test_figures_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = json.loads(run(capsys, "--bands", "16", "--rows", "8", "--json"))
    assert row["missed"]["0.80"] == pytest.approx((1 - 0.8**8) ** 16)
    assert (row["hashes"], row["route_bytes_per_document"], row["signature_bytes_per_document"]) == (128, 256, 1024)


def test_budget_decides_the_choice(capsys: pytest.CaptureFixture[str]) -> None:
    """A larger budget of hashes buys a steeper curve, a limit on keys a flatter one."""
    choice = {}
    for args in (("--hashes", "128"), ("--hashes", "1024"), ("--hashes", "1024", "--max-bands", "9")):
        choice[args] = json.loads(run(capsys, "--similarity", "0.8", "--json", *args))[0]
    rows = [row["rows"] for row in choice.values()]
    assert rows[0] < rows[1] and rows[2] < rows[1]
    assert all(row["missed"]["0.80"] <= 0.08 for row in choice.values())


def test_misses_of_a_histogram_equal_a_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pairs of known similarities, drawn position by position."""
    pairs = {0.6: 4000, 0.7: 4000, 0.8: 4000, 0.9: 4000}
    rng = np.random.default_rng(3)
    met = {s: (rng.random((n, 9, 13)) < s).all(axis=2).any(axis=1).sum() for s, n in pairs.items()}
    result = expect(Banding(9, 13), pairs, 0.8)
    assert abs(result.missed - (8000 - met[0.8] - met[0.9])) < 4 * np.sqrt(2000)
    assert abs(result.met_unwanted - met[0.6] - met[0.7]) < 4 * np.sqrt(2000)
    file = tmp_path / "pairs.csv"
    file.write_text("similarity,pairs\n" + "".join(f"{s},{n}\n" for s, n in pairs.items()))
    out = run(capsys, "--bands", "9", "--rows", "13", "--pairs", str(file))
    assert "8,000" in out and f"{result.missed:,.1f}" in out


def test_plot_is_an_s_curve() -> None:
    """Each column holds the curve at the height of its probability."""
    lines = plot({"one": Banding(14, 8)}, width=71, height=11)[:11]
    body = [line[7:].ljust(71) for line in lines]
    for column, similarity in ((0, 0.3), (50, 0.8), (70, 1.0)):
        (row,) = [i for i in range(11) if body[i][column] == "*"]
        assert row == 10 - round(10 * (1 - (1 - similarity**8) ** 14))


def test_picture_is_valid_and_holds_a_curve_for_each_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "--preset", "fineweb", "--preset", "refinedweb", "--svg", str(tmp_path / "curve.svg"))
    root = ET.parse(tmp_path / "curve.svg").getroot()
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--bands", "4"], "give both"),
        (["--preset", "c4"], "there are fineweb, full, strict, refinedweb"),
        (["--similarity", "1.5"], "expected more than 0 and at most 1"),
        (["--similarity", "0.1", "--hashes", "8"], "raise similarity or max_bands"),
        (["--pairs", "missing.csv"], "no file missing.csv"),
    ],
)
def test_wrong_wishes_are_one_message(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dedup-curve", *args]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("text", "said"), [("0.8,5\nx,y\n", "line 2"), ("1.5,5\n", "expected 0..1"), ("similarity,pairs\n", "no line")])
def test_a_bad_histogram_is_named(tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(text)
    assert cli.main(["dedup-curve", "--pairs", str(file)]) == 2
    assert said in capsys.readouterr().err
