"""route, match, cluster, mark over synthetic signatures of known duplicates: `python tests/bench/bench_dedup.py --docs 1000000`.

Shards of 250,000 documents, two processes. Each phase runs in processes of its own, so that its peak memory is its own (a Python
with numba, pyarrow and duckdb loaded takes some 200 MiB of it). The clock covers a unit from opening its inputs to its output being
written; documents/s are the documents over the summed seconds of the units, times the processes (one for a phase of one unit). Making
signatures is not in the clock.
With --stream the signatures of a group are made, routed and deleted, so that a crawl whose signatures do not fit the disk can be run;
mark then measures no similarity.
Truth: clusters of two are compared with the S-curve; of all copies the share that was dropped; of all dropped documents the share that
is a copy of what it is said to duplicate.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))
from synthetic_signatures import SIMILARITIES, Crawl

from ccpipe.dedup import DedupConfig
from ccpipe.dedup.cluster import Cluster
from ccpipe.dedup.mark import Mark
from ccpipe.dedup.match import Match
from ccpipe.dedup.route import Route
from ccpipe.stage import Inputs, Unit

STAGES = {"route": Route, "match": Match, "cluster": Cluster, "mark": Mark}
OUTPUTS = {"route": "route", "match": "links", "cluster": "clusters", "mark": "meta/dedup"}


@dataclass(frozen=True)
class Job:
    """One unit of a phase. make: shards whose signatures are made before; delete: whether they go afterwards."""

    phase: str
    config: dict[str, Any]
    unit: Unit
    inputs: Inputs
    out: Path
    crawl: Crawl
    make: tuple[int, ...] = ()
    delete: bool = False


@dataclass
class Spent:
    seconds: float = 0.0
    cpu: float = 0.0
    peak_mib: float = 0.0
    written: int = 0
    spilled: int = 0
    procs: int = 1
    extra: dict[str, int] = field(default_factory=dict)

    def add(self, other: Spent) -> None:
        self.seconds += other.seconds
        self.cpu += other.cpu
        self.peak_mib = max(self.peak_mib, other.peak_mib)
        self.written += other.written
        self.spilled += other.spilled
        for key, value in other.extra.items():
            self.extra[key] = self.extra.get(key, 0) + value


def run_job(job: Job) -> Spent:
    for position, shard in enumerate(job.make):
        job.crawl.write_signatures(shard, job.inputs["sig"][position])
        job.crawl.write_base(shard, job.inputs["base"][position])
    stage = STAGES[job.phase]
    start, cpu = time.perf_counter(), time.process_time()
    counts = stage(f"dedup.{job.phase}", stage.Config.model_validate(job.config)).run(job.unit, job.inputs, {OUTPUTS[job.phase]: job.out})
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    if job.delete:
        for path in job.inputs["sig"]:
            path.unlink()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    written, spilled = job.out.stat().st_size, counts.extra["spilled_bytes"]
    return Spent(seconds, cpu, peak, written, spilled, extra=dict(counts.extra))


def warm_up() -> None:
    """Load every kernel, as a process does once before its first unit; the very first time this compiles them."""
    with tempfile.TemporaryDirectory() as name:
        for jobs in phases(Crawl(4000, 1000), Path(name), {"partitions": 1}, 2, False).values():
            for job in jobs:
                run_job(job)


def phases(crawl: Crawl, folder: Path, config: dict[str, Any], group: int, stream: bool) -> dict[str, list[Job]]:
    shards = list(range(crawl.n_shards))
    groups = [shards[i : i + group] for i in range(0, len(shards), group)]
    partitions = config["partitions"]
    detail = {"n_shards": len(shards)}

    def files(kind: str, numbers: list[int]) -> list[Path]:
        return [folder / f"{kind}{number:05d}" for number in numbers]

    def job(phase: str, index: int, members: list[int], inputs: Inputs, **more: Any) -> Job:
        out = folder / f"{OUTPUTS[phase].rpartition('/')[2]}{index:05d}"
        return Job(phase, config, Unit(str(index), index, tuple(members), detail), inputs, out, crawl, **more)

    sigs = files("sig", shards)
    return {
        "route": [
            job("route", g, part, {"sig": files("sig", part), "base": files("base", part)}, make=tuple(part), delete=stream)
            for g, part in enumerate(groups)
        ],
        "match": [job("match", p, [], {"route": files("route", list(range(len(groups))))}) for p in range(partitions)],
        "cluster": [job("cluster", 0, [], {"links": files("links", list(range(partitions)))})],
        "mark": [job("mark", s, [s], {"base": files("base", [s]), "sig": sigs, "clusters": files("clusters", [0])}) for s in shards],
    }


def run(crawl: Crawl, folder: Path, config: dict[str, Any], group: int, procs: int, stream: bool) -> dict[str, Spent]:
    spent = {}
    for phase, jobs in phases(crawl, folder, config, group, stream).items():
        total = Spent(procs=min(procs, len(jobs)))
        with ProcessPoolExecutor(procs, multiprocessing.get_context("spawn"), warm_up) as pool:
            for done in pool.map(run_job, jobs):
                total.add(done)
        spent[phase] = total
        if phase == "match" and stream:
            for job in jobs[:1]:
                for path in job.inputs["route"]:
                    path.unlink()
        show(phase, total, crawl.n_docs)
    return spent


def show(phase: str, spent: Spent, n_docs: int) -> None:
    print(
        f"| {phase} | {spent.seconds / spent.procs:,.1f} | {n_docs / spent.seconds * spent.procs:,.0f} | {n_docs / spent.cpu:,.0f} "
        f"| {spent.peak_mib:,.0f} "
        f"| {spent.written / n_docs:.1f} | {spent.spilled / n_docs:.1f} |",
        flush=True,
    )


def judge(crawl: Crawl, folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Planted truth against the marks."""
    met, pairs = np.zeros(len(SIMILARITIES), np.int64), np.zeros(len(SIMILARITIES), np.int64)
    copies = found = dropped = right = 0
    for shard in range(crawl.n_shards):
        table = pq.read_table(folder / f"dedup{shard:05d}", columns=["dedup_of", "dedup_keep"])
        of = table.column("dedup_of").combine_chunks()
        gone = ~table.column("dedup_keep").to_numpy()
        numbers = shard * crawl.shard_docs + np.arange(len(table))
        cluster, _, similarity = crawl.places(numbers)
        smallest = numbers.copy()
        planted = np.flatnonzero(cluster >= 0)
        smallest[planted] = crawl.smallest(cluster[planted])
        later = smallest != numbers
        copies, found, dropped = copies + later.sum(), found + (later & gone).sum(), dropped + gone.sum()
        targets = crawl.numbers(of.fill_null(0).to_numpy()[gone])
        same = crawl.places(targets)[0] == cluster[gone]
        right += (same & (cluster[gone] >= 0)).sum()
        two = later & (crawl.size(cluster) == 2)
        pairs += np.bincount(similarity[two], minlength=len(SIMILARITIES))
        met += np.bincount(similarity[two & gone], minlength=len(SIMILARITIES))
    banding = DedupConfig(**config).banding(crawl.n_hashes)
    expected = np.array([banding.probability(s) for s in SIMILARITIES])
    error = np.sqrt(np.maximum(expected * (1 - expected), 1e-12) / np.maximum(pairs, 1))
    print(f"\nplanted pairs in clusters of two, {banding.bands} bands of {banding.rows}:")
    print("| similarity | pairs | found | expected | standard errors |\n| --- | --- | --- | --- | --- |")
    for s, n, m, e, d in zip(SIMILARITIES, pairs, met, expected, error, strict=True):
        print(f"| {s:.2f} | {n:,} | {m / max(n, 1):.4f} | {e:.4f} | {(m / max(n, 1) - e) / d:+.1f} |")
    print(f"\n{dropped:,} dropped, {right:,} of them copies of what they are said to duplicate (precision {right / max(dropped, 1):.7f})")
    print(f"{copies:,} documents with an earlier member of their planted cluster, {found / max(copies, 1):.4f} of them dropped")
    return {
        "copies": int(copies),
        "found": int(found),
        "dropped": int(dropped),
        "right": int(right),
        "pairs": pairs.tolist(),
        "met": met.tolist(),
    }


