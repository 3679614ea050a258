"""Checks of the ground that a run stands on: what the filesystem can do, what Slurm allows, which GPUs there are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hpc.site import Site
from hpc.task import visible_gpus


@dataclass(frozen=True)
class Finding:
    """`level`: ok, warn or fail. `text` says what was seen, and for a failure what to do."""

    level: str
    what: str
    text: str


def check_filesystem(folder: Path) -> Iterator[Finding]:
    """Try on `folder` every operation that the commit protocol stands on."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".doctor-{os.getpid()}"
    probe.mkdir()
    try:
        for name, action in (
            ("fsync", _try_fsync),
            ("rename", _try_rename),
            ("link", _try_link),
            ("symlink", _try_symlink),
            ("utime", _try_utime),
        ):
            yield _attempt(f"filesystem {name}", action, probe)
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    usage = shutil.disk_usage(folder)
    free = f"{usage.free / 1e9:,.0f} GB free of {usage.total / 1e9:,.0f}"
    yield Finding("ok" if usage.free > 10e9 else "warn", "disk", free)
    inodes = os.statvfs(folder)
    if inodes.f_files:
        yield Finding("ok" if inodes.f_favail > 100_000 else "warn", "inodes", f"{inodes.f_favail:,} free of {inodes.f_files:,}")
    mode = folder.stat().st_mode
    if mode & 0o022:
        yield Finding("warn", "permissions", f"{folder} can be written by group or others (mode {mode & 0o777:o}); chmod go-w {folder}")


def _attempt(what: str, action: Callable[[Path], str], probe: Path) -> Finding:
    try:
        return Finding("ok", what, action(probe))
    except OSError as error:
        return Finding("fail", what, f"{error}; the run directory needs a POSIX filesystem: put it elsewhere")


def _try_fsync(probe: Path) -> str:
    started = time.perf_counter()
    for i in range(10):
        with (probe / f"fsync{i}").open("wb") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    return f"{(time.perf_counter() - started) * 100:.1f} ms for a small file"


def _try_rename(probe: Path) -> str:
    (probe / "old").write_text("old")
    (probe / "new").write_text("new")
    os.rename(probe / "new", probe / "old")
    if (probe / "old").read_text() != "new":
        raise OSError("rename over an existing file did not replace it")
    return "replaces in one step"


def _try_link(probe: Path) -> str:
    (probe / "source").write_text("x")
    os.link(probe / "source", probe / "target")
    try:
        os.link(probe / "source", probe / "target")
    except FileExistsError:
        return "exclusive: the second link fails"
    raise OSError("link() made a name that existed already; sentinels would not be exclusive")


def _try_symlink(probe: Path) -> str:
    os.symlink("somewhere", probe / "symlink")
    return "works"


def _try_utime(probe: Path) -> str:
    path = probe / "heartbeat"
    path.write_text("")
    before = path.stat().st_mtime_ns
    time.sleep(0.02)
    os.utime(path)
    if path.stat().st_mtime_ns == before:
        return "changes are seen late (over 20 ms): claims still work, more slowly"
    return "heartbeats are seen at once"


def check_slurm(site: Site) -> Iterator[Finding]:
    """Limits of the cluster against the site profile; one call of scontrol."""
    if shutil.which("sbatch") is None:
        yield Finding("warn", "slurm", "no sbatch on the path: `local` works, `submit` does not")
        return
    try:
        shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("fail", "slurm", f"scontrol show config: {error}; is the controller up?")
        return
    config = dict(re.findall(r"^(\w+)[ \t]*=[ \t]*(.*?)[ \t]*$", shown, re.MULTILINE))
    yield Finding("ok", "slurm", f"{config.get('SLURM_VERSION', '?')}, cluster {config.get('ClusterName', '?')}")
    limit = int(config.get("MaxArraySize", "1001"))
    fits = site.max_array_size <= limit
    text = f"MaxArraySize {limit}, profile says {site.max_array_size}" + (
        "" if fits else f"; set max_array_size = {limit} in the site profile"
    )
    yield Finding("ok" if fits else "fail", "array size", text)
    if not config.get("PreemptMode", "OFF").startswith("OFF"):
        announced = "preempt_send_user_signal" in config.get("SlurmctldParameters", "")
        silent = (
            "not announced to tasks: a preempted one loses the slice in hand (SlurmctldParameters=preempt_send_user_signal would tell it)"
        )
        yield Finding("ok", "preemption", f"{config['PreemptMode']}, {'announced to tasks' if announced else silent}")
    if shutil.which("sacct") is None:
        yield Finding("warn", "accounting", "no sacct on the path; nothing here needs it")


def check_gpus() -> Iterator[Finding]:
    gpus = visible_gpus()
    if shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
        if listed.returncode == 0:
            yield Finding("ok", "gpus", f"{len(listed.stdout.splitlines())} on this machine")
            return
    yield Finding("ok", "gpus", f"{len(gpus)} visible" if gpus else "none on this machine; classifiers run on the CPU here")
