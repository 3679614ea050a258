"""An audit for people: as text for a terminal, and as one HTML page that works without a network and runs no script."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from ccpipe.dedup.audit import Audit, Pair

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1200px;padding:0 1em;color:#222}
h2{margin-top:2em;border-bottom:1px solid #ccc} table{border-collapse:collapse}
td,th{padding:.2em .8em;text-align:left;vertical-align:top}
section{border:1px solid #ccc;border-radius:4px;margin:1em 0;padding:.6em 1em}
.two{display:grid;grid-template-columns:1fr 1fr;gap:1em}
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.2em 0;background:#f6f6f6;padding:.4em}
.gone pre{background:#fbeaea} .kept pre{background:#eaf6ea} p.address{overflow-wrap:anywhere;margin:.2em 0}
"""

Facts = Mapping[str, Any]
"""`counts`: of dedup.cluster (name -> number); `alarms` and `giants` as dedup.report writes them."""


def to_text(audit: Audit, facts: Facts) -> Iterator[str]:
    """Lines. Control characters of pages are shown as U+FFFD: a page must not drive the terminal."""
    yield from map(_plain, _text(audit, facts))


def _text(audit: Audit, facts: Facts) -> Iterator[str]:
    yield from _summary(audit, facts)
    for host in facts["alarms"]:
        yield f"alarm: {host['host']} lost {host['dropped']:,} of {host['documents']:,} documents"
    for giant in facts["giants"]:
        yield f"giant: {giant['documents']:,} documents, treated as {giant['treated_as']}, most of {_hosts(giant)}"
    for pair in audit.pairs:
        yield ""
        yield f"[{pair.stratum}] {_figures(pair)}"
        yield f"  dropped {readable(pair.dropped)}  {pair.dropped_url}"
        yield f"  kept    {readable(pair.kept)}  {pair.kept_url}"
        yield from (f"  - {line}" for line in pair.only_dropped)
        yield from (f"  + {line}" for line in pair.only_kept)
        if pair.more_lines:
            yield f"  ... {pair.more_lines} more lines differ"


def to_html(audit: Audit, facts: Facts, title: str) -> str:
    """The page; everything that comes from documents is escaped."""
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(line)}</p>" for line in _summary(audit, facts))]
    if facts["alarms"]:
        rows = [(host["host"], f"{host['dropped']:,}", f"{host['documents']:,}") for host in facts["alarms"]]
        parts += ["<h2>Hosts that lost nearly all</h2>", _table(("host", "dropped", "documents"), rows)]
    if facts["giants"]:
        parts += ["<h2>Giant components</h2>", *map(_giant, facts["giants"])]
    parts += ["<h2>Pairs</h2>", *map(_section, audit.pairs)]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _summary(audit: Audit, facts: Facts) -> Iterator[str]:
    past = f", {audit.of_past:,} of them for a document of an earlier crawl (not shown)" if audit.of_past else ""
    yield f"{audit.dropped:,} documents dropped{past}"
    counts = facts["counts"]
    if "dropped_by_component_alone" in counts:
        yield (
            f'keep = "first" would drop {counts["dropped_by_first"]:,}, "component" {counts["dropped_by_component"]:,}: '
            f"{counts['dropped_by_component_alone']:,} by chains of resemblance alone"
        )
    yield "strata: " + ", ".join(f"{name}: {n:,}" for name, n in audit.seen.items())


def _figures(pair: Pair) -> str:
    estimate = "not estimated" if pair.estimate is None else f"estimated {pair.estimate:.3f}"
    return f"{estimate}, exact {pair.exact:.3f}, cluster of {pair.cluster_size:,}"


def _section(pair: Pair) -> str:
    sides = [
        f'<div class="{kind}"><p class="address"><b>{label}</b> {readable(document)}<br>{escape(url)}</p>{_lines(lines)}</div>'
        for kind, label, document, url, lines in (
            ("gone", "dropped", pair.dropped, pair.dropped_url, pair.only_dropped),
            ("kept", "kept", pair.kept, pair.kept_url, pair.only_kept),
        )
    ]
    more = f"<p>{pair.more_lines} more lines differ</p>" if pair.more_lines else ""
    return f'<section><b>{escape(pair.stratum)}</b>: {escape(_figures(pair))}<div class="two">{"".join(sides)}</div>{more}</section>'


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"<pre>{escape(line)}</pre>" for line in lines) or "<p>no line of its own</p>"


def _giant(giant: Mapping[str, Any]) -> str:
    sample = [f'<p class="address">{escape(str(page["url"]))}</p><pre>{escape(page["text"])}</pre>' for page in giant["sample"]]
    head = f"<b>{giant['documents']:,} documents</b>, treated as {escape(giant['treated_as'])}, most of {escape(_hosts(giant))}"
    return f"<section>{head}{''.join(sample)}</section>"


def _hosts(giant: Mapping[str, Any]) -> str:
    return ", ".join(f"{host} ({n})" for host, n in list(giant["hosts"].items())[:3]) + f" of {giant['members_looked_at']} looked at"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>{cells}</table>"


def readable(document: int) -> str:
    """
    >>> readable(12 << 32 | 345)
    '00012-345'
    """
    return f"{document >> 32:05d}-{document & 0xFFFFFFFF}"


def _plain(line: str) -> str:
    return "".join("\ufffd" if unicodedata.category(char) in ("Cc", "Cf") and char != "\t" else char for char in line)
