"""sbatch scripts: every option on its own line, nothing can break out of one, and bash reads the command as it was meant."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.dispatch.sbatch import HOLD, TASK_ID, SbatchError, array_spec, python_of, render, sbatch_options, setup_lines, wrap_command
from hpc.site import Resources, Site

printable = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


def options(site: Site | None = None, resources: Resources | None = None, **more: str) -> dict[str, str | int | bool]:
    given = {"array": None, "log": "/run/%A_%a.log", "dependency": None, **more}
    return sbatch_options("job", resources or Resources(), site or Site(), **given)  # type: ignore[arg-type]


def directives(script: str) -> list[str]:
    return [line for line in script.splitlines() if line.startswith("#SBATCH")]


def test_what_a_cpu_task_asks_for() -> None:
    found = options(Site(account="lab", partition="cpu", qos="normal"), Resources(cpus=16, mem_gb=1.5, task_minutes=20), array="0-9%4")
    assert found == {
        **{"job-name": "job", "array": "0-9%4", "output": "/run/%A_%a.log", "open-mode": "append", "nodes": 1, "ntasks": 1},
        **{"cpus-per-task": 16, "mem": "24576M", "time": 90, "signal": "B:USR1@120", "requeue": True},
        **{"account": "lab", "partition": "cpu", "qos": "normal"},
    }


def test_gpus_are_asked_for_in_the_way_of_the_site() -> None:
    gpus = Resources(cpus=8, gpus=2, mem_gb=10)
    assert options(Site(partition="cpu", gpu_partition="gpu"), gpus)["partition"] == "gpu"
    assert options(Site(), gpus)["gpus-per-node"] == 2 and options(Site(), gpus)["mem"] == "20480M"
    assert options(Site(gpu_request="gres"), gpus)["gres"] == "gpu:2"
    assert options(Site(gpu_request="gres", gpu_type="a100"), gpus)["gres"] == "gpu:a100:2"
    assert options(Site(gpu_type="a100"), gpus)["gpus-per-node"] == "a100:2"
    assert not {"gres", "gpus-per-node"} & set(options(Site(gpu_request="gres", gpu_type="a100")))


def test_nodes_of_our_own_are_asked_for_only_where_the_profile_says_so() -> None:
    assert options(Site(exclusive=True))["exclusive"] is True and "exclusive" not in options()


def test_a_site_without_requeue_says_so_and_extra_options_win() -> None:
    found = options(Site(requeue=False, extra={"exclusive": True, "nodes": 2, "requeue": False}))
    assert found["no-requeue"] is True and found["exclusive"] is True and found["nodes"] == 2 and "requeue" not in found


def test_a_dependency_that_can_never_be_met_removes_the_job() -> None:
    assert options(dependency="afterok:12:13")["kill-on-invalid-dep"] == "yes"
    assert "kill-on-invalid-dep" not in options()


@pytest.mark.parametrize("value", ["a\n#SBATCH --uid=0", "a\rb", "a\0b", "tab\tbed", "\x7f"])
def test_a_control_character_in_an_option_is_refused(value: str) -> None:
    with pytest.raises(SbatchError, match="control character or is not UTF-8; expected one line of text"):
        sbatch_options(value, Resources(), Site(), array=None, log="/run/%j.log")
    with pytest.raises(SbatchError, match="control character"):
        options(log=f"/run/{value}")
    with pytest.raises(SbatchError, match="control character"):  # a profile that was not validated
        options(Site.model_construct(**{**Site().model_dump(), "account": value}))


@pytest.mark.parametrize("folder", ["/run/100%", "/run/%j", "C:\\run"])
def test_a_folder_whose_name_slurm_would_change_is_refused(folder: str) -> None:
    with pytest.raises(SbatchError, match="Choose another"):
        options(log=f"{folder}/%j.log")


@given(printable, printable.map(lambda log: log.replace("%", "").replace("\\", "")))
def test_values_stay_on_their_line_and_come_back_from_the_quotes(account: str, log: str) -> None:
    script = render(options(Site(account=account), log=log), Site(), ["true"])
    lines = dict(shlex.split(line)[1].split("=", 1) for line in directives(script) if "=" in line and line.isascii())
    if account.isascii():
        assert lines["--account"] == account
    assert len(script.split("\n")) == len(render(options(Site(account="a")), Site(), ["true"]).split("\n"))


# ---- what bash makes of it: programs on the path note how they were called, one line of JSON for each call

NOTE = """#!{python} -SE
import json, os, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
"""
THEN_RUN = """
words = sys.argv[2:]
while words[0].startswith("-"):
    words.pop(0)
