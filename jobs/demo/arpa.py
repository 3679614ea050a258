"""A small n-gram trainer: interpolated Kneser-Ney, one discount per order, written as an ARPA file that KenLM reads.

In: sentences as sequences of words. Out: `NgramModel`, whose probabilities sum to one over the vocabulary after every
history. Everything is held in dictionaries: for texts of some 100,000 words. For real models use KenLM's lmplz.
Method: Chen and Goodman (1998), section 2.7; discount n1 / (n1 + 2 n2) of Ney, Essen and Kneser (1994).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
NEVER = -99.0
"""log10 probability written for <s>, which is never predicted (SRILM's convention)."""

Ngram = tuple[str, ...]


@dataclass(frozen=True)
class NgramModel:
    """`orders[n - 1]`: n-gram -> (log10 probability, log10 back-off weight as a history, 0 where it is none)."""

    orders: list[dict[Ngram, tuple[float, float]]]

    def log10_prob(self, history: Sequence[str], word: str) -> float:
        """log10 P(word | history), as any ARPA reader computes it: longest known n-gram, weights of the histories left out."""
        word = word if (word,) in self.orders[0] else UNKNOWN
        context = tuple(history)[-(len(self.orders) - 1) :] if len(self.orders) > 1 else ()
        weight = 0.0
        while context:
            if (*context, word) in self.orders[len(context)]:
                break
            weight += self.orders[len(context) - 1].get(context, (0.0, 0.0))[1]
            context = context[1:]
        return weight + self.orders[len(context)][(*context, word)][0]

    def score(self, sentence: Sequence[str]) -> float:
        """log10 probability of a sentence, its end included."""
        words = [BEGIN, *(word if (word,) in self.orders[0] else UNKNOWN for word in sentence), END]
        return sum(self.log10_prob(words[:i], words[i]) for i in range(1, len(words)))

    def write(self, path: Path) -> None:
        """Write the ARPA file; n-grams in sorted order."""
        lines = ["\\data\\", *(f"ngram {n}={len(grams)}" for n, grams in enumerate(self.orders, 1)), ""]
        for n, grams in enumerate(self.orders, 1):
            lines.append(f"\\{n}-grams:")
            for gram, (log_prob, backoff) in sorted(grams.items()):
                tail = f"\t{backoff:.7f}" if n < len(self.orders) and gram[-1] != END else ""
                lines.append(f"{log_prob:.7f}\t{' '.join(gram)}{tail}")
            lines.append("")
        path.write_text("\n".join([*lines, "\\end\\", ""]), encoding="utf-8")


def train(sentences: Iterable[Sequence[str]], order: int = 3) -> NgramModel:
    """Estimate a model of `order` >= 2. Raises `ValueError` where a sentence holds a reserved word or there is no sentence."""
    counts = _kneser_ney_counts(sentences, order)
    vocabulary = {gram[0] for gram in counts[0]} | {UNKNOWN}
    probs: list[dict[Ngram, float]] = []
    weights: list[dict[Ngram, float]] = []
    for grams in counts:
        below = probs[-1] if probs else None
        prob, weight = _interpolate(grams, below, 1 / len(vocabulary))
        probs.append(prob)
        weights.append(weight)
    probs[0][(UNKNOWN,)] = weights[0][()] / len(vocabulary)
    return NgramModel([_with_backoff(prob, weights[n + 1] if n + 1 < order else {}, n) for n, prob in enumerate(probs)])


def _kneser_ney_counts(sentences: Iterable[Sequence[str]], order: int) -> list[Counter[Ngram]]:
    """Counts by order: of occurrences for the highest order and behind <s>, else of the distinct words in front."""
    raw: list[Counter[Ngram]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        if not {BEGIN, END, UNKNOWN}.isdisjoint(sentence):
            raise ValueError(f"sentence {list(sentence)[:8]} holds one of {BEGIN} {END} {UNKNOWN}; they are reserved, replace them first")
        words = (BEGIN, *sentence, END)
        for n in range(order):
            raw[n].update(words[i : i + n + 1] for i in range(len(words) - n))
    if not raw[0]:
        raise ValueError("no sentences to train on; expected at least one, each a sequence of words")
    counts = [raw[-1]]
    for n in range(order - 2, -1, -1):
        fronts = Counter(gram[1:] for gram in raw[n + 1])
        fronts.update({gram: count for gram, count in raw[n].items() if n and gram[0] == BEGIN})
        counts.insert(0, fronts)
    return counts


def _interpolate(grams: Counter[Ngram], below: dict[Ngram, float] | None, uniform: float) -> tuple[dict[Ngram, float], dict[Ngram, float]]:
    """Probabilities of the n-grams seen, and the weight that each history gives to the next lower order."""
    total: dict[Ngram, int] = defaultdict(int)
    followers: dict[Ngram, int] = defaultdict(int)
    for gram, count in grams.items():
        total[gram[:-1]] += count
        followers[gram[:-1]] += 1
    discount = _discount(grams)
    weight = {history: discount * followers[history] / total[history] for history in total}
    prob = {}
    for gram, count in grams.items():
        history = gram[:-1]
        lower = uniform if below is None else below[gram[1:]]
        prob[gram] = (count - discount) / total[history] + weight[history] * lower
    return prob, weight


def _discount(grams: Counter[Ngram]) -> float:
    """n1 / (n1 + 2 n2); 0.5 where a text is so small that nothing occurs once or twice."""
    seen = Counter(grams.values())
    return seen[1] / (seen[1] + 2 * seen[2]) if seen[1] and seen[2] else 0.5


def _with_backoff(prob: dict[Ngram, float], weight: dict[Ngram, float], n: int) -> dict[Ngram, tuple[float, float]]:
    grams = {gram: (math.log10(p), math.log10(weight.get(gram, 1.0))) for gram, p in prob.items()}
    if n == 0:
        grams[(BEGIN,)] = (NEVER, math.log10(weight.get((BEGIN,), 1.0)))
    return grams
