"""Words that make an address suspect, after RefinedWeb (Penedo et al. 2023, appendix G.1) and datatrove's URLFilter.

Three lists: `hard` words, of which one is enough; `soft` ones, of which `soft_limit` different ones are (2 in datatrove); `parts`,
which count inside other words and across separators. A word is a run of letters and digits. Unlike datatrove the scheme is left
out ("https" + "exchange" would hold "sex"), capital letters are words too, percent-encoding is undone, and words of
other scripts than Latin can be listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ccpipe.urls.format import Arrays
from ccpipe.urls.kernels import HARD, MAX_SOFT, SOFT, hash_word
from ccpipe.urls.sources import NotABlocklist

REASONS = ("banned_word", "soft_banned_words", "banned_subword")
"""In the order of the codes that `match_words` returns, from 1 on."""
SOFT_LIMIT = 2
MAX_STATES = 1 << 16

_NO_LETTERS = re.compile(r"[^a-z0-9\x80-\U0010ffff]+")


@dataclass(frozen=True)
class WordLists:
    """`soft_limit`: different soft words that block, 1 to 16."""

    hard: tuple[str, ...] = ()
    soft: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    soft_limit: int = SOFT_LIMIT

    def __post_init__(self) -> None:
        if not 1 <= self.soft_limit <= MAX_SOFT:
            raise NotABlocklist(f"{self.soft_limit} soft words; expected 1 to {MAX_SOFT}: give another --soft-limit")

    def __bool__(self) -> bool:
        return bool(self.hard or self.soft or self.parts)


def clean_words(lines: Iterable[str]) -> tuple[str, ...]:
    """One word a line, `#` comments; lower case, separators inside a line dropped, as datatrove does it.

    >>> clean_words(["# list", "Free-Money", "", "色情"])
    ('freemoney', '色情')
    """
    lowered = (_NO_LETTERS.sub("", _ascii_lower(line)) for line in lines if not line.startswith("#"))
    return tuple(sorted({word for word in lowered if word}))


def _ascii_lower(text: str) -> str:
    return re.sub("[A-Z]+", lambda found: found[0].lower(), text)


def word_arrays(lists: WordLists) -> Arrays:
    """The arrays `words`, `word_kinds`, `jumps`, `classes` and `ends` of `Table`. A word in both lists is a hard one."""
    kinds = {**dict.fromkeys(map(_hash, lists.soft), SOFT), **dict.fromkeys(map(_hash, lists.hard), HARD)}
    keys = np.array(sorted(kinds), np.uint64)
    return {"words": keys, "word_kinds": np.array([kinds[int(key)] for key in keys], np.uint8), **automaton(lists.parts)}


def _hash(word: str) -> int:
    return int(hash_word(np.frombuffer(word.encode(), np.uint8)))


def automaton(words: Iterable[str]) -> Arrays:
    """Aho and Corasick (1975), as a table of all jumps: finds every word of the list inside a text, in one pass over its bytes."""
    encoded = [word.encode() for word in words]
    letters = sorted({byte for word in encoded for byte in word})
    classes = np.zeros(256, np.uint8)
    classes[letters] = np.arange(1, len(letters) + 1)
    children: list[dict[int, int]] = [{}]
    ends = [0]
    for word in encoded:
        state = 0
        for byte in word:
            if classes[byte] not in children[state]:
                children[state][int(classes[byte])] = len(children)
                children.append({})
                ends.append(0)
            state = children[state][int(classes[byte])]
        ends[state] = 1
    if len(children) > MAX_STATES:
        raise NotABlocklist(f"the parts of words have {len(children):,} letters together; at most {MAX_STATES:,} fit: shorten the list")
    return {"jumps": _jumps(children, ends, len(letters) + 1).ravel(), "classes": classes, "ends": np.array(ends, np.uint8)}


def _jumps(children: list[dict[int, int]], ends: list[int], n_classes: int) -> np.ndarray:
    """uint16, shape (states, classes). States of words that end inside others are marked in `ends`."""
    jumps = np.zeros((len(children), n_classes), np.uint16)
    fail = [0] * len(children)
    queue = [0]
    for state in queue:
        jumps[state] = jumps[fail[state]] if state else 0
        ends[state] |= ends[fail[state]]
        for letter, child in children[state].items():
            fail[child] = int(jumps[state, letter])
            jumps[state, letter] = child
            queue.append(child)
    return jumps
