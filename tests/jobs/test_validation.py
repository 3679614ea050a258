"""What does not fit is told before anything is submitted, in lines that say what to type; a traceback is for mistakes of the program."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from flows import plan, short_flow, until
from rich.console import Console

from ccpipe.bands import collision_probability
from hpc.dispatch.sbatch import SbatchError
from hpc.site import SiteError
from jobs import cli, doctor, verbs
from jobs.config import ConfigError, load_config
from jobs.demo.run import corpus_line
from jobs.errors import UsageError, tell
from jobs.flow import build_flow
from jobs.planning import FlowPlan

Swap = tuple[str, str]

MISFITS: dict[str, tuple[Swap, str]] = {
    "keep is no truth": (
        ("[stage.export]\n", '[stage.export]\nkeep = "lid_label"\n'),
        r"stage export.shards: keep = 'lid_label' is a column of string, expected bool: .* such as 'select_keep'",
    ),
    "drop_lines are no lists": (
        ('drop_lines = ["quality_drop_lines"]', 'drop_lines = ["quality_n_words"]'),
        r"stage export.shards: drop_lines names 'quality_n_words', a column of u?int\d+, expected lists of line numbers \(list<uint32>\): "
        r"name one such as 'quality_drop_lines'",
    ),
    "drop_lines are lists of words": (
        ('drop_lines = ["quality_drop_lines"]', 'drop_lines = ["lid_label"]'),
        r"drop_lines names 'lid_label', a column of string",
    ),
    "scores are words": (
        ('scores = ["fasttext_score"]', 'scores = ["fasttext_score", "lid_label"]'),
        r"stage bucket.cuts: scores names 'lid_label', a column of string; expected columns of numbers: .*fasttext_score, lid_score",
    ),
    "language is a number": (
        ("[stage.perplexity]\n", '[stage.perplexity]\nlanguage = "lid_score"\n'),
        r"stage perplexity: language = 'lid_score' is a column of float, expected the labels .* such as 'lid_label'",
    ),
    "more bands than hashes": (
        ("[stage.dedup]\n", "[stage.dedup]\nbands = 20\nrows = 10\n"),
        r"stage dedup.route: bands = 20, rows = 10 need 200 hashes, the signatures have 128: "
        r"take bands = 12, or rows = 6, or n_hashes = 200 in the table",
    ),
    "narrow signatures": (
        ("[stage.sig]\n", "[stage.sig]\nn_hashes = 64\n[stage.dedup]\nbands = 14\nrows = 8\n"),
        r"stage dedup.route: bands = 14, rows = 8 need 112 hashes, the signatures have 64: take bands = 8, or rows = 4, or n_hashes = 112",
    ),
    "a number beside a word": (
        ('where = "dedup_keep"', 'where = "dedup_keep AND lid_label = 3"'),
        r"where = \"dedup_keep AND lid_label = 3\": .*Could not convert string 'a' to INT32.*text in quotes: lid_label = '3'",
    ),
    "a list of numbers beside a word": (
        ('where = "dedup_keep"', 'where = "lid_label IN (1, 2)"'),
        r"Could not convert string 'a' to INT32 .*lid_label; compare a column with values of its own type",
    ),
    "a block list that is none": (
        ('/blocklist"', '/input"'),
        r"stage extract: .*/input/demo-00000.warc.gz is a binary file; expected a compiled",
    ),
}


@pytest.fixture
def text(demo: Path, models: Path, tmp_path: Path) -> str:
    return short_flow(demo, models, tmp_path / "run")


def change(text: str, swap: Swap) -> str:
    old, new = swap
    if "[stage.dedup]" in new and "[stage.dedup]" not in old:
        # keys of another table of the flow
        table, keys = new.split("[stage.dedup]\n")
        text, new = text.replace("[stage.dedup]\n", "[stage.dedup]\n" + keys), table
    assert old in text, f"{old!r} is not in the flow"
    return text.replace(old, new, 1)


def run(tmp_path: Path, text: str, *arguments: str) -> int:
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    return cli.main([*arguments, "--config", str(tmp_path / "run.toml")])


@pytest.mark.parametrize("misfit", MISFITS)
def test_columns_and_files_that_do_not_fit_are_told_before_anything_is_written(
    misfit: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swap, message = MISFITS[misfit]
    assert run(tmp_path, change(text, swap), "plan") == 2
    shown = capsys.readouterr().err
    assert re.search(message, shown), shown
    assert len(shown.splitlines()) == 2, shown
    assert not (tmp_path / "run").exists()


def test_what_fits_is_not_refused(text: str, tmp_path: Path) -> None:
    for swap in (
        ('where = "dedup_keep"', "where = \"dedup_keep AND warc_date::TIMESTAMP > '2020-01-01'\""),
        ('where = "dedup_keep"', 'where = "dedup_keep AND TRY_CAST(lid_label AS INTEGER) IS NULL"'),
        ('where = "dedup_keep"', "where = \"strptime(warc_date, '%Y') > '2020-01-01'\""),
        ('where = "dedup_keep"', 'where = "text_bytes - 1000 > 0"'),
        ("[stage.sig]\n", "[stage.sig]\nn_hashes = 256\n[stage.dedup]\nbands = 20\nrows = 10\n"),
        ('scores = ["fasttext_score"]', 'scores = ["fasttext_score", "text_bytes", "perplexity_value"]'),
    ):
        (tmp_path / "run.toml").write_text(change(text, swap))
        build_flow(load_config(tmp_path / "run.toml"))


def test_a_stage_that_lacks_a_column_is_told_of_that_alone(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, change(text, ("[stage.export]\n", '[stage.export]\nkeep = "selekt_keep"\n')), "plan") == 2
    shown = capsys.readouterr().err
    assert "Did you mean 'select_keep'" in shown and len(shown.splitlines()) == 2


def test_misfits_of_all_stages_are_told_at_once(text: str, tmp_path: Path) -> None:
    for name in ("keep is no truth", "scores are words", "language is a number", "more bands than hashes"):
        text = change(text, MISFITS[name][0])
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        build_flow(load_config(tmp_path / "run.toml"))
    assert [problem.split(":")[0] for problem in sorted(caught.value.problems)] == [
        "stage bucket.cuts",
        "stage dedup.route",
        "stage export.shards",
        "stage perplexity",
    ]


# --- the dry run ---


def test_the_plan_prints_the_chance_of_pairs_to_be_found(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = until(text, "extract", "lid", "quality", "sig", "dedup").replace("[stage.sig]\n", "[stage.sig]\nn_hashes = 64\n")
    small = small.replace("[stage.dedup]\n", "[stage.dedup]\nbands = 8\nrows = 7\n")
    assert run(tmp_path, small, "plan") == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("dedup.route:"))
    at = next(i for i, line in enumerate(lines) if i > first and "bands x" in line) - 1
    assert lines[at + 1].split()[:8] == ["8", "bands", "x", "7", "rows,", "56", "of", "64"]
    similarities, chances = lines[at + 2].split()[1:], lines[at + 3].split()[1:]
    assert similarities == ["0.50", "0.60", "0.70", "0.75", "0.80", "0.85", "0.90", "0.95"]
    assert chances == [f"{collision_probability(float(s), 8, 7):.1%}" for s in similarities]
    after = next(line for line in lines[at + 4 :] if not line.startswith(" "))
    assert after.startswith("dedup.match:"), "what stands below the curve is still of route"


# --- no tracebacks ---


def extract_only(text: str, run_dir: str | None = None) -> str:
    small = until(text, "extract")
    return re.sub(r'^dir = ".*"', f'dir = "{run_dir}"', small, flags=re.MULTILINE) if run_dir else small


@pytest.fixture
def planned(text: str, tmp_path: Path) -> FlowPlan:
    return plan(tmp_path, extract_only(text))


def one_line(capsys: pytest.CaptureFixture[str], pattern: str) -> None:
    shown = capsys.readouterr().err
    assert re.search(pattern, shown), shown
    assert len(shown.splitlines()) == 1, shown


@pytest.mark.parametrize("verb", ["plan", "local", "submit", "sbatch", "retry"])
def test_a_run_directory_that_cannot_be_made(verb: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, extract_only(text, "/proc/nope/run"), verb) == 2
    one_line(capsys, r"run directory /proc/nope/run: No such file or directory .*change `dir` in \[run\] of .*/run.toml")


def test_a_run_directory_below_a_file(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(tmp_path, extract_only(text, str(tmp_path / "file" / "run")), "plan") == 2
    one_line(capsys, r"run directory .*/file/run: Not a directory .*change `dir`")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_run_directory_that_cannot_be_written(
    number: int, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / "run" / "manifest.jsonl"))

    monkeypatch.setattr(verbs, "plan_flow", refuse)
    assert run(tmp_path, extract_only(text), "plan") == 2
    one_line(capsys, rf"run directory .*/run: {os.strerror(number)} \(.*manifest.jsonl\); .*change `dir`")


def test_another_plan_of_the_same_name(planned: FlowPlan, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = planned.stages[0].state.plan_path
    path.write_text(path.read_text().replace('"00001"', '"00091"'))
    assert run(tmp_path, extract_only(text), "plan") == 2
    one_line(capsys, r"plan.json holds another plan .*Remove the folder .* to start it over")
    path.write_text("{")
    assert run(tmp_path, extract_only(text), "plan") == 2
    one_line(capsys, r"plan.json: 1 bytes that are not JSON .*remove the file")


def test_a_mistake_of_the_program_keeps_its_traceback(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mistake in (ValueError("not enough values to unpack"), KeyError("stage"), FileNotFoundError(2, "No such file", "/elsewhere/x")):

        def fail(*_: object, mistake: Exception = mistake) -> None:
            raise mistake

        monkeypatch.setattr(verbs, "plan_flow", fail)
        with pytest.raises(type(mistake)):
            run(tmp_path, extract_only(text), "plan")


WORK: dict[str, tuple[list[str], str]] = {
    "a launch that is not there": (
        ["--launch", "abc/def"],
        r"no launch 'abc/def' of stage extract in .*/run; expected <fp12>/<launch>, .*none yet",
    ),
    "half a launch": (["--launch", "abc"], r"no launch 'abc' of stage extract .*expected <fp12>/<launch>"),
    "a task beyond the last": (["--task", "5", "--tasks", "2"], r"--task 5 --tasks 2: expected a number from 0 to 1"),
    "no tasks": (["--tasks", "0"], r"--task 0 --tasks 0: .*at least one task"),
    "another fingerprint": (
        ["--fp12", "0123456789ab"],
        r"this script was made for extract at 0123456789ab, .*print it again: ccpipe sbatch",
    ),
}


@pytest.mark.parametrize("case", WORK)
def test_work_that_cannot_be(case: str, planned: FlowPlan, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = WORK[case]
    assert cli.main(["work", "--run", str(planned.run), "--stage", "extract", *arguments]) == 2
    one_line(capsys, message)
    assert not list(planned.run.glob("state/*/*/launches/*")), "a launch was published"


def test_a_launch_that_is_not_there_is_told_with_those_that_are(planned: FlowPlan, capsys: pytest.CaptureFixture[str]) -> None:
    state = planned.stages[0].state
    state.launch_path("local-1").parent.mkdir()
    state.launch_path("local-1").write_text("{}")
    assert cli.main(["work", "--run", str(planned.run), "--stage", "extract", "--launch", f"{state.fp12}/local-2"]) == 2
    one_line(capsys, rf"the latest: {state.fp12}/local-1$")


def test_a_stage_that_is_not_there(planned: FlowPlan, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["status", "--stage", "nosuch"], ["status", "--json", "--stage", "nosuch"], ["local", "--stage", "nosuch"]):
        assert run(tmp_path, extract_only(text), *arguments) == 2
        one_line(capsys, r"^no stage 'nosuch' in this flow; stages: extract$")
    assert cli.main(["work", "--run", str(planned.run), "--stage", "nosuch"]) == 2
    one_line(capsys, r"no stage 'nosuch' in .*/run; stages: extract")
    assert cli.main(["gate", "--run", str(planned.run), "--stage", "extract", "--fp12", "0123456789ab"]) == 2
    one_line(capsys, r"no plan .*0123456789ab/plan.json; expected a stage and the fingerprint")
    assert cli.main(["work", "--run", str(tmp_path), "--stage", "extract"]) == 2
    one_line(capsys, r"is not a run directory \(no flow.json\); plan the run first")


def test_status_of_one_stage(planned: FlowPlan, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stage in ("extract", "all"):
        assert run(tmp_path, extract_only(text), "status", "--json", "--stage", stage) == 0
        assert '"stage": "extract"' in capsys.readouterr().out


def test_a_source_that_is_no_block_list(tmp_path: Path, demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source, message in ((demo / "input", "is a binary file"), (demo / "nowhere", "no file or folder")):
        assert cli.main(["build-blocklist", str(tmp_path / "out"), str(source)]) == 2
        one_line(capsys, message)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [UsageError, SbatchError, SiteError])
def test_errors_with_a_message_of_their_own(kind: type[Exception]) -> None:
    assert tell(kind("what to type next")) == (2, "what to type next")


def test_errors_of_the_machine() -> None:
    assert tell(OSError(errno.ENOSPC, "No space left on device", "/x")) == (
        1,
        "/x: No space left on device; make room and run the same command again",
    )
    assert tell(FileNotFoundError(errno.ENOENT, "No such file", "/x")) is None and tell(ValueError("x")) is None


# --- doctor, demo, benchmarks ---


def findings(config: Path) -> str:
    console = Console(file=StringIO(), width=300)
    assert doctor.run_doctor(console, config) in (0, 1)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_doctor_tells_where_compiled_code_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.search(r"ok +numba cache +/", findings(tmp_path / "run.toml"))
    monkeypatch.setattr("ccpipe.kernels.cache_folder", lambda: None)
    assert re.search(r"warn +numba cache +no folder can be written, .*NUMBA_CACHE_DIR", findings(tmp_path / "run.toml"))


def test_doctor_survives_a_run_directory_that_cannot_be_made(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(extract_only(text, "/proc/nope/run"))
    assert re.search(r"fail +run directory +/proc/nope/run: No such file.*change `dir`", findings(tmp_path / "run.toml"))


def test_the_last_line_of_the_demo() -> None:
    manifest = {"documents": 63, "tokens": 45678, "text_bytes": 3 << 20, "tokenizer": "t.json", "vocab_size": 8000, "eos": 0}
    assert corpus_line(manifest) == "63 documents, 3.0 MiB of text, 45,678 tokens (t.json, vocabulary of 8,000)"
    assert corpus_line({**manifest, "tokenizer": None, "tokens": 0}) == "63 documents, 3.0 MiB of text"


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], "bench_stage.py"),
        (["data=warcs"], "bench_stage.py warcs"),
        (["args=minhash"], "bench_minhash.py"),
        (["args=minhash", "data=texts"], "bench_minhash.py --text texts"),
        (["args=annotators", "data=texts"], "bench_annotators.py --text texts"),
    ],
)
def test_make_bench(arguments: list[str], command: str) -> None:
    repo = Path(__file__).resolve().parents[2]
    shown = subprocess.run(["make", "-n", "bench", *arguments], cwd=repo, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1].split("tests/bench/")[1].split() == command.split()


def test_the_benchmark_of_the_stage_needs_no_folder() -> None:
    script = Path(__file__).resolve().parents[1] / "bench" / "bench_stage.py"
    done = subprocess.run([sys.executable, str(script), "--repeats", "1"], capture_output=True, text=True, check=True)
    assert re.search(r"4 WARCs, 110 pages", done.stdout) and "x reading and parsing" in done.stdout
