"""The peers' own virtual environment, `.cache/bench-venv`: made once, from pinned versions, with nothing that they do not import."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
VENV = Path(__file__).resolve().parents[3] / ".cache" / "bench-venv"


def peers_python(requirements: Path = REQUIREMENTS, folder: Path = VENV) -> Path:
    """Python with the pinned packages. Installs them where they are not yet, or at other versions than `requirements` says."""
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = requirements.read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", str(requirements)]
    subprocess.run(pip, check=True, stdout=sys.stderr)
    stamp.write_text(wanted)
    return python


def versions() -> dict[str, str]:
    """Name -> pinned version."""
    return dict(line.split("==") for line in REQUIREMENTS.read_text().splitlines() if "==" in line)
