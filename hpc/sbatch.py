"""Rendering of sbatch scripts: what `submit` asks of Slurm, as a script that can be read, edited and sent by hand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc.site import Resources, Site

UNSAFE = re.compile(r"[\x00-\x1f\x7f]")
UNSAFE_IN_PATH = re.compile(r"[%\\]")
"""In the name of a log Slurm replaces %A and the like, and a backslash turns that off."""

HOLD = "trap '' USR1  # a warning must not end this shell; the worker listens as soon as it is up"
"""First line of every script: ignored signals stay ignored through `exec`, until the worker installs its handler."""


class SbatchError(Exception):
    """Something that cannot be said in an sbatch script."""


def sbatch_options(
    name: str, resources: Resources, site: Site, *, array: str | None, log: Path | str, dependency: str | None = None
) -> dict[str, str | int | bool]:
    """Options of one job, long names. `array` such as "0-9%4"; None for a single job. Raises `SbatchError`."""
    gpus = resources.gpus
    if UNSAFE_IN_PATH.search(str(Path(log).parent)):
        raise SbatchError(f"{Path(log).parent}: Slurm writes no log to a path with % or \\ in it. Choose another [run] dir")
    options: dict[str, str | int | bool | None] = {
        "job-name": name,
        "array": array,
        "output": str(log),
        "open-mode": "append",
        "nodes": 1,
        "ntasks": 1,
        "cpus-per-task": resources.cpus,
        "mem": f"{round(resources.task_mem_gb * 1024)}M",
        "time": resources.time_min,
        "signal": f"B:USR1@{site.signal_s}",
        "requeue": site.requeue or None,
        "no-requeue": None if site.requeue else True,
        "account": site.account,
        "partition": (site.gpu_partition or site.partition) if gpus else site.partition,
        "qos": site.qos,
        "constraint": site.constraint,
        "reservation": site.reservation,
        "gpus-per-node": gpus if gpus and site.gpu_request == "gpus-per-node" else None,
        "gres": f"gpu:{gpus}" if gpus and site.gpu_request == "gres" else None,
        "dependency": dependency,
        "kill-on-invalid-dep": "yes" if dependency else None,
        **site.extra,
    }
    return {key: _safe(key, value) for key, value in options.items() if value is not None and value is not False}


def _safe(key: str, value: str | int | bool) -> str | int | bool:
    """Refuse values that would end a directive line and begin another."""
    if isinstance(value, str) and UNSAFE.search(value):
        raise SbatchError(
            f"sbatch option {key}: {value!r} holds a control character; expected one line of text. Correct the site profile or [run] dir"
        )
    return value


def array_spec(first: int, last: int, throttle: int | None) -> str:
    """
    >>> array_spec(0, 9, 4)
    '0-9%4'
    """
    return f"{first}-{last}" + (f"%{throttle}" if throttle else "")


def render(options: Mapping[str, str | int | bool], setup: Sequence[str], command: Sequence[str]) -> str:
    """A whole script. `$NAME` words of the command stay variables, everything else is quoted."""
    lines = ["#!/bin/bash"]
    lines += [f"#SBATCH --{key}" if value is True else f"#SBATCH --{key}={_directive(str(value))}" for key, value in options.items()]
    lines += ["", HOLD, *setup, "", "# exec: the worker itself gets Slurm's signals", "exec " + " ".join(map(_word, command)), ""]
    return "\n".join(lines)


def _directive(value: str) -> str:
    return value if re.fullmatch(r"[\w@%+=:,./~-]*", value) else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _word(word: str) -> str:
    return f'"{word}"' if re.fullmatch(r"\$\{?\w+\}?", word) else shlex.quote(word)
