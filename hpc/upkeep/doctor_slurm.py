"""What Slurm allows and does, against the site profile, in words. Two calls of scontrol, one of sacctmgr.

The rules are functions of what those programs print, so that a cluster that is not at hand can be judged as well.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from hpc.site import Site
from hpc.upkeep.finding import Finding

ASSOC_FIELDS = ("Account", "Partition", "MaxJobs", "MaxSubmit", "GrpJobs", "GrpSubmit")
Assoc = Mapping[str, str]
"""One association: `ASSOC_FIELDS` -> text, empty where there is no limit."""

TIMEOUT_S = 30


def check_slurm(site: Site) -> Iterator[Finding]:
    if shutil.which("sbatch") is None:
        yield Finding("warn", "slurm", "no sbatch on the path: `local` works, `submit` does not")
        return
    try:
        config = parse_config(_output("scontrol", "show", "config"))
        partitions = parse_partitions(_output("scontrol", "--oneliner", "show", "partition"))
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("fail", "slurm", f"{_said(error)}; is the controller up? Try: scontrol ping")
        return
    yield Finding("ok", "slurm", f"{config.get('SLURM_VERSION', '?')}, cluster {config.get('ClusterName', '?')}")
    yield from judge_arrays(config, site)
    yield from judge_partitions(partitions, site)
    yield from judge_preemption(config, partitions, site)
    yield from judge_ends(config, site)
    yield from judge_submission(partitions, site)
    yield from _check_accounting(config, site)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True, errors="replace").stdout


def _said(error: OSError | subprocess.SubprocessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"{' '.join(error.cmd)}: {error.stderr.strip() or f'exit status {error.returncode}'}"
    return str(error)


def parse_config(text: str) -> dict[str, str]:
    """`scontrol show config`.

    >>> parse_config("KillWait                = 30 sec\\nAccountingStorageHost   = \\n")["KillWait"]
    '30 sec'
    """
    return dict(re.findall(r"^(\w+)[ \t]*=[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))


def parse_partitions(text: str) -> dict[str, dict[str, str]]:
    """`scontrol --oneliner show partition`: partition -> its fields.

    >>> parse_partitions("PartitionName=main Default=YES MaxTime=1-00:00:00\\n")
    {'main': {'PartitionName': 'main', 'Default': 'YES', 'MaxTime': '1-00:00:00'}}
    """
    rows = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in text.splitlines()]
    return {row["PartitionName"]: row for row in rows if "PartitionName" in row}


def seconds_of(text: str) -> int | None:
    """A duration as Slurm prints it: `30 sec`, `UNLIMITED`, `1-12:00:00`, `02:00:00`; None for no limit or another text.

    >>> [seconds_of(text) for text in ("30 sec", "1-12:00:00", "10:00", "UNLIMITED", "7")]
    [30, 129600, 600, None, 7]
    """
    text = text.removesuffix(" sec").strip()
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", text):
        return None
    days, _, clock = text.rpartition("-")
    seconds = 0
    for part in clock.split(":"):
        seconds = 60 * seconds + int(part)
    return int(days or 0) * 86400 + seconds


def used_partitions(partitions: Mapping[str, Mapping[str, str]], site: Site) -> list[str]:
    """Partitions that the profile sends jobs to; the cluster's default where it names none."""
    default = next((name for name, row in partitions.items() if row.get("Default") == "YES"), None)
    names = [name for name in (site.partition or default, site.gpu_partition) if name]
    return [part for name in dict.fromkeys(names) for part in name.split(",")]


def judge_arrays(config: Mapping[str, str], site: Site) -> Iterator[Finding]:
    limit, jobs = int(config.get("MaxArraySize", "1001")), int(config.get("MaxJobCount", "10000"))
    text = f"MaxArraySize {limit}, profile says {site.max_array_size}"
    if site.max_array_size > limit:
        yield Finding("fail", "array size", f"{text}; set max_array_size = {limit} in the site profile")
    else:
        yield Finding("ok", "array size", text)
    if site.max_tasks > jobs:
        text = f"the controller holds {jobs} jobs of all users (MaxJobCount), profile allows {site.max_tasks} of one stage"
        yield Finding("fail", "jobs", f"{text}; set max_tasks in the site profile to a part of it")


