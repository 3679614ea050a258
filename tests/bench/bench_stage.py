"""Cost of the whole extract stage over a folder of WARCs, one process on one core, against reading and parsing alone.

    python tests/bench/bench_stage.py [FOLDER] [--blocklist FILE] [--repeats 5] [--profile N]

Without a folder the demo's generated pages are read: too few and too simple for figures, enough to see a change of speed. CPU time,
median of repeats in turns, after one unmeasured run (compiled kernels are loaded). Rows: reading, with the project's reader and with
FastWARC alone; both with parsing by lexbor (the floors of cost); the pure extractor on pages in memory; the whole stage (read, URL
filter, decode, extract, write WET and meta, join); the signatures; both together, with the ratio to either floor (the bar is 3 of the
first). Then the parts of one run, by clocks around their calls; `--profile N` adds the N functions with most time of their own.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import importlib
import pstats
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

# the tree that this file is in, wherever the package is installed from
sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from extract_peers.machine import hardware  # noqa: E402
from fastwarc.warc import ArchiveIterator, WarcRecordType  # noqa: E402
from selectolax.lexbor import LexborHTMLParser  # noqa: E402

from ccpipe.counts import Counts  # noqa: E402
from ccpipe.extract import Extract  # noqa: E402
from ccpipe.html import NotExtracted, extract  # noqa: E402
from ccpipe.sig import Sign  # noqa: E402
from ccpipe.stage import Unit  # noqa: E402
from ccpipe.urls import Source, build_blocklist  # noqa: E402
from ccpipe.warc import http, read_records  # noqa: E402
from jobs.demo.pages import write_demo  # noqa: E402

MAX_BLOCK = 10 << 20
MAX_RATIO = 3.0
"""The whole stage may cost this many times reading and parsing."""

MADE_DOMAINS = 1_000_000
"""Entries of the block list that is made where none is named; none of them blocks a page."""

OUTPUTS = ("wet", "base", "dropped")
PARTS = {
    "HTTP head and body": ("ccpipe.warc.http:parse_response", "ccpipe.warc.http:decode_body"),
    "URL filter": ("ccpipe.urls.blocklist:Blocklist.reason",),
    "robots and rights": ("ccpipe.extract:read_rights",),
    "digest of the body": ("ccpipe.extract:text_digest",),
    "extract a page": ("ccpipe.extract:extract",),
    "write WET": ("ccpipe.wet_writer:WetWriter.write_text",),
    "rows to Parquet, join": ("ccpipe.extract:write_group", "ccpipe.extract:_shifted", "pyarrow:Table.from_pylist"),
    "sign": ("ccpipe.sig:Sign.run",),
}
"""Part -> functions whose calls its clock covers. Reading is clocked apart; the rest is Python for each record."""

STEPS = {
    "charset": ("ccpipe.html.charset:decode",),
    "guards": ("ccpipe.html.guards:broken_rule",),
    "parse": ("ccpipe.html.extraction:LexborHTMLParser",),
    "what the page states": ("ccpipe.html.extraction:read_stated",),
    "cut into blocks": ("ccpipe.html.extraction:scan",),
    "features": ("ccpipe.html.maintext:features", "ccpipe.html.maintext:smooth"),
    "forests": ("ccpipe.html.maintext:log_odds", "ccpipe.html.maintext:probability"),
    "choice of blocks": ("ccpipe.html.extraction:main_blocks",),
    "render": ("ccpipe.html.extraction:render", "ccpipe.html.extraction:clean"),
}
"""The same for steps of one page; the rest is the tree written out and let go."""


def read_pages(warcs: list[Path]) -> Iterator[tuple[bytes, str]]:
    """Body and Content-Type of each response, read as the stage does."""
    for path in warcs:
        for record in read_records(path, None, MAX_BLOCK, Counter()):
            response = http.parse_response(record.block) if record.kind == "response" else None
            if response:
                yield http.decode_body(response, MAX_BLOCK), response.content_type


def read_with_fastwarc(warcs: list[Path]) -> Iterator[tuple[bytes, str]]:
    """The same bodies; records of other types are skipped over, damage goes unseen."""
    for path in warcs:
        with path.open("rb") as file:
            for record in ArchiveIterator(file, record_types=WarcRecordType.response, parse_http=True):
                yield record.reader.read(), ""


def read(pages: Iterable[tuple[bytes, str]]) -> None:
    for _ in pages:
        pass


def parse(pages: Iterable[tuple[bytes, str]]) -> None:
    for body, _ in pages:
        LexborHTMLParser(body)


def extract_pages(pages: Iterable[tuple[bytes, str]]) -> None:
    for body, content_type in pages:
        try:
            extract(body, "", content_type)
        except NotExtracted:
            continue


def run_stage(warcs: list[Path], blocklist: str | None, folder: Path) -> Counts:
    """All slices and the join of one unit, in a folder of its own."""
    stage = Extract("extract", Extract.Config(blocklist=blocklist))
    stage.load()
    unit = Unit("00000", 0, (0,), {"warcs": [{"path": str(path), "bytes": path.stat().st_size} for path in warcs]})
    slices: list[Path] = []
    parts: list[Counts] = []
    cursor = None
    while not slices or cursor is not None:
        slices.append(folder / str(len(slices)))
        slices[-1].mkdir()
        counts, cursor = stage.slice(unit, {}, slices[-1], cursor)
        parts.append(counts)
    stage.join(unit, {}, slices, {name: folder / name for name in OUTPUTS})
    return Counts.total(parts)


def run_sign(folder: Path) -> None:
    """Signatures of what `run_stage` wrote."""
    unit = Unit("00000", 0, (0,), {})
    Sign("sig", Sign.Config()).run(unit, {"wet": [folder / "wet"], "base": [folder / "base"]}, {"sig": folder / "sig"})


def run_all(warcs: list[Path], blocklist: str | None) -> Counts:
    with tempfile.TemporaryDirectory() as folder:
        counts = run_stage(warcs, blocklist, Path(folder))
        run_sign(Path(folder))
    return counts


def make_blocklist(folder: Path) -> str:
    """A compiled list of made-up domains, so that the URL filter has something to look through."""
    (folder / "domains").write_text("".join(f"made-up-{number:x}.example\n" for number in range(MADE_DOMAINS)))
    build_blocklist([Source(folder / "domains", "made")], folder / "made.blocklist")
    return str(folder / "made.blocklist")


def take_turns(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """CPU seconds of each, the median of `repeats` rounds."""
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        for name, work in works.items():
            gc.collect()
            start = time.process_time()
            work()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}


def measure(warcs: list[Path], blocklist: str | None, repeats: int) -> dict[str, Any]:
    """Figures as JSON takes them; `rows` in CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(warcs, blocklist or make_blocklist(Path(folder)), repeats)


