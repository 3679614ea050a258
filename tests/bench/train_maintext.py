"""Fit the model of `ccpipe.html.maintext` on annotated pages, by site-wise cross-validation.

    python -m pip install lightgbm            # for this script alone; ccpipe does not need it
    python tests/bench/train_maintext.py FOLDER [--out ccpipe/html/maintext.json] [--texts out-of-fold.jsonl]

FOLDER holds `*.warc.gz`, each with a `*.gold.jsonl` of lines {record_id, uri, kind, text, with, without, source, page_type, charset}.
A fold is a fifth of the registered domains, chosen by their SHA-256. Everything that is learnt, the scores of words too, comes
from the other folds; the second pass learns from out-of-fold answers of the first. Pages of `*extra*` files are scored and never
learnt from. `--texts` writes the main text of each page as the models that have not seen its site give it: the only texts that may
be scored. The model written is fitted on all pages learnt from.
Deterministic for one version of LightGBM.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from align_gold import align, align_segments, tokens
from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser

from ccpipe.html import blocks as b
from ccpipe.html import charset
from ccpipe.html.cut import cut, written_out
from ccpipe.html.extraction import text_or_stated
from ccpipe.html.features import features, smooth, weights
from ccpipe.html.forest import probability
from ccpipe.html.maintext import FORMAT, MODES, main_blocks, render
from ccpipe.html.stated import Stated, read_stated
from ccpipe.html.words import SHORT_TEXT, Scores, make_table, spell_word, word_hash
from ccpipe.warc import http, read_records
from ccpipe.warc.record import HEADER_BYTES

FOLDS = 5
KEEP_WORDS = 400_000
MIN_SITES = 5
"""Sites that must have a word."""

LEFT_OUT = "extra"
"""Pages of files with this in their names are scored and never learnt from: their annotations have no permissive licence."""

MIN_SCORE = {"names": 0.10, "wording": 0.12}
FIRST = {"rounds": 130, "num_leaves": 24, "learning_rate": 0.09}
SECOND = {"rounds": 70, "num_leaves": 16, "learning_rate": 0.09}
PARAMETERS = {
    "objective": "binary",
    "feature_fraction": 0.4,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5,
    "min_data_in_leaf": 80,
    "max_bin": 63,
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}
_SECOND_LEVELS = frozenset(["co", "com", "org", "net", "gov", "ac", "edu", "ne", "or", "gob", "go", "nic", "govt"])


@dataclass
class Example:
    """One page: gold line, tree as written out, what it states, cut blocks, share of each block in the gold (-1: not known)."""

    gold: dict[str, Any]
    html: bytes
    stated: Stated
    page: b.Page
    label: np.ndarray
    site: str
    learn: bool


def site_of(url: str) -> str:
    """The registered domain, near enough: the last two labels, three below co.uk and the like.

    >>> site_of("https://news.example.co.uk/a"), site_of("http://a.b.org/")
    ('example.co.uk', 'b.org')
    """
    host = url.split("://")[-1].split("/")[0].split("@")[-1].split(":")[0].lower().rstrip(".")
    labels = host.split(".")
    if labels[-1] == "test":
        return host
    return ".".join(labels[-3:] if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVELS else labels[-2:])


def fold_of(site: str) -> int:
    return int(hashlib.sha256(site.encode()).hexdigest(), 16) % FOLDS


def read_gold(folder: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Gold lines with their pages as UTF-8; `file` is added to the lines."""
    for path in sorted(folder.glob("*.gold.jsonl")):
        gold = {one["record_id"]: one for one in map(json.loads, path.open(encoding="utf-8"))}
        warc = path.with_name(path.name.replace(".gold.jsonl", ".warc.gz"))
        for record in read_records(warc, None, (10 << 20) + HEADER_BYTES, Counter()):
            one = gold.get(record.headers["warc-record-id"]) if record.kind == "response" else None
            response = http.parse_response(record.block) if one else None
            if one and response:
                body = http.decode_body(response, 10 << 20)
                yield one | {"file": path.name}, charset.decode(body, f"text/html; charset={one['charset']}").utf8


def read_example(gold: dict[str, Any], utf8: bytes) -> Example:
    tree = LexborHTMLParser(utf8, options=LexborDocumentOptions.WO_EVENTS)
    stated = read_stated(tree, utf8)
    html = written_out(tree)
    page = cut(html, title=stated.title, keep=KEEP_WORDS)
    texts = [page.text[start:stop].tobytes().decode() for start, stop in page.blocks[:, :2].tolist()]
    if gold["kind"] == "segments":
        label = align_segments(texts, gold["with"], gold["without"])
    else:
        label = align([tokens(text) for text in texts], tokens(gold["text"]))
    return Example(gold, html, stated, page, label, site_of(gold["uri"]), LEFT_OUT not in gold["file"])


