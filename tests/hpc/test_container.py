"""The container recipe: well formed, made of what the checkout has, and its steps give an environment that runs.

No image is built here: that needs Apptainer and a registry of images. What is tried is the recipe's own part: its files, and its %post,
%test and %runscript, run in a folder that stands for the image's root, with this machine's Python in place of the base image's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
RECIPE = REPO / "hpc" / "container" / "ccpipe.def"
SECTIONS = ["arguments", "files", "post", "environment", "runscript", "test", "labels", "help"]


def sections() -> dict[str, list[str]]:
    """Section -> its lines; "" holds the header."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in RECIPE.read_text(encoding="utf-8").splitlines():
        if line.startswith("%"):
            name = line[1:].strip()
            found[name] = []
        elif line.strip() and not line.lstrip().startswith("#"):
            found[name].append(line.strip())
    return found


def script(name: str, root: Path) -> str:
    """A section as a shell script, build arguments filled in, /opt of the image below `root`."""
    given = dict(line.split("=", 1) for line in sections()["arguments"])
    text = re.sub(r"\{\{ (\w+) \}\}", lambda found: given[found[1]], "\n".join(sections()[name]))
    return text.replace("/opt/", f"{root}/opt/")


def copied(root: Path) -> Path:
    """What %files copies, below `root`."""
    for source, target in map(str.split, sections()["files"]):
        path = root / target.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if (REPO / source).is_dir():
            shutil.copytree(REPO / source, path, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPO / source, path)
    return root


def test_header_and_sections_are_those_of_the_format() -> None:
    found = sections()
    assert dict(line.split(": ") for line in found.pop("")) == {"Bootstrap": "docker", "From": "python:3.11-slim-bookworm"}
    assert list(found) == SECTIONS and all(found.values())


def test_build_arguments_used_are_declared_with_a_value() -> None:
    used = set(re.findall(r"\{\{ (\w+) \}\}", "\n".join(sections()["post"])))
    assert used == {line.split("=")[0] for line in sections()["arguments"] if line.split("=")[1]}


def test_files_are_those_of_the_checkout_and_end_where_the_steps_look_for_them() -> None:
    lines = [line.split() for line in sections()["files"]]
    assert [source for source, _ in lines if not (REPO / source).exists()] == []
    assert all(target.startswith("/opt/ccpipe/") for _, target in lines)
    packages = {path.parent.name for path in REPO.glob("*/__init__.py")}
    assert packages <= {source for source, _ in lines}
    assert ".ci/constraints.txt /opt/ccpipe/constraints.txt" in sections()["files"]


@pytest.mark.parametrize("name", ["post", "environment", "runscript", "test"])
def test_steps_are_shell(name: str) -> None:
    text = script(name, Path("/x"))
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    if shellcheck := shutil.which("shellcheck"):
        subprocess.run([shellcheck, "--shell=sh", "--severity=warning", "-"], input=text, text=True, check=True)


@pytest.mark.slow
def test_the_steps_give_an_environment_in_which_tasks_start(tmp_path: Path) -> None:
    """Fresh virtual environment, pinned versions, installed from what %files copies."""
    copied(tmp_path)
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env["PATH"] = f"{tmp_path}/bin:{env['PATH']}"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(Path(sys._base_executable))  # type: ignore[attr-defined]
    post = subprocess.run(["sh", "-c", script("post", tmp_path)], env=env, cwd=tmp_path, capture_output=True, text=True)
    if re.search("Could not find a version|ConnectionError|Temporary failure|Name or service", post.stderr):
        pytest.skip(f"no package index can be reached: {post.stderr.splitlines()[-1]}")
    assert post.returncode == 0, post.stderr
    inside = "\n".join(script("environment", tmp_path).splitlines()) + "\n"
    subprocess.run(["sh", "-ec", inside + script("test", tmp_path)], env=env, cwd=tmp_path, check=True)
    code = "import hpc, sys; print(hpc.__file__); print(sys.executable)"
    found = subprocess.run(
        ["sh", "-ec", f"{inside} exec python3 -c '{code}'"], env=env, cwd="/", capture_output=True, text=True, check=True
    )
    assert all(line.startswith(f"{tmp_path}/opt/venv/") for line in found.stdout.splitlines())
    started = subprocess.run(["sh", "-c", inside + "exec python3 -m hpc work --help"], env=env, cwd="/", capture_output=True, text=True)
    assert started.returncode == 0 and "--task" in started.stdout, started.stderr
    run = subprocess.run(["sh", "-c", script("runscript", tmp_path), "run", "--help"], env=env, cwd="/", capture_output=True, text=True)
    assert run.returncode == 0 and "submit" in run.stdout
