"""What can be said about each block of a page, as numbers, for the model of `ccpipe.html.maintext`.

In: a `Page`. Out: float32 (n_blocks, n_features). Counts, sums and quotients alone: no logarithm whose last bit differs
between machines. Names of the columns stand in `FEATURES` (first pass) and `SMOOTH` (second pass, from the first one's answers).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ccpipe.html import blocks as b
from ccpipe.html.containers import BEST_BOX, CONTAINERS, best_box, containers
from ccpipe.html.overlap import OVERLAP, overlap
from ccpipe.kernels import kernel

_OWN = """weight links link_share link_rate kind tag digits upper ends commas last_end wide bold lines word_len words images header in_title
    wording_sum wording_min wording_max weight_end"""
_PLACE = "index index_share from_end mass_before depth prose_before prose_after"
_NEAR = [f"{name}{k:+d}" for k in (-3, -2, -1, 1, 2, 3) for name in ("weight", "link", "kind")]
_WINDOWS = "prose_w4 link_w4 prose_w10 link_w10 short_run wording-1 wording+1 same_box-1 same_box+1"
_LEVELS = [f"{name}_{k}" for k in range(3) for name in ("mass", "share", "link", "count", "prose", "name_sum", "name_min", "name_max")]
_CHAIN = """chain_sum chain_min chain_max near_max near_min in_nav in_footer in_aside in_header in_form in_table in_list in_article
    in_main in_dl in_figure in_blockquote veil"""
_REPEAT = """repeats repeat_mass repeat_order repeat_best_order repeat_best_before repeat_best repeat_best_mass
    path_count path_mass path_link path_prose path_first path_last"""
_HEADS = "head_near head_level head_wording head_title head_name since_h1 seen_h1 since_title title_seen section_prose section_link"
_PAGE = "page_mass page_count page_prose page_link page_wide page_boxes page_p page_article page_text_kind page_cell page_item"
FEATURES = [
    *_OWN.split(),
    *_PLACE.split(),
    *_NEAR,
    *_WINDOWS.split(),
    *_LEVELS,
    *_CHAIN.split(),
    *_REPEAT.split(),
    *_HEADS.split(),
    *_PAGE.split(),
    *OVERLAP,
    *CONTAINERS,
]

SMOOTH = [
    "p",
    "p-4",
    "p-3",
    "p-2",
    "p-1",
    "p+1",
    "p+2",
    "p+3",
    "p+4",
    "p_w3",
    "p_w8",
    "p_w20",
    "p_box0",
    "p_box1",
    "p_box2",
    "p_path",
    "p_before",
    "p_after",
    "p_top",
    "p_rank",
    "p_page",
    "p_share",
    "p_head",
    "p_section",
    "p_next_prose",
    "p_previous_prose",
    "p_gap",
    "p_repeat",
    *BEST_BOX,
]

PROSE_WEIGHT = 80
"""A block from this weight on is prose, not a label (jusText: `length_low` 70)."""

WIDE_WEIGHT = 2
"""Added to a Chinese, Japanese or Korean character's length: it says about as much as three Latin letters."""

_TAGS = np.array(
    [
        b.TAGS.index(name)
        for name in ["nav", "footer", "aside", "header", "form", "table", "li", "article", "main", "dl", "figure", "blockquote"]
    ],
    dtype=np.int32,
)
N_TAGS = len(_TAGS)
_ARTICLE = 7
_N, _N_SMOOTH = len(FEATURES) - len(CONTAINERS), len(SMOOTH) - len(BEST_BOX)
_TITLE_SHARE = 0.6

