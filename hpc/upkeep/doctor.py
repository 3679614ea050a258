"""Checks of the ground that a run stands on: what the filesystem can do, what Slurm allows, which GPUs there are.

Everything is tried, on this machine; that the nodes see the same is for a job to find out (`srun ... doctor`). No check needs a
clock that is right: claims are judged by change, and clocks of two hosts are never compared.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from hpc.fs.exclusive import way_in_use
from hpc.fs.files import fsync_folder, point_link, publish_once, read_json_if_exists, read_link
from hpc.fs.mounts import ATTRIBUTE_CACHE_S, Mount, free_bytes, free_inodes, mount_of
from hpc.fs.scratch import MIN_FREE_BYTES, VARIABLE
from hpc.planning.inodes import budget
from hpc.planning.sizing import size
from hpc.site import Resources, Site
from hpc.state.state import StageState
from hpc.upkeep.doctor_slurm import check_slurm
from hpc.upkeep.finding import Finding
from hpc.workers.task import visible_gpus

__all__ = ["Finding", "check_filesystem", "check_gpus", "check_run_dir", "check_scratch", "check_slurm", "run_doctor", "show"]

LOW_BYTES = 10_000_000_000
LOW_INODES = 100_000
SLOW_COMMIT_S = 0.1
"""A sentinel that costs more than this is felt where units take seconds."""
NFS_CACHES = ("actimeo", "acregmax", "acdirmax")


STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def run_doctor(run: Path, site: Site, console: Console) -> int:
    """Everything about a run directory, which need not be planned or even be there yet. Exit code 1 when something must be mended."""
    return show(
        console,
        (finding for check in (check_gpus(), check_run_dir(run, site), check_scratch(site), check_slurm(site)) for finding in check),
    )


def show(console: Console, findings: Iterable[Finding]) -> int:
    """One line for each finding, as soon as it is found. Exit code 1 where one fails."""
    failed = False
    for finding in findings:
        failed = failed or finding.level == "fail"
        style = STYLES[finding.level]
        line = Text.assemble((f"{finding.level:<5}", style), f" {finding.what:<20} {finding.text}")
        console.print(line, highlight=False, soft_wrap=True)
    return 1 if failed else 0


def check_run_dir(run: Path, site: Site, mend: str = "choose another run directory") -> Iterator[Finding]:
    """The filesystem of a run directory, and whether what is planned has room on it. `mend`: what to do where it cannot be written."""
    try:
        yield from check_filesystem(run, inodes_needed(run, site), site.shared_state)
    except OSError as error:
        text = f"{run}: {error.strerror} ({error.filename}); expected a folder that can be made and written: {mend}"
        yield Finding("fail", "run directory", text)


def inodes_needed(run: Path, site: Site) -> int:
    """Inodes that the stages which are not complete will take beside those they have, one after the other; 0 where none is planned."""
    kept, most_in_flight = 0, 0
    for entry in (read_json_if_exists(run / "flow.json") or {"stages": []})["stages"]:
        state = StageState(run, entry["stage"], entry["fp12"])
        if state.success_path.exists() or not state.plan_path.exists():
            continue
        plan, done = state.plan, state.done_units()
        pending = [unit.cost for unit in plan.units if unit.id not in done]
        packing = size(pending, Resources.model_validate(entry["resources"]), site)
        need = budget(plan, packing.tasks, packing.procs)
        kept += max(0, need.kept - len(done) * len(plan.outputs))
        most_in_flight = max(most_in_flight, need.running - need.kept)
    return kept + most_in_flight


def check_filesystem(folder: Path, inodes_needed: int = 0, shared_state: bool = False) -> Iterator[Finding]:
    """Try on `folder` every operation that the commit protocol stands on.

    inodes_needed: what the plan's budget says. shared_state: the site allows run directories that others can write to. Raises
    OSError where the folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    yield from _check_mount(mount_of(folder))
    probe = folder / f".doctor-{uuid.uuid4().hex}"
    probe.mkdir()
    try:
        for name, check in (
            ("fsync", _check_fsync),
            ("rename", _check_rename),
            ("exclusive names", _check_exclusive),
            ("links", _check_link),
            ("current", _check_current),
            ("heartbeats", _check_utime),
        ):
            yield _tried(name, check, probe)
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    yield from _check_room(folder, inodes_needed)
    yield from _check_permissions(folder, shared_state)


