"""Which blocks of a page are in its gold text: labels for `train_maintext.py`.

Blocks of four tokens or more are looked up by runs of four tokens; of the places found, the chain that ascends in page and gold
alike and covers most is taken. Short blocks count where they stand in the gold between their neighbours' places. So a word of a
menu that also occurs in the article is not taken for the article.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict

import numpy as np

RUN = 4
NEAR = 3
"""Words by which two votes for one place may differ."""

_UNSPACED = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def tokens(text: str) -> list[str]:
    """Words, and single characters of scripts written without spaces, in lower case."""
    return [token.lower() for token in _TOKEN.findall(text)]


def align(blocks: list[list[str]], gold: list[str]) -> np.ndarray:
    """Share of each block's tokens found at its place in the gold, float64 (n_blocks,)."""
    share = np.zeros(len(blocks))
    if not gold:
        return share
    places, found = _places(blocks, gold)
    covered = np.zeros(len(gold), dtype=bool)
    at: dict[int, tuple[int, int]] = {}
    chain = _chain(places)
    outside = sorted(set(range(len(places))) - set(chain), key=lambda k: -places[k][3])
    for k in chain + outside:
        i, start, stop, _ = places[k]
        if k in chain or (i not in at and len(blocks[i]) >= 6 and covered[start:stop].mean() < 0.3):
            share[i], at[i] = found[i], (start, stop)
            covered[start:stop] = True
    _fill_gaps(blocks, gold, share, at, [places[k][0] for k in chain], found, covered)
    return share


def align_segments(texts: list[str], wanted: list[str], unwanted: list[str]) -> np.ndarray:
    """1 for blocks with a wanted snippet, 0 for those with an unwanted one, -1 where nothing is known."""
    y = np.full(len(texts), -1.0)
    wanted, unwanted = ([" ".join(one.split()) for one in snippets] for snippets in (wanted, unwanted))
    for i, text in enumerate(" ".join(text.split()) for text in texts):
        if any(one in text or (len(text) > 25 and text in one) for one in wanted):
            y[i] = 1
        elif any(one in text or (len(text) > 12 and text in one) for one in unwanted):
            y[i] = 0
    return y


def _places(blocks: list[list[str]], gold: list[str]) -> tuple[list[tuple[int, int, int, float]], np.ndarray]:
    """Where long blocks may stand, (block, start, stop, tokens found), ascending; share of each block's tokens in runs of the gold."""
    runs: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for k in range(len(gold) - RUN + 1):
        runs[tuple(gold[k : k + RUN])].append(k)
    places, found = [], np.zeros(len(blocks))
    for i, block in enumerate(blocks):
        votes: Counter[int] = Counter()
        hit = np.zeros(max(1, len(block)), dtype=bool)
        for k in range(len(block) - RUN + 1):
            for place in runs.get(tuple(block[k : k + RUN]), [])[:20]:
                hit[k : k + RUN] = True
                votes[place - k] += 1
        found[i] = hit.mean()
        if found[i] < 0.3:
            continue
        best = _peaks(votes)
        for start, n in best:
            if n >= 0.5 * best[0][1]:
                places.append((i, max(0, start), min(len(gold), start + len(block)), (n + 3) * found[i]))
    return sorted(places, key=lambda place: place[:2]), found


def _peaks(votes: Counter[int]) -> list[tuple[int, int]]:
    """The four likeliest starts with their votes; those of starts nearby, where a word is more or less, are added."""
    peaks: list[tuple[int, int]] = []
    for start, _ in sorted(votes.items(), key=lambda vote: (-vote[1], vote[0])):
        if all(abs(start - other) > NEAR for other, _ in peaks):
            peaks.append((start, sum(votes[start + d] for d in range(-NEAR, NEAR + 1))))
        if len(peaks) == 4:
            break
    return sorted(peaks, key=lambda peak: -peak[1])


def _chain(places: list[tuple[int, int, int, float]]) -> list[int]:
    """The places that ascend in both texts with the most tokens, overlapping by three at most."""
    if not places:
        return []
    block, start, stop, weight = (np.array(column) for column in zip(*places, strict=True))
    best, previous = weight.astype(np.float64), np.full(len(places), -1)
    for k in range(1, len(places)):
        before = np.where((block[:k] < block[k]) & (stop[:k] <= start[k] + NEAR), best[:k], -1)
        j = int(np.argmax(before))
        if before[j] >= 0:
            best[k], previous[k] = best[j] + weight[k], j
    chain, k = [], int(np.argmax(best))
    while k >= 0:
        chain.append(k)
        k = int(previous[k])
    return chain[::-1]


def _fill_gaps(
    blocks: list[list[str]],
    gold: list[str],
    share: np.ndarray,
    at: dict[int, tuple[int, int]],
    chain: list[int],
    found: np.ndarray,
    covered: np.ndarray,
) -> None:
    """Short blocks whose tokens stand between the places of the chain's blocks before and after."""
    first: dict[str, list[int]] = defaultdict(list)
    for k, word in enumerate(gold):
        first[word].append(k)
    here = step = 0
    for i, block in enumerate(blocks):
        while step < len(chain) and chain[step] <= i:
            here = max(here, at[chain[step]][1])
            step += 1
        if i in at or not block or len(block) > 6 or (found[i] >= 0.3 and len(block) >= RUN):
            continue
        limit = at[chain[step]][0] if step < len(chain) else len(gold)
        gap = limit - here
        starts = first.get(block[0], [])
        for place in starts[bisect_left(starts, here) :]:
            if place + len(block) > limit:
                break
            if gold[place : place + len(block)] == block:
                before_all = step == 0 and place < 30 and bool(chain) and chain[0] - i < 12
                near = gap <= 40 + 4 * len(block) or (len(block) >= 3 and gap < 200) or before_all
                if near and not covered[place : place + len(block)].any():
                    share[i] = 1
                    here = place + len(block)
                    covered[place:here] = True
                break
