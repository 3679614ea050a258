"""The guide to hpc alone: its flow, which is not about text, runs as it says, here and on a real Slurm."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import SlurmCluster, why_not

REPO = Path(__file__).resolve().parents[2]
GUIDE = (REPO / "docs" / "hpc.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
LINES = [line.partition("#")[0].strip() for language, block in BLOCKS if language == "bash" for line in block.splitlines()]
COMMANDS = [line for line in LINES if line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("guide")
    (made / "mandelbrot.py").write_text(next(block for language, block in BLOCKS if language == "python"))
    (made / "site.toml").write_text("max_array_size = 200\n")  # as the cluster of the tests has it
    return made


def run(command: str, folder: Path) -> str:
    command = command.replace("python ", f"{sys.executable} ", 1)
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=200, env={**os.environ})
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def picture(folder: Path) -> bytes:
    (path,) = (folder / "run" / "picture" / "current").glob("*.pgm")
    return path.read_bytes()


def test_the_flow_draws_the_set_on_this_machine(folder: Path) -> None:
    out = run("python -m hpc local --flow mandelbrot:flow --procs 2", folder)
    assert re.search(r"tile\s+8 of 8 units to do", out)
    pixels = picture(folder)
    assert pixels.startswith(b"P5 512 512 255\n") and len(pixels) == 15 + 512 * 512
    row, of = 15 + 256 * 512, 255 * 0 + 60
    assert pixels[row + 379] == of, "the origin never leaves"
    assert pixels[row] <= 2, "-2 is outside at once"


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_guide_runs(command: str, folder: Path, request: pytest.FixtureRequest) -> None:
    if "submit" not in command and "doctor" not in command:
        assert run(command, folder)
        return
    if reason := why_not():
        pytest.skip(reason)
    slurm: SlurmCluster = request.getfixturevalue("slurm")
    assert run(command, folder)
    slurm.wait_until(lambda: not slurm.squeue(), 120, f"the end of what `{command}` submitted")


@pytest.mark.slow
@pytest.mark.slurm
def test_on_slurm_the_same_bytes(folder: Path, slurm: SlurmCluster, tmp_path: Path) -> None:
    before = picture(folder)
    (tmp_path / "mandelbrot.py").write_text((folder / "mandelbrot.py").read_text())
    out = run("python -m hpc submit --flow mandelbrot:flow", tmp_path)
    assert len(re.findall(r"array \d+: \d+ tasks? for", out)) == 2
    slurm.wait_until(lambda: not slurm.squeue(), 120, "the end of both stages")
    assert picture(tmp_path) == before
