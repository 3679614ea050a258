"""Model files that are made once: a step is skipped when its outputs are there with a stamp of the recipe that made them.

In: a step and the folder of the models. Out: the step's files in that folder, whole or not at all. The recipe is the
digest of the bundled texts, of the source of the modules that do the work, and of the versions of their libraries.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """`make` writes the files or folders `outputs` into the folder that it is given. `modules`, `packages`: what it depends on."""

    name: str
    outputs: tuple[str, ...]
    make: Callable[[Path], None]
    modules: tuple[str, ...]
    packages: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    """Outputs of earlier steps that `make` finds beside its own."""


def digest_recipe(step: Step) -> str:
    """sha256, hexadecimal."""
    digest = hashlib.sha256(" ".join((step.name, *step.outputs)).encode())
    for path in [*sorted(Path(__file__).parent.joinpath("texts").iterdir()), *map(_source, step.modules)]:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    for package in step.packages:
        digest.update(f"{package}=={version(package)}\n".encode())
    return digest.hexdigest()


def ensure(step: Step, folder: Path) -> bool:
    """Make the outputs of `step` in `folder` unless they are there already; says whether anything was made."""
    stamp, recipe = folder / f".{step.name}.recipe", digest_recipe(step)
    if all((folder / name).exists() for name in step.outputs) and stamp.exists() and stamp.read_text() == recipe:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{step.name}.", dir=folder))
    try:
        for name in step.needs:
            (work / name).symlink_to(folder.absolute() / name)
        step.make(work)
        for name in step.outputs:
            _replace(work / name, folder / name)
        (work / stamp.name).write_text(recipe)
        (work / stamp.name).replace(stamp)
    finally:
        shutil.rmtree(work)
    return True


def _replace(new: Path, old: Path) -> None:
    if old.is_dir():
        shutil.rmtree(old)
    new.replace(old)


def _source(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module {module!r}; the demo's models are made with it: reinstall the package")
    return Path(spec.origin)