def _measure(warcs: list[Path], blocklist: str, repeats: int) -> dict[str, Any]:
    counts = run_all(warcs, blocklist)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # before the pages are held in memory
    pages = list(read_pages(warcs))
    with tempfile.TemporaryDirectory() as kept, tempfile.TemporaryDirectory() as scratch:
        run_stage(warcs, blocklist, Path(kept))
        rows = take_turns(
            {
                "read": lambda: read(read_pages(warcs)),
                "read, FastWARC alone": lambda: read(read_with_fastwarc(warcs)),
                "read and parse (the floor)": lambda: parse(read_pages(warcs)),
                "read and parse, FastWARC alone": lambda: parse(read_with_fastwarc(warcs)),
                "parse, pages in memory": lambda: parse(pages),
                "extract, pages in memory": lambda: extract_pages(pages),
                "stage extract": lambda: run_stage(warcs, blocklist, Path(tempfile.mkdtemp(dir=scratch))),
                "stage sig": lambda: run_sign(Path(kept)),
            },
            repeats,
        )
    rows["extract and sig"] = rows["stage extract"] + rows["stage sig"]
    return {
        "pages": len(pages),
        "html_mb": sum(len(body) for body, _ in pages) / 1e6,
        "warcs": len(warcs),
        "rows": rows,
        "ratio": rows["extract and sig"] / rows["read and parse (the floor)"],
        "ratio_fastwarc": rows["extract and sig"] / rows["read and parse, FastWARC alone"],
        "parts": clock_parts(PARTS, "Python for each record, files", lambda: run_all(warcs, blocklist)),
        "steps": clock_parts(STEPS, "tree written out and let go", lambda: extract_pages(pages)),
        "counts": {"read": counts.read, "kept": counts.kept, "dropped": dict(sorted(counts.dropped.items()))},
        "peak_mib": peak,
    }


