"""`ccpipe` on a real Slurm: what is sent, what arrives in the jobs, and outputs equal to those of a local run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster import SlurmCluster
from pipeline import Demo, NewRun, Pipeline

pytestmark = pytest.mark.slurm

TEMPLATES = Path(__file__).resolve().parents[2] / "jobs" / "sbatch"
COMPLETED = {"COMPLETED"}


@dataclass
class Chain:
    """The whole flow on Slurm and on this machine, both begun with the first test and looked at by the last one."""

    slurm: Pipeline
    alone: Pipeline
    running: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def chain(cluster: SlurmCluster, demo: Demo, real_warcs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    submitted, alone = (Pipeline(cluster, tmp_path_factory.mktemp(name)) for name in ("submitted", "alone"))
    for pipeline in (submitted, alone):
        pipeline.configure(demo.chain_toml(*real_warcs))
    submitted.submit()
    with subprocess.Popen([sys.executable, "-m", "jobs.cli", "local"], cwd=alone.folder, stdout=subprocess.DEVNULL) as running:
        yield Chain(submitted, alone, running)


@pytest.fixture(scope="module")
def packed(cluster: SlurmCluster, extracted: Pipeline, demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Four tasks for four units, of which a small site takes two in an array and one at once. All have ended."""
    site = """
partition = "main"
max_array_size = 2
throttle = 1
setup = ['export GREETING="it''s  $HOME"', "echo $GREETING | tr a-z A-Z"]
extra = { comment = 'made "by hand"', nice = 5 }
"""
    new_run = NewRun(demo, extracted, tmp_path_factory.mktemp("packed"))
    pipeline = new_run(more="[resources.slow]\ncpus = 1\nmem_gb = 0.4\ntasks = 4\n", site=site.replace("it''s", "it is"))
    pipeline.ends(pipeline.submit("--stage", "slow")["slow"].gate)
    return pipeline


def options_of(pipeline: Pipeline, job: str) -> dict[str, str]:
    """`scontrol show job`: Partition=main ..."""
    shown = pipeline.slurm.run("scontrol", "show", "job", job).split("\n\n")[0]
    return dict(word.partition("=")[::2] for word in shown.split() if "=" in word)


@pytest.mark.slow
def test_the_whole_chain_is_sent_at_once(chain: Chain) -> None:
    """Every stage has its array and its gate, and waits for the gates of the stages that it reads."""
    (sent,) = chain.slurm.sent
    assert list(sent) == chain.slurm.stages()
    shown = options_of(chain.slurm, sent["select"].arrays[0])
    waits_for = {stage for stage in sent if sent[stage].gate in re.findall(r"\d+", shown["Dependency"])}
    assert waits_for <= {"extract", "perplexity", "bucket.assign", "dedup.mark"}
    assert "bucket.assign" in waits_for


def test_arrays_above_the_limit_are_split(packed: Pipeline, extracted: Pipeline) -> None:
    """Four tasks where an array may have two: two arrays, one gate behind both, all units done once."""
    sent = packed.sent[0]["slow"]
    assert (len(sent.arrays), sent.tasks, sent.units) == (2, 4, 4)
    assert [len(packed.slurm.all_states(array)) for array in sent.arrays] == [2, 2]
    assert packed.ends(sent.gate) == COMPLETED
    assert packed.begun() == sorted(set(packed.begun()))
    assert packed.digests("slow") == extracted.digests("slow")


def test_site_profile_arrives_in_the_jobs(packed: Pipeline) -> None:
    """Partition, throttle, further options and setup lines, quotes included."""
    sent = packed.sent[0]["slow"]
    shown = options_of(packed, sent.arrays[0])
    assert {shown["Partition"], shown["ArrayTaskThrottle"], shown["Nice"], shown["NumCPUs"]} == {"main", "1", "5"}
    assert 'Comment=made "by hand"' in packed.slurm.run("scontrol", "show", "job", sent.arrays[0])
    assert packed.logs("slow").count(f"IT IS {os.environ['HOME'].upper()}") == 5, "four elements and the gate"


def test_each_gpu_has_its_worker(new_run: NewRun) -> None:
    """Two GPUs, two processes, one device each."""
    pipeline = new_run(more="[resources.slow]\ncpus = 2\ngpus = 2\nmem_gb = 0.4\n")
    pipeline.hold.touch()
    (array,) = pipeline.submit("--stage", "slow")["slow"].arrays
    pipeline.wait_slices(2)
    pipeline.hold.unlink()
    assert pipeline.ends(array) == COMPLETED
    devices = {line["pid"]: line["gpus"] for line in pipeline.noted()}
    assert sorted(devices.values()) == ["0", "1"]


def test_odd_paths_are_only_paths(new_run: NewRun, extracted: Pipeline) -> None:
    """Spaces, quotes, semicolons and dollars in the run directory pass through submitit and through printed scripts."""
    pipeline = new_run("my run; touch pwned 'ü' \"$HOME\" `touch pwned` &")
    sent = pipeline.submit("--stage", "slow")["slow"]
    pipeline.ok("sbatch", "--stage", "after", "--to", "scripts")
    assert pipeline.ends(sent.gate) == COMPLETED
    after = pipeline.slurm.sbatch(pipeline.folder / "scripts" / "after.sbatch", cwd=pipeline.folder)
    assert pipeline.ends(after) == COMPLETED
    assert pipeline.digests("slow", "after") == extracted.digests("slow", "after")
    assert not list(pipeline.folder.parent.rglob("pwned*"))