def word_scores(examples: list[Example]) -> dict[str, dict[int, float]]:
    """How much more of the text below a name, or of the short blocks with a word, is main text than of the page: mean over sites,
    shrunk as if four more sites had shown no difference."""
    found: dict[str, Any] = {kind: defaultdict(lambda: defaultdict(list)) for kind in MIN_SCORE}
    for one in examples:
        known, good = one.label >= 0, one.label >= 0.5
        if known.sum() < 2 or (one.gold["kind"] != "segments" and not good.any()):
            continue
        blocks = one.page.blocks
        weight = np.minimum(weights(one.page), 400) * known
        sums = np.cumsum(np.concatenate(([[0.0, 0.0]], np.stack((weight * good, weight), axis=1))), axis=0)
        short = known & (blocks[:, b.END] - blocks[:, b.START] <= SHORT_TEXT)
        base, short_base = sums[-1, 0] / max(1.0, sums[-1, 1]), good[short].mean() if short.any() else 0.0
        here: dict[str, Any] = {kind: defaultdict(lambda: np.zeros(2)) for kind in MIN_SCORE}
        for kind, owner, key in np.unique(one.page.seen[:, :3], axis=0).tolist():
            if kind == 0 and owner < len(one.page.boxes):
                box = one.page.boxes[owner]
                here["names"][key] += sums[box[b.STOP]] - sums[box[b.FIRST]]
            elif kind > 0 and owner < len(known) and known[owner]:
                here["wording"][key] += (good[owner], 1)
        for kind, mean in (("names", base), ("wording", short_base)):
            for key, (part, whole) in here[kind].items():
                if whole > 0:
                    found[kind][key][one.site].append(part / whole - mean)
    scores: dict[str, dict[int, float]] = {}
    for kind, least in MIN_SCORE.items():
        means = {key: sum(map(np.mean, sites.values())) / (len(sites) + 4) for key, sites in found[kind].items() if len(sites) >= MIN_SITES}
        scores[kind] = {key: round(float(mean), 3) for key, mean in means.items() if abs(mean) > least}
    return scores


def as_tables(scores: dict[str, dict[int, float]]) -> Scores:
    return Scores(make_table(scores["names"]), make_table(scores["wording"]))


def example_weights(one: Example, sources: Counter[str]) -> np.ndarray:
    """What each block's answer is worth: its share of the gold, so that pages count alike; sources by the root of their size."""
    size = weights(one.page).astype(np.float64)
    if not one.learn:
        return np.zeros(len(size))
    good = size[one.label >= 0.5].sum()
    weight = np.minimum((size + 15) / max(400.0, good), 0.25) + 0.002
    if one.gold["kind"] == "segments":
        weight[:] = 0.06
    elif good < 60:
        return np.zeros(len(size))
    weight[one.label < 0] = 0
    weight[(one.label > 0.3) & (one.label < 0.7)] *= 0.4
    source = one.gold["source"]
    page = (60 / max(20, sources[source])) ** 0.5
    page *= 1.6 if source == "wcxb" and one.gold["page_type"] != "article" else 1.2 if source == "aeb" else 1.0
    return np.asarray(weight * page * min(1.0, 1.5 / max(1e-9, weight.sum())))


def fit(x: np.ndarray, y: np.ndarray, weight: np.ndarray, rounds: int, **parameters: Any) -> Any:
    use = weight > 0
    data = lightgbm.Dataset(x[use], label=y[use] >= 0.5, weight=weight[use] / weight[use].mean(), params={"max_bin": 63, "verbose": -1})
    return lightgbm.train(PARAMETERS | parameters, data, rounds)


def fit_out_of_fold(x: np.ndarray, y: np.ndarray, weight: np.ndarray, fold: np.ndarray, how: dict[str, Any]) -> np.ndarray:
    """Log odds of each row by the model of the other folds."""
    scores = np.zeros(len(y))
    for k in range(FOLDS):
        model = fit(x[fold != k], y[fold != k], weight[fold != k], **how)
        scores[fold == k] = model.predict(x[fold == k], raw_score=True)
    return scores


def export_trees(model: Any) -> list[dict[str, Any]]:
    return [_export_tree(tree["tree_structure"]) for tree in model.dump_model()["tree_info"]]