def judge_partitions(partitions: Mapping[str, Mapping[str, str]], site: Site) -> Iterator[Finding]:
    for name in used_partitions(partitions, site):
        row = partitions.get(name)
        if row is None:
            text = f"{name}: no such partition, or not for you; there are {', '.join(partitions) or 'none'}. Correct the site profile"
            yield Finding("fail", "partition", text)
            continue
        if row.get("State", "UP") != "UP":
            yield Finding(
                "warn", "partition", f"{name} is {row['State']}: jobs wait or are refused; ask the administrators, or name another"
            )
        longest = seconds_of(row.get("MaxTime", ""))
        if longest is not None and site.max_time_min is not None and site.max_time_min * 60 > longest:
            text = f"{name} allows {longest // 60} minutes, profile says {site.max_time_min}; set max_time_min = {longest // 60}"
            yield Finding("fail", "time limit", text)
        elif longest is not None and site.max_time_min is None:
            text = f"{name} allows {longest // 60} minutes, the profile has no limit; set max_time_min = {longest // 60}"
            yield Finding("warn", "time limit", text)


def judge_preemption(config: Mapping[str, str], partitions: Mapping[str, Mapping[str, str]], site: Site) -> Iterator[Finding]:
    if config.get("PreemptType", "preempt/none") == "preempt/none":
        yield Finding("ok", "preemption", "none here: running jobs are left alone")
        return
    announced = "preempt_send_user_signal" in config.get("SlurmctldParameters", "")
    for name in used_partitions(partitions, site):
        row = partitions.get(name, {})
        mode = row.get("PreemptMode", config.get("PreemptMode", "OFF")).split(",")[-1]
        grace = seconds_of(row.get("GraceTime", "0")) or 0
        if mode == "OFF":
            yield Finding("ok", "preemption", f"jobs of {name} are not preempted")
            continue
        level, does = _preempted(mode, site, announced and grace > 0)
        yield Finding(level, "preemption", f"{name}: {does}. {_grace(grace, announced) if mode in ('REQUEUE', 'CANCEL') else ''}".rstrip())


def _preempted(mode: str, site: Site, announced: bool) -> tuple[str, str]:
    if mode == "REQUEUE" and site.requeue:
        return "ok", "a preempted task goes back to the queue and comes again (PreemptMode=REQUEUE)"
    if mode == "REQUEUE":
        return "warn", "PreemptMode=REQUEUE, but requeue = false in the profile: preempted tasks are lost; set requeue = true"
    if mode == "CANCEL" and announced and site.requeue:
        return "ok", "a preempted task is cancelled (PreemptMode=CANCEL), but is told before, and puts itself into the queue again"
    if mode == "CANCEL":
        return (
            "ok",
            "a preempted task is cancelled and does not come back (PreemptMode=CANCEL); its units go to other tasks, or to the next round",
        )
    # SUSPEND, GANG
    text = f"a preempted task is stopped and goes on later (PreemptMode={mode}); its claims look dead meanwhile, and others redo its units"
    return "ok", text


def _grace(seconds: int, announced: bool) -> str:
    if seconds == 0:
        return "It has no time to commit what it holds (GraceTime=0): up to one slice for each process is lost"
    if announced:
        return f"It is told {seconds} s before (GraceTime), and commits the slice in hand"
    return (
        f"GraceTime is {seconds} s; whether the task is told at its beginning is not sure "
        "(SlurmctldParameters=preempt_send_user_signal would make it so); at worst one slice for each process is lost"
    )


def judge_ends(config: Mapping[str, str], site: Site) -> Iterator[Finding]:
    wait = seconds_of(config.get("KillWait", "")) or 0
    text = f"{wait} s between SIGTERM and SIGKILL (KillWait): a slice that takes longer is lost with scancel"
    yield Finding("ok", "end of a job", f"{text}; before the time limit the warning comes {site.signal_s} s early (signal_s)")
    if config.get("JobRequeue") == "0" and site.requeue:
        yield Finding("ok", "requeue", "off by default here (JobRequeue=0); our jobs ask for it (--requeue), as the profile says")
    age = seconds_of(config.get("MinJobAge", ""))
    if age is not None:
        text = (
            f"ended jobs are known to squeue for {age} s (MinJobAge), later to sacct alone; nothing here depends on it: state is in files"
        )
        yield Finding("ok", "memory of jobs", text)


