"""Documents of real text with edited copies, and which pairs are duplicates by exact Jaccard similarity.

The texts are cut into passages of 15 words; a document is eight passages drawn at random, so that 100,000 documents come out of a few
megabytes (stated with the figures: real words in real order within a passage, and unlike documents share a passage now and then, as
pages of one site do). Three documents of ten are copies of one of the others in which a share of the words is replaced, at places
of their own. A pair is a duplicate if the sets of its word 5-grams, lower-cased and split at white space, have a Jaccard similarity
of `DUPLICATE` or more; that is computed with Python sets, and no tool under test takes part in it.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

PASSAGE_WORDS = 15
PASSAGES = 8
COPIES = 0.3
EDITS = (0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.1)
"""Shares of the words replaced; with 5-grams one edit in a hundred words costs about a tenth of the similarity."""

DUPLICATE = 0.8
SHINGLE = 5


@dataclass(frozen=True)
class Corpus:
    """`pairs`: (original, copy, similarity), numbers of documents; each document is in at most one pair."""

    texts: list[str]
    pairs: list[tuple[int, int, float]]


def read_passages(files: list[Path]) -> list[str]:
    """From *.txt, and from the `text` of *.jsonl, in scripts that put spaces between words."""
    passages = []
    for file in files:
        lines = file.read_text(errors="replace").splitlines()
        texts = [json.loads(line).get("text") or "" for line in lines] if file.suffix == ".jsonl" else ["\n".join(lines)]
        for text in texts:
            words = text.split()
            if len(words) > len(text) / 10:
                passages += [" ".join(words[i : i + PASSAGE_WORDS]) for i in range(0, len(words) - PASSAGE_WORDS, PASSAGE_WORDS)]
    return sorted(set(passages))


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}


def similarity(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def edit(text: str, share: float, rng: random.Random, words: list[str]) -> str:
    return " ".join(rng.choice(words) if rng.random() < share else word for word in text.split())


def make(files: list[Path], n_docs: int, seed: int = 1) -> Corpus:
    rng = random.Random(seed)
    passages = read_passages(files)
    if len(passages) < 10_000:
        raise SystemExit(
            f"{len(passages)} passages in {len(files)} files: expected at least 10,000; give more text in a language with spaces"
        )
    words = [word for passage in passages[::50] for word in passage.split()]
    n_copies = int(n_docs * COPIES)
    originals = [" ".join(rng.sample(passages, PASSAGES)) for _ in range(n_docs - n_copies)]
    chosen = rng.sample(range(len(originals)), n_copies)
    copies = [edit(originals[i], rng.choice(EDITS), rng, words) for i in chosen]
    place = list(range(n_docs))
    rng.shuffle(place)
    texts = [""] * n_docs
    for number, text in enumerate([*originals, *copies]):
        texts[place[number]] = text
    pairs = [(place[i], place[len(originals) + n], similarity(originals[i], copies[n])) for n, i in enumerate(chosen)]
    return Corpus(texts, pairs)


def score(corpus: Corpus, dropped: set[int]) -> dict[str, float]:
    """Right: pairs of duplicates of which one was dropped. Wrong: every other dropped document."""
    true = [(a, b) for a, b, similar in corpus.pairs if similar >= DUPLICATE]
    right = sum((a in dropped) or (b in dropped) for a, b in true)
    precision, recall = right / max(len(dropped), 1), right / max(len(true), 1)
    below = {x for a, b, similar in corpus.pairs if 0.5 <= similar < DUPLICATE for x in (a, b)}
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / max(precision + recall, 1e-9),
        "nearly": len(dropped & below),
        "dropped": len(dropped),
    }
