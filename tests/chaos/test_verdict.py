"""The verdict of a campaign can fail: each kind of damage to a sound run directory is named, and a sound one passes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from verdict import (
    check_committed_once,
    check_counts,
    check_failures,
    check_no_orphans,
    check_nobody_works,
    check_nothing_done_again,
    check_outputs,
    digests,
    is_complete,
)
from watcher import Watcher

FP = "0123456789ab"
UNITS = ("00000", "00001", "00002")
STATE = f"state/slow/{FP}"


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def sentinel(unit: str, attempt: str = "first", read: int = 3) -> dict[str, Any]:
    text = f"columns of {unit}"
    output = {"path": f"meta/slow/{FP}/{unit}.parquet", "bytes": len(text), "digest": hashlib.sha256(text.encode()).hexdigest()}
    counts = {"read": read, "kept": 2, "dropped": {"short": 1}, "extra": {}}
    return {"unit": unit, "outputs": {"meta/slow": output}, "counts": counts, "attempt": {"id": f"{unit}-{attempt}"}}


@pytest.fixture(params=["loose", "folded"])
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A finished run of one stage of three units, with every kind of file that may stay."""
    run = tmp_path / "run"
    for name in ("run.toml", "run.resolved.toml", "manifest.jsonl", "state/model-digests.json", "state/partitions.json"):
        write(run / name, "")
    write(run / "flow.json", {"stages": [{"stage": "slow", "fp12": FP}]})
    write(run / STATE / "plan.json", {"units": [{"id": unit} for unit in UNITS]})
    write(run / STATE / "_SUCCESS.json", {"counts": {"read": 9, "kept": 6, "dropped": {"short": 3}}})
    for name in ("launches/slurm-1.json", "launches/slurm-1/7_submission.sh", "tasks/x-host-1.json", "logs/7_0.log"):
        write(run / STATE / name, "")
    for name in ("failed/00001@x-host-1.json", "failed/forgiven/00001@x-host-2.json"):
        write(run / STATE / name, {"unit": "00001", "cause": "worker killed by SIGKILL"})
    (run / STATE / "launches/slurm-1/.submission_file_5f.sh").symlink_to(run / STATE / "launches/slurm-1/7_submission.sh")
    for unit in UNITS:
        write(run / f"meta/slow/{FP}/{unit}.parquet", f"columns of {unit}")
        write(run / STATE / "done" / f"{unit}.json", sentinel(unit))
    (run / "meta/slow/current").symlink_to(FP)
    if request.param == "folded":
        with zipfile.ZipFile(run / STATE / "done.zip", "w") as archive:
            for path in sorted((run / STATE / "done").iterdir()):
                archive.write(path, path.name)
                path.unlink()
    return run


def verdict(run: Path, expected: dict[str, str]) -> list[str]:
    winners = {("slow", FP, unit, None): f"{unit}-first" for unit in UNITS}
    found = [*check_committed_once(run, winners), *check_outputs(run, expected), *check_counts(run), *check_failures(run)]
    return [*found, *check_nobody_works(run), *check_no_orphans(run)]


def test_a_sound_run_passes(run: Path) -> None:
    assert is_complete(run)
    assert verdict(run, digests(run)) == []


def replace_sentinel(run: Path, unit: str, value: dict[str, Any] | None) -> None:
    """Put another sentinel in the place of a unit's, wherever it lies; None: take it away."""
    folded = run / STATE / "done.zip"
    if not folded.exists():
        (run / STATE / "done" / f"{unit}.json").unlink()
        return write(run / STATE / "done" / f"{unit}.json", value) if value else None
    with zipfile.ZipFile(folded) as archive:
        members = {name: archive.read(name).decode() for name in archive.namelist()} | {f"{unit}.json": json.dumps(value)}
    with zipfile.ZipFile(folded, "w") as archive:
        for name, text in members.items():
            if text != "null":
                archive.writestr(name, text)
    return None