os.execvp(words[1], words[1:])
"""
CONDA = """#!/bin/bash
echo 'conda() { printf "%s\\0" conda-function "$@" >>"$CALLS.conda"; }'
"""


@dataclass(frozen=True)
class Node:
    """A folder with stand-ins for python, apptainer, conda and module, and a working directory in which nothing may appear."""

    folder: Path

    def run(self, script: str, **more: str) -> list[list[str]]:
        """Run a script as Slurm would, as a file under bash; the calls in their order."""
        (self.folder / "calls").unlink(missing_ok=True)
        (self.folder / "calls.conda").unlink(missing_ok=True)
        (self.folder / "job").write_text(script, encoding="utf-8")
        env = {"PATH": f"{self.folder}/bin:/usr/bin:/bin", "CALLS": f"{self.folder}/calls", "HOME": "/nowhere", **more}
        done = subprocess.run(["bash", self.folder / "job"], env=env, cwd=self.folder / "cwd", capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, f"{done.returncode}: {done.stderr}\n{script}"
        assert not list((self.folder / "cwd").iterdir()), script
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]

    def conda_calls(self) -> list[str]:
        return (self.folder / "calls.conda").read_text().split("\0")[:-1]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    folder = tmp_path_factory.mktemp("node")
    (folder / "bin").mkdir()
    (folder / "cwd").mkdir()
    note = NOTE.format(python=sys.executable)
    programs = {"python": note, "module": note, "apptainer": note + THEN_RUN, "singularity": note + THEN_RUN, "conda": CONDA}
    for name, text in programs.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    return Node(folder)


EVIL = ["$(touch owned)", "`touch owned`", "'; touch owned; '", '"; touch owned; "', "${IFS}", "a\\", "\\'", '\\"', "%j", "$HOME", "!!"]
EVIL += [
    "~",
    "*",
    "{a,b}",
    "é 漢字",
    "\u2028#SBATCH --hold",
    "\u0085",
    "\u00a0",
    "&& touch owned",
    "| tee owned",
    "> owned",
    "#",
    " lead ",
    "$TASK_ID",
]
one_line = st.one_of(
    st.sampled_from(EVIL),
    st.lists(st.sampled_from(EVIL), min_size=2, max_size=3).map("".join),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
)
names = one_line.filter(lambda text: text.strip() and not text.startswith("-"))
any_text = st.one_of(one_line, st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))


@settings(max_examples=30)
@given(st.lists(any_text.filter(lambda word: word != TASK_ID), max_size=5))
def test_bash_reads_the_words_of_the_command_as_they_were(node: Node, words: list[str]) -> None:
    script = render({}, Site(), ["python", *words, TASK_ID])
    assert node.run(script, SLURM_ARRAY_TASK_ID="7 $(x)") == [["python", *words, "7 $(x)"]]


@settings(max_examples=30)
@given(
    account=one_line,
    partition=one_line,
    comment=one_line,
    modules=st.lists(names, max_size=2),
    conda=names,
    image=names,
    binds=st.lists(one_line.filter(lambda bind: "," not in bind and "$" not in bind), max_size=2),
    more=st.lists(one_line.map("-{}".format), max_size=2),
    run=one_line,
)
def test_nothing_in_a_profile_becomes_shell(node: Node, run: str, **given: Any) -> None:
    """Account, partition, any sbatch option, modules, conda, image, binds, options of the runtime, and the run's name and path."""
    site = Site(
        account=given["account"],
        partition=given["partition"],
        extra={"comment": given["comment"]},
        modules=given["modules"],
        conda=given["conda"],
        container=given["image"],
        container_binds=given["binds"],
        container_options=given["more"],
    )
    folder = "/r/" + run.replace("%", "").replace("\\", "")
    asked = sbatch_options(run, Resources(gpus=1), site, array="0-1", log=f"{folder}/%j.log")
    calls = node.run(render(asked, site, ["python", "-m", "hpc", "--run", f"/r/{run}"], gpus=1))
    assert calls[: len(given["modules"])] == [["module", "load", name] for name in given["modules"]]
    assert node.conda_calls() == ["conda-function", "activate", given["conda"]]
    apptainer, python = calls[len(given["modules"]) :]
    binds = [f"--bind={bind}" for bind in given["binds"]]
    assert apptainer == ["apptainer", "exec", "--nv", *binds, *given["more"], given["image"], *python]
    assert python == ["python", "-m", "hpc", "--run", f"/r/{run}"]


@pytest.mark.parametrize("word", ["/r/\0", "/r/\udcff"])
def test_what_no_script_can_hold_is_refused(word: str) -> None:
    with pytest.raises(SbatchError, match="null byte or is not UTF-8; expected text"):
        render({}, Site(), ["python", word])
    with pytest.raises(SbatchError, match="not UTF-8; expected one line"):
        options(log=f"{word}/%j.log")


