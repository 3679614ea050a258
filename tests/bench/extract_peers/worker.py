"""One process that holds the pages in memory and lets contenders loose on them, one at a time: `python worker.py FOLDER`.

Requests are lines of JSON on stdin: {"name": contender, "every": n, "texts": file or null}; answers are lines of JSON on stdout:
{"cpu": seconds of each page, "errors": [[page id, what], ...]} or {"gap": why the contender cannot run}. The clock is the CPU time
of the process, all threads, and covers the call alone: making the page's str or UTF-8 bytes is done before it starts.
"""

from __future__ import annotations

import gc
import gzip
import json
import logging
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from extract_peers.gold import Page, load_pages
from extract_peers.peers import CONTENDERS, Extractor

PAGE_SECONDS = 120
"""A page that takes longer counts as an error (of Python code: nothing stops a native call)."""
WARM_PAGES = 5


class TooSlow(Exception):
    """The page took longer than `PAGE_SECONDS`."""


def give(page: Page, takes: str) -> Any:
    return {"raw": lambda: (page.raw, page.content_type), "utf8": page.as_utf8, "str": page.as_plain_str}[takes]()


def run(pages: list[Page], extractor: Extractor, takes: str, texts: dict[str, str]) -> dict[str, Any]:
    """All pages once; `texts` is filled by page id."""
    cpu, errors = [], []
    gc.collect()
    for page in pages:
        html, text, error = give(page, takes), None, None
        signal.alarm(PAGE_SECONDS)
        start = time.process_time()
        try:
            text = extractor(html, page.gold["uri"], page.gold["lang"])
        except Exception as raised:  # whatever a peer raises is its own failure on that page
            error = f"{type(raised).__name__}: {raised}"[:200]
        cpu.append(time.process_time() - start)
        signal.alarm(0)
        texts[page.id] = text or ""
        if error:
            errors.append([page.id, error])
    return {"cpu": cpu, "errors": errors}


def answer(request: dict[str, Any], pages: list[Page], loaded: dict[str, Extractor]) -> dict[str, Any]:
    contender = CONTENDERS[request["name"]]
    if contender.name not in loaded:
        try:
            loaded[contender.name] = contender.load()
        except Exception as raised:  # an import may fail in any way; the table names it
            return {"gap": f"{type(raised).__name__}: {raised}"[:200]}
        run(pages[:WARM_PAGES], loaded[contender.name], contender.takes, {})
    texts: dict[str, str] = {}
    result = run(pages[:: request["every"]], loaded[contender.name], contender.takes, texts)
    if request["texts"]:
        with gzip.open(request["texts"], "wt", encoding="utf-8", errors="replace") as out:
            out.writelines(json.dumps({"id": name, "text": text}) + "\n" for name, text in texts.items())
    return result


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _too_slow)
    pages = load_pages(Path(sys.argv[1]))
    loaded: dict[str, Extractor] = {}
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), pages, loaded)), file=out, flush=True)


def _too_slow(*_: object) -> None:
    raise TooSlow(f"over {PAGE_SECONDS} s")


if __name__ == "__main__":
    main()
