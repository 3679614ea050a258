"""Labelled examples for the demo's classifiers: the bundled texts against generated spam and page furniture.

In: the bundled texts and the spam generator. Out: `Example` values with two grades of 0..5 each. The grades are ours and
coarse; they give three classifiers something to agree and to disagree about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jobs.demo.spam import boilerplate, spam
from jobs.demo.texts import Text, all_texts

HELD_OUT = ("en-first-snow", "en-compost", "zh-earth-core", "zh-secondhand-books")
"""Texts that no classifier is trained on, for the tests."""

STORIES = (
    "en-lighthouse",
    "en-library-reopens",
    "en-night-train",
    "en-postcard-museum",
    "en-letter-writing",
    "en-first-snow",
    "en-review-headphones",
    "zh-silk-worm",
    "zh-local-bus",
    "zh-review-kettle",
    "zh-tea-mountain",
    "zh-secondhand-books",
    "zh-trad-night-market",
    "de-hochwasser",
    "de-kaffeehaus",
    "de-rezension-lampe",
    "ja-station-clock",
    "ja-review-shoes",
    "ja-shotengai-news",
)
"""Narratives, reviews and news; the other texts explain something."""

WINDOW = 5
"""Blocks of one example."""

FLAVOURS = (("en", "shop"), ("en", "casino"), ("zh", "casino"), ("zh", "shop"), ("de", "shop"))


@dataclass(frozen=True)
class Example:
    """`edu`: does it explain something; `hq`: is it well-formed prose. Both 0..5. `good`: a text and not spam."""

    text: str
    edu: float
    hq: float

    @property
    def good(self) -> bool:
        return self.hq >= 2


def training_examples() -> list[Example]:
    """All examples for training, in a fixed order."""
    texts = [text for text in all_texts() if text.id not in HELD_OUT]
    return [example for text in texts for example in good_examples(text)] + bad_examples("train", 40)


def good_examples(text: Text) -> Iterator[Example]:
    """Overlapping windows of a text, the first with its title."""
    edu = 2.5 if text.id in STORIES else 4.5
    blocks = [text.title, *(content for _, content in text.body)]
    for start in range(0, max(len(blocks) - WINDOW, 0) + 1, 2):
        kinds = [kind for kind, _ in text.body[max(start - 1, 0) : start - 1 + WINDOW]]
        hq = 4.5 if kinds.count("p") * 2 >= len(kinds) else 3.5
        yield Example("\n".join(blocks[start : start + WINDOW]), edu, hq)


def bad_examples(seed: str, n: int) -> list[Example]:
    """Spam of every flavour and page furniture, `n` of each. Another seed gives other examples."""
    found = [Example("\n".join(spam(lang, flavour, f"{seed} {i}", 2)), 0.2, 0.0) for lang, flavour in FLAVOURS for i in range(n)]
    return found + [Example("\n".join(boilerplate(lang, f"{seed} {i}")), 0.8, 1.0) for lang in ("en", "zh") for i in range(n)]