def test_variables_in_a_bind_are_those_of_the_node(node: Node) -> None:
    site = Site(container="/i.sif", container_binds=["$TMPDIR:/scratch", "/l/${SLURM_JOB_ID}/a b:/x", "/$(touch owned)$1$$"])
    [apptainer, _] = node.run(render({}, site, ["python"]), TMPDIR="/t m/`x`", SLURM_JOB_ID="12")
    assert apptainer[2:5] == ["--bind=/t m/`x`:/scratch", "--bind=/l/12/a b:/x", "--bind=/$(touch owned)$1$$"]


@pytest.mark.parametrize(
    ("site", "line"),
    [
        (Site(modules=["no/such"]), "module load no/such || exit 1"),
        (Site(conda="/envs/a b"), "conda activate '/envs/a b' || exit 1"),
        (Site(setup=["source /venv/bin/activate && export A=$B"]), "source /venv/bin/activate && export A=$B"),
    ],
)
def test_set_up_lines_come_after_the_trap_in_the_order_of_the_profile(site: Site, line: str) -> None:
    assert setup_lines(site)[0] == HOLD and setup_lines(site)[-1] == line
    every = Site(modules=["a", "b"], conda="c", setup=["d"])
    assert [text.split(" ||")[0].split(" >/")[0] for text in setup_lines(every)[1:]] == [
        "command -v module",
        "module load a",
        "module load b",
        'eval "$("${CONDA_EXE:-conda}" shell.bash hook)"',
        "conda activate c",
        "d",
    ]


@pytest.mark.parametrize("site", [Site(modules=["no/such"]), Site(conda="no-such")])
def test_a_module_or_environment_that_is_missing_ends_the_job(node: Node, site: Site) -> None:
    """Otherwise the worker would start with whatever Python is there."""
    script = render({}, site, ["python"]).replace("/etc/profile", "/dev/null")
    env = {"PATH": "/usr/bin:/bin", "module": "", "CALLS": "/dev/null"}
    done = subprocess.run(["bash", "-c", "conda() { return 1; }; module() { return 1; }; " + script], env=env, capture_output=True)
    assert done.returncode == 1


@pytest.mark.skipif(not Path("/etc/profile.d/modules.sh").exists(), reason="no Environment Modules here (Debian: environment-modules)")
def test_modules_are_loaded_by_the_real_thing_though_the_submitting_shell_had_none(node: Node, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "1.0").write_text("#%Module1.0\nsetenv MINE yes\n")
    site = Site(modules=["mine/1.0"])
    script = render({}, site, ["sh", "-c", "echo $MINE"])
    env = {"PATH": "/usr/bin:/bin", "MODULEPATH": str(tmp_path)}
    assert subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True).stdout == "yes\n"
    (tmp_path / "mine" / "1.0").unlink()
    assert subprocess.run(["bash", "-c", script], env=env, capture_output=True).returncode == 1


@pytest.mark.parametrize(
    ("site", "python"),
    [
        (Site(), sys.executable),
        (Site(conda="env"), "python"),
        (Site(container="/i.sif"), "python3"),
        (Site(container="/i.sif", conda="env", python="/opt/bin/python3"), "/opt/bin/python3"),
    ],
)
def test_which_python_runs_on_the_nodes(site: Site, python: str) -> None:
    assert python_of(site) == python


@pytest.mark.parametrize(("gpus", "runtime"), [(0, "apptainer"), (2, "singularity")])
def test_a_container_gets_the_gpus_of_its_task(gpus: int, runtime: str) -> None:
    site = Site(container="/i.sif", container_runtime=runtime, container_binds=["/lustre"], container_options=["--cleanenv"])
    found = wrap_command(site, ["python3", "-m", "hpc"], gpus)
    assert found == [runtime, "exec", *(["--nv"] if gpus else []), "--bind=/lustre", "--cleanenv", "/i.sif", "python3", "-m", "hpc"]
    assert wrap_command(Site(), ["python3"], gpus) == ["python3"]


def test_the_command_replaces_the_shell(tmp_path: Path) -> None:
    setup = ["module() { echo loaded $1; }", "module load python"]
    script = render(options(array="0-3"), Site(setup=setup), ["bash", "-c", "echo pid $$ task $0", TASK_ID])
    path = tmp_path / "job.sbatch"
    path.write_text(script)
    path.chmod(0o700)
    process = subprocess.Popen([path], env={"SLURM_ARRAY_TASK_ID": "3", "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, text=True)
    assert process.communicate()[0].splitlines() == ["loaded load", f"pid {process.pid} task 3"]
    lines = script.splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert not directives("\n".join(lines[first:]))  # sbatch reads directives only up to the first command


@pytest.mark.parametrize(("last", "throttle", "spec"), [(9, 4, "0-9%4"), (0, None, "0-0"), (99, 0, "0-99")])
def test_array_specs(last: int, throttle: int | None, spec: str) -> None:
    assert array_spec(0, last, throttle) == spec
