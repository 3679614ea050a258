"""Speed and memory of the URL filter beside a Python set and other tables: `make bench-blocklist data=LIST`.

    python tests/bench/bench_blocklist.py LIST [--urls FOLDER] [--n 1000000] [--peers PYTHON]

LIST: url_filterblacklistsv0_3_0.tar.gz of the wheel datatrove==0.10.1 (docs/urls.md), or other lists. Addresses: those of the
WARCs in FOLDER (`*.warc.gz`; without one, made up), hosts varied by sub-domains until there are `--n`, and planted hits. CPU time,
best of three, one core. Every way must find the same hits. PYTHON: an interpreter that has datatrove==0.10.1, tldextract,
pyahocorasick, fasteners and regex; its URLFilter answers some of the same addresses, with the same lists.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ccpipe.kernels import kernel
from ccpipe.urls import Blocklist, Source, build_blocklist
from ccpipe.urls.address import address_keys, parse_address
from ccpipe.urls.entries import parse_line
from ccpipe.urls.kernels import hash_domains
from ccpipe.urls.sources import read_pieces
from ccpipe.warc import read_records

PLANTED = 0.05
"""Share of addresses made from entries of the list."""


def real_urls(folder: Path | None) -> list[str]:
    if folder is None:
        return [f"https://host{n}.example{n % 97}.com/news/2024/{n}.html?id={n}" for n in range(1000)]
    records = (record for path in sorted(folder.glob("*.warc.gz")) for record in read_records(path, None, 1 << 20, Counter()))
    return [record.headers["warc-target-uri"].strip("<>") for record in records if record.kind == "response"]


def mixed_urls(real: list[str], entries: list[str], n: int) -> list[str]:
    """`n` addresses: real ones, some with another sub-domain so that they are not always the same, and planted hits."""
    rng = random.Random(0)
    made = []
    for _ in range(n):
        if rng.random() < PLANTED:
            made.append(f"https://{rng.choice(('', 'www.', 'm.'))}{rng.choice(entries)}/{rng.choice(('', 'a/b.html', '?q=1'))}")
            continue
        scheme, _, rest = rng.choice(real).partition("://")
        made.append(f"{scheme}://{rng.choice(('', f'x{rng.randrange(10**6)}.'))}{rest}")
    return made


def best_seconds(work: Callable[[], object], times: int = 3) -> float:
    taken = []
    for _ in range(times):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def resident_mb(code: str, *arguments: str) -> float:
    """Resident memory of a process that runs `code`, MiB."""
    report = "\nprint(next(int(line.split()[1]) / 1024 for line in open('/proc/self/status') if line.startswith('VmRSS')))"
    done = subprocess.run([sys.executable, "-c", code + report, *arguments], check=True, capture_output=True, text=True)
    return float(done.stdout)


def shared_memory(path: Path, n: int) -> list[str]:
    """`n` processes that map the file at the same time and look all of it up: RSS and PSS of the mapping alone, MiB."""
    code = (
        "import sys\nfrom pathlib import Path\nimport numpy as np\nfrom ccpipe.urls import Blocklist\n"
        "b = Blocklist.open(Path(sys.argv[1]))\nint(b.table.hashes.sum()); int(b.table.starts.sum()); int(b.table.kinds.sum())\n"
        "print('ready', flush=True)\nsys.stdin.readline()\n"
        "at, found = False, {}\n"
        "for line in open('/proc/self/smaps'):\n"
        "    if '-' in line.split()[0] and ':' not in line.split()[0]: at = line.rstrip().endswith(sys.argv[1])\n"
        "    elif at: found[line.split()[0]] = found.get(line.split()[0], 0) + int(line.split()[1]) if line.split()[1].isdigit() else 0\n"
        "print(round(found.get('Rss:', 0) / 1024, 1), round(found.get('Pss:', 0) / 1024, 1), flush=True)\nsys.stdin.readline()\n"
    )
    pipe = subprocess.PIPE
    started = [subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=pipe, stdout=pipe, text=True) for _ in range(n)]
    answers = []
    for process in started:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin and process.stdout
        process.stdin.write("\n")
        process.stdin.flush()
        answers.append(process.stdout.readline().strip())
    for process in started:
        process.communicate("\n")
    return answers


# --- other tables, tried with the same keys ---


@kernel
def find_binary(keys: np.ndarray, hashes: np.ndarray) -> int:
    found = 0
    for key in keys:
        low, high = 0, len(hashes)
        while low < high:
            middle = (low + high) // 2
            if hashes[middle] < key:
                low = middle + 1
            else:
                high = middle
        found += low < len(hashes) and hashes[low] == key
    return found


@kernel
def find_eytzinger(keys: np.ndarray, tree: np.ndarray) -> int:
    found = 0
    for key in keys:
        node = 1
        while node < len(tree) and tree[node] != key:
            node = 2 * node + (tree[node] < key)
        found += node < len(tree)
    return found


@kernel
def find_open(keys: np.ndarray, slots: np.ndarray, shift: int) -> int:
    found = 0
    for key in keys:
        at = np.int64(key >> np.uint64(shift))
        while slots[at] != 0 and slots[at] != key:
            at = (at + 1) % len(slots)
        found += slots[at] == key
    return found


@kernel
def find_buckets(keys: np.ndarray, hashes: np.ndarray, starts: np.ndarray, shift: int) -> int:
    found = 0
    for key in keys:
        bucket = np.int64(key >> np.uint64(shift))
        for at in range(np.int64(starts[bucket]), np.int64(starts[bucket + 1])):
            found += hashes[at] == key
    return found


@kernel
def fill_tree(hashes: np.ndarray, tree: np.ndarray, node: int, at: int) -> int:
    if node < len(tree):
        at = fill_tree(hashes, tree, 2 * node, at)
        tree[node] = hashes[at]
        at = fill_tree(hashes, tree, 2 * node + 1, at + 1)
    return at


@kernel
def fill_slots(hashes: np.ndarray, slots: np.ndarray, shift: int) -> None:
    for key in hashes:
        at = np.int64(key >> np.uint64(shift))
        while slots[at] != 0:
            at = (at + 1) % len(slots)
        slots[at] = key


def table_rows(blocklist: Blocklist, keys: np.ndarray) -> list[tuple[str, float, float, int]]:
    """Name, million keys a second, MB, keys found."""
    hashes, starts = np.array(blocklist.table.hashes), np.array(blocklist.table.starts)
    tree = np.zeros(len(hashes) + 1, np.uint64)
    fill_tree(hashes, tree, 1, 0)
    bits = int(np.ceil(np.log2(len(hashes) / 0.75)))
    slots = np.zeros(1 << bits, np.uint64)
    fill_slots(hashes, slots, 64 - bits)
    ways: dict[str, tuple[Callable[[np.ndarray], int], int]] = {
        "numpy.searchsorted": (lambda keys: int((hashes[hashes.searchsorted(keys) % len(hashes)] == keys).sum()), hashes.nbytes),
        "binary search, compiled": (lambda keys: find_binary(keys, hashes), hashes.nbytes),
        "Eytzinger order": (lambda keys: find_eytzinger(keys, tree), tree.nbytes),
        f"open addressing, load {len(hashes) / len(slots):.2f}": (lambda keys: find_open(keys, slots, 64 - bits), slots.nbytes),
        "buckets (ours)": (lambda keys: find_buckets(keys, hashes, starts, blocklist.table.shift), hashes.nbytes + starts.nbytes),
    }
    rows = []
    for name, (find, n_bytes) in ways.items():
        find(keys[:10])
        found = find(keys)
        rows.append((name, len(keys) / best_seconds(lambda find=find: find(keys)) / 1e6, n_bytes / 1e6, found))
    return rows


# --- peers ---

DATATROVE = """
import json, resource, sys, time
from datatrove.data import Document
from datatrove.pipeline.filters.url_filter import URLFilter
urls = json.load(open(sys.argv[1]))
start = time.process_time()
kwargs = dict(use_integrated_lists=False, extra_domains=open(sys.argv[2]), extra_urls=open(sys.argv[3]))
found = URLFilter(**kwargs)
built = time.process_time() - start
import tldextract
found.tldextractor = tldextract.TLDExtract(suffix_list_urls=())
found.tldextractor("http://a.example.com")
start = time.process_time()
hits = [found.filter(Document("", str(n), metadata={"url": url})) is not True for n, url in enumerate(urls)]
taken = time.process_time() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([built, taken, peak, [n for n, hit in enumerate(hits) if hit]]))
"""


def string_keys(lists: Iterable[Path]) -> tuple[set[str], list[str], list[str]]:
    """Entries as strings, read line by line in Python; domains and pages of these."""
    domains, pages = [], []
    for path in lists:
        for piece in read_pieces(path, None, 1 << 22):
            for line in piece.data.decode().splitlines():
                for host, tail in parse_line(line)[0]:
                    (pages if tail else domains).append(host + tail.decode("utf-8", "replace"))
    return {*domains, *pages}, domains, pages


def match_set(urls: list[str], known: set[str]) -> list[int]:
    """The plain way: keys of each address as strings, in a set."""
    keys = (address_keys(parse_address(url)) for url in urls)
    return [n for n, pairs in enumerate(keys) if any(host + tail.decode("utf-8", "replace") in known for host, tail in pairs)]


def run_datatrove(python: str, urls: list[str], domains: list[str], pages: list[str]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "urls.json").write_text(json.dumps(urls))
        Path(folder, "domains").write_text("\n".join(domains))
        Path(folder, "pages").write_text("\n".join(pages))
        command = [python, "-c", DATATROVE, *(str(Path(folder, name)) for name in ("urls.json", "domains", "pages"))]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lists", type=Path, nargs="+", help="block lists")
    parser.add_argument("--urls", type=Path, help="folder of *.warc.gz whose addresses are looked up")
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--peers", help="a Python with datatrove, tldextract and pyahocorasick")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "bench.blocklist")
        bench_memory(file, bench(options, file))


def bench(options: argparse.Namespace, file: Path) -> list[str]:
    """Times, printed. Returns the entries, as strings."""
    sources = [Source(path, "listed") for path in options.lists]
    build_blocklist({"warm": ["a.example", "b.example/c"]}, file)[0].match_batch(["http://a.example"])
    start = time.process_time()
    _, summary = build_blocklist(sources, file)
    built = time.process_time() - start
    blocklist = Blocklist.open(file)
    print(
        f"{summary.entries:,} entries from {summary.lines:,} lines, {file.stat().st_size / 1e6:.1f} MB, built in {built:.1f} s of CPU time"
    )
    print(f"opened (digest checked) in {best_seconds(lambda: Blocklist.open(file)) * 1e3:.0f} ms")

    start = time.process_time()
    known, domains, pages = string_keys(options.lists)
    print(f"Python set of strings: {time.process_time() - start:.1f} s to read the lists")
    real = real_urls(options.urls)
    urls = mixed_urls(real, domains, options.n)
    array = pa.array(urls, pa.large_string())
    hits = np.flatnonzero(blocklist.match_batch(array))
    some = urls[: len(urls) // 10]
    alike = match_set(some, known)
    print(f"{len(urls):,} addresses on {len(real):,} real ones; {len(hits) / len(urls):.2%} blocked; {blocklist.slow:,} read by Python")
    print(f"hits of the set in the first {len(some):,}: {len(alike):,}, the same ones: {alike == hits[hits < len(some)].tolist()}")
    rows = {
        "match_batch, Arrow": (lambda: blocklist.match_batch(array), len(urls)),
        "match_batch, real addresses alone": (lambda: blocklist.match_batch(real * 100), len(real) * 100),
        "match, one at a time": (lambda: [blocklist.match(url) for url in some], len(some)),
        "Python set, same rules": (lambda: match_set(some, known), len(some)),
        "Python set, whole string (no rules)": (lambda: [url in known for url in some], len(some)),
    }
    for name, (work, n) in rows.items():
        print(f"  {name:38}{n / best_seconds(work) / 1e6:8.3f} million/s")
    if options.peers:
        few = urls[:20_000]
        load, taken, peak, theirs = run_datatrove(options.peers, few, domains, pages)
        ours = set(hits[hits < len(few)].tolist())
        print(
            f"  {'datatrove URLFilter, same lists':38}{len(few) / taken / 1e6:8.3f} million/s; loaded in {load:.1f} s, peak {peak:,.0f} MiB"
        )
        print(f"  of {len(few):,}: datatrove blocks {len(theirs):,}, ccpipe {len(ours):,}, only datatrove {len(set(theirs) - ours)}")
    hosts = [parse_address(url).host.encode() for url in urls[:200_000]]
    ends = np.cumsum([len(host) for host in hosts])
    keys, _ = hash_domains(np.frombuffer(b"".join(hosts), np.uint8), np.append(0, ends[:-1]), ends)
    print("tables, keys of whole hosts:")
    for name, speed, megabytes, found in table_rows(blocklist, keys):
        print(f"  {name:38}{speed:8.2f} million/s {megabytes:7.1f} MB  {found:,} found")
    return [*domains, *pages]


def bench_memory(file: Path, entries: list[str]) -> None:
    print("memory, MiB:")
    print(f"  process that only imports                  {resident_mb('import ccpipe.urls'):6.0f} resident")
    code = "import sys\nfrom pathlib import Path\nknown = {line.strip() for line in open(sys.argv[1])}"
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as text:
        text.writelines(f"{name}\n" for name in entries)
        text.flush()
        print(f"  Python set in a process of its own         {resident_mb(code, text.name):6.0f} resident")
    for n in (1, 4):
        print(f"  {n} processes, their mappings, resident and share (PSS): {'; '.join(shared_memory(file, n))}")


if __name__ == "__main__":
    main()
