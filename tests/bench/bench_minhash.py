"""Signatures beside rensa, datasketch and datatrove, in one run on one core: `python tests/bench/bench_minhash.py [--text FILE ...]`.

Speed: documents of 500 words (English) or 500 characters (Chinese) cut out of real text; CPU time from Python strings to 128 positions
over 5-grams, each contender in a process of its own, taking turns, medians.
Peers have an environment of their own, `.cache/minhash-venv`.
Accuracy: the same documents and edited copies of them, against exact Jaccard similarity of the sets of 5-grams. A pair is positive
where that is 0.8 or more, and found where the estimate is; `met` is the share of the positives that share a band of 16 x 8.
Returns 1 where a bar is missed. `--families`: instead, families of hash functions for the same shingles.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))
from hpc_peers.venv import peers_python
from minhash_peers.pairs import cut, edited_pairs, exact_similarity, is_spaced, load_texts

HERE = Path(__file__).parent
PEERS = HERE / "minhash_peers"
VENV = HERE.parents[1] / ".cache" / "minhash-venv"
BARS = {"rensa": 5, "datasketch": 40, "datatrove": 300}
"""How many times the speed of these ccpipe must have."""

THRESHOLD = 0.8
SLOW = ("datasketch", "datatrove")
FEW = 150
"""Documents that the slow ones sign."""


def hardware() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, numpy {np.__version__}"


def run_contender(name: str, docs: list[str], times: int) -> tuple[dict[str, list[float]], np.ndarray]:
    """What the contender printed, and its signatures."""
    python = sys.executable if name == "ccpipe" else str(peers_python(PEERS / "requirements.txt", VENV))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "docs.json").write_text(json.dumps(docs), encoding="utf-8")
        env = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [python, str(PEERS / "contenders.py"), name, folder, str(times)]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1]), np.load(Path(folder, f"{name}.npy"))


def names_for(spaced: bool) -> list[str]:
    return ["ccpipe", "rensa", "rensa, update", "rensa, rho", "datasketch", "datatrove, en" if spaced else "datatrove, zh"]


def measure_speed(docs: list[str], names: list[str], rounds: int) -> dict[str, float]:
    """Name -> MB/s, from the median over rounds in which all take turns."""
    rates: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            part = docs[:FEW] if name.startswith(SLOW) else docs
            told, _ = run_contender(name, part, 1 if name.startswith(SLOW) else 5)
            rates[name] += [told["bytes"] / seconds / 1e6 for seconds in told["seconds"]]  # type: ignore[operator]
    return {name: float(np.median(found)) for name, found in rates.items()}


def measure_accuracy(pairs: list[tuple[str, str]], exact: np.ndarray, name: str) -> list[str]:
    """Cells of the table: recall, precision, mean error, root mean square error over MinHash's, met."""
    _, sigs = run_contender(name, [text for pair in pairs for text in pair], 1)
    equal = sigs[0::2] == sigs[1::2]
    found = equal.mean(axis=1)
    positive, called = exact >= THRESHOLD, found >= THRESHOLD
    met = equal[:, :128].reshape(-1, 16, 8).all(axis=2).any(axis=1)
    both = (positive & called).sum()
    error = found - exact
    expected = np.sqrt((exact * (1 - exact) / sigs.shape[1]).mean())
    return [
        *(f"{both / positive.sum():.3f}", f"{both / called.sum():.3f}", f"{error.mean():+.4f}"),
        *(f"{np.sqrt((error**2).mean()) / expected:.2f}", f"{met[positive].mean():.3f}"),
    ]


def bench_text(title: str, text: str, rounds: int, n_pairs: int) -> list[str]:
    """Prints the table of one text; returns the bars that were missed."""
    spaced = is_spaced(text)
    glue, unit = (" ", "words") if spaced else ("", "characters")
    documents = cut(text)
    docs = [glue.join(part) for part in documents]
    print(f"\n{title}: {len(docs)} documents of 500 {unit}, {sum(len(d.encode()) for d in docs) / 1e6:.1f} MB")
    pairs = list(edited_pairs(documents, glue, n_pairs))
    exact = np.array([exact_similarity(*pair) for pair in pairs])
    print(
        f"{len(pairs)} pairs of exact similarity {exact.min():.2f} to {exact.max():.2f}, {int((exact >= THRESHOLD).sum())} at 0.8 or more\n"
    )
    names = names_for(spaced)
    rates = measure_speed(docs, names, rounds)
    print("| contender | MB/s | documents/s | ccpipe is faster | recall | precision | mean error | error / MinHash's | met at 16 x 8 |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    size = sum(len(d.encode()) for d in docs) / len(docs) / 1e6
    for name in names:
        cells = [f"{rates[name]:.2f}", f"{rates[name] / size:,.0f}", f"{rates['ccpipe'] / rates[name]:.1f} x"]
        print(f"| {name} | {' | '.join([*cells, *measure_accuracy(pairs, exact, name)])} |", flush=True)
    ratios = {name: rates["ccpipe"] / rates[name] for name in names}
    return [
        f"{title}: {bar} {ratios[name]:.1f} x, wanted {times} x"
        for bar, times in BARS.items()
        for name in names
        if name.partition(",")[0] == bar and name != "rensa, rho" and ratios[name] < times
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = HERE.parents[1] / "jobs" / "demo" / "texts"
    parser.add_argument(
        "--text", type=Path, nargs="*", default=[default / "en.jsonl", default / "zh.jsonl"], help="*.txt, *.jsonl or folders"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--families", action="store_true", help="compare families of hash functions instead")
    options = parser.parse_args()
    print(hardware())
    if options.families:
        from minhash_peers.families import compare_families

        print("\n".join(compare_families()))
        return 0
    missed = [line for name, text in load_texts(options.text).items() for line in bench_text(name, text, options.rounds, options.pairs)]
    print("\n" + ("\n".join(f"bar missed: {line}" for line in missed) or "all bars held"))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