def judge_submission(partitions: Mapping[str, Mapping[str, str]], site: Site) -> Iterator[Finding]:
    """Whether gates may resubmit what is missing."""
    said = f"submit_from_compute = {str(site.submit_from_compute).lower()} in the profile"
    fenced = [name for name in used_partitions(partitions, site) if partitions.get(name, {}).get("AllocNodes", "ALL") != "ALL"]
    if fenced and site.submit_from_compute:
        hosts = partitions[fenced[0]]["AllocNodes"]
        text = f"{fenced[0]} takes jobs only from {hosts} (AllocNodes); {said}: where compute nodes are not among them, set it to false"
        yield Finding("warn", "gates", text)
    elif site.submit_from_compute:
        text = f"{said}; whether compute nodes may submit cannot be seen from here: srun sbatch --test-only --wrap=true tells"
        yield Finding("ok", "gates", text)
    else:
        yield Finding("ok", "gates", f"{said}: an incomplete gate says what to type")


def _check_accounting(config: Mapping[str, str], site: Site) -> Iterator[Finding]:
    if not site.sacct or shutil.which("sacctmgr") is None:
        yield Finding("ok", "accounting", "not asked; limits of your user are not known here, and nothing else needs it")
        return
    user = pwd.getpwuid(os.getuid()).pw_name
    command = ("sacctmgr", "--noheader", "--parsable2", "show", "assoc", f"user={user}", f"format={','.join(ASSOC_FIELDS)}")
    try:
        lines = _output(*command).splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding(
            "warn", "accounting", f"{_said(error)}; limits of your user are not known. Set sacct = false where there is no accounting"
        )
        return
    rows = [dict(zip(ASSOC_FIELDS, line.split("|"), strict=False)) for line in lines]
    yield from judge_accounting(rows, user, config, site)


def judge_accounting(rows: Sequence[Assoc], user: str, config: Mapping[str, str], site: Site) -> Iterator[Finding]:
    """Limits of the user's associations, which count every element of an array as a job."""
    ours = [row for row in rows if site.account in (None, row["Account"]) and row["Partition"] in ("", site.partition, site.gpu_partition)]
    if not ours:
        accounts = ", ".join(sorted({row["Account"] for row in rows})) or "none"
        enforced = "associations" in config.get("AccountingStorageEnforce", "") or "limits" in config.get("AccountingStorageEnforce", "")
        asked = f"account {site.account}" if site.account else "any account"
        text = f"{user} has no association with {asked} (there are: {accounts})"
        yield Finding("fail" if enforced else "warn", "accounting", f"{text}; set account in the site profile")
        return
    submit, jobs = _least(ours, "MaxSubmit", "GrpSubmit"), _least(ours, "MaxJobs", "GrpJobs")
    if submit is not None and site.max_tasks + 1 > submit:
        text = f"{user} may have {submit} jobs queued and running (MaxSubmitJobs), profile allows {site.max_tasks} tasks and a gate"
        yield Finding("fail", "submit limit", f"{text}; all stages of a run are submitted at once: set max_tasks well below {submit}")
    elif submit is not None:
        text = f"{user} may have {submit} jobs queued and running (MaxSubmitJobs); all stages of a run together have to fit"
        yield Finding("ok", "submit limit", text)
    else:
        yield Finding("ok", "submit limit", f"none in the association of {user}; a QOS may have one")
    if jobs is not None:
        yield Finding("ok", "running jobs", f"at most {jobs} at once (MaxJobs); further tasks wait, and their units go to those that run")


def _least(rows: Sequence[Assoc], *fields: str) -> int | None:
    found = [int(row[field]) for row in rows for field in fields if row.get(field, "").isdigit()]
    return min(found, default=None)
