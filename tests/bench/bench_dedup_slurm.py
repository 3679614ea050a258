"""Dedup of a synthetic crawl as job arrays: `python tests/bench/bench_dedup_slurm.py --docs 5000000`.

Starts the Slurm of the tests (root, and the packages of tests/slurm/install.sh), makes the signatures with `ccpipe local`, then sends
`ccpipe submit --stage dedup` and waits for the last gate. Printed: seconds and CPU seconds of each phase by its sentinels, the seconds
from the command to the last gate, and the marks judged by the planted truth as in `bench_dedup.py`. --local does without Slurm.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent / "slurm")]

from bench_dedup import hardware, judge  # noqa: E402
from cluster import SlurmCluster, why_not  # noqa: E402
from synthetic_signatures import Crawl  # noqa: E402

PHASES = ("dedup.route", "dedup.match", "dedup.cluster", "dedup.mark")

TOML = """\
[run]
name = "synthetic"
dir = "run"
site = "site.toml"
inputs = ["input/*.warc.gz"]
shard_bytes = "1 KiB"
[stage.extract]
use = "synthetic_stages:Pages"
n_docs = {n_docs}
shard_docs = {shard_docs}
[stage.sig]
use = "synthetic_stages:Signatures"
n_docs = {n_docs}
shard_docs = {shard_docs}
[stage.dedup]
partitions = 8
group_shards = 8
memory_mb = 256
[resources.default]
cpus = 2
mem_gb = 0.9
tasks = 2
"""


def prepare(folder: Path, crawl: Crawl) -> None:
    (folder / "input").mkdir()
    for shard in range(crawl.n_shards):
        (folder / "input" / f"{shard:05d}.warc.gz").write_bytes(bytes(1024))
    for name in ("synthetic_stages.py", "synthetic_signatures.py"):
        shutil.copy(HERE / name, folder)
    (folder / "run.toml").write_text(TOML.format(n_docs=crawl.n_docs, shard_docs=crawl.shard_docs))
    (folder / "site.toml").write_text('partition = "main"\n')


def ccpipe(folder: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "jobs.cli", *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"ccpipe {' '.join(words)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def summed_up(folder: Path, stage: str) -> dict[str, Any]:
    (success,) = (folder / "run" / "state" / stage).glob("*/_SUCCESS.json")
    found: dict[str, Any] = json.loads(success.read_text())
    return found


def collect_marks(folder: Path, crawl: Crawl) -> Path:
    """The mark files under the names that `judge` reads."""
    marks = folder / "marks"
    marks.mkdir()
    for shard in range(crawl.n_shards):
        (path,) = (folder / "run" / "meta" / "dedup" / "current").glob(f"{shard:05d}.parquet")
        (marks / f"dedup{shard:05d}").symlink_to(path.resolve())
    return marks


def bench(folder: Path, crawl: Crawl, slurm: SlurmCluster | None) -> None:
    prepare(folder, crawl)
    ccpipe(folder, "local", "--stage", "extract")
    ccpipe(folder, "local", "--stage", "sig")
    print(ccpipe(folder, "plan", "--stage", "dedup"))
    start = time.perf_counter()
    if slurm is None:
        ccpipe(folder, "local", "--stage", "dedup")
    else:
        said = ccpipe(folder, "submit", "--stage", "dedup")
        print(said)
        slurm.wait_job(re.findall(r"gate (\d+)", said)[-1], timeout=3600)
    seconds = time.perf_counter() - start
    print("| stage | units | seconds of all units | CPU seconds |\n| --- | --- | --- | --- |")
    for stage in PHASES:
        found = summed_up(folder, stage)
        print(f"| {stage} | {found['n_units']} | {found['seconds']['wall']:,.1f} | {found['seconds']['cpu']:,.1f} |")
    print(f"\nfrom the command to the last gate: {seconds:,.0f} s, {crawl.n_docs / seconds:,.0f} documents/s")
    judge(crawl, collect_marks(folder, crawl), {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=5_000_000, help="documents; 1.3 KiB of disk each")
    parser.add_argument("--shard-docs", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the files go with --local; a temporary folder where not given")
    parser.add_argument("--local", action="store_true", help="without Slurm, two processes on this machine")
    options = parser.parse_args()
    crawl = Crawl(options.docs, options.shard_docs)
    os.environ["PYTHONPATH"] = str(ROOT)
    print(f"{hardware()}\n{options.docs:,} documents in {crawl.n_shards} shards\n")
    if options.local:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            bench(Path(name), crawl, None)
        return
    if reason := why_not():
        raise SystemExit(f"no Slurm to send to: {reason}; or give --local")
    with SlurmCluster.start() as slurm:
        os.environ.update({name: slurm.env()[name] for name in ("SLURM_CONF", "PATH")})
        folder = slurm.root / "work" / "synthetic"
        folder.mkdir(parents=True)
        bench(folder, crawl, slurm)


if __name__ == "__main__":
    main()
