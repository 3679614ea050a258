"""Precision and recall of dedup on near-duplicates made from real pages, with and without verification: `python
tests/bench/bench_near_duplicates.py GOLD.jsonl ...` (files with one JSON object a line and a key `text`).

Made from each page of 1,000 characters and more, with known truth:
mirrors     the page under another host: its first and last lines replaced by other navigation. Duplicates.
edits       sentences inserted, removed or replaced (equal parts) at a rate of 1 to 40 %. Duplicates where the exact Jaccard similarity of
            the texts is at least 0.8; what else is dropped is judged by its own exact similarity.
templates   families of pages that share boilerplate, 30 to 85 % of their words, around paragraphs of different pages. No duplicates.
Precision: of the dropped documents, those made from the same page as what they are said to duplicate. Recall: of copies of exact
similarity 0.8 and more, those in one cluster with their page. Lost: template pages dropped for another of their family, by share of
boilerplate. Wrong<0.8: dropped for a document of another page, and not even alike. CPU: seconds of all phases (the first setting loads
the compiled code).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "ccpipe"))
import numpy as np
from dedup_flow import Flow, text_flow

from ccpipe.dedup.exact import jaccard, shingle_set

MIN_CHARS = 1000
RATES = (0.01, 0.03, 0.05, 0.1, 0.2, 0.4)
SHARES = (0.3, 0.5, 0.7, 0.85)
FAMILY = 12
BOILERPLATE_WORDS = 150
WANTED = 0.8
SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？\n]*")

SETTINGS: dict[str, dict[str, Any]] = {
    "16 x 8": {},
    "14 x 8": {"bands": 14, "rows": 8},
    "9 x 13": {"bands": 9, "rows": 13},
    "component": {"keep": "component"},
    "verify 0.7": {"verify": 0.7},
    "verify 0.8": {"verify": 0.8},
    "verify 0.8, 1 representative": {"verify": 0.8, "representatives": 1},
    "verify_text 0.8": {"verify_text": 0.8},
    "component, verify 0.8": {"keep": "component", "verify": 0.8},
}


@dataclass(frozen=True)
class Made:
    """`origin`: pages of one origin are duplicates of each other; `similarity`: exact, to the origin's page."""

    text: str
    kind: str
    origin: int
    similarity: float = 1.0


def make_documents(pages: list[str], rng: random.Random) -> list[Made]:
    """Pages first, as originals come first in a crawl of many; then what is made of them, in any order."""
    originals = [Made(text, "page", i) for i, text in enumerate(pages)]
    made = list(_copies(pages, rng)) + list(_templates(pages, len(pages), rng))
    rng.shuffle(made)
    return originals + made


def _copies(pages: list[str], rng: random.Random) -> Iterator[Made]:
    for i, text in enumerate(pages):
        own = shingle_set(text.encode(), 5)
        rate = RATES[i % len(RATES)]
        for kind, copy in (("mirror", mirror(text, rng)), (f"edit {rate:.0%}", edit(text, rate, rng))):
            yield Made(copy, kind, i, jaccard(own, shingle_set(copy.encode(), 5)))


def mirror(text: str, rng: random.Random) -> str:
    host = f"mirror{rng.randrange(1000)}.example"
    lines = text.splitlines()
    inner = lines[1:-1] if len(lines) > 3 and len(lines[0]) + len(lines[-1]) < 200 else lines
    return "\n".join([f"Home | News | About {host} | Contact", *inner, f"Copy of this page at {host}, all rights with their holders"])


def edit(text: str, rate: float, rng: random.Random) -> str:
    pieces = SENTENCE.findall(text)
    others = list(pieces)
    out: list[str] = []
    for piece in pieces:
        if rng.random() >= rate:
            out.append(piece)
            continue
        what = rng.choice(("insert", "remove", "replace"))
        words = rng.choice(others).split() or ["edited"]
        rng.shuffle(words)
        out += [piece] if what == "insert" else []
        out += [" ".join(words) + " "] if what != "remove" else []
    return "".join(out)


