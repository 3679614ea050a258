"""`make fuzz minutes=10 seed=1`: mutated archives and pages until the time is up, each in a child with bounded CPU time and memory.

Seeds: all WARC and ARC files given, cut to their first small records, and the tests' own. What it finds is written to `fuzz-found/`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "ccpipe"), str(Path(__file__).parent)]

from mutations import check_archive, check_page, mutate, seeds  # noqa: E402 - found through the line above
from warc_pages import html, page, record, response  # noqa: E402

from ccpipe.warc import http, read_records  # noqa: E402
from ccpipe.watchdog import Desk, Died, _run_once  # noqa: E402

CPU_SECONDS, MEMORY, BATCH, SEED_BYTES = 10.0, 1 << 30, 200, 30_000


def real_seeds(folder: Path | None) -> tuple[list[bytes], list[tuple[bytes, str]]]:
    """Small archives and pages of a folder."""
    archives, pages = [], []
    for path in sorted(folder.rglob("*")) if folder else []:
        if ".arc" not in path.name and ".warc" not in path.name:
            continue
        if path.stat().st_size <= SEED_BYTES:
            archives.append(path.read_bytes())
        for one in read_records(path, None, SEED_BYTES, Counter()):
            found = http.parse_response(one.block) if one.kind == "response" else None
            if found and len(pages) < 400 and one.block_bytes <= SEED_BYTES and http.is_html(found, found.body):
                pages.append((found.body, found.content_type))
    return archives, pages


def run_batch(number: int, seed: int, archives: list[bytes], pages: list[tuple[bytes, str]], found: Path) -> Counter[str]:
    """Cases of one batch; one that fails, or kills the child, is kept in `found`."""
    counts: Counter[str] = Counter()

    def work(desk: Desk) -> dict[str, int]:
        dice = random.Random(seed * 1_000_003 + number)
        with TemporaryDirectory() as folder:
            for case in range(1, BATCH + 1):
                on_page = case % 2 == 0
                data, kind = dice.choice(pages) if on_page else (dice.choice(archives), "")
                data = mutate(data, dice)
                (found / "now").write_bytes(data)
                counts["pages" if on_page else "archives"] += 1
                with desk.page(case):
                    try:
                        if on_page:
                            check_page(data, kind)
                        else:
                            check_archive(Path(folder, "a"), data)
                    except Exception as error:
                        counts[f"FOUND {type(error).__name__}"] += 1
                        (found / f"{seed}-{number}-{case}").write_bytes(data)
                        print(f"batch {number} case {case}: {type(error).__name__}: {str(error)[:300]}", flush=True)
        return counts

    outcome = _run_once(work, CPU_SECONDS, MEMORY, (0, ""))
    if isinstance(outcome, Died):
        (found / "now").rename(found / f"{seed}-{number}-{outcome.page}-{outcome.reason}")
        return Counter({f"FOUND {outcome.reason}": 1})
    answer: dict[str, Any] = json.loads(outcome)
    if "error" in answer:
        raise SystemExit(answer["error"]["trace"])
    return Counter(answer["result"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, help="folder of archives")
    args = parser.parse_args()
    archives, pages = real_seeds(args.data)
    own = [record(response(html()), 1), page(2), record(b"fields: x\r\n", 3, "metadata"), page(4)]
    archives += seeds(own).values()
    pages.append((html(), "text/html"))
    found = Path("fuzz-found")
    found.mkdir(exist_ok=True)
    until, total, number = time.monotonic() + 60 * args.minutes, Counter[str](), 0
    check_page(html(), "text/html")
    while time.monotonic() < until:
        total += run_batch(number, args.seed, archives, pages, found)
        number += 1
    (found / "now").unlink(missing_ok=True)
    print(f"{len(archives)} archives and {len(pages)} pages as seeds; {dict(total)}")
    return int(any(name.startswith("FOUND") for name in total))


if __name__ == "__main__":
    sys.exit(main())
