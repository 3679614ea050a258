"""Harmless imitations of what a web corpus does not want: keyword stuffing, gambling adverts, page furniture.

In: a language, a flavour and a seed; the words are in `texts/phrases.json`. Out: paragraphs, the same for the same
arguments on every machine. The pages take some seeds, the classifiers train on others, their tests on others again.
"""

from __future__ import annotations

import json
import random
from functools import cache
from importlib.resources import files


@cache
def phrases(lang: str, flavour: str) -> tuple[str, ...]:
    """The words of one flavour: shop, casino or boilerplate (whole sentences)."""
    found = json.loads(files("jobs.demo").joinpath("texts", "phrases.json").read_text(encoding="utf-8"))
    return tuple(found[lang][flavour])


def spam(lang: str, flavour: str, seed: str, n_paragraphs: int = 6) -> list[str]:
    """Paragraphs of keyword spam.

    >>> spam("en", "shop", "a") == spam("en", "shop", "a") != spam("en", "shop", "b")
    True
    """
    rng = random.Random(f"spam/{lang}/{flavour}/{seed}")
    return [_stuffed(rng, phrases(lang, flavour), lang) for _ in range(n_paragraphs)]


def boilerplate(lang: str, seed: str, n_sentences: int = 12) -> list[str]:
    """Sentences of page furniture in random order, with repeats."""
    rng = random.Random(f"boilerplate/{lang}/{seed}")
    return rng.choices(phrases(lang, "boilerplate"), k=n_sentences)


def _stuffed(rng: random.Random, words: tuple[str, ...], lang: str) -> str:
    comma, stop, space = ("，", "！", "") if lang == "zh" else (", ", "!", " ")
    sentences = [comma.join(rng.choices(words, k=rng.randint(5, 9))) + stop for _ in range(rng.randint(4, 6))]
    return space.join(sentences)
