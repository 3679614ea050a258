"""`ccpipe dedup-curve`: which similar pairs a choice of bands and rows finds, which it misses, and what it costs, before anything runs."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ccpipe.bands import PRESETS, Banding, choose_bands, expect, threshold
from jobs.errors import UsageError

SHOWN = (0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Similarities of the table."""

FIRST, LAST = 0.3, 1.0
"""Similarities of the plots: below, no choice here finds one pair in a hundred thousand."""

MARKS = "*o+x#@%&"
COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#566573", "#117a65", "#922b21")


@dataclass(frozen=True)
class Wish:
    """What was asked for. `bands` and `rows`, or names of `presets`, or neither: the choice for `similarity` beside all presets."""

    similarity: float = 0.8
    hashes: int = 128
    recall: float = 0.92
    max_bands: int | None = None
    bands: int | None = None
    rows: int | None = None
    presets: tuple[str, ...] = ()


def choices(wish: Wish) -> dict[str, Banding]:
    """Name -> banding, the chosen one first. Raises `UsageError` for half a banding or a preset that does not exist."""
    if (wish.bands is None) != (wish.rows is None):
        raise UsageError(f"--bands {wish.bands} --rows {wish.rows}: give both, or neither and --similarity chooses")
    strange = [name for name in wish.presets if name not in PRESETS]
    if strange:
        raise UsageError(f"no preset {strange[0]!r}; there are {', '.join(PRESETS)}")
    try:
        if wish.bands is not None and wish.rows is not None:
            found = {"yours": Banding(wish.bands, wish.rows)}
        elif wish.presets:
            found = {}
        else:
            found = {"chosen": choose_bands(wish.similarity, wish.hashes, wish.recall, wish.max_bands)}
    except ValueError as error:
        raise UsageError(str(error)) from error
    names = wish.presets or (() if "yours" in found else tuple(PRESETS))
    return found | {name: PRESETS[name] for name in names}


def read_pairs(path: Path) -> dict[float, float]:
    """Similarity -> number of pairs, from lines `similarity,pairs` (a header line is passed over). Raises `UsageError` naming the line."""
    pairs: dict[float, float] = {}
    with path.open(newline="") as file:
        for number, row in enumerate(csv.reader(file), 1):
            try:
                similarity, n = map(float, row)
            except ValueError:
                if number == 1 or not row:
                    continue
                raise UsageError(f"{path} line {number}: {','.join(row)!r}; expected similarity,pairs such as 0.85,1200") from None
            if not 0 <= similarity <= 1 or not 0 <= n < float("inf"):
                raise UsageError(f"{path} line {number}: similarity {similarity}, pairs {n}; expected 0..1 and a number of pairs")
            pairs[similarity] = pairs.get(similarity, 0) + n
    if not pairs:
        raise UsageError(f"{path} has no line similarity,pairs: write one for each step of similarity, such as 0.85,1200")
    return pairs


# --- what is shown ---


def curve_table(found: Mapping[str, Banding]) -> Table:
    """Per similarity the share of pairs missed, per choice; then what each choice costs."""
    table = Table(title="share of the pairs missed", box=None, pad_edge=False, header_style="bold")
    table.add_column("similarity")
    for name, banding in found.items():
        table.add_column(f"{name}\n{banding.bands} x {banding.rows}", justify="right")
    for similarity in SHOWN:
        table.add_row(f"{similarity:.2f}", *(share(1.0 - banding.probability(similarity)) for banding in found.values()))
    table.add_section()
    table.add_row("half found at", *(f"{threshold(banding.bands, banding.rows):.3f}" for banding in found.values()))
    table.add_row("hashes", *(f"{banding.width:,}" for banding in found.values()))
    table.add_row("keys per document", *(f"{banding.bands:,}" for banding in found.values()))
    table.add_row("route, B/document", *(f"{banding.key_bytes:,}" for banding in found.values()))
    table.add_row("signature, B/document", *(f"{banding.signature_bytes:,}" for banding in found.values()))
    return table


def share(value: float) -> str:
    """
    >>> share(0.0763), share(0.99999), share(0.0), share(1e-7)
    ('7.6 %', '100.0 %', '0', '1e-05 %')
    """
    if value <= 0:
        return "0"
    return f"{100 * value:.1f} %" if value >= 0.0005 else f"{100 * value:.0e} %"


def pairs_table(found: Mapping[str, Banding], pairs: Mapping[float, float], similarity: float) -> Table:
    table = Table(title=f"pairs of the histogram, wanted from {similarity:g}", box=None, pad_edge=False, header_style="bold")
    for name in ("choice", "wanted", "missed", "recall", "not wanted, met"):
        table.add_column(name, justify="left" if name == "choice" else "right")
    for name, banding in found.items():
        result = expect(banding, pairs, similarity)
        table.add_row(name, f"{result.wanted:,.0f}", f"{result.missed:,.1f}", f"{result.recall:.2%}", f"{result.met_unwanted:,.1f}")
    return table


