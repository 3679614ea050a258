"""Speed of the extract stage over a folder of WARCs, one process on one core.

    python tests/bench/bench_extract.py [FOLDER] [--blocklist FILE] [--repeats 3]

Without a folder the demo's generated pages are read: too few and too simple for figures, enough to see a change of speed.
CPU time, best of the repeats, after one unmeasured page (compiled kernels are loaded). Rows: reading alone; reading and
parsing with lexbor alone (the floor of cost); the pure extractor on pages in memory; the whole stage (read, URL filter,
decode, extract, write WET and meta, join). The last line gives the peak of resident memory of the process.
"""

from __future__ import annotations

import argparse
import platform
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from selectolax.lexbor import LexborHTMLParser

from ccpipe.counts import Counts
from ccpipe.extract import Extract
from ccpipe.html import NotExtracted, extract
from ccpipe.stage import Unit
from ccpipe.warc import http, read_records
from jobs.demo.pages import write_demo

MAX_BLOCK = 10 << 20


def read_pages(warcs: list[Path]) -> list[tuple[bytes, str]]:
    """Bodies and Content-Types of the HTML responses."""
    pages = []
    for path in warcs:
        for record in read_records(path, None, MAX_BLOCK, Counter()):
            response = http.parse_response(record.block) if record.kind == "response" else None
            if response:
                pages.append((http.decode_body(response, MAX_BLOCK), response.content_type))
    return pages


def parse_pages(warcs: list[Path]) -> None:
    for body, _ in read_pages(warcs):
        LexborHTMLParser(body)


def extract_pages(pages: list[tuple[bytes, str]]) -> None:
    for body, content_type in pages:
        try:
            extract(body, "", content_type)
        except NotExtracted:
            continue


def run_stage(warcs: list[Path], blocklist: str | None) -> Counts:
    """All slices and the join of one unit in a folder of its own."""
    stage = Extract("extract", Extract.Config(blocklist=blocklist))
    stage.load()
    unit = Unit("00000", 0, (0,), {"warcs": [{"path": str(path), "bytes": path.stat().st_size} for path in warcs]})
    with tempfile.TemporaryDirectory() as folder:
        slices: list[Path] = []
        parts: list[Counts] = []
        cursor = None
        while not slices or cursor is not None:
            slices.append(Path(folder, str(len(slices))))
            slices[-1].mkdir()
            counts, cursor = stage.slice(unit, {}, slices[-1], cursor)
            parts.append(counts)
        stage.join(unit, {}, slices, {name: Path(folder, name) for name in ("wet", "base", "dropped")})
    return Counts.total(parts)


def best_seconds(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="folder with *.warc.gz (default: the demo's pages)")
    parser.add_argument("--blocklist", help="compiled blocklist, plain list or folder of lists")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        if options.folder is None:
            write_demo(Path(made))
        folder = options.folder or Path(made, "input")
        warcs = sorted(folder.glob("*.warc.gz"))
        if not warcs:
            parser.error(f"no *.warc.gz in {folder}; name a folder that holds some")
        bench(warcs, options)


def bench(warcs: list[Path], options: argparse.Namespace) -> None:
    extract(b"<p>one page before the clock starts")
    counts = run_stage(warcs, options.blocklist)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # of the stage alone, before the pages are held for the rest
    pages = read_pages(warcs)
    html_mb = sum(len(body) for body, _ in pages) / 1e6
    rows = {
        "read": lambda: read_pages(warcs),
        "read + parse (floor)": lambda: parse_pages(warcs),
        "extract, pages in memory": lambda: extract_pages(pages),
        "whole stage": lambda: run_stage(warcs, options.blocklist),
    }
    print(f"{platform.machine()}, Python {platform.python_version()}: {len(warcs)} WARCs, {len(pages)} pages, {html_mb:.1f} MB of HTML")
    print(f"{'':26s}{'ms/page':>9s}{'pages/s':>9s}{'MB/s':>8s}")
    for name, work in rows.items():
        seconds = best_seconds(work, options.repeats)
        print(f"{name:26s}{seconds / len(pages) * 1e3:9.2f}{len(pages) / seconds:9.0f}{html_mb / seconds:8.1f}")
    print(f"read {counts.read}, kept {counts.kept}, dropped {dict(sorted(counts.dropped.items()))}; peak of the stage {peak:.0f} MiB")


if __name__ == "__main__":
    main()
