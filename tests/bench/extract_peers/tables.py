"""The figures as Markdown: the main table, quality by source, page type and language, and the bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Rows = dict[str, dict[str, Any]]
"""Contender -> {"quality": `scoring.report` or None, "speed": `crew.Speed.figures` or None, "gap": why neither}."""

REFERENCE = "trafilatura"
MIN_LANGUAGE_PAGES, MAX_BELOW = 10, 0.01
"""A language of so many pages may lie below the reference by so much."""

NAMES = {"de": "German", "en": "English", "es": "Spanish", "fr": "French", "ja": "Japanese", "pl": "Polish", "zh": "Chinese"}
MIN_TYPES = {"article": 0.96, "documentation": 0.95, "service": 0.85, "forum": 0.78, "listing": 0.70, "collection": 0.68, "product": 0.72}
MIN_PAGES_S, MIN_TIMES_REFERENCE = 250.0, 15.0
BARS = {
    "headline": ("headline", 0.91),
    "article benchmark F1": ("article_f1", 0.96),
    "snippets F1": ("segment_f1", 0.93),
    "Chinese word F1": ("chinese_words", 0.90),
    "code lines": ("code_lines_recall", 0.85),
    "code indents": ("code_indents_recall", 0.85),
    "formulas": ("formulas_recall", 0.80),
}
MAX_BAD = 0.035
HEADS = [
    *("extractor", "headline", "article benchmark F1", "snippets F1", "Chinese word F1", "pages under 0.3"),
    *("code lines", "code indents", "formulas", "pages/s", "MB/s", "ms p50", "ms p99"),
]


def main_table(rows: Rows) -> str:
    body = []
    for name, row in rows.items():
        quality, speed = row["quality"] or {}, row["speed"] or {}
        if row.get("gap"):
            body.append([name, f"not run: {row['gap']}", *[""] * (len(HEADS) - 2)])
            continue
        head = f"{quality['headline']:.4f} ± {quality['headline_se']:.4f}" if quality.get("headline") is not None else ""
        recalls = [share(quality.get(f"{part}_recall"), 2) for part in ("code_lines", "code_indents", "formulas")]
        body.append(
            [
                name,
                head,
                *(share(quality.get(key)) for key in ("article_f1", "segment_f1", "chinese_words")),
                percent(quality.get("under_bad")),
            ]
            + recalls
            + [number(speed.get(key), places) for key, places in (("pages_s", 0), ("mb_s", 1), ("p50_ms", 2), ("p99_ms", 1))]
        )
    return markdown(HEADS, body)


def group_table(rows: Rows, group: str, figure: str) -> str:
    """One column a source or page type, one row a contender."""
    scored = {name: row["quality"][group] for name, row in rows.items() if row["quality"]}
    if not any(scored.values()):
        return "No such pages."
    names = list(next(iter(scored.values())))
    heads = ["extractor", *(f"{name} ({next(iter(scored.values()))[name]['pages']})" for name in names)]
    return markdown(heads, [[name, *(share(groups[key][figure]) for key in names)] for name, groups in scored.items()])


def language_check(ours: dict[str, Any], reference: dict[str, Any]) -> list[dict[str, Any]]:
    """Each language with enough pages, over all pages, those with whole texts and those with snippets where there are enough of them."""
    found = []
    for lang, parts in ours["lang"].items():
        for part, figures in parts.items():
            if figures["pages"] < MIN_LANGUAGE_PAGES or (part != "all" and figures["pages"] == parts["all"]["pages"]):
                continue
            theirs = reference["lang"][lang][part]["score"]
            difference = figures["score"] - theirs
            row = {"lang": lang, "part": part, "pages": figures["pages"], "ours": figures["score"], "reference": theirs}
            found.append({**row, "difference": difference, "good": difference >= -MAX_BELOW})
    return found


def language_table(check: Sequence[dict[str, Any]]) -> str:
    parts = {"all": "all", "text": "whole text", "segments": "snippets"}
    heads = ["language", "gold", "pages", "ours", REFERENCE, "difference", ""]
    return markdown(
        heads,
        [
            [
                f"{NAMES.get(row['lang'], row['lang'])} ({row['lang']})",
                parts[row["part"]],
                str(row["pages"]),
                share(row["ours"]),
                share(row["reference"]),
                f"{row['difference']:+.3f}",
                "good" if row["good"] else "BELOW",
            ]
            for row in check
        ],
    )


def bars(name: str, rows: Rows, languages: Sequence[dict[str, Any]], stage_ratio: float | None) -> list[tuple[str, str, str, bool]]:
    """Bar, wanted, seen, kept; only those for which there are pages or measurements."""
    quality, speed = rows[name]["quality"], rows[name]["speed"]
    found = [
        (bar, f">= {least:.2f}", quality[key], quality[key] >= least) for bar, (key, least) in BARS.items() if quality.get(key) is not None
    ]
    found = [(bar, wanted, f"{seen:.4f}", good) for bar, wanted, seen, good in found]
    for kind, least in MIN_TYPES.items():
        seen = quality["page_type"].get(kind, {}).get("words")
        if seen is not None:
            found.append((f"page type {kind}", f">= {least:.2f}", f"{seen:.4f}", seen >= least))
    found.append(("pages under 0.3", f"<= {MAX_BAD:.1%}", percent(quality["under_bad"]), quality["under_bad"] <= MAX_BAD))
    if languages:
        below = [f"{row['lang']} ({row['part']}) {row['difference']:+.3f}" for row in languages if not row["good"]]
        found.append(("languages", f"none below {REFERENCE} by over {MAX_BELOW}", ", ".join(below) or "none", not below))
    if speed:
        found.append(("pages/s", f">= {MIN_PAGES_S:.0f}", f"{speed['pages_s']:.0f}", speed["pages_s"] >= MIN_PAGES_S))
        reference = rows.get(REFERENCE, {}).get("speed")
        if reference:
            times = speed["pages_s"] / reference["pages_s"]
            found.append((f"times {REFERENCE}", f">= {MIN_TIMES_REFERENCE:.0f}", f"{times:.1f}", times >= MIN_TIMES_REFERENCE))
    if stage_ratio is not None:
        found.append(("whole stage, of reading and parsing", "<= 3", f"{stage_ratio:.2f}", stage_ratio <= 3))
    return found


def bar_table(found: Sequence[tuple[str, str, str, bool]]) -> str:
    return markdown(["bar", "wanted", "seen", ""], [[bar, wanted, seen, "kept" if good else "MISSED"] for bar, wanted, seen, good in found])


def markdown(heads: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share(value: float | None, places: int = 3) -> str:
    return "" if value is None else f"{value:.{places}f}"


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def number(value: float | None, places: int) -> str:
    return "" if value is None else f"{value:,.{places}f}"