def _templates(pages: list[str], first_origin: int, rng: random.Random) -> Iterator[Made]:
    """Families of FAMILY pages: half of the boilerplate above, half below, content of ever other pages between.

    At most half of a page is taken as content, so that no page of a family is a copy of that page.
    """
    origin = first_origin
    usable = [page for page in pages if len(page.split()) >= 200]
    for number, boilerplate in enumerate(rng.sample(usable, min(40, len(usable)))):
        share = SHARES[number % len(SHARES)]
        words = boilerplate.split()[:BOILERPLATE_WORDS]
        n_content = max(10, round(len(words) * (1 - share) / share))
        sources = [page for page in usable if page is not boilerplate and len(page.split()) >= 2 * n_content]
        for source in rng.sample(sources, FAMILY):
            start = rng.randrange(len(source.split()) - n_content)
            content = source.split()[start : start + n_content]
            half = len(words) // 2
            yield Made(" ".join([*words[:half], *content, *words[half:]]), f"template {share:.0%}", origin)
            origin += 1


def judge(flow: Flow, made: list[Made], places: list[int]) -> dict[str, Any]:
    marks = flow.marks()
    by_place = dict(zip(places, made, strict=True))
    at = {id(document): place for place, document in by_place.items()}
    dropped = [(by_place[place], by_place[mark["of"]]) for place, mark in marks.items() if mark["of"] is not None]
    right = sum(one.origin == other.origin for one, other in dropped)
    pages = {document.origin: place for place, document in by_place.items() if document.kind == "page"}
    near = [d for d in made if d.kind.startswith(("mirror", "edit")) and d.similarity >= WANTED]
    found = sum(marks[at[id(d)]]["cluster"] == marks[pages[d.origin]]["cluster"] for d in near)
    lost = {f"{share:.0%}": [0, 0] for share in SHARES}
    for document in made:
        if document.kind.startswith("template"):
            counts = lost[document.kind.split()[1]]
            counts[0] += not marks[at[id(document)]]["keep"]
            counts[1] += 1
    wrong = [jaccard(*(shingle_set(d.text.encode(), 5) for d in pair)) for pair in dropped if pair[0].origin != pair[1].origin]
    return {
        "dropped": len(dropped),
        "precision": right / max(len(dropped), 1),
        "recall": found / max(len(near), 1),
        "lost": {share: round(a / max(b, 1), 3) for share, (a, b) in lost.items()},
        "wrong_below_0.8": sum(value < WANTED for value in wrong),
        "match": dict(flow.counts["dedup.match"].extra),
    }


def run(made: list[Made], config: dict[str, Any], folder: Path) -> dict[str, Any]:
    step = -(-len(made) // 3)
    parts = [made[i : i + step] for i in range(0, len(made), step)]
    places = [shard << 32 | row for shard, part in enumerate(parts) for row in range(len(part))]
    flow = text_flow(folder, [[d.text for d in part] for part in parts], config)
    began = time.process_time()
    found = judge(flow, made, places)
    return {**found, "cpu_s": round(time.process_time() - began, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gold", type=Path, nargs="+")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    lines = [line for path in args.gold for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [json.loads(line).get("text") or "" for line in lines]
    pages = list(dict.fromkeys(text for text in texts if len(text) >= MIN_CHARS))
    made = make_documents(pages, random.Random(args.seed))
    near = [d for d in made if d.kind.startswith(("mirror", "edit"))]
    alike = sum(document.similarity >= WANTED for document in near)
    print(f"{len(pages)} pages, {len(made)} documents; {alike} of {len(near)} copies are {WANTED} and more alike")
    for kind in sorted({d.kind for d in near}):
        print(f"  {kind:<10} mean similarity {np.mean([d.similarity for d in near if d.kind == kind]):.3f}")
    results = {}
    heads = "".join(f"{f'lost {share:.0%}':>10}" for share in SHARES)
    print(f"{'setting':<30}{'dropped':>8}{'precision':>10}{'recall':>8}{heads}{'wrong<0.8':>10}{'cpu s':>7}")
    for name, config in SETTINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            found = results[name] = run(made, config, Path(folder) / "run")
        lost = "".join(f"{value:>10.3f}" for value in found["lost"].values())
        figures = f"{found['dropped']:>8}{found['precision']:>10.4f}{found['recall']:>8.4f}"
        print(f"{name:<30}{figures}{lost}{found['wrong_below_0.8']:>10}{found['cpu_s']:>7}")
    if args.json:
        args.json.write_text(json.dumps({"pages": len(pages), "documents": len(made), "seed": args.seed, "settings": results}, indent=1))


if __name__ == "__main__":
    main()
