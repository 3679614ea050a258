"""Every command that the README shows is run, in its order, on the demo's pages; those that submit, on a real Slurm."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import SlurmCluster, why_not

from jobs.config import load_config
from jobs.demo.prepare import prepare
from jobs.flow import build_flow

REPO = Path(__file__).resolve().parents[2]
README = (REPO / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SUBMITTING = re.compile(r"\b(submit|retry|scale)\b")


def commands() -> list[str]:
    lines = [line.partition("#")[0].strip() for language, block in BLOCKS if language == "bash" for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Path]:
    """A folder with the demo's run.toml, as a user of a cluster would have it; no transformers, to be quick."""
    folder = tmp_path_factory.mktemp("readme")
    config = prepare(folder, models)
    text = re.sub(r"\[stage\.classify\.(edu|hq)\].*?(?=\n#|\n\[)", "", config.read_text(), flags=re.DOTALL)
    text = text.replace('"edu_score", "hq_score", ', "").replace('name = "demo"', 'name = "readme"\nsite = "site.toml"')
    config.write_text(text.replace("cpus = 2", "cpus = 2\nmem_gb = 0.9"))
    (folder / "site.toml").write_text('[site]\npartition = "main"\nmax_array_size = 200\n')
    yield folder


def run(command: str, demo: Path) -> str:
    """Run a command as a user would: make in the checkout, everything else beside the run.toml."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "config": str(demo / "run.toml"), "DEMO": str(demo / "demo-run"), "VENV": str(Path(sys.prefix))}
    where = REPO if command.startswith("make") else demo
    done = subprocess.run(["bash", "-c", command], cwd=where, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("command", commands())
def test_command_of_the_readme(command: str, demo: Path, request: pytest.FixtureRequest) -> None:
    if command == "make test":
        assert "pytest" in run("make -n test", demo)  # this very run
        return
    reason = why_not()
    if reason and SUBMITTING.search(command):
        pytest.skip(reason)
    if reason:
        assert run(command, demo)
        return
    slurm: SlurmCluster = request.getfixturevalue("slurm")
    if "scale" in command:
        assert " more tasks for launch " in run_beside_a_stage(command, demo, slurm)
    else:
        assert run(command, demo)
    slurm.wait_until(lambda: not slurm.squeue(), 240, f"the end of what `{command}` submitted")


def run_beside_a_stage(command: str, demo: Path, slurm: SlurmCluster) -> str:
    """Run a command that needs a stage under way: all of `extract`, submitted again, which cannot begin before the command is through."""
    run("ccpipe redo --stage extract", demo)
    slurm.run("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        run("ccpipe submit --stage extract", demo)
        return run(command, demo)
    finally:
        slurm.run("scontrol", "update", "PartitionName=main", "State=UP")


def test_the_demo_said_that_nothing_was_reprocessed(demo: Path) -> None:
    """A second `make demo`, on what the README's first left."""
    first = next((demo / "demo-run" / "run" / "state").glob("lid/*/done/00000.json")).read_bytes()
    output = run("make demo", demo)
    assert "nothing was reprocessed" in output
    assert "corpus: " in output and "tokens" in output
    assert next((demo / "demo-run" / "run" / "state").glob("lid/*/done/00000.json")).read_bytes() == first


def test_the_flow_of_the_readme_is_a_flow(demo: Path, tmp_path: Path, models: Path) -> None:
    """The example's TOML is valid, model paths apart."""
    text = next(block for language, block in BLOCKS if language == "toml" and "[run]" in block)
    text = text.replace("/lustre/cc/CC-MAIN-2024-10", str(demo / "input")).replace("models/ut1.blocklist", str(demo / "blocklist"))
    text = text.replace('"models/', f'"{models}/')
    (tmp_path / "run.toml").write_text(text)
    (tmp_path / "site.toml").write_text("[site]\n")
    names = [stage.name for stage in build_flow(load_config(tmp_path / "run.toml"))]
    assert names[0] == "extract" and names[-1] == "export.manifest" and names.index("quality") < names.index("dedup.route")


def test_the_annotator_of_the_readme_runs(demo: Path, tmp_path: Path) -> None:
    source = next(block for language, block in BLOCKS if language == "python")
    table = next(block for language, block in BLOCKS if language == "toml" and "stage.house" in block)
    (tmp_path / "mylab.py").write_text(source)
    value = tomllib.loads((demo / "run.toml").read_text())
    lid = value["stage"]["lid"]["model"]
    config = f'[run]\nname = "own"\ndir = "run"\ninputs = ["{demo}/input/*.warc.gz"]\nshard_bytes = "1 GiB"\n'
    config += f'[stage.extract]\n[stage.lid]\nmodel = "{lid}"\n{table}'
    (tmp_path / "run.toml").write_text(config)
    run(f"ccpipe local --config {tmp_path}/run.toml", demo)
    shown = run(f"ccpipe inspect --config {tmp_path}/run.toml 0-0", demo)
    assert "house_share" in shown and "house_reason" in shown


def test_paths_of_the_readme_exist() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    named = re.findall(r"`((?:jobs|docs|tests|hpc|ccpipe)/[\w./-]*)`", README)
    missing = [path for path in links + named if not (REPO / path).exists()]
    assert links and named and not missing


def test_every_make_target_of_the_readme_is_listed_by_help() -> None:
    listed = subprocess.run(["make"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    used = {word for line in commands() if line.startswith("make") for word in shlex.split(line)[1:] if "=" not in word}
    assert used <= set(re.findall(r"make ([a-z-]+)", listed))