def two_sentinels(run: Path) -> None:
    write(run / STATE / "done" / "00001.json", sentinel("00001"))
    with zipfile.ZipFile(run / STATE / "done.zip", "a") as archive:
        if "00001.json" not in archive.namelist():
            archive.writestr("00001.json", json.dumps(sentinel("00001")))


def point(link: Path, target: str) -> None:
    link.unlink()
    link.symlink_to(target)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a wrong byte": (lambda run: write(run / f"meta/slow/{FP}/00001.parquet", "columns of 0000!"), "00001.parquet: other bytes"),
    "a missing file": (lambda run: (run / f"meta/slow/{FP}/00001.parquet").unlink(), "00001.parquet: not what its sentinel says"),
    "a missing unit": (lambda run: replace_sentinel(run, "00001", None), f"slow/{FP} 00001: 0 sentinels"),
    "two sentinels": (two_sentinels, f"slow/{FP} 00001: 2 sentinels"),
    "a unit too many": (
        lambda run: write(run / STATE / "done" / "00009.json", sentinel("00009")),
        "00009: a sentinel for a unit that no plan",
    ),
    "committed again": (
        lambda run: replace_sentinel(run, "00001", sentinel("00001", "second")),
        "by 00001-first and again by 00001-second",
    ),
    "taken back": (lambda run: write(run / STATE / "retired" / "00001@x.json", {}), "sentinel taken back: 00001@x.json"),
    "a document lost": (lambda run: replace_sentinel(run, "00001", sentinel("00001", read=4)), "00001: read 4, kept 2"),
    "documents lost in the sum": (
        lambda run: write(run / STATE / "_SUCCESS.json", {"counts": {"read": 9, "kept": 9, "dropped": {"short": 3}}}),
        "_SUCCESS.json: read 9, kept 9",
    ),
    "no success": (lambda run: (run / STATE / "_SUCCESS.json").unlink(), "no _SUCCESS.json"),
    "a failure of no fault": (
        lambda run: write(run / STATE / "failed/00001@x-host-3.json", {"unit": "00001", "cause": "BrokenStage: other bytes"}),
        "00001: failed of no fault: BrokenStage: other bytes",
    ),
    "an exception": (
        lambda run: write(run / STATE / "logs/8.log", 'Traceback (most recent call last):\n  File "x"\n    raise\nKeyError: 1\nbye\n'),
        "exception in 8.log: KeyError: 1",
    ),
    "private files": (lambda run: write(run / f"tmp/slow/{FP}/00001@x/slice-00000/columns.parquet", ""), "columns.parquet: an orphan"),
    "a slice record": (lambda run: write(run / STATE / "slices/00001/00000.json", {}), "slices/00001/00000.json: an orphan"),
    "a dead claim": (lambda run: write(run / STATE / "claims/00001", {"pid": 1}), "claims/00001: an orphan"),
    "a temporary name": (lambda run: write(run / STATE / "done/.00001.json.5f", ""), "done/.00001.json.5f: an orphan"),
    "an output nobody names": (lambda run: write(run / f"meta/slow/{FP}/00009.parquet", ""), "00009.parquet: an orphan"),
    "a pickle": (lambda run: write(run / STATE / "launches/slurm-1/7_0_result.pkl", ""), "7_0_result.pkl: an orphan"),
    "half a link": (lambda run: (run / "meta/slow/.current.5f").symlink_to(FP), ".current.5f: an orphan, or a link"),
    "a broken link": (lambda run: point(run / "meta/slow/current", "gone"), "meta/slow/current: an orphan, or a link that leads nowhere"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(run: Path, name: str) -> None:
    expected = digests(run)
    damage, says = DAMAGE[name]
    damage(run)
    broken = verdict(run, expected)
    assert any(says in line for line in broken), broken


def test_files_that_an_undisturbed_run_does_not_have(run: Path) -> None:
    expected = digests(run)
    del expected[f"meta/slow/{FP}/00001.parquet"]
    assert check_outputs(run, expected) == [f"meta/slow/{FP}/00001.parquet: not in the undisturbed run"]


def test_files_that_only_an_undisturbed_run_has(run: Path) -> None:
    assert check_outputs(run, digests(run) | {"meta/x.parquet": "0"}) == ["meta/x.parquet: missing"]


def test_somebody_left_working_is_found_with_its_claim(run: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", "print(flush=True); input()", "--run", run], **pipes) as process:
        assert process.stdout is not None and process.stdout.readline()  # until then its command line may be empty
        write(run / STATE / "claims" / "00001", {"pid": process.pid})
        broken = check_nobody_works(run)
        assert [f"process {process.pid} still works" in broken[0], f"living process {process.pid}" in broken[1]] == [True, True]
        process.kill()
    assert check_nobody_works(run) == []


def begun(attempt: str, number: int | None, made: float, pid: int = 1) -> dict[str, Any]:
    line = {"stage": "slow", "fp12": FP, "unit": "00001", "attempt": attempt, "slice": number, "pid": pid}
    return line | {"made": made, "at": made + 0.001}


FIRST = ("slow", FP, "00001", 0)
WHOLE = ("slow", FP, "00001", None)


def test_a_slice_begun_after_it_was_committed_is_named() -> None:
    journal = [begun("a", 0, 10.0), begun("b", 0, 20.0)]
    (line,) = check_nothing_done_again(journal, {FIRST: 11.0}, [])
    assert "slice 0 begun again, though its slice 0 was committed 9.0 s before b started" in line


def test_a_slice_begun_after_its_unit_was_committed_is_named() -> None:
    (line,) = check_nothing_done_again([begun("b", 3, 20.0)], {WHOLE: 11.0}, [])
    assert "though its unit was committed 9.0 s before b started" in line
    (line,) = check_nothing_done_again([begun("b", None, 20.0)], {WHOLE: 11.0}, [])
    assert "though its unit was committed" in line


def test_slices_in_hand_and_attempts_that_could_not_know_are_no_violation() -> None:
    in_hand = [begun("a", 0, 10.0), begun("b", 0, 20.0)]
    assert check_nothing_done_again(in_hand, {FIRST: 21.0}, []) == []
    zombie = [begun("a", 0, 10.0), begun("a", 1, 12.0), begun("b", 1, 20.0), begun("a", 2, 30.0)]
    assert check_nothing_done_again(zombie, {FIRST: 11.0, ("slow", FP, "00001", 2): 25.0, WHOLE: 26.0}, []) == []
    stopped_while_it_looked = [begun("a", 0, 20.0, pid=7)]
    assert check_nothing_done_again(stopped_while_it_looked, {FIRST: 11.0}, [(7, 10.0, 19.9)]) == []
    assert check_nothing_done_again(stopped_while_it_looked, {FIRST: 11.0}, [(7, 5.0, 9.0)]) != []


def test_the_watcher_notes_slices_and_sentinels(run: Path) -> None:
    write(run / STATE / "slices/00001/00000.json", {})
    write(run / STATE / "slices/00001/.00001.json.5f", {})
    write(run / STATE / "done/00002.json", sentinel("00002"))
    watcher = Watcher(run)
    watcher.look()
    assert ("slow", FP, "00001", 0) in watcher.seen
    assert ("slow", FP, "00001", 1) not in watcher.seen
    assert watcher.winners[("slow", FP, "00002", None)] == "00002-first"


def test_tracebacks_that_a_full_disk_explains_are_no_violation(run: Path) -> None:
    first = 'Traceback (most recent call last):\n  File "x"\nFileNotFoundError: claims/00002\n'
    full = 'Traceback (most recent call last):\n  File "x"\nOSError: [Errno 28] No space left on device\n'
    chained = f"{first}\nDuring handling of the above exception, another exception occurred:\n\n{full}bye\n"
    write(run / STATE / "logs/8.log", f"{chained}--- Logging error ---\n{first}{first.rstrip()}")
    assert check_failures(run) == []
    write(run / STATE / "logs/8.log", f"{first}{chained}")
    assert len(check_failures(run)) == 1
