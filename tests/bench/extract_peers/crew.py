"""Processes that hold the pages and run contenders on request: one with the project's Python, one with the peers'.

A contender that cannot be imported, or takes its process down, is a gap with a reason; the others go on in a new process.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extract_peers.peers import OURS, Contender

WORKER = Path(__file__).with_name("worker.py")
ROOT = Path(__file__).resolve().parents[3]
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "RAYON", "NUMBA", "OPENBLAS")} | {"GOMAXPROCS": "1"}


class Gap(Exception):
    """The contender cannot be run; `args[0]` says why."""


@dataclass
class Crew:
    """The processes, started when first asked. folder: pages with gold; cache: where texts of peers are kept."""

    folder: Path
    cache: Path
    peers_python: Path
    versions: dict[str, str]
    running: dict[bool, subprocess.Popen[str]] = field(default_factory=dict)

    def seconds(self, contender: Contender, every: int) -> list[float]:
        """CPU seconds of each n-th page. Raises `Gap`."""
        cpu: list[float] = self._ask(contender, every, None)["cpu"]
        return cpu

    def texts(self, contender: Contender, digest: str) -> tuple[dict[str, str], list[list[str]]]:
        """Page id -> text of all pages, and the pages that failed with why. Of peers, kept by version and data. Raises `Gap`."""
        name = re.sub(r"\W+", "-", f"{contender.name} {self.versions.get(contender.package, '')} {digest}")
        kept, said = self.cache / f"{name}.jsonl.gz", self.cache / f"{name}.errors.json"
        if contender in OURS or not said.exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            result = self._ask(contender, 1, kept)
            said.write_text(json.dumps(result["errors"]))
        return read_texts(kept), json.loads(said.read_text())

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()

    def _ask(self, contender: Contender, every: int, texts: Path | None) -> dict[str, Any]:
        ours = contender in OURS
        process = self.running.get(ours) or self._start(ours)
        assert process.stdin and process.stdout
        try:
            print(json.dumps({"name": contender.name, "every": every, "texts": texts and str(texts)}), file=process.stdin, flush=True)
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            del self.running[ours]
            raise Gap(f"its process ended with code {process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "gap" in answer:
            raise Gap(answer["gap"])
        return answer

    def _start(self, ours: bool) -> subprocess.Popen[str]:
        python = sys.executable if ours else str(self.peers_python)
        env = {**os.environ, **ONE_THREAD, **({"PYTHONPATH": str(ROOT)} if ours else {})}
        command = [python, str(WORKER), str(self.folder)]
        self.running[ours] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        return self.running[ours]


@dataclass
class Speed:
    """CPU seconds of each page, one list a repeat."""

    repeats: list[list[float]] = field(default_factory=list)

    def figures(self, html_mb: float) -> dict[str, float]:
        """Medians over the repeats; milliseconds of single pages from each page's own median."""
        totals = [sum(seconds) for seconds in self.repeats]
        pages = sorted(statistics.median(page) for page in zip(*self.repeats, strict=True))
        took = statistics.median(totals)
        return {
            "pages_s": len(pages) / took,
            "pages_s_low": len(pages) / max(totals),
            "pages_s_high": len(pages) / min(totals),
            "mb_s": html_mb / took,
            "p50_ms": pages[len(pages) // 2] * 1e3,
            "p99_ms": pages[int(len(pages) * 0.99)] * 1e3,
            "max_ms": pages[-1] * 1e3,
        }


def read_texts(path: Path) -> dict[str, str]:
    """Page id -> text, of a JSONL file of {"id", "text"}, compressed or not."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return {line["id"]: line["text"] for line in map(json.loads, data.splitlines())}