@pytest.mark.parametrize(("name", "says"), [("two\nlines", "control character"), ("100%", "% or \\"), ("C:\\run", "% or \\")])
def test_paths_that_slurm_misreads_are_refused(new_run: NewRun, name: str, says: str) -> None:
    """A line break would end one directive and begin another; % and backslash mean something in the name of a log."""
    pipeline = new_run(name)
    for verb in ("submit", "sbatch"):
        done = pipeline.ccpipe(verb)
        assert done.returncode == 2
        assert says in done.stderr and "Traceback" not in done.stderr
    assert not (pipeline.state("slow") / "launches").exists()


def test_printed_scripts_are_accepted_as_they_are(new_run: NewRun, extracted: Pipeline) -> None:
    """`sbatch --to`: arrays and gates, sent by hand. One deleted sentinel: that unit and the one that depends on it run again."""
    pipeline = new_run(complete=True)
    (pipeline.state("slow") / "done" / "00002.json").unlink()
    before = pipeline.sentinels("after")
    pipeline.ok("sbatch", "--to", "scripts")
    scripts = pipeline.folder / "scripts"
    assert {path.name for path in scripts.iterdir()} == {f"{name}.sbatch" for name in ("slow", "slow.gate", "after", "after.gate")}
    gate = ""
    for stage in ("slow", "after"):
        array = pipeline.slurm.sbatch(*([f"--dependency=afterok:{gate}"] if gate else []), scripts / f"{stage}.sbatch")
        gate = pipeline.slurm.sbatch(f"--dependency=afterany:{array}", scripts / f"{stage}.gate.sbatch")
    assert pipeline.ends(gate) == COMPLETED
    assert [unit for unit, sentinel in pipeline.sentinels("after").items() if sentinel != before[unit]] == ["00002"]
    assert {line["unit"] for line in pipeline.noted()} == {2}
    assert pipeline.digests() == extracted.digests()


def test_templates_start_the_real_worker(new_run: NewRun, extracted: Pipeline) -> None:
    """The sbatch templates of the repository with this Python: an array of two, and its gate."""
    pipeline = new_run()
    pipeline.ok("plan")
    variables = {"RUN": str(pipeline.run), "STAGE": "slow", "CCPIPE_PYTHON": sys.executable}
    options = ["--array=0-1", "--cpus-per-task=1", "--mem=600", "--output=%A_%a.log"]
    array = pipeline.slurm.sbatch(*options, TEMPLATES / "cpu_array.sbatch", env=variables, cwd=pipeline.folder)
    behind = [f"--dependency=afterany:{array}", "--output=gate.log", "--mem=600"]
    gate = pipeline.slurm.sbatch(*behind, TEMPLATES / "gate.sbatch", env=variables, cwd=pipeline.folder)
    assert pipeline.ends(gate) == COMPLETED
    assert "slow: complete, 4 units committed" in (pipeline.folder / "gate.log").read_text()
    assert pipeline.digests("slow") == extracted.digests("slow")


def test_status_asks_no_scheduler(new_run: NewRun, tmp_path: Path) -> None:
    """Commands of Slurm on the path would leave a trace when called."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("squeue", "sacct", "scontrol", "sinfo", "sbatch", "srun", "scancel"):
        (commands / name).write_text(f"#!/bin/sh\necho {name} >>{tmp_path}/called\n")
        (commands / name).chmod(0o755)
    pipeline = new_run()
    pipeline.ok("plan")
    done = pipeline.ccpipe("status", env={"PATH": f"{commands}:/usr/bin:/bin"})
    assert done.returncode == 0
    assert re.search(r"slow .* 0/4", done.stdout)
    assert not (tmp_path / "called").exists()


def test_doctor_knows_the_limits_of_the_cluster(new_run: NewRun) -> None:
    limit = new_run.extracted.slurm.layout.max_array_size
    done = new_run("fits", site=f"max_array_size = {limit}").ccpipe("doctor")
    assert done.returncode == 0, done.stdout
    assert re.search(r"ok +slurm +\d\d\.\d\d", done.stdout)
    assert f"MaxArraySize {limit}" in done.stdout
    assert re.search(r"ok +preemption +main: a preempted task goes back to the queue", done.stdout)
    done = new_run("too-large", site=f"max_array_size = {limit + 1}").ccpipe("doctor")
    assert done.returncode == 1
    assert re.search(rf"fail +array size .*set max_array_size = {limit}", done.stdout)


@pytest.mark.slow
def test_the_chain_completes_with_the_bytes_of_a_local_run(chain: Chain) -> None:
    """Arrays, gates and dependencies from WARC to tokens: every file that a sentinel names is bit-identical."""
    (sent,) = chain.slurm.sent
    assert chain.slurm.ends(sent["export.manifest"].gate, timeout=180) == COMPLETED
    assert {state for stage in sent.values() for job in (*stage.arrays, stage.gate) for state in chain.slurm.ends(job)} == COMPLETED
    assert chain.running.wait(120) == 0
    found, expected = chain.slurm.digests(), chain.alone.digests()
    assert found == expected
    assert len(found) > 60