START, END, KIND, BOX, LINKED, BOLD, LINKS, LINES, CHARS = b.START, b.END, b.KIND, b.BOX, b.LINKED, b.BOLD, b.LINKS, b.LINES, b.CHARS
WIDE, DIGITS, UPPER, ENDS, COMMAS = b.WIDE, b.DIGITS, b.UPPER, b.ENDS, b.COMMAS
WORDS, LAST, IMAGES, HEADER = b.WORDS, b.LAST, b.IMAGES, b.HEADER
PARENT, TAG, FIRST, STOP, DEPTH, VEIL = b.PARENT, b.TAG, b.FIRST, b.STOP, b.DEPTH, b.VEIL
H1, H6, ITEM, CELL, CODE, PARAGRAPH, TEXT = b.H1, b.H6, b.ITEM, b.CELL, b.CODE, b.PARAGRAPH, b.TEXT


def features(page: b.Page, body: str = "", lead: str = "") -> np.ndarray:
    """The first pass's features, float32 (n_blocks, len(FEATURES)). `body`, `lead`: texts that the page states elsewhere."""
    rows: np.ndarray = _features(page.blocks, page.boxes, page.signs, page.names, page.wording, overlap(page, body, lead), _TAGS)
    link = np.minimum(1, page.blocks[:, LINKED] / np.maximum(1, page.blocks[:, END] - page.blocks[:, START])).astype(np.float32)
    return np.concatenate((rows, containers(page, weights(page), link)), axis=1)


def weights(page: b.Page) -> np.ndarray:
    """Length of each block in Latin letters' worth, float32."""
    size: np.ndarray = page.blocks[:, CHARS] + WIDE_WEIGHT * page.blocks[:, WIDE]
    return size.astype(np.float32)


def prose_share(page: b.Page) -> float:
    """Share of the page's text in blocks of prose (long, few links, no heading), 0..1."""
    sums = _sums(page.blocks)[0]
    return float(sums[-1, 2] / max(1.0, sums[-1, 0]))


@kernel
def _table_slot(keys: Any, key: Any) -> Any:
    mask = len(keys) - 1
    slot = np.int64(key >> np.uint64(32)) & mask
    while keys[slot] != np.uint64(0) and keys[slot] != key:
        slot = (slot + 1) & mask
    keys[slot] = key
    return slot


