"""The verdict on a run directory after a campaign: is everything there, once, with the right bytes, and nothing else?

Computed from files alone, read as JSON and bytes; nothing is imported from the code under test. Each check returns the
violations that it found, one line each; no line means that the law holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watcher import Piece

SLACK_S = 0.5
"""Between reading what is committed and noting what is begun an attempt may be kept waiting for the processor this long."""

KNOWN = re.compile(
    r"""
      run\.toml | run\.resolved\.toml | manifest\.jsonl | flow\.json
    | state/(model-digests|partitions)\.json
    | state/[^/]+/[0-9a-f]{12}/(
          plan\.json | _SUCCESS\.json | units\.json | done\.zip
        | done/[^/.][^/]*\.json
        | launches/[^/]+\.json | launches/[^/]+/(sent|(scaled|joined)-\d+)\.json | launches/[^/]+/\d+_submission\.sh
        | tasks/[^/.][^/]*\.json
        | failed/(forgiven/)?[^/.][^/@]*@[^/]+\.json
        | retired/[^/.][^/]*\.json
        | logs/[^/.][^/]*\.log
      )
    """,
    re.VERBOSE,
)
"""Files that may lie in a run directory beside the outputs that sentinels name."""

EXPLAINED = re.compile(r"No space left on device|\b(killed|out_of_memory|time_limit|lost)\b")

TRACEBACK_END = re.compile(
    r"""
      (?<!---\ Logging\ error\ ---\n) ^Traceback\ \(most\ recent\ call\ last\):\n
      (?: [ \t|^~].*\n )+
      ([A-Za-z_][\w.]* (?::\ .*)?) \n
      (?! \n (During\ handling\ of|The\ above\ exception) )
    """,
    re.MULTILINE | re.VERBOSE,
)
"""The line that says what happened, of the last traceback in a chain.

Not of one that was cut off, or printed because the log could not be written: the log lies on the disk that is filled.
"""


KNOWN_LINKS = re.compile(r"(.*/)?current|state/[^/]+/[0-9a-f]{12}/launches/[^/]+/\.submission_file_\w+\.sh")
"""Symbolic links that may lie there, as long as they lead somewhere: to a version; to a script that was sent, from its name before."""


@dataclass(frozen=True)
class Version:
    """One stage at one fingerprint: its folder below `state/`."""

    run: Path
    stage: str
    fp12: str

    @property
    def folder(self) -> Path:
        return self.run / "state" / self.stage / self.fp12

    def __str__(self) -> str:
        return f"{self.stage}/{self.fp12}"

    def units(self) -> list[str]:
        return [unit["id"] for unit in read_json(self.folder / "plan.json")["units"]]

    def sentinels(self) -> list[tuple[str, dict[str, Any]]]:
        """Every sentinel, loose or folded; a unit twice where there are two."""
        found = [(path.stem, read_json(path)) for path in sorted((self.folder / "done").glob("[!.]*.json"))]
        if (folded := self.folder / "done.zip").exists():
            with zipfile.ZipFile(folded) as archive:
                found += [(name.removesuffix(".json"), json.loads(archive.read(name))) for name in archive.namelist()]
        return found


def read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def planned(run: Path) -> list[Version]:
    """The versions that the run directory's flow names now."""
    return [Version(run, entry["stage"], entry["fp12"]) for entry in read_json(run / "flow.json")["stages"]]


def every_version(run: Path) -> list[Version]:
    return [Version(run, plan.parents[1].name, plan.parent.name) for plan in sorted(run.glob("state/*/*/plan.json"))]


def is_complete(run: Path) -> bool:
    """Every planned stage has its `_SUCCESS.json`: what users and gates go by."""
    return (run / "flow.json").exists() and all((version.folder / "_SUCCESS.json").exists() for version in planned(run))


def digests(run: Path) -> dict[str, str]:
    """SHA-256, computed anew, of each file that a sentinel of the planned versions names, by its path below the run directory."""
    return {output["path"]: _sha256(run / output["path"]) for version in planned(run) for output in _outputs(version)}


def _outputs(version: Version) -> list[dict[str, Any]]:
    return [output for _, sentinel in version.sentinels() for output in sentinel["outputs"].values()]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "no such file"


# --- the laws ---------------------------------------------------------------------------------------------------------


def check_committed_once(run: Path, winners: Mapping[Piece, str]) -> list[str]:
    """Every planned unit has one sentinel, the one that was seen first, and none was taken back (no input changed)."""
    wrong = []
    for version in planned(run):
        sentinels, units = version.sentinels(), version.units()
        names = [unit for unit, _ in sentinels]
        wrong += [f"{version} {unit}: {names.count(unit)} sentinels" for unit in units if names.count(unit) != 1]
        wrong += [f"{version} {unit}: a sentinel for a unit that no plan knows" for unit in names if unit not in units]
        for unit, sentinel in sentinels:
            first = winners.get((version.stage, version.fp12, unit, None))
            if first not in (None, sentinel["attempt"]["id"]):
                wrong.append(f"{version} {unit}: committed by {first} and again by {sentinel['attempt']['id']}")
        wrong += [f"{version}: sentinel taken back: {path.name}" for path in sorted((version.folder / "retired").glob("*"))]
        if not (version.folder / "_SUCCESS.json").exists():
            wrong.append(f"{version}: no _SUCCESS.json")
    return wrong