def hardware() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    machine = f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, load {os.getloadavg()[0]:.1f}"
    return f"{machine}, {date.today()}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=1_000_000, help="documents; 1 KiB of disk each, with --stream 450 bytes")
    parser.add_argument("--shard-docs", type=int, default=250_000)
    parser.add_argument("--group-shards", type=int, default=4, help="shards per route file")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--memory-mb", type=int, default=1024, help="memory_mb of the config, per process")
    parser.add_argument("--procs", type=int, default=2)
    parser.add_argument("--keep", choices=("first", "component"), default="first")
    parser.add_argument("--stream", action="store_true", help="delete signatures when they are routed, and route files when matched")
    parser.add_argument("--folder", type=Path, help="where the files go; a temporary folder where not given")
    options = parser.parse_args()
    crawl = Crawl(options.docs, options.shard_docs)
    config = {
        "partitions": options.partitions,
        "group_shards": options.group_shards,
        "memory_mb": options.memory_mb,
        "keep": options.keep,
        "measure_similarity": not options.stream,
    }
    print(hardware())
    print(f"{options.docs:,} documents, {crawl.n_shards} shards, {json.dumps(config)}, {options.procs} processes\n")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        warm_up()
        print(
            "| phase | seconds | documents/s | documents/s per CPU | peak MiB | bytes/document written | spilled |\n"
            "| --- | --- | --- | --- | --- | --- | --- |"
        )
        spent = run(crawl, Path(name), config, options.group_shards, options.procs, options.stream)
        seconds = sum(part.seconds / part.procs for part in spent.values())
        cpu = sum(part.cpu for part in spent.values())
        print(f"| route to mark | {seconds:,.1f} | {options.docs / seconds:,.0f} | {options.docs / cpu:,.0f} | | | |")
        print({phase: part.extra for phase, part in spent.items() if phase != "mark"})
        judge(crawl, Path(name), config)


if __name__ == "__main__":
    main()