def _tried(what: str, check: Callable[[Path], tuple[str, str]], probe: Path) -> Finding:
    try:
        level, text = check(probe)
    except OSError as error:
        level, text = "fail", f"{error}; the run directory needs a filesystem that can do this: put it elsewhere"
    return Finding(level, what, text)


def _check_mount(mount: Mount | None) -> Iterator[Finding]:
    if mount is None:
        yield Finding("warn", "filesystem", "its type is not known here (no /proc/self/mountinfo); it is treated as local")
        return
    where = f"{mount.kind} at {mount.point}"
    if mount.is_object_store:
        yield Finding("fail", "filesystem", f"{where}: an object store, where a rename is a copy and not one step; put the run elsewhere")
    elif mount.is_shared:
        yield Finding("ok", "filesystem", f"{where}, shared; files of other nodes are waited for, up to {ATTRIBUTE_CACHE_S:g} s")
    else:
        yield Finding(
            "warn", "filesystem", f"{where}, seen by this machine only: enough for `local`; `submit` needs one that all nodes mount"
        )
    for option in sorted(mount.options):
        name, _, value = option.partition("=")
        if name in NFS_CACHES and value.isdigit() and int(value) > ATTRIBUTE_CACHE_S:
            text = f"{option}: this node may see files of others {value} s late, and {ATTRIBUTE_CACHE_S:g} s are waited; mount with less"
            yield Finding("warn", "attribute cache", text)
    if mount.kind.startswith("nfs") and mount.options & {"soft", "softerr"}:
        text = "a soft mount: a slow server becomes an error of the unit (which is then run again); mount hard"
        yield Finding("warn", "nfs", text)


def _check_fsync(probe: Path) -> tuple[str, str]:
    """What a commit costs; the figures behind "at most 5 ms for each unit"."""
    n = 10
    started = time.perf_counter()
    for i in range(n):
        with (probe / f"fsync{i}").open("wb") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    for_file = (time.perf_counter() - started) / n
    started = time.perf_counter()
    for i in range(n):
        os.rename(probe / f"fsync{i}", probe / f"renamed{i}")
        fsync_folder(probe)
    for_folder = (time.perf_counter() - started) / n
    started = time.perf_counter()
    for i in range(n):
        publish_once(probe / f"sentinel{i}.json", {"unit": i})
    sentinel = (time.perf_counter() - started) / n
    text = f"{for_file * 1e3:.1f} ms for a small file, {for_folder * 1e3:.1f} ms for a folder, {sentinel * 1e3:.1f} ms for a sentinel"
    if sentinel > SLOW_COMMIT_S:
        return "warn", f"{text}: slow; let units take minutes rather than seconds"
    return "ok", text


def _check_rename(probe: Path) -> tuple[str, str]:
    (probe / "old").write_text("old")
    (probe / "new").write_text("new")
    os.rename(probe / "new", probe / "old")
    if (probe / "old").read_text() != "new":
        raise OSError("rename over an existing file did not replace it")
    return "ok", "replaces in one step"


def _check_exclusive(probe: Path) -> tuple[str, str]:
    path = probe / "exclusive.json"
    way = way_in_use(probe)
    if not publish_once(path, "first") or publish_once(path, "second") or "first" not in path.read_text():
        raise OSError(f"a name was given twice (by {way}); sentinels would not be exclusive")
    if way == "folder":
        return "warn", "no link() and no renameat2() here: made by renaming folders, which is slower; every node must say the same"
    return "ok", f"made by {way}: the second of two fails"


def _check_link(probe: Path) -> tuple[str, str]:
    (probe / "source").write_text("x")
    try:
        os.link(probe / "source", probe / "target")
    except OSError as error:
        return "warn", f"no hard links ({error.strerror}): what a new version takes over from an older one is copied, and needs the room"
    return "ok", "hard links: what a new version takes over from an older one needs no room"


