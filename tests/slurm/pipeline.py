"""`ccpipe` on the test cluster: a folder with a run.toml and a site.toml, the verbs, and what became of the jobs.

Nothing is imported from the package under test: the command line is called as a user calls it, and outputs are read as
files, by their sentinels.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster import SlurmCluster

SMALL = "cpus = 2\nmem_gb = 0.4"
"""Two tasks fit on a node of the test cluster."""

PATIENCE_S = 180.0
"""For whatever must happen in the end: the machine may be busy."""

STAGES = Path(__file__).with_name("user_stages.py")
SENT = re.compile(r"^(\S+)\s+array ([\d, ]+): (\d+) tasks for (\d+) units; gate (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Sent:
    """What `submit` said of one stage: the ids of its arrays and of its gate."""

    arrays: tuple[str, ...]
    tasks: int
    units: int
    gate: str


@dataclass(frozen=True)
class Demo:
    """The demo's folder, and the run.toml that its preparation wrote."""

    folder: Path
    toml: str

    def chain_toml(self, *more_inputs: Path) -> str:
        """The whole flow but the two transformers, which are slow to load."""
        toml = re.sub(r"\[stage\.classify\.(?:edu|hq)\]\n(?:[^\[]|\[[^s])*", "", self.toml)
        toml = toml.replace('scores = ["edu_score", "hq_score", "fasttext_score"]', 'scores = ["fasttext_score"]')
        toml = toml.replace(f'dir = "{self.folder}/run"', 'dir = "run"\nsite = "site.toml"')
        toml = toml.replace('*.warc.gz"]', "".join(['*.warc.gz"', *(f', "{path}"' for path in more_inputs), "]"]))
        return toml.partition("[resources.default]")[0] + f"[resources.default]\n{SMALL}\n"

    def slow_toml(self, more: str = "", slow: Mapping[str, float | str] | None = None) -> str:
        """`extract` of four shards, the stage `slow` in slices of four documents, and `after`, which waits for it."""
        parameters = {"slice_rows": 4, **(slow or {})}
        lines = "\n".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in parameters.items())
        return f"""\
[run]
name = "tried"
dir = "run"
site = "site.toml"
inputs = ["{self.folder}/input/*.warc.gz"]
shard_bytes = "64 KiB"
[stage.extract]
[stage.slow]
use = "my_stages:Slow"
{lines}
[stage.after]
use = "my_stages:Slow"
where = "slow_chars > 0"
[resources.default]
{SMALL}
{more}
"""


@dataclass
class Pipeline:
    """`folder` holds run.toml, site.toml and the user's stages; the run directory is `folder/run`."""

    slurm: SlurmCluster
    folder: Path
    sent: list[dict[str, Sent]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(STAGES, self.folder / "my_stages.py")

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    @property
    def hold(self) -> Path:
        """While this file exists, slices of the user's stages wait."""
        return self.folder / "hold"

    # ---- verbs

    def configure(self, toml: str, site: str = "") -> None:
        (self.folder / "run.toml").write_text(toml)
        (self.folder / "site.toml").write_text(site)

    def ccpipe(self, *words: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "jobs.cli", *map(str, words)]
        environment = self.slurm.env() | dict(env or {})
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=180)

    def ok(self, *words: str | Path) -> str:
        """Output of a verb that must succeed."""
        done = self.ccpipe(*words)
        assert done.returncode == 0, f"{words} returned {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *words: str, verb: str = "submit") -> dict[str, Sent]:
        """`ccpipe submit` (or `retry`): stage -> its jobs, in the order in which they were sent."""
        out = self.ok(verb, *words)
        sent = {
            stage: Sent(tuple(arrays.split(", ")), int(tasks), int(units), gate) for stage, arrays, tasks, units, gate in SENT.findall(out)
        }
        self.sent.append(sent)
        return sent

    # ---- jobs

    def ends(self, job: str, timeout: float = PATIENCE_S) -> set[str]:
        """Wait for a job or array; the states in which its elements ended."""
        return set(self.slurm.wait_job(job, timeout).values())

    def gate_log(self, stage: str, sent: Sent) -> str:
        return (self.state(stage) / "logs" / f"gate-{sent.gate}.log").read_text()

    def logs(self, stage: str) -> str:
        """All logs of a stage, for messages and for looking something up."""
        return "\n".join(path.read_text() for path in sorted((self.state(stage) / "logs").iterdir()))

    def wait_slices(self, n: int) -> None:
        """Wait until `n` slices have begun."""
        self.slurm.wait_until(lambda: len(self.noted()) >= n, PATIENCE_S, f"{n} slices in {self.journal}")

    def wait_log(self, stage: str, says: str) -> None:
        self.slurm.wait_until(lambda: says in self.logs(stage), PATIENCE_S, f"{says!r} in a log of {stage} in {self.folder}")

    # ---- files

    def noted(self) -> list[dict[str, Any]]:
        """The journal: slices in the order in which they began."""
        return [json.loads(line) for line in self.journal.read_text().splitlines()] if self.journal.exists() else []

    def begun(self) -> list[str]:
        """`unit:begin` of every slice begun, sorted; twice if done twice."""
        return sorted(f"{line['unit']}:{json.dumps(line['begin'])}" for line in self.noted())

    def stages(self) -> list[str]:
        return [entry["stage"] for entry in json.loads((self.run / "flow.json").read_text())["stages"]]

    def state(self, stage: str) -> Path:
        """The state folder of a stage."""
        flow = json.loads((self.run / "flow.json").read_text())
        fp12 = next(entry["fp12"] for entry in flow["stages"] if entry["stage"] == stage)
        return self.run / "state" / stage / fp12

    def sentinels(self, stage: str) -> dict[str, dict[str, Any]]:
        return {path.stem: json.loads(path.read_text()) for path in sorted((self.state(stage) / "done").glob("*.json"))}

    def claims(self, stage: str) -> list[dict[str, Any]]:
        """Who works on the stage right now."""
        return [json.loads(path.read_text()) for path in (self.state(stage) / "claims").glob("[!.]*")]

    def digests(self, *stages: str) -> dict[str, str]:
        """SHA-256 of every file that a sentinel names, read anew, by its path below the run directory. No stage: all stages."""
        found = {}
        for stage in stages or self.stages():
            for sentinel in self.sentinels(stage).values():
                for output in sentinel["outputs"].values():
                    found[output["path"]] = hashlib.sha256((self.run / output["path"]).read_bytes()).hexdigest()
        return found


@dataclass(frozen=True)
class NewRun:
    """`new_run(name)` is a new folder with a copy of the extracted pages: `slow` and `after` are still to do, unless `complete`."""

    demo: Demo
    extracted: Pipeline
    folder: Path

    def __call__(self, name: str = "here", more: str = "", site: str = "", complete: bool = False, **slow: float | str) -> Pipeline:
        made = Pipeline(self.extracted.slurm, self.folder / name)
        made.configure(self.demo.slow_toml(more, {"journal": str(made.journal), "hold": str(made.hold), **slow}), site)
        shutil.copytree(self.extracted.folder / ("run" if complete else "only-extracted"), made.run, symlinks=True)
        return made