def clock_parts(parts: dict[str, tuple[str, ...]], rest: str, work: Callable[[], object]) -> dict[str, float]:
    """CPU seconds of each part of `work`, of the rest, and of the whole."""
    spent: dict[str, float] = defaultdict(float)
    running: list[str] = []

    def clocked(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if running:  # inside another part: its time is counted there
                return function(*args, **kwargs)
            running.append(part)
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[part] += time.process_time() - start
                running.pop()

        return call

    def reading(*args: Any, **kwargs: Any) -> Iterator[Any]:
        records = read_records(*args, **kwargs)
        step = clocked("read records", lambda: next(records, None))
        return iter(step, None)

    with ExitStack() as patches:
        patches.enter_context(mock.patch("ccpipe.extract.read_records", reading))
        for part, names in parts.items():
            for name in names:
                _patch(patches, name, lambda function, part=part: clocked(part, function))
        start = time.process_time()
        work()
        whole = time.process_time() - start
    return {**spent, rest: whole - sum(spent.values()), "whole": whole}


def _patch(patches: ExitStack, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put the wrapped function in the place of `module:attribute`; what is not there is said, and counts with the rest."""
    module, _, path = name.partition(":")
    owner: Any = importlib.import_module(module) if importlib.util.find_spec(module) else None
    *outer, last = path.split(".")
    for attribute in outer:
        owner = getattr(owner, attribute, None)
    function = getattr(owner, last, None)
    if function is None:
        print(f"# {name}: not there (moved?); its time is part of the rest", file=sys.stderr)
    elif module != "pyarrow":  # a class of C takes no attributes
        patches.enter_context(mock.patch.object(owner, last, wrap(function)))


def table(found: dict[str, Any]) -> str:
    """Markdown: rows, ratio, parts."""
    pages, mb, rows = found["pages"], found["html_mb"], found["rows"]
    floor = rows["read and parse (the floor)"]
    lines = ["| | CPU ms/page | pages/s | MB/s of HTML | of the floor |", "| --- | ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {name} | {took / pages * 1e3:.2f} | {pages / took:,.0f} | {mb / took:.0f} | {took / floor:.2f} |" for name, took in rows.items()
    ]
    lines += [
        "",
        f"Whole stage with signatures: {found['ratio']:.2f} x reading and parsing (bar: {MAX_RATIO:g}; "
        f"{found['ratio_fastwarc']:.2f} x with FastWARC's reading, which sees no damage). Peak memory {found['peak_mib']:.0f} MiB.",
        "",
    ]
    lines += [*_shares("part of the stage", found["parts"], pages), "", *_shares("step of `extract`", found["steps"], pages)]
    counts = found["counts"]
    lines += ["", f"Read {counts['read']}, kept {counts['kept']}, dropped {counts['dropped']}."]
    return "\n".join(lines)


def _shares(head: str, parts: dict[str, float], pages: int) -> list[str]:
    """Lines of a table, the dearest first."""
    by_time = sorted(parts.items(), key=lambda part: -part[1] if part[0] != "whole" else 0)
    shown = [f"| {name} | {took / pages * 1e3:.3f} | {took / parts['whole']:.0%} |" for name, took in by_time]
    return [f"| {head} | CPU ms/page | share |", "| --- | ---: | ---: |", *shown]


def profile(warcs: list[Path], blocklist: str | None, top: int) -> None:
    """Print the functions with most time of their own, as cProfile sees them (calls from Python look dearer than they are)."""
    profiler = cProfile.Profile(time.process_time)
    profiler.runcall(run_all, warcs, blocklist)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(top)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="folder with *.warc.gz (default: the demo's pages)")
    parser.add_argument("--blocklist", help="compiled blocklist, plain list or folder of lists (default: a million made-up domains)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="functions to list")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        if options.folder is None:
            write_demo(Path(made))
        folder = options.folder or Path(made, "input")
        warcs = sorted(folder.glob("*.warc.gz"))
        if not warcs:
            parser.error(f"no *.warc.gz in {folder}; name a folder that holds some")
        found = measure(warcs, options.blocklist, options.repeats)
        print(f"{hardware()}: {found['warcs']} WARCs, {found['pages']} pages, {found['html_mb']:.1f} MB of HTML\n\n{table(found)}")
        if options.profile:
            profile(warcs, options.blocklist, options.profile)


if __name__ == "__main__":
    main()