def _check_current(probe: Path) -> tuple[str, str]:
    for target in ("one", "two"):
        point_link(probe / "current", target)
        if read_link(probe / "current") != target:
            raise OSError(f"`current` points to {read_link(probe / 'current')!r}, expected {target!r}")
    if (probe / "current").is_symlink():
        return "ok", "symbolic links: `current` is one"
    return "warn", "no symbolic links: `current` is a text file with the name of the folder; `current/*.parquet` does not work"


def _check_utime(probe: Path) -> tuple[str, str]:
    """The heartbeat of a claim: its time of change is set, and others see that it has changed."""
    path = probe / "heartbeat"
    path.write_text("")
    now = float(int(time.time()) & ~1)  # FAT keeps even seconds
    for beat in (now, now + 16):
        os.utime(path, (beat, beat))
        if path.stat().st_mtime != beat:
            text = (
                "the time of a file cannot be set here: claims look dead while they live, and some units are run twice (harmless, wasteful)"
            )
            return "warn", text
    return "ok", "seen at once on this machine"


def _check_room(folder: Path, inodes_needed: int) -> Iterator[Finding]:
    room = free_bytes(folder)
    low = "" if room > LOW_BYTES else "; make room, a full disk fails units"
    yield Finding("warn" if low else "ok", "disk", f"{room / 1e9:,.1f} GB free (quotas not counted){low}")
    inodes = free_inodes(folder)
    if inodes is None:
        yield Finding("ok", "inodes", "not limited by the filesystem (quotas not counted)")
        return
    needed = f", {inodes_needed:,} needed" if inodes_needed else ""
    text = f"{inodes:,} free{needed} (quotas not counted)"
    if inodes < inodes_needed:
        yield Finding("fail", "inodes", f"{text}; remove files, or make shards larger: there will be fewer units and files")
    else:
        enough = inodes > max(LOW_INODES, 2 * inodes_needed)
        yield Finding(
            "ok" if enough else "warn", "inodes", text if enough else f"{text}; close to the end, `gc` removes what is no longer used"
        )


def _check_permissions(folder: Path, shared_state: bool) -> Iterator[Finding]:
    mode = folder.stat().st_mode & 0o777
    if mode & 0o022 and not shared_state:
        text = f"{folder} can be written by group or others (mode {mode:o}), who could change results; chmod go-w {folder}"
        yield Finding("warn", "permissions", text)
    elif mode & 0o022:
        yield Finding("ok", "permissions", f"{folder} can be written by group or others (mode {mode:o}), as the site profile allows")


def check_scratch(site: Site) -> Iterator[Finding]:
    """The node-local folder of the site profile, as this machine sees it; nothing where the profile names none."""
    if not site.scratch:
        return
    shown = f"{site.scratch} (scratch in the site profile)"
    folder = Path(os.path.expandvars(site.scratch))
    if any(not os.environ.get(name) for name in VARIABLE.findall(site.scratch)):
        text = f"{shown}: a variable is not set here; where it is not set on a node either, units are written to the run directory at once"
        yield Finding("warn", "scratch", text)
        return
    if not folder.is_absolute():
        yield Finding("fail", "scratch", f"{shown} is {folder}, expected an absolute path; correct scratch in the site profile")
        return
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        yield Finding("warn", "scratch", f"{shown}: {above} cannot be written here; try it on a node: srun df -h {folder}")
        return
    mount, room = mount_of(folder), free_bytes(folder)
    text = (
        f"{shown}: {'' if folder.exists() else 'will be made, '}{mount.kind if mount else 'unknown filesystem'}, {room / 1e9:,.1f} GB free"
    )
    if mount is not None and mount.is_shared:
        yield Finding("warn", "scratch", f"{text}; it is shared, so files would be written twice to the network: name a disk of the node")
    elif room < MIN_FREE_BYTES:
        yield Finding("warn", "scratch", f"{text}; too little for a unit, which is then written to the run directory at once")
    else:
        yield Finding("ok", "scratch", text)


def check_gpus() -> Iterator[Finding]:
    gpus = visible_gpus()
    if shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
        if listed.returncode == 0:
            yield Finding("ok", "gpus", f"{len(listed.stdout.splitlines())} on this machine")
            return
    yield Finding("ok", "gpus", f"{len(gpus)} visible" if gpus else "none on this machine; classifiers run on the CPU here")
