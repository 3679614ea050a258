"""The peers' own virtual environment, `.cache/peers-extract`: made once, from pinned versions, beside the project's."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
VENV = Path(__file__).resolve().parents[3] / ".cache" / "peers-extract"


def pinned() -> dict[str, str]:
    """Package, in lower case -> version."""
    lines = REQUIREMENTS.read_text().splitlines()
    return dict(line.lower().split("==") for line in lines if "==" in line)


def peers_python() -> tuple[Path, dict[str, str]]:
    """Python with the peers, and what could not be installed: package -> why. Installs anew where `requirements.txt` has changed."""
    python, stamp = VENV / "bin" / "python", VENV / "installed.txt"
    wanted = REQUIREMENTS.read_text()
    if not (stamp.exists() and stamp.read_text() == wanted):
        venv.create(VENV, with_pip=True, clear=True)
        if _install(python, [f"{name}=={version}" for name, version in pinned().items()]):
            # one of them will not: each by itself, so that the others are there
            for name, version in pinned().items():
                _install(python, [f"{name}=={version}"])
        stamp.write_text(wanted)
    listed = subprocess.run(
        [python, "-m", "pip", "freeze", "--disable-pip-version-check"], capture_output=True, text=True, check=True
    ).stdout
    there = {line.lower() for line in listed.splitlines()}
    return python, {
        name: f"{name} {version} cannot be installed" for name, version in pinned().items() if f"{name}=={version}" not in there
    }


def _install(python: Path, packages: list[str]) -> int:
    """pip's exit code. Dependencies are pinned too; magic-html asks for a newer Python than it needs, hence no such check."""
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--ignore-requires-python"]
    return subprocess.run([python, "-m", "pip", "install", *options, *packages], stdout=sys.stderr).returncode
