"""From texts to figures: the score of each page, then means by source, page type and language, and the headline.

Headline: mean over the sources of a set, so that a large one does not decide alone: F1 of shingles (of mean precision and
mean recall, as the article-extraction-benchmark does it), or F1 of snippets where a source has only those. Sources with
fewer than `MIN_PAGES` pages and sources of Markdown, which are there for code and formulas, do not enter.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from extract_peers import metrics
from extract_peers.gold import Page

MIN_PAGES = 4
"""Pages of a source below which its mean says nothing."""

BAD_PAGE = 0.3
"""A page below is as good as lost."""

RESAMPLES = 200
ARTICLE_BENCHMARK = "aeb"
TYPED = "wcxb"
"""The source whose pages are of balanced types."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One page. shingles: precision and recall; plain: the same over the article benchmark's own tokens; all 0 to 1."""

    source: str
    lang: str
    page_type: str
    kind: str
    shingles: tuple[float | None, float | None] = (None, None)
    plain: tuple[float | None, float | None] = (None, None)
    words: float = 0.0
    segments: metrics.Segments | None = None
    structure: metrics.Structure | None = None

    @property
    def score(self) -> float:
        """One figure for the page: F1 of words, or of its snippets."""
        if self.kind != "segments":
            return self.words
        return metrics.segment_f1([self.segments]) if self.segments else 0.0


def score_page(gold: dict[str, Any], text: str) -> Scored:
    """The page's scores; `gold` with every field, as `gold.load_pages` fills them."""
    scores: dict[str, Any] = {name: gold[name] for name in ("source", "lang", "page_type", "kind")}
    if gold["with"] or gold["without"]:
        scores["segments"] = metrics.count_segments(text, gold["with"], gold["without"])
    if gold["kind"] == "segments":
        return Scored(**scores)
    wanted = gold["text"] if gold["kind"] == "text" else metrics.without_markdown(gold["text"])
    ours, theirs = metrics.tokens(wanted), metrics.tokens(text)
    scores.update(shingles=metrics.shingle_scores(ours, theirs), words=metrics.word_f1(ours, theirs))
    if gold["source"] == ARTICLE_BENCHMARK:
        scores["plain"] = metrics.shingle_scores(metrics.plain_tokens(wanted), metrics.plain_tokens(text))
    if gold["kind"] == "markdown":
        scores["structure"] = metrics.structure(text, gold["text"])
    return Scored(**scores)


def score_pages(pages: Iterable[Page], texts: dict[str, str]) -> list[Scored]:
    """A page without a text scores as an empty one."""
    return [score_page(page.gold, texts.get(page.id, "")) for page in pages]


def report(scored: Sequence[Scored]) -> dict[str, Any]:
    """All figures of one extractor, as JSON takes them; None where the set has no such pages."""
    typed = [page for page in scored if page.source == TYPED] or [page for page in scored if page.page_type and page.kind == "text"]
    structures = [page.structure for page in scored if page.structure]
    article = [page.plain for page in scored if page.source == ARTICLE_BENCHMARK]
    return {
        "pages": len(scored),
        "headline": headline(scored),
        "headline_se": headline_error(scored),
        "article_f1": shingle_f1(article) if article else None,
        "segment_f1": metrics.segment_f1([page.segments for page in scored if page.kind == "segments" and page.segments]),
        "chinese_words": mean(page.words for page in scored if page.kind == "text" and page.lang == "zh"),
        "under_bad": mean(float(page.score < BAD_PAGE) for page in scored),
        **{f"{name}_recall": mean(getattr(found, name) for found in structures) for name in metrics.Structure._fields},
        "source": {name: {"pages": len(group), "f1": source_f1(group)} for name, group in grouped(scored, lambda page: page.source)},
        "page_type": {
            name: {"pages": len(group), "words": mean(p.words for p in group)} for name, group in grouped(typed, lambda p: p.page_type)
        },
        "lang": {name: language(group) for name, group in grouped(scored, lambda page: page.lang)},
    }


def headline(scored: Sequence[Scored]) -> float | None:
    groups = [group for _, group in grouped(scored, lambda page: page.source)]
    return mean(source_f1(group) for group in groups if len(group) >= MIN_PAGES and any(page.kind != "markdown" for page in group))


def headline_error(scored: Sequence[Scored]) -> float:
    """Standard error of the headline: pages drawn anew within each source (bootstrap)."""
    draw = random.Random(0)
    groups = [group for _, group in grouped(scored, lambda page: page.source)]
    drawn = ([page for group in groups for page in draw.choices(group, k=len(group))] for _ in range(RESAMPLES))
    return stdev(headline(pages) or 0.0 for pages in drawn)


def source_f1(group: Sequence[Scored]) -> float:
    """F1 of shingles over the pages with a text; of snippets where there are none."""
    whole = [page.shingles for page in group if page.kind != "segments"]
    return shingle_f1(whole) if whole else metrics.segment_f1([page.segments for page in group if page.segments])


def shingle_f1(pages: Sequence[tuple[float | None, float | None]]) -> float:
    return metrics.harmonic(mean(page[0] for page in pages), mean(page[1] for page in pages))


def language(group: Sequence[Scored]) -> dict[str, dict[str, Any]]:
    """Figures of one language: over all its pages but those of Markdown, over those with a whole text, over those with snippets."""
    parts = {
        "all": [page for page in group if page.kind != "markdown"],
        "text": [page for page in group if page.kind == "text"],
        "segments": [page for page in group if page.kind == "segments"],
    }
    return {name: {"pages": len(pages), "score": mean(page.score for page in pages)} for name, pages in parts.items()}


def grouped(scored: Iterable[Scored], key: Callable[[Scored], str]) -> list[tuple[str, list[Scored]]]:
    """Groups in the order of their names."""
    groups: dict[str, list[Scored]] = defaultdict(list)
    for page in scored:
        groups[key(page)].append(page)
    return sorted(groups.items())


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