@kernel
def _join(one: Any, other: Any) -> Any:
    value = (one ^ (other * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xD1342543DE82EF95)
    value ^= value >> np.uint64(29)
    return value * np.uint64(0x94D049BB133111EB) | np.uint64(1)


@kernel
def _sums(blocks: Any) -> Any:
    """Running sums over the blocks: weight, weight in links, weight of prose, blocks of prose; and the weight of each."""
    n = len(blocks)
    sums = np.zeros((n + 1, 4), dtype=np.float64)
    weight = np.zeros(n, dtype=np.float64)
    link = np.zeros(n, dtype=np.float64)
    prose = np.zeros(n, dtype=np.bool_)
    for i in range(n):
        row = blocks[i]
        weight[i] = row[CHARS] + WIDE_WEIGHT * row[WIDE]
        link[i] = min(1.0, row[LINKED] / max(1, row[END] - row[START]))
        kind = row[KIND]
        prose[i] = not H1 <= kind <= H6 and link[i] <= 0.4 and (weight[i] >= PROSE_WEIGHT or kind == CODE)
        sums[i + 1, 0] = sums[i, 0] + weight[i]
        sums[i + 1, 1] = sums[i, 1] + weight[i] * link[i]
        sums[i + 1, 2] = sums[i, 2] + weight[i] * prose[i]
        sums[i + 1, 3] = sums[i, 3] + prose[i]
    return sums, weight, link, prose


@kernel
def _outer_boxes(boxes: Any, names: Any) -> Any:
    """For each box the outermost one with the same blocks, and sum, least and greatest score of the names on the way there."""
    outer = np.zeros(len(boxes), dtype=np.int32)
    merged = np.zeros((len(boxes), 3), dtype=np.float64)
    for k in range(len(boxes)):
        parent = boxes[k, PARENT]
        same = parent >= 0 and boxes[parent, FIRST] == boxes[k, FIRST] and boxes[parent, STOP] == boxes[k, STOP]
        outer[k] = outer[parent] if same else k
        for m in range(3):
            merged[k, m] = names[k, m]
        if same:
            merged[k, 0] += merged[parent, 0]
            merged[k, 1] = min(merged[k, 1], merged[parent, 1])
            merged[k, 2] = max(merged[k, 2], merged[parent, 2])
    return outer, merged


@kernel
def _table_size(n: Any) -> Any:
    size = 16
    while size < 2 * n + 2:
        size *= 2
    return size


@kernel
def _repeats(boxes: Any, signs: Any, sums: Any) -> Any:
    """For each box: equal siblings and their weight on average; the same for the most repeated box around it."""
    keys = np.zeros(_table_size(len(boxes)), dtype=np.uint64)
    count = np.zeros(len(keys), dtype=np.float64)
    mass = np.zeros(len(keys), dtype=np.float64)
    slot = np.zeros(len(boxes), dtype=np.int64)
    order = np.zeros((len(boxes), 2), dtype=np.float64)
    for k in range(len(boxes)):
        slot[k] = _table_slot(keys, _join(signs[k], np.uint64(boxes[k, PARENT] + 1)))
        order[k, 0], order[k, 1] = count[slot[k]], mass[slot[k]]
        if boxes[k, STOP] > boxes[k, FIRST]:
            count[slot[k]] += 1
            mass[slot[k]] += sums[boxes[k, STOP], 0] - sums[boxes[k, FIRST], 0]
    out = np.zeros((len(boxes), 7), dtype=np.float64)  # equals, mean weight; of the best; order, best's order, weight before it
    for k in range(len(boxes)):
        out[k, 0] = count[slot[k]]
        out[k, 1] = mass[slot[k]] / max(1.0, count[slot[k]])
        parent = boxes[k, PARENT]
        out[k, 2], out[k, 3] = out[k, 0], out[k, 1]
        out[k, 4], out[k, 5], out[k, 6] = order[k, 0], order[k, 0], order[k, 1]
        if parent >= 0 and out[parent, 2] >= out[k, 0]:
            out[k, 2], out[k, 3], out[k, 5], out[k, 6] = out[parent, 2], out[parent, 3], out[parent, 5], out[parent, 6]
    return out


@kernel
def _paths(blocks: Any, boxes: Any, signs: Any) -> Any:
    """For each block a number shared by all blocks of the same kind in boxes of the same tags and classes, three levels up."""
    keys = np.zeros(_table_size(len(blocks)), dtype=np.uint64)
    slots = np.zeros(len(blocks), dtype=np.int64)
    for i in range(len(blocks)):
        key = np.uint64(blocks[i, KIND] + 1)
        box = blocks[i, BOX]
        for _ in range(3):
            if box < 0:
                break
            key = _join(key, signs[box])
            box = boxes[box, PARENT]
        slots[i] = _table_slot(keys, key)
    return slots, len(keys)


@kernel
def _chains(boxes: Any, names: Any, tags: Any) -> Any:
    """For each box over all boxes around it and itself: sum, least, greatest name score; how far up each tag of `tags` is."""
    chain = np.zeros((len(boxes), 3 + N_TAGS), dtype=np.float64)
    for k in range(len(boxes)):
        parent = boxes[k, PARENT]
        if parent >= 0:
            chain[k, :] = chain[parent, :]
        chain[k, 0] += names[k, 0]
        chain[k, 1] = min(chain[k, 1], names[k, 1])
        chain[k, 2] = max(chain[k, 2], names[k, 2])
        for m in range(N_TAGS):
            if boxes[k, TAG] == tags[m]:
                chain[k, 3 + m] = 1
            elif chain[k, 3 + m] > 0:
                chain[k, 3 + m] += 1
    return chain


@kernel
def _part(sums: Any, start: Any, stop: Any, column: Any) -> Any:
    return sums[stop, column] - sums[start, column]


@kernel
def _features(blocks: Any, boxes: Any, signs: Any, names: Any, wording: Any, told: Any, tags: Any) -> Any:
    n = len(blocks)
    out = np.zeros((n, _N), dtype=np.float32)
    if n == 0:
        return out
    sums, weight, link, prose = _sums(blocks)
    outer, merged = _outer_boxes(boxes, names)
    repeats = _repeats(boxes, signs, sums)
    chain = _chains(boxes, names, tags)
    paths, n_paths = _paths(blocks, boxes, signs)
    by_path = np.zeros((n_paths, 6), dtype=np.float64)  # blocks, weight, weight in links, prose, first, last
    kinds = np.zeros(16, dtype=np.float64)
    wide = chars = 0
    for i in range(n):
        row = by_path[paths[i]]
        if row[0] == 0:
            row[4] = i
        row[0] += 1
        row[1] += weight[i]
        row[2] += weight[i] * link[i]
        row[3] += prose[i]
        row[5] = i
        kinds[blocks[i, KIND]] += weight[i]
        wide += blocks[i, WIDE]
        chars += blocks[i, CHARS]
    articles = 0
    for k in range(len(boxes)):
        articles += boxes[k, TAG] == tags[_ARTICLE]
    mass, all_prose = max(1.0, sums[n, 0]), max(1.0, sums[n, 2])
    next_head = np.zeros(n + 1, dtype=np.int64)
    next_head[n] = n
    for i in range(n - 1, -1, -1):
        next_head[i] = i if H1 <= blocks[i, KIND] <= H6 else next_head[i + 1]
    head, h1, titled, run = -1, -1, -1, 0
    for i in range(n):
        row = blocks[i]
        f = out[i]
        size = max(1, row[END] - row[START])
        c = 0
        words = max(1, row[WORDS])
        f[c], f[c + 1], f[c + 2], f[c + 3] = weight[i], row[LINKS], link[i], row[LINKS] / max(1.0, weight[i])
        f[c + 4], f[c + 5], f[c + 6], f[c + 7] = row[KIND], boxes[row[BOX], TAG], row[DIGITS] / row[CHARS], row[UPPER] / words
        f[c + 8], f[c + 9], f[c + 10], f[c + 11] = row[ENDS], row[COMMAS] / words, row[LAST], row[WIDE] / row[CHARS]
        f[c + 12], f[c + 13], f[c + 14], f[c + 15] = row[BOLD] / size, row[LINES], row[CHARS] / words, row[WORDS]
        f[c + 16], f[c + 17], f[c + 18], f[c + 19] = row[IMAGES], row[HEADER], wording[i, 3] / words, wording[i, 0]
        f[c + 20], f[c + 21], f[c + 22] = wording[i, 1], wording[i, 2], weight[i] * row[LAST]
        c += 23
        f[c], f[c + 1], f[c + 2], f[c + 3] = i, i / n, n - i, sums[i, 0] / mass
        f[c + 4], f[c + 5], f[c + 6] = boxes[row[BOX], DEPTH], sums[i, 2] / all_prose, (sums[n, 2] - sums[i + 1, 2]) / all_prose
        c += 7
        for d in (-3, -2, -1, 1, 2, 3):
            j = i + d
            inside = 0 <= j < n
            f[c] = weight[j] if inside else -1
            f[c + 1] = link[j] if inside else -1
            f[c + 2] = blocks[j, KIND] if inside else -1
            c += 3
        for d in (4, 10):
            lo, hi = max(0, i - d), min(n, i + d + 1)
            f[c] = _part(sums, lo, hi, 2)
            f[c + 1] = _part(sums, lo, hi, 1) / max(1.0, _part(sums, lo, hi, 0))
            c += 2
        run = 0 if prose[i] else run + 1
        f[c] = run
        f[c + 1] = wording[i - 1, 0] if i else 0
        f[c + 2] = wording[i + 1, 0] if i + 1 < n else 0
        f[c + 3] = i > 0 and boxes[blocks[i - 1, BOX], PARENT] == boxes[row[BOX], PARENT]
        f[c + 4] = i + 1 < n and boxes[blocks[i + 1, BOX], PARENT] == boxes[row[BOX], PARENT]
        c += 5
        box = row[BOX]
        near_max, near_min = -9.0, 9.0
        for _ in range(3):
            top = outer[box]
            lo, hi = boxes[box, FIRST], boxes[box, STOP]
            part = _part(sums, lo, hi, 0)
            f[c], f[c + 1], f[c + 2] = part, part / mass, _part(sums, lo, hi, 1) / max(1.0, part)
            f[c + 3], f[c + 4] = hi - lo, _part(sums, lo, hi, 2) / max(1.0, part)
            f[c + 5], f[c + 6], f[c + 7] = merged[box, 0], merged[box, 1], merged[box, 2]
            near_max, near_min = max(near_max, merged[box, 2]), min(near_min, merged[box, 1])
            c += 8
            if boxes[top, PARENT] >= 0:
                box = boxes[top, PARENT]
        box = row[BOX]
        f[c], f[c + 1], f[c + 2], f[c + 3], f[c + 4] = chain[box, 0], chain[box, 1], chain[box, 2], near_max, near_min
        c += 5
        for m in range(N_TAGS):
            f[c] = chain[box, 3 + m]
            c += 1
        f[c] = boxes[box, VEIL]
        c += 1
        f[c], f[c + 1], f[c + 2], f[c + 3] = repeats[box, 0], repeats[box, 1], repeats[box, 4], repeats[box, 5]
        f[c + 4], f[c + 5], f[c + 6] = repeats[box, 6], repeats[box, 2], repeats[box, 3]
        c += 3
        path = by_path[paths[i]]
        f[c + 4], f[c + 5], f[c + 6], f[c + 7] = path[0], path[1], path[2] / max(1.0, path[1]), path[3] / path[0]
        f[c + 8], f[c + 9] = path[4] / n, path[5] / n
        c += 10
        is_head = H1 <= row[KIND] <= H6
        if row[KIND] == H1:
            h1 = i
        if is_head and wording[i, 3] > _TITLE_SHARE * words:
            titled = i
        end = next_head[i + 1] if is_head else next_head[i]
        start = i if is_head else (head if head >= 0 else 0)
        section = max(1.0, _part(sums, start, end, 0))
        f[c] = i - head if head >= 0 else -1
        if head >= 0:
            f[c + 1], f[c + 2] = blocks[head, KIND], wording[head, 0]
            f[c + 3] = wording[head, 3] / max(1, blocks[head, WORDS])
            f[c + 4] = merged[blocks[head, BOX], 0]
        f[c + 5], f[c + 6] = (i - h1 if h1 >= 0 else -1), h1 >= 0
        f[c + 7], f[c + 8] = (i - titled if titled >= 0 else -1), titled >= 0
        f[c + 9], f[c + 10] = _part(sums, start, end, 2), _part(sums, start, end, 1) / section
        c += 11
        f[c], f[c + 1], f[c + 2], f[c + 3] = mass, n, sums[n, 2] / mass, sums[n, 1] / mass
        f[c + 4], f[c + 5], f[c + 6], f[c + 7] = wide / chars, len(boxes), kinds[PARAGRAPH] / mass, articles
        f[c + 8], f[c + 9], f[c + 10] = kinds[TEXT] / mass, kinds[CELL] / mass, kinds[ITEM] / mass
        c += 11
        for m in range(8):
            f[c + m] = told[i, m]
        if is_head:
            head = i
    return out


@kernel
def _smooth(blocks: Any, boxes: Any, signs: Any, p: Any) -> Any:
    """Second pass: the first pass's probabilities around each block, in its boxes, in its path and on the page."""
    n = len(blocks)
    out = np.zeros((n, _N_SMOOTH), dtype=np.float32)
    if n == 0:
        return out
    sums, weight, _, prose = _sums(blocks)
    names = np.zeros((len(boxes), 3), dtype=np.float32)
    outer, _ = _outer_boxes(boxes, names)
    paths, n_paths = _paths(blocks, boxes, signs)
    by_path = np.zeros((n_paths, 2), dtype=np.float64)
    run = np.zeros(n + 1, dtype=np.float64)
    top = 0.0
    for i in range(n):
        run[i + 1] = run[i] + p[i] * weight[i]
        by_path[paths[i], 0] += p[i] * weight[i]
        by_path[paths[i], 1] += weight[i]
        if prose[i]:
            top = max(top, p[i])
    next_prose = np.zeros(n + 1, dtype=np.float64)
    for i in range(n - 1, -1, -1):
        next_prose[i] = p[i] if prose[i] else next_prose[i + 1]
    next_head = np.zeros(n + 1, dtype=np.int64)
    next_head[n] = n
    for i in range(n - 1, -1, -1):
        next_head[i] = i if H1 <= blocks[i, KIND] <= H6 else next_head[i + 1]
    best = 0.0
    for i in range(n):
        best = max(best, p[i])
    previous_prose = 0.0
    head = -1
    gap = 0.0
    for i in range(n):
        f = out[i]
        f[0] = p[i]
        c = 1
        for d in (-4, -3, -2, -1, 1, 2, 3, 4):
            f[c] = p[i + d] if 0 <= i + d < n else -1
            c += 1
        for d in (3, 8, 20):
            lo, hi = max(0, i - d), min(n, i + d + 1)
            f[c] = (run[hi] - run[lo]) / max(1.0, sums[hi, 0] - sums[lo, 0])
            c += 1
        box = blocks[i, BOX]
        for _ in range(3):
            lo, hi = boxes[box, FIRST], boxes[box, STOP]
            f[c] = (run[hi] - run[lo]) / max(1.0, sums[hi, 0] - sums[lo, 0])
            c += 1
            if boxes[outer[box], PARENT] >= 0:
                box = boxes[outer[box], PARENT]
        f[c] = by_path[paths[i], 0] / max(1.0, by_path[paths[i], 1])
        total = max(1.0, run[n])
        f[c + 1], f[c + 2] = run[i] / total, (run[n] - run[i + 1]) / total
        f[c + 3], f[c + 4] = top, p[i] / max(0.01, best)
        f[c + 5], f[c + 6] = run[n] / max(1.0, sums[n, 0]), p[i] * weight[i] / total
        is_head = H1 <= blocks[i, KIND] <= H6
        f[c + 7] = p[head] if head >= 0 else -1
        end = next_head[i + 1] if is_head else next_head[i]
        start = i if is_head else max(head, 0)
        f[c + 8] = (run[end] - run[start]) / max(1.0, sums[end, 0] - sums[start, 0])
        f[c + 9], f[c + 10] = next_prose[i + 1], previous_prose
        f[c + 11] = gap
        parent = boxes[outer[blocks[i, BOX]], PARENT]
        f[c + 12] = boxes[parent, STOP] - boxes[parent, FIRST] if parent >= 0 else n
        if is_head:
            head = i
        if prose[i]:
            previous_prose = p[i]
        gap = 0 if p[i] > 0.5 else gap + weight[i]
    return out


def smooth(page: b.Page, p: np.ndarray) -> np.ndarray:
    """The second pass's features, float32 (n_blocks, len(SMOOTH)), from the first pass's probabilities."""
    rows: np.ndarray = _smooth(page.blocks, page.boxes, page.signs, p)
    return np.concatenate((rows, best_box(page, weights(page), p)), axis=1)
