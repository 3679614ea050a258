"""Real text with known similarities: documents of one length, and copies of them edited as mirrors, templates and editors do."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from minhash_peers.contenders import WORD, grams

LENGTH = 500
"""Words, or characters where there are hardly any spaces."""


def load_texts(paths: list[Path]) -> dict[str, str]:
    """Name -> text: *.txt as it is, *.jsonl (one document a line, key `text`, or `body` as in the demo) joined."""
    files = [file for path in paths for file in (sorted([*path.glob("*.txt"), *path.glob("*.jsonl")]) if path.is_dir() else [path])]
    return {file.stem: _text(file) for file in files}


def _text(file: Path) -> str:
    raw = file.read_text(encoding="utf-8", errors="replace")
    if file.suffix != ".jsonl":
        return raw
    documents = [json.loads(line) for line in raw.splitlines()]
    return "\n".join(d["text"] if "text" in d else "\n".join(part[1] for part in d["body"] if isinstance(part[1], str)) for d in documents)


def is_spaced(text: str) -> bool:
    return text.count(" ") > len(text) / 20


def cut(text: str) -> list[list[str]]:
    """Documents of `LENGTH` words or characters, as lists of them."""
    units = text.split() if is_spaced(text) else list(text)
    return [units[i : i + LENGTH] for i in range(0, len(units) - LENGTH + 1, LENGTH)]


def exact_similarity(one: str, other: str) -> float:
    """Jaccard similarity of the sets of 5-grams, with Python's sets."""
    a, b = set(grams(one)), set(grams(other))
    return len(a & b) / len(a | b)


def edited_pairs(documents: list[list[str]], glue: str, n_pairs: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Documents and edited copies: words replaced, a block of another document put in front or behind, a stretch cut out, blocks moved."""
    rng = random.Random(seed)
    for number in range(n_pairs):
        units = documents[number % len(documents)]
        other = documents[rng.randrange(len(documents))]
        copy = list(units)
        strength = rng.random()
        kind = number % 4
        if kind in (0, 3):
            for _ in range(1 + int(strength * (40 if kind == 0 else 10))):
                copy[rng.randrange(len(copy))] = rng.choice(other)
        if kind in (1, 3):
            size = int(strength * (200 if kind == 1 else 100))
            copy = other[:size] + copy if rng.random() < 0.5 else copy + other[:size]
        if kind == 2:
            first = rng.randrange(len(copy) // 2)
            copy = copy[:first] + copy[first + int(strength * 180) :]
            middle = rng.randrange(1, len(copy))
            copy = copy[middle:] + copy[:middle]
        yield glue.join(units), glue.join(copy)


__all__ = ["LENGTH", "WORD", "cut", "edited_pairs", "exact_similarity", "is_spaced", "load_texts"]
