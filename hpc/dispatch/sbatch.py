"""Rendering of sbatch scripts: what `submit` asks of Slurm, as a script that can be read, edited and sent by hand."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc.site import CONTROL, Resources, Site

UNSAFE_IN_PATH = re.compile(r"[%\\]")
"""In the name of a log Slurm replaces %A and the like, and a backslash turns that off."""

HOLD = "trap '' USR1  # a warning must not end this shell; the worker listens as soon as it is up"
"""First line of every script: ignored signals stay ignored through `exec`, until the worker installs its handler."""


UNSAID = re.compile(r"[\x00\ud800-\udfff]")
"""What no script can hold: the end of a string, and bytes of a path that are not UTF-8."""

TASK_ID = "$SLURM_ARRAY_TASK_ID"
"""The one word of a command that stays a variable."""


class SbatchError(Exception):
    """Something that cannot be said in an sbatch script."""


def sbatch_options(
    name: str, resources: Resources, site: Site, *, array: str | None, log: Path | str, dependency: str | None = None
) -> dict[str, str | int | bool]:
    """Options of one job, long names. `array` such as "0-9%4"; None for a single job. Raises `SbatchError`."""
    gpus = resources.gpus
    typed = f"{site.gpu_type}:{gpus}" if site.gpu_type else gpus
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
        "exclusive": site.exclusive,
        "gpus-per-node": typed if gpus and site.gpu_request == "gpus-per-node" else None,
        "gres": f"gpu:{typed}" if gpus and site.gpu_request == "gres" else None,
        "dependency": dependency,
        "kill-on-invalid-dep": "yes" if dependency else None,
        **site.extra,
    }
    return {key: _safe(key, value) for key, value in options.items() if value is not None and value is not False}


def _safe(key: str, value: str | int | bool) -> str | int | bool:
    """Refuse values that would end a directive line and begin another."""
    if isinstance(value, str) and (CONTROL.search(value) or UNSAID.search(value)):
        raise SbatchError(
            f"sbatch option {key}: {value!r} holds a control character or is not UTF-8; expected one line of text. "
            "Correct the site profile or [run] dir"
        )
    return value


def array_spec(first: int, last: int, throttle: int | None) -> str:
    """
    >>> array_spec(0, 9, 4)
    '0-9%4'
    """
    return f"{first}-{last}" + (f"%{throttle}" if throttle else "")


class OnNode(str):
    """A word whose `$NAME` and `${NAME}` parts are variables of the node; the rest of it is quoted."""

    __slots__ = ()


def python_of(site: Site) -> str:
    """Interpreter on the compute nodes: the site's, else that of its container or conda environment, else the one that runs this."""
    if site.python:
        return site.python
    return "python3" if site.container else "python" if site.conda else sys.executable


def setup_lines(site: Site) -> list[str]:
    """What the script does before the worker: `HOLD`, modules, conda, then the site's own shell lines, which are shell on purpose."""
    lines = [HOLD]
    if site.modules:
        lines.append("command -v module >/dev/null || . /etc/profile  # where the submitting shell had no modules to hand on")
    lines += [f"module load {shlex.quote(name)} || exit 1" for name in site.modules]
    if site.conda:
        lines.append('eval "$("${CONDA_EXE:-conda}" shell.bash hook)" || exit 1  # no `conda init` needed')
        lines.append(f"conda activate {shlex.quote(site.conda)} || exit 1")
    return [*lines, *site.setup]


def wrap_command(site: Site, command: Sequence[str], gpus: int = 0) -> list[str]:
    """The command inside the site's container, or as it is where the site has none."""
    if not site.container:
        return list(command)
    binds = [OnNode(f"--bind={bind}") for bind in site.container_binds]
    nvidia = ["--nv"] if gpus else []
    return [site.container_runtime, "exec", *nvidia, *binds, *site.container_options, site.container, *command]


def exec_line(command: Sequence[str]) -> str:
    """The last line of every script. `exec`: the worker itself gets Slurm's signals.

    >>> print(exec_line(["python", "-m", "hpc", "--run", "/a b", "--task", TASK_ID]))
    exec python -m hpc --run '/a b' --task "$SLURM_ARRAY_TASK_ID"
    """
    return "exec " + " ".join(map(_word, command))


def render(options: Mapping[str, str | int | bool], site: Site, command: Sequence[str], gpus: int = 0) -> str:
    """A whole script: directives, `setup_lines`, the command in the site's container. Every word is quoted but `TASK_ID`."""
    lines = ["#!/bin/bash"]
    lines += [f"#SBATCH --{key}" if value is True else f"#SBATCH --{key}={_directive(str(value))}" for key, value in options.items()]
    lines += [
        "",
        *setup_lines(site),
        "",
        "# exec: the worker itself gets Slurm's signals",
        exec_line(wrap_command(site, command, gpus)),
        "",
    ]
    return "\n".join(lines)


def _directive(value: str) -> str:
    return value if re.fullmatch(r"[\w@%+=:,./~-]*", value) else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _word(word: str) -> str:
    """
    >>> print(_word(OnNode("--bind=$TMPDIR/a b")), _word("$TMPDIR"))
    --bind="$TMPDIR"'/a b' '$TMPDIR'
    """
    if UNSAID.search(word):
        raise SbatchError(f"{word!r} holds a null byte or is not UTF-8; expected text that a script can hold. Rename that folder")
    if word == TASK_ID:
        return f'"{word}"'
    if not isinstance(word, OnNode):
        return shlex.quote(word)
    parts = re.split(r"(\$[A-Za-z_][A-Za-z0-9_]*|\$\{[A-Za-z_][A-Za-z0-9_]*\})", word)
    return "".join(f'"{part}"' if number % 2 else shlex.quote(part) for number, part in enumerate(parts) if part)
