"""Compiled functions and their cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import ccpipe.kernels

SCRIPT = "import numpy as np, kernels; print(kernels.cache_folder(), hex(kernels.mix(np.uint64(0) + kernels.STEP)))"
FIRST_OF_SPLITMIX = "0xe220a8397b1dcdaf"


def run_copy(folder: Path, **environment: str) -> str:
    """The module alone in a folder of its own, in a process of its own."""
    shutil.copy(ccpipe.kernels.__file__, folder / "kernels.py")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=folder, env={**kept, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_a_folder_for_the_cache_kernels_compile_all_the_same(tmp_path: Path) -> None:
    """The package is read only and HOME cannot be used, as on compute nodes."""
    (tmp_path / "__pycache__").write_text("no folder can have this name")
    assert run_copy(tmp_path, HOME="/proc/nope", XDG_CACHE_HOME="/proc/nope") == f"None {FIRST_OF_SPLITMIX}"


def test_the_cache_lies_beside_the_module_or_where_numba_is_told(tmp_path: Path) -> None:
    assert run_copy(tmp_path) == f"{tmp_path / '__pycache__'} {FIRST_OF_SPLITMIX}"
    told = tmp_path / "told"
    assert run_copy(tmp_path, NUMBA_CACHE_DIR=str(told)).startswith(str(told))
    assert list(told.rglob("*.nbi"))


def test_a_cache_that_others_may_write_to_is_neither_read_nor_written(tmp_path: Path) -> None:
    """It is a pickle: whoever writes there could run code in our processes."""
    told = tmp_path / "told"
    told.mkdir()
    told.chmod(0o777)
    assert run_copy(tmp_path, NUMBA_CACHE_DIR=str(told)) == f"None {FIRST_OF_SPLITMIX}"
    assert not list(told.iterdir())
