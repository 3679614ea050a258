"""Speed of signatures and of the dedup phases, on one core: `python tests/bench/bench_minhash.py [--text FILE ...]`.

Signatures: documents of 500 words (English) or 500 characters (Chinese) cut out of the text files, or made of random words
where none is given; the clock covers tokens, shingles and 128 hashes, text in memory, best of three. The peers get the same
word 5-grams, split by `str.split` on lower-cased text for them (one list per document, in the clock, as a user must do it too).
Dedup: synthetic signatures, a tenth of them near-copies, in shards of 100,000; the clock covers reading and writing files.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from ccpipe.dedup.cluster import Cluster
from ccpipe.dedup.mark import Mark
from ccpipe.dedup.match import Match
from ccpipe.dedup.route import Route
from ccpipe.meta import write_group
from ccpipe.minhash import signatures
from ccpipe.stage import Inputs, Stage, Unit

SHARD_DOCS = 100_000
PARTITIONS = 4


def hardware() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, numpy {np.__version__}"


def load_documents(files: list[Path]) -> dict[str, list[str]]:
    """Text file name -> documents of about 500 words, or 500 characters where there are hardly any spaces."""
    if not files:
        rng = np.random.default_rng(0)
        words = np.array(["".join(map(chr, rng.integers(97, 123, n))) for n in rng.integers(2, 10, 20_000)])
        return {"random words": [" ".join(words[rng.zipf(1.3, 500) % len(words)]) for _ in range(2000)]}
    found = {}
    for file in [file for path in files for file in (sorted(path.glob("*.txt")) if path.is_dir() else [path])]:
        text = file.read_text(errors="replace")
        words = text.split()
        if len(words) > len(text) / 20:
            found[file.name] = [" ".join(words[i : i + 500]) for i in range(0, len(words), 500)]
        else:
            found[file.name] = [text[i : i + 500] for i in range(0, len(text), 500)]
    return found


def best_of(work: Callable[[], object], times: int = 3) -> float:
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def grams(text: str) -> list[str]:
    words = text.lower().split()
    if len(words) < len(text) / 20:
        words = list(text)
    return [" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))]


def sign_with_datasketch(docs: list[str]) -> list[object]:
    from datasketch import MinHash

    return MinHash.bulk([[gram.encode() for gram in grams(text)] for text in docs], num_perm=128)


def sign_with_rensa(docs: list[str]) -> list[object]:
    from rensa import RMinHash

    found = []
    for text in docs:
        minhash = RMinHash(num_perm=128, seed=42)
        minhash.update(grams(text))
        found.append(minhash.digest())
    return found


def bench_signatures(files: list[Path]) -> None:
    for name, docs in load_documents(files).items():
        parts = [text.encode() for text in docs]
        data, offsets = np.frombuffer(b"".join(parts), np.uint8), np.cumsum([0, *map(len, parts)])
        signatures(data[:100], np.array([0, 100]))
        seconds = best_of(lambda data=data, offsets=offsets: signatures(data, offsets))
        print(f"{name}: {len(docs)} documents, {len(data) / 1e6:.1f} MB")
        print(f"  ccpipe       {len(data) / seconds / 1e6:8.2f} MB/s  {len(docs) / seconds:10,.0f} documents/s")
        few = docs[:300]
        few_bytes = sum(len(text.encode()) for text in few)
        for peer, sign in {"rensa": sign_with_rensa, "datasketch": sign_with_datasketch}.items():
            try:
                sign(few[:1])
            except ImportError:
                print(f"  {peer:12} not installed")
                continue
            theirs = best_of(lambda sign=sign, few=few: sign(few))
            ratio = (len(data) / seconds) / (few_bytes / theirs)
            print(f"  {peer:12} {few_bytes / theirs / 1e6:8.2f} MB/s  {len(few) / theirs:10,.0f} documents/s  (ccpipe {ratio:.0f} x)")


def write_signatures(folder: Path, n_docs: int) -> int:
    """Shards of synthetic signatures; a tenth of the documents are copies of an earlier one with a tenth of the positions changed."""
    rng = np.random.default_rng(0)
    n_shards = -(-n_docs // SHARD_DOCS)
    pool = rng.integers(0, 1 << 63, (10_000, 128)).astype(np.uint64)
    for shard in range(n_shards):
        n = min(SHARD_DOCS, n_docs - shard * SHARD_DOCS)
        sigs = rng.integers(0, 1 << 63, (n, 128)).astype(np.uint64)
        rows = np.flatnonzero(rng.random(n) < 0.1)
        sigs[rows] = np.where(rng.random((len(rows), 128)) < 0.1, sigs[rows], pool[rng.integers(0, len(pool), len(rows))])
        np.save(folder / f"sig{shard}.npy", sigs)
        write_group(folder / f"base{shard}", pa.table({"text_bytes": np.zeros(n, np.uint32)}))
    return n_shards


def run_phases(folder: Path, n_shards: int, partitions: int) -> dict[str, float]:
    """Every unit of every phase, one after the other: phase -> seconds."""
    shards = tuple(range(n_shards))
    sigs, bases = [folder / f"sig{s}.npy" for s in shards], [folder / f"base{s}" for s in shards]
    links = [folder / f"links{p}" for p in range(partitions)]
    route: Inputs = {"sig": sigs, "base": bases}
    match: Inputs = {"route": [folder / "route0"]}
    marks: list[Inputs] = [{"base": [base], "sig": sigs, "clusters": [folder / "clusters0"]} for base in bases]
    work: list[tuple[type[Stage], str, list[tuple[tuple[int, ...], Inputs]]]] = [
        (Route, "route", [(shards, route)]),
        (Match, "links", [((), match)] * partitions),
        (Cluster, "clusters", [((), {"links": links})]),
        (Mark, "meta/dedup", [((s,), marks[s]) for s in shards]),
    ]
    seconds = {}
    for use, out, units in work:
        name = use.__name__.lower()
        start = time.perf_counter()
        for index, (members, inputs) in enumerate(units):
            stage = use(f"dedup.{name}", use.Config.model_validate({"partitions": partitions}))
            unit = Unit(str(index), index, members, {"n_shards": n_shards})
            stage.run(unit, inputs, {out: folder / f"{out.rpartition('/')[2]}{index}"})
        seconds[name] = time.perf_counter() - start
    return seconds


def bench_dedup(n_docs: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        warm = Path(name, "warm")
        warm.mkdir()
        run_phases(warm, write_signatures(warm, 1000), 1)
        n_shards = write_signatures(Path(name), n_docs)
        seconds = run_phases(Path(name), n_shards, PARTITIONS)
    for phase, taken in [*seconds.items(), ("all", sum(seconds.values()))]:
        print(f"  {phase:8} {taken:7.2f} s  {n_docs / taken:12,.0f} documents/s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  one core, {n_shards} shards in one route file, {PARTITIONS} partitions, 16 bands of 8; peak memory {peak:,.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=1_000_000, help="documents of the dedup run; 1 KiB of disk each")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="text files to sign, or folders of *.txt")
    options = parser.parse_args()
    # rensa is parallel by default; read when it is first imported
    os.environ["RAYON_NUM_THREADS"] = "1"
    print(hardware())
    bench_signatures(options.text)
    if options.docs:
        print(f"dedup of {options.docs:,} synthetic signatures")
        bench_dedup(options.docs)


if __name__ == "__main__":
    main()
