"""Quality and speed of main-text extractors, ours among them, on any folder of WARCs with gold: `make bench-extract data=FOLDER`.

    python tests/bench/bench_extract.py FOLDER [--texts out-of-fold.jsonl] [--sample 6] [--repeats 5] [--out FILE] [--only PART ...]

FOLDER holds NAME.warc.gz beside NAME.gold.jsonl (`extract_peers/gold.py`). Parts: `quality` on all pages; `speed` on every n-th page, CPU
time of the call alone, pages in memory, medians of repeats in which the contenders take turns; `stage` (`bench_stage.py`). The peers are
installed, at pinned versions, into .cache/peers-extract; one that cannot be is a named gap. Their texts are kept by version and data in
.cache/bench-extract; ours are made anew. The shipped model was fitted on the public pages, so its own row flatters it there: `--texts`
scores texts by models that have not seen a page's site ({"id", "text"} a line, as `train_maintext.py --texts` writes them).
`--out NAME` writes NAME.md and NAME.json. Exit code 1 with `--check` where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# the tree that this file is in, wherever the package is installed from
sys.path[:0] = [str(ROOT), str(HERE)]

from extract_peers import scoring, tables  # noqa: E402
from extract_peers.crew import Crew, Gap, Speed, read_texts  # noqa: E402
from extract_peers.gold import EXPECTED, NoGold, Page, gold_digest, load_pages  # noqa: E402
from extract_peers.machine import hardware  # noqa: E402
from extract_peers.peers import CONTENDERS, OURS, PEERS, Contender  # noqa: E402
from extract_peers.venv import peers_python, pinned  # noqa: E402

PARTS = ("quality", "speed", "stage")
SHIPPED = "shipped model: may have seen these pages"
OUT_OF_FOLD = "ccpipe, out of fold"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="NAME.warc.gz beside NAME.gold.jsonl")
    parser.add_argument("--texts", type=Path, help="JSONL of {id, text}: texts of models that have not seen the page's site")
    parser.add_argument("--sample", type=int, default=6, help="speed on every n-th page")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of the speed part")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="parts to run")
    parser.add_argument("--contenders", nargs="+", metavar="NAME", help=f"only these: {', '.join(CONTENDERS)}")
    parser.add_argument("--blocklist", help="for the stage part: compiled blocklist, plain list or folder of lists")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "bench-extract", help="where texts of peers are kept")
    parser.add_argument("--out", type=Path, help="write NAME.md and NAME.json")
    parser.add_argument("--check", action="store_true", help="exit code 1 where a bar is missed")
    options = parser.parse_args()
    if options.folder is None:
        parser.error(f"no folder named; {EXPECTED}")
    unknown = set(options.contenders or ()) - set(CONTENDERS)
    if unknown:
        parser.error(f"no contender is called {', '.join(sorted(unknown))}; choose from: {', '.join(CONTENDERS)}")
    return options


def main() -> int:
    options = parse()
    try:
        pages = load_pages(options.folder)
    except NoGold as error:
        print(error, file=sys.stderr)
        return 2
    found = bench(options, pages)
    text = document(found)
    print(text)
    if options.out:
        options.out.with_suffix(".json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        options.out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    return int(options.check and not all(good for *_, good in found["bars"]))


def bench(options: argparse.Namespace, pages: list[Page]) -> dict[str, Any]:
    """All figures, as JSON takes them."""
    digest = gold_digest(pages)
    chosen = [contender for contender in OURS + PEERS if not options.contenders or contender.name in options.contenders]
    rows, said = run_contenders(options, pages, digest, chosen)
    if options.texts and "quality" in options.only:
        rows = {OUT_OF_FOLD: {"quality": out_of_fold(options.texts, pages), "speed": None, "gap": None}, **rows}
    stage = None
    if "stage" in options.only:
        import bench_stage  # compiled kernels take seconds to load

        stage = bench_stage.measure(sorted(options.folder.glob("*.warc.gz")), options.blocklist, options.repeats)
    judged = OUT_OF_FOLD if OUT_OF_FOLD in rows else OURS[0].name
    reference = rows.get(tables.REFERENCE, {}).get("quality")
    ours = rows.get(judged, {}).get("quality")
    languages = tables.language_check(ours, reference) if ours and reference else []
    if ours and judged == OUT_OF_FOLD and OURS[0].name in rows:
        rows[OUT_OF_FOLD]["speed"] = rows[OURS[0].name]["speed"]  # the same code with other numbers
    return {
        "hardware": hardware(),
        "data": {"digest": digest, "pages": len(pages), "html_mb": sum(len(page.raw) for page in pages) / 1e6},
        "sample": options.sample,
        "repeats": options.repeats,
        "versions": {contender.name: pinned().get(contender.package, "this tree") for contender in chosen},
        "rows": rows,
        "errors": said,
        "judged": judged,
        "languages": languages,
        "stage": stage,
        "bars": tables.bars(judged, rows, languages, stage and stage["ratio"]) if ours else [],
    }


def run_contenders(
    options: argparse.Namespace, pages: list[Page], digest: str, chosen: list[Contender]
) -> tuple[tables.Rows, dict[str, list[list[str]]]]:
    """Rows of the table, and the pages on which a contender failed."""
    python, missing = peers_python() if set(chosen) - set(OURS) else (Path(sys.executable), {})
    rows: tables.Rows = {contender.name: {"quality": None, "speed": None, "gap": missing.get(contender.package)} for contender in chosen}
    errors: dict[str, list[list[str]]] = {}
    crew = Crew(options.folder.resolve(), options.cache, python, pinned())
    try:
        if "quality" in options.only:
            judge(crew, pages, digest, [contender for contender in chosen if contender.makes_text], rows, errors)
        if "speed" in options.only:
            clock(crew, pages[:: options.sample], options, chosen, rows)
    finally:
        crew.close()
    return rows, errors


def judge(
    crew: Crew, pages: list[Page], digest: str, chosen: list[Contender], rows: tables.Rows, errors: dict[str, list[list[str]]]
) -> None:
    """Fill in the quality of each contender on all pages."""
    for contender in chosen:
        row = rows[contender.name]
        if row["gap"]:
            continue
        note(f"quality of {contender.name}")
        try:
            texts, failed = crew.texts(contender, digest)
        except Gap as gap:
            row["gap"] = gap.args[0]
            continue
        row["quality"] = scoring.report(scoring.score_pages(pages, texts))
        if failed:
            errors[contender.name] = failed


def clock(crew: Crew, sample: list[Page], options: argparse.Namespace, chosen: list[Contender], rows: tables.Rows) -> None:
    """Fill in the speed of each contender; they take turns."""
    speeds = {contender.name: Speed() for contender in chosen}
    for number in range(options.repeats):
        note(f"speed, round {number + 1} of {options.repeats}")
        for contender in chosen:
            if rows[contender.name]["gap"]:
                continue
            try:
                speeds[contender.name].repeats.append(crew.seconds(contender, options.sample))
            except Gap as gap:
                rows[contender.name]["gap"] = gap.args[0]
    html_mb = sum(len(page.raw) for page in sample) / 1e6
    for name, speed in speeds.items():
        if speed.repeats and not rows[name]["gap"]:
            rows[name]["speed"] = speed.figures(html_mb)


def out_of_fold(path: Path, pages: list[Page]) -> dict[str, Any]:
    texts = read_texts(path)
    missing = [page.id for page in pages if page.id not in texts]
    if missing:
        note(f"{path}: no text of {len(missing)} of {len(pages)} pages, the first {missing[0]}; they score as empty")
    return scoring.report(scoring.score_pages(pages, texts))


def document(found: dict[str, Any]) -> str:
    """The whole result in Markdown."""
    data, rows = found["data"], found["rows"]
    labelled = {f"{name} ({SHIPPED})" if name == OURS[0].name else name: row for name, row in rows.items()}
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    parts = [
        f"{found['hardware']}. {data['pages']:,} pages, {data['html_mb']:.1f} MB of HTML, data {data['digest']}; speed on every "
        f"{found['sample']}. page, medians of {found['repeats']} rounds. Versions: {versions}.",
        tables.main_table(labelled),
    ]
    scored = {name: row for name, row in labelled.items() if row["quality"]}
    if scored:
        parts += ["Word F1 by page type (pages):", tables.group_table(scored, "page_type", "words")]
        parts += ["F1 by source (pages):", tables.group_table(scored, "source", "f1")]
    if found["languages"]:
        parts += [f"Languages of {tables.MIN_LANGUAGE_PAGES} pages or more, mean score of a page, {found['judged']}:"]
        parts += [tables.language_table(found["languages"])]
    if found["errors"]:
        failed = "; ".join(f"{name} {len(pages)} (first: {pages[0][1]})" for name, pages in found["errors"].items())
        parts.append(f"Pages on which a contender raised, scored as empty: {failed}.")
    if found["stage"]:
        import bench_stage

        parts += ["The whole stage:", bench_stage.table(found["stage"])]
    if found["bars"]:
        parts += [f"Bars, judged on {found['judged']}:", tables.bar_table(found["bars"])]
    return "\n\n".join(parts)


def note(text: str) -> None:
    print(f"# {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