def _export_tree(root: dict[str, Any]) -> dict[str, Any]:
    nodes: list[Any] = []
    leaves: list[float] = []

    def walk(node: dict[str, Any]) -> int:
        if "leaf_value" in node:
            leaves.append(round(node["leaf_value"], 4))
            return -len(leaves)
        k = len(nodes)
        nodes.append(None)
        threshold = float(f"{node['threshold']:.7g}")
        nodes[k] = [node["split_feature"], int(threshold) if threshold.is_integer() else threshold]
        nodes[k] += [walk(node["left_child"]), walk(node["right_child"])]
        return k

    walk(root)
    return {"nodes": nodes, "leaves": leaves}


def spell(examples: list[Example], scores: dict[str, dict[int, float]]) -> dict[str, dict[str, float]]:
    """Scores by word in place of by hash."""
    words: dict[str, dict[int, str]] = {"names": {}, "wording": {}}
    for one in examples:
        for kind, _, key, start, stop in one.page.seen.tolist():
            table = words["wording" if kind else "names"]
            if key in scores["wording" if kind else "names"] and key not in table:
                raw = (one.page.text[start:stop].tobytes() if kind else one.html[start:stop]).decode()
                table[key] = spell_word(raw, bool(kind))
    out = {}
    for kind, table in words.items():
        spelt = {table[key]: score for key, score in scores[kind].items() if word_hash(table[key]) == key}
        out[kind] = dict(sorted(spelt.items()))
    return out


def write_texts(path: Path, examples: list[Example], pages: list[b.Page], chances: list[np.ndarray]) -> None:
    """A line {id, text, precision, recall} a page: `text` is that of the mode `balanced`."""
    with path.open("w", encoding="utf-8") as out:
        for one, page, p in zip(examples, pages, chances, strict=True):
            texts = {mode: text_or_stated(render(page, main_blocks(page, p, mode)), one.stated) for mode in MODES}
            line = {"id": one.gold["id"], "text": texts.pop("balanced"), **texts}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_model(path: Path, words: dict[str, dict[str, float]], first: list[Any], second: list[Any]) -> None:
    """JSON, a word or a tree a line."""
    lines = ["{", f'"format": {json.dumps(FORMAT)},']
    for kind, table in words.items():
        entries = ",\n".join(f"{json.dumps(word, ensure_ascii=False)}: {score}" for word, score in table.items())
        lines += [f'"{kind}": {{', entries, "},"]
    for name, trees, end in (("first", first, "],"), ("second", second, "]")):
        lines += [f'"{name}": [', ",\n".join(json.dumps(tree, separators=(",", ":")) for tree in trees), end]
    path.write_text("\n".join([*lines, "}", ""]), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, help="model of all pages, JSON")
    parser.add_argument("--texts", type=Path, help="out-of-fold texts, a line {id, text, precision, recall} a page")
    options = parser.parse_args()
    examples = [read_example(gold, utf8) for gold, utf8 in read_gold(options.folder)]
    learnt = [one for one in examples if one.learn]
    folds = [fold_of(one.site) for one in examples]
    sources = Counter(one.gold["source"] for one in learnt)
    rows, pages = [np.zeros(0)] * len(examples), [one.page for one in examples]
    for k in range(FOLDS):
        tables = as_tables(word_scores([one for one in learnt if fold_of(one.site) != k]))
        for i in (i for i, fold in enumerate(folds) if fold == k):
            one = examples[i]
            pages[i] = cut(one.html, tables, one.stated.title)
            rows[i] = features(pages[i], one.stated.body, one.stated.lead)
    x, y = np.concatenate(rows), np.concatenate([one.label for one in examples])
    weight = np.concatenate([example_weights(one, sources) for one in examples])
    fold = np.repeat(folds, [len(one) for one in rows])
    ends = np.cumsum([len(one) for one in rows])[:-1]
    first = fit_out_of_fold(x, y, weight, fold, FIRST)
    around = np.concatenate([smooth(page, p) for page, p in zip(pages, np.split(probability(first), ends), strict=True)])
    both = np.concatenate((x, around), axis=1)
    if options.texts:
        second = fit_out_of_fold(both, y, weight, fold, SECOND)
        write_texts(options.texts, examples, pages, np.split(probability((first + second) / 2), ends))
    if options.out:
        words = spell(learnt, word_scores(learnt))
        write_model(options.out, words, export_trees(fit(x, y, weight, **FIRST)), export_trees(fit(both, y, weight, **SECOND)))


if __name__ == "__main__":
    main()