def plot(found: Mapping[str, Banding], width: int = 71, height: int = 17) -> list[str]:
    """The S-curves in characters: chance to be found upwards, similarity to the right. Where curves meet the first named is seen."""
    grid = [[" "] * width for _ in range(height)]
    for number, banding in reversed(list(enumerate(found.values()))):
        for column in range(width):
            chance = banding.probability(FIRST + (LAST - FIRST) * column / (width - 1))
            grid[height - 1 - round(chance * (height - 1))][column] = MARKS[number % len(MARKS)]
    labels = {0: "100 %", (height - 1) // 2: " 50 %", height - 1: "  0 %"}
    lines = [f"{labels.get(i, ''):>5} |{''.join(row)}".rstrip() for i, row in enumerate(grid)]
    ticks = [" "] * (width + 2)
    for tenth in range(round(FIRST * 10), round(LAST * 10) + 1):
        at = round((tenth / 10 - FIRST) / (LAST - FIRST) * (width - 1))
        ticks[at : at + 3] = f"{tenth / 10:.1f}"
    legend = "   ".join(f"{MARKS[i % len(MARKS)]} {name}" for i, name in enumerate(found))
    return [*lines, f"      +{'-' * width}", f"      {''.join(ticks).rstrip()}  similarity", f"       {legend}"]


def svg(found: Mapping[str, Banding]) -> str:
    """The same as a picture of 720 x 440 points, for a browser."""
    left, top, width, height = 60, 20, 500, 360
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="720" height="440" font-family="sans-serif" font-size="12">',
        '<rect width="720" height="440" fill="white"/>',
    ]
    for step in range(11):
        y = top + height - height * step / 10
        parts.append(f'<path d="M{left} {y:g}h{width}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:g}" text-anchor="end">{step * 10} %</text>')
    for tenth in range(round(FIRST * 10), round(LAST * 10) + 1):
        x = left + width * (tenth / 10 - FIRST) / (LAST - FIRST)
        parts.append(f'<path d="M{x:g} {top}v{height}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:g}" y="{top + height + 18}" text-anchor="middle">{tenth / 10:g}</text>')
    for number, (name, banding) in enumerate(found.items()):
        colour = COLOURS[number % len(COLOURS)]
        chances = [banding.probability(FIRST + (LAST - FIRST) * i / 200) for i in range(201)]
        points = " ".join(f"{left + width * i / 200:g},{top + height * (1 - chance):.2f}" for i, chance in enumerate(chances))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        label = escape(f"{name} {banding.bands} x {banding.rows}")
        parts.append(f'<text x="{left + width + 12}" y="{top + 14 + 18 * number}" fill="{colour}">{label}</text>')
    axis = "Jaccard similarity; chance to be found"
    parts.append(f'<text x="{left + width / 2:g}" y="{top + height + 42}" text-anchor="middle">{axis}</text>')
    return "\n".join([*parts, "</svg>", ""])


def as_json(found: Mapping[str, Banding], pairs: Mapping[float, float] | None, similarity: float) -> list[dict[str, Any]]:
    rows = []
    for name, banding in found.items():
        row: dict[str, Any] = {
            **{"name": name, "bands": banding.bands, "rows": banding.rows, "hashes": banding.width},
            "half_found_at": threshold(banding.bands, banding.rows),
            "missed": {f"{s:.2f}": 1.0 - banding.probability(s) for s in SHOWN},
            "route_bytes_per_document": banding.key_bytes,
            "signature_bytes_per_document": banding.signature_bytes,
        }
        if pairs:
            result = expect(banding, pairs, similarity)
            row["pairs"] = {"wanted": result.wanted, "missed": result.missed, "recall": result.recall, "met_unwanted": result.met_unwanted}
        rows.append(row)
    return rows


def run_curve(console: Console, wish: Wish, histogram: Path | None, picture: Path | None, json_wanted: bool) -> int:
    found = choices(wish)
    pairs = read_pairs(histogram) if histogram else None
    if picture:
        picture.write_text(svg(found), encoding="utf-8")
    if json_wanted:
        print(json.dumps(as_json(found, pairs, wish.similarity), indent=1))
        return 0
    tables: Sequence[Table] = [curve_table(found), *([pairs_table(found, pairs, wish.similarity)] if pairs else [])]
    for table in tables:
        console.print(table)
        console.print()
    # the characters of the plot are no markup, and lines that are broken are no plot
    console.print("\n".join(plot(found)), markup=False, highlight=False, soft_wrap=True)
    if picture:
        console.print(f"wrote {picture}", soft_wrap=True)
    return 0
