"""`ccpipe doctor`: is this machine, this config and this cluster fit for a run? Exit code 1 when something must be mended."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from hpc.site import Site
from hpc.upkeep.doctor import Finding, check_gpus, check_run_dir, check_scratch, check_slurm, show
from jobs.config import ConfigError, RunConfig, load_config
from jobs.flow import build_flow, model_files

NEEDED = (
    "duckdb",
    "fastwarc",
    "fasttext",
    "idna",
    "kenlm",
    "numba",
    "publicsuffixlist",
    "pyarrow",
    "selectolax",
    "sentencepiece",
    "submitit",
    "tokenizers",
    "warcio",
)
FOR_TRANSFORMERS = ("torch", "transformers", "safetensors")


def run_doctor(console: Console, config_path: Path) -> int:
    return show(console, _findings(config_path))


def _findings(config_path: Path) -> Iterator[Finding]:
    yield Finding("ok" if sys.version_info >= (3, 11) else "fail", "python", f"{platform.python_version()} at {sys.executable}")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    yield Finding("fail" if missing else "ok", "packages", f"missing: {', '.join(missing)}; run `make install`" if missing else "all there")
    absent = [name for name in FOR_TRANSFORMERS if importlib.util.find_spec(name) is None]
    yield Finding(
        "warn" if absent else "ok", "transformers", f"missing: {', '.join(absent)}; pip install 'ccpipe[gpu]'" if absent else "all there"
    )
    yield from check_gpus()
    config: RunConfig | None = None
    try:
        config = load_config(config_path)
        flow = build_flow(config)
        yield Finding("ok", "config", f"{config.path}: {len(flow)} stages")
        yield from (Finding("ok", f"model {s.name}", f"{key} = {path}") for s in flow for key, path in model_files(s.config).items())
    except ConfigError as error:
        yield Finding("fail", "config", str(error))
    if "numba" not in missing:
        yield _numba_cache()
    site = config.site if config else Site.model_validate({})
    yield from check_run_dir(config.run_dir if config else Path.cwd(), site, "change `dir` in [run]")
    yield from check_scratch(site)
    yield from check_slurm(site)


def _numba_cache() -> Finding:
    from ccpipe.kernels import cache_folder

    folder = cache_folder()
    if folder is not None:
        return Finding("ok", "numba cache", folder)
    return Finding(
        "warn",
        "numba cache",
        "no folder can be written, so each process compiles for some seconds; set NUMBA_CACHE_DIR to one on the shared filesystem",
    )
