"""sbatch scripts: every option on its own line, nothing can break out of one, and bash reads the command as it was meant."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.sbatch import SbatchError, array_spec, render, sbatch_options
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
    assert not {"gres", "gpus-per-node"} & set(options(Site(gpu_request="gres")))


def test_a_site_without_requeue_says_so_and_extra_options_win() -> None:
    found = options(Site(requeue=False, extra={"exclusive": True, "nodes": 2, "requeue": False}))
    assert found["no-requeue"] is True and found["exclusive"] is True and found["nodes"] == 2 and "requeue" not in found


def test_a_dependency_that_can_never_be_met_removes_the_job() -> None:
    assert options(dependency="afterok:12:13")["kill-on-invalid-dep"] == "yes"
    assert "kill-on-invalid-dep" not in options()


@pytest.mark.parametrize("value", ["a\n#SBATCH --uid=0", "a\rb", "a\0b", "tab\tbed", "\x7f"])
def test_a_control_character_in_an_option_is_refused(value: str) -> None:
    with pytest.raises(SbatchError, match="control character; expected one line of text"):
        options(Site(account=value))
    with pytest.raises(SbatchError, match="control character"):
        options(log=f"/run/{value}")


@pytest.mark.parametrize("folder", ["/run/100%", "/run/%j", "C:\\run"])
def test_a_folder_whose_name_slurm_would_change_is_refused(folder: str) -> None:
    with pytest.raises(SbatchError, match="Choose another"):
        options(log=f"{folder}/%j.log")


@given(printable, printable.map(lambda log: log.replace("%", "").replace("\\", "")))
def test_values_stay_on_their_line_and_come_back_from_the_quotes(account: str, log: str) -> None:
    script = render(options(Site(account=account), log=log), [], ["true"])
    lines = dict(shlex.split(line)[1].split("=", 1) for line in directives(script) if "=" in line and line.isascii())
    if account.isascii():
        assert lines["--account"] == account
    assert len(script.split("\n")) == len(render(options(Site(account="a")), [], ["true"]).split("\n"))


words = st.lists(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(lambda w: "$" not in w), max_size=6
)


@given(words)
def test_bash_reads_the_words_of_the_command_as_they_were(words: list[str]) -> None:
    last = render({}, [], ["printf", r"%s\0", *words, "$HOME"]).partition("\nexec ")[2]
    shown = subprocess.run(["bash", "-c", last], env={"HOME": "a b", "PATH": "/usr/bin:/bin"}, capture_output=True, check=True).stdout
    assert shown.decode().split("\0")[:-1] == [*words, "a b"]


def test_set_up_lines_come_before_the_command_which_replaces_the_shell(tmp_path: Path) -> None:
    setup = ["module() { echo loaded $1; }", "module load python"]
    script = render(options(array="0-3"), setup, ["bash", "-c", "echo pid $$ task $0", "$SLURM_ARRAY_TASK_ID"])
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