def check_outputs(run: Path, expected: Mapping[str, str]) -> list[str]:
    """The files are those of the undisturbed run, byte for byte, and those that the sentinels vouch for."""
    found = digests(run)
    wrong = [f"{path}: not in the undisturbed run" for path in sorted(found.keys() - expected.keys())]
    wrong += [f"{path}: missing" for path in sorted(expected.keys() - found.keys())]
    wrong += [f"{path}: other bytes than undisturbed" for path in sorted(found.keys() & expected.keys()) if found[path] != expected[path]]
    for version in planned(run):
        for output in _outputs(version):
            path = run / output["path"]
            if not path.exists() or (path.stat().st_size, found[output["path"]]) != (output["bytes"], output["digest"]):
                wrong.append(f"{output['path']}: not what its sentinel says")
    return wrong


def check_counts(run: Path) -> list[str]:
    """read = kept + dropped, for every unit and every stage."""
    wrong = []
    for version in planned(run):
        counted = [(unit, sentinel["counts"]) for unit, sentinel in version.sentinels()]
        if (success := version.folder / "_SUCCESS.json").exists():
            counted.append(("_SUCCESS.json", read_json(success)["counts"]))
        for what, counts in counted:
            if counts["read"] != counts["kept"] + sum(counts["dropped"].values()):
                wrong.append(f"{version} {what}: read {counts['read']}, kept {counts['kept']}, dropped {counts['dropped']}")
    return wrong


def check_nothing_done_again(
    journal: Iterable[Mapping[str, Any]], seen: Mapping[Piece, float], frozen: Sequence[tuple[int, float, float]]
) -> list[str]:
    """No attempt begins a slice, or a unit, that was committed before the attempt started. In hand at a kill they may be begun again.

    journal: what was begun, with the time when the slice's folder was made; seen: when it was seen committed; frozen: process,
    from, until: an attempt that looked at what is committed, was stopped there, and went on, could not know.
    """
    started: dict[str, float] = {}
    lines = sorted(journal, key=lambda line: line["at"])
    for line in lines:
        started.setdefault(line["attempt"], line["made"])
    wrong = []
    for line in lines:
        stage, fp12, unit, number = line["stage"], line["fp12"], line["unit"], line["slice"]
        start = started[line["attempt"]]
        if any(pid == line["pid"] and begin <= start and start - SLACK_S <= end for pid, begin, end in frozen):
            continue
        for piece in {(stage, fp12, unit, number), (stage, fp12, unit, None)}:
            if (then := seen.get(piece)) is not None and then < start - SLACK_S:
                what = "unit" if piece[3] is None else f"slice {piece[3]}"
                late = f"was committed {start - then:.1f} s before {line['attempt']} started"
                wrong.append(f"{stage}/{fp12} {unit}: slice {number} begun again, though its {what} {late}")
    return wrong


def check_failures(run: Path) -> list[str]:
    """Every recorded failure, and every traceback in a log, is explained by a fault: killed, no memory or time left, lost, a full disk."""
    wrong = []
    for version in every_version(run):
        for path in sorted(version.folder.glob("failed/**/[!.]*.json")):
            failure = read_json(path)
            if not EXPLAINED.search(f"{failure.get('kind', '')} {failure['cause']}"):
                wrong.append(f"{version} {failure['unit']}: failed of no fault: {failure['cause']} ({path.relative_to(run)})")
        for path in sorted(version.folder.glob("logs/*.log")):
            ends = dict.fromkeys(found[1] for found in TRACEBACK_END.finditer(path.read_text(errors="replace")))
            wrong += [f"{version}: exception in {path.name}: {line}" for line in ends if not EXPLAINED.search(line)]
    return wrong


def check_nobody_works(run: Path) -> list[str]:
    """No process of this run is alive, and no claim is held by one."""
    alive = processes_of(run)
    wrong = [f"process {pid} still works: {' '.join(words)}" for pid, words in sorted(alive.items())]
    for version in every_version(run):
        for claim in sorted((version.folder / "claims").glob("[!.]*")):
            holder = json.loads(claim.read_text() or "{}")
            if holder.get("pid") in alive:
                wrong.append(f"{version} {claim.name}: claimed by the living process {holder['pid']}")
    return wrong


def check_no_orphans(run: Path) -> list[str]:
    """After `gc`: every file is named by a sentinel, or is a known state file, or a known link that leads somewhere."""
    named = {output["path"] for version in every_version(run) for output in _outputs(version)}
    wrong = []
    for folder, names, files in os.walk(run):
        for name in (*files, *(name for name in names if Path(folder, name).is_symlink())):
            path = Path(folder, name)
            below = path.relative_to(run).as_posix()
            if path.is_symlink():
                if not path.exists() or not KNOWN_LINKS.fullmatch(below):
                    wrong.append(f"{below}: an orphan, or a link that leads nowhere")
            elif below not in named and not KNOWN.fullmatch(below):
                wrong.append(f"{below}: an orphan")
    return sorted(wrong)


def processes_of(run: Path) -> dict[int, list[str]]:
    """Process id -> command line, of all that name the run directory on it. Zombies have no command line."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:
            continue
        if any(word == str(run) or word.startswith(f"{run}/") for word in words):
            found[int(folder.name)] = words
    return found
