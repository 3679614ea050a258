"""Fuzzy dedup of the same documents by ccpipe, datatrove and text-dedup: `python tests/bench/bench_dedup_peers.py FILE...`.

Every tool reads one JSONL of documents, makes signatures of word 5-grams in 14 bands of 8 (datatrove's own configuration), and says
which documents are kept. Each runs alone, in a process of its own, with one worker. CPU seconds are those of the process and its
children, from start to end, imports included; the runs are side by side in one sitting, so that ratios hold on a busy machine.
Documents and truth: `dedup_peers/corpus.py`. The peers get a virtual environment of their own, `.cache/dedup-peers-venv`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "dedup_peers"))
sys.path.insert(0, str(Path(__file__).parent))
from bench_dedup import hardware
from corpus import DUPLICATE, Corpus, make, score

HERE = Path(__file__).parent / "dedup_peers"
REQUIREMENTS = HERE / "requirements.txt"
VENV = Path(__file__).resolve().parents[2] / ".cache" / "dedup-peers-venv"
BANDS, ROWS = 14, 8
TOOLS = ("ccpipe", "datatrove", "text-dedup")


def peers_python() -> Path:
    """Python with the peers. Installs them where they are not yet, or at other versions than `requirements.txt` says."""
    python, stamp = VENV / "bin" / "python", VENV / "installed.txt"
    wanted = REQUIREMENTS.read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(VENV, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(REQUIREMENTS)]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        stamp.write_text(wanted)
    return python


def run_tool(tool: str, python: Path, folder: Path) -> tuple[float, float, float, set[int]]:
    """CPU seconds, wall seconds, peak memory in MiB, numbers of the kept documents."""
    script = HERE / f"with_{tool.replace('-', '_')}.py"
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]) if tool == "ccpipe" else "",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    log = folder / "log.txt"
    start = time.perf_counter()
    with log.open("wb") as output:
        child = subprocess.Popen(
            [str(python), str(script), str(folder), str(BANDS), str(ROWS)], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{tool} failed:\n" + log.read_text(errors="replace")[-3000:])
    if tool == "ccpipe":
        print(log.read_text().strip().splitlines()[-1])
    return (
        used.ru_utime + used.ru_stime,
        time.perf_counter() - start,
        used.ru_maxrss / 1024,
        set(json.loads((folder / "kept.json").read_text())),
    )


def write_documents(corpus: Corpus, folder: Path) -> None:
    folder.mkdir()
    with (folder / "docs.jsonl").open("w") as file:
        for number, text in enumerate(corpus.texts):
            file.write(json.dumps({"id": str(number), "text": text}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="*.txt, or *.jsonl with a text field, in a language with spaces")
    parser.add_argument("--docs", type=int, default=100_000)
    parser.add_argument("--tools", nargs="*", default=TOOLS, choices=TOOLS)
    options = parser.parse_args()
    corpus = make(options.files, options.docs)
    true = sum(similar >= DUPLICATE for _, _, similar in corpus.pairs)
    size = sum(len(text.encode()) for text in corpus.texts) / 1e6
    print(f"{hardware()}\n{options.docs:,} documents, {size:.0f} MB, {len(corpus.pairs):,} edited copies, {true:,} of them duplicates\n")
    rows, cpus = [], {}
    for tool in options.tools:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name, "run")
            write_documents(corpus, folder)
            cpu, wall, peak, kept = run_tool(tool, Path(sys.executable) if tool == "ccpipe" else peers_python(), folder)
        found = score(corpus, set(range(options.docs)) - kept)
        cpus[tool] = cpu
        ratio = f"{cpu / cpus['ccpipe']:.0f}" if "ccpipe" in cpus else "-"
        rows.append(
            f"| {tool} | {cpu:,.1f} | {wall:,.1f} | {options.docs / cpu:,.0f} | {ratio} | {peak:,.0f} | {found['precision']:.4f} "
            f"| {found['recall']:.4f} | {found['f1']:.4f} | {found['dropped']:,} |"
        )
        print(rows[-1], file=sys.stderr)
    print("| tool | CPU seconds | seconds | documents per CPU second | x ccpipe | peak MiB | precision | recall | F1 | dropped |")
    print("| --- " * 10 + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
