"""The demo's pages end to end: the same bytes however the work is cut up and whoever is killed, and nothing done twice."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flows import (
    attempts,
    outputs,
    plan,
    run_here,
    run_in_forks,
    short_flow,
    slice_records,
    tuned,
    until,
    wait_for,
    work_in_forks,
)
from warcio.archiveiterator import ArchiveIterator

from hpc.dispatch.gate import run_gate
from jobs import cli
from jobs.planning import FlowPlan, StagePlan, find

REPO = Path(__file__).resolve().parents[2]
FIRST = ("extract", "sig", "lid", "quality")


@pytest.fixture(scope="session")
def undisturbed(demo: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> FlowPlan:
    """The whole flow in one process that nothing happens to, with slices as large as units; read only."""
    folder = tmp_path_factory.mktemp("undisturbed")
    flow = plan(folder, short_flow(demo, models, folder / "run"))
    complete, said = run_here(flow)
    assert complete, said
    return flow


@pytest.fixture(scope="session")
def expected(undisturbed: FlowPlan) -> dict[str, str]:
    return outputs(undisturbed)


def same(found: dict[str, str], expected: dict[str, str]) -> bool:
    """Whether every output has the bytes it should have; `found` may be of the first stages only."""
    return found == {key: digest for key, digest in expected.items() if key.partition("/")[0] in {k.partition("/")[0] for k in found}}


# --- the same bytes ---


@pytest.mark.parametrize("tasks", [2, 7])
def test_any_number_of_tasks_and_any_slices_give_the_same_bytes(
    tasks: int, demo: Path, models: Path, tmp_path: Path, expected: dict[str, str]
) -> None:
    flow = plan(tmp_path, tuned(short_flow(demo, models, tmp_path / "run")))
    run_in_forks(flow, tasks)
    assert outputs(flow) == expected
    assert len(committers(find(flow.stages, "extract"))) > 1


def committers(stage: StagePlan) -> set[int]:
    """Process ids that committed a unit of the stage."""
    return {sentinel["attempt"]["pid"] for unit in stage.plan.units if (sentinel := stage.state.sentinel(unit.id))}


def test_four_worker_processes_give_the_same_bytes(demo: Path, models: Path, tmp_path: Path, expected: dict[str, str]) -> None:
    """The real thing: `ccpipe local` with child processes."""
    flow = plan(tmp_path, tuned(until(short_flow(demo, models, tmp_path / "run"), "extract", "sig")))
    assert cli_run("local", "--config", tmp_path / "run.toml", "--procs", "4").returncode == 0
    assert same(outputs(flow), expected)
    assert len(committers(flow.stages[0])) > 1 and os.getpid() not in committers(flow.stages[0])


@pytest.mark.parametrize("seed", range(3))
def test_random_kills_in_the_middle_of_units_leave_the_same_bytes(
    seed: int, demo: Path, models: Path, tmp_path: Path, expected: dict[str, str]
) -> None:
    """Three tasks of each stage are killed before some call that touches the filesystem, again and again."""
    sys.path.insert(0, str(REPO / "tests" / "hpc"))
    from toy import die_at_call

    choose = random.Random(seed)
    flow = plan(tmp_path, tuned(until(short_flow(demo, models, tmp_path / "run"), *FIRST)))
    killed = 0
    for name in FIRST:
        stage, kept = find(flow.stages, name), dict[tuple[str, int], str]()
        for _ in range(2):
            deaths = [choose.randrange(10, 150) for _ in range(3)]
            killed += work_in_forks(flow, stage, 3, lambda task, deaths=deaths: die_at_call(deaths[task])).count(-signal.SIGKILL)
            # of a committed unit the sentinel says who did each slice; records beside it are leftovers of a second worker
            done = stage.state.done_units()
            assert_built_upon(stage, {key: attempt for key, attempt in kept.items() if key[0] in done})
            now = {key: attempt for key, attempt in slice_records(stage).items() if key[0] not in done}
            assert {key: now.get(key, attempt) for key, attempt in kept.items()} == kept, "a committed slice was done again"
            kept = now
        assert work_in_forks(flow, stage, 2) == [0, 0]
        assert_built_upon(stage, kept)
        assert run_gate(stage.state).complete
    assert killed > 10
    assert same(outputs(flow), expected)


def assert_built_upon(stage: StagePlan, kept: dict[tuple[str, int], str]) -> None:
    """Every slice that was committed before is in the sentinel of its unit, by the attempt that committed it."""
    for (unit, number), attempt in kept.items():
        sentinel = stage.state.sentinel(unit)
        assert sentinel is not None and sentinel["slices"][number]["attempt"] == attempt, f"slice {number} of {unit} was done twice"


@pytest.fixture(scope="session")
def long_units(demo: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """Extraction of two shards of many small slices each: a unit is under way for a while. The config (its run directory is
    `run` beside it), and what it gives undisturbed."""
    folder = tmp_path_factory.mktemp("long-units")
    half = sum(path.stat().st_size for path in (demo / "input").iterdir()) // 2 + 1
    text = until(short_flow(demo, models, Path("run")), "extract").replace('shard_bytes = "1 KiB"', f"shard_bytes = {half}")
    flow = plan(folder, text)
    assert len(flow.stages[0].plan.units) == 2 and run_here(flow)[0]
    return text, outputs(flow)


SHORT_SLICES = {"extract": "slice_bytes = 1024"}


@pytest.mark.parametrize("whom", ["a worker", "the whole group"])
def test_kill_minus_nine_in_the_middle_of_extract(whom: str, long_units: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    """Real processes, a real SIGKILL: of one worker, which the task replaces, or of everything at once."""
    flow = plan(tmp_path, tuned(long_units[0], SHORT_SLICES))
    stage = flow.stages[0]
    with started("work", "--run", flow.run, "--stage", "extract", "--procs", "2") as process:
        wait_for(lambda: len(slice_records(stage)) >= 8)
        if whom == "a worker":
            os.kill(children(process.pid)[0], signal.SIGKILL)
            assert process.wait(60) == 0
        else:
            os.killpg(process.pid, signal.SIGKILL)
            assert process.wait(60) == -signal.SIGKILL
            kept = slice_records(stage)
            assert kept and not run_gate(stage.state).complete
            # what is left may be cut into larger slices
            assert run_here(plan(tmp_path, long_units[0]))[0]
            assert_built_upon(stage, kept)
    assert run_gate(stage.state).complete
    assert outputs(flow) == long_units[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_local_stopped_by_a_signal_keeps_its_slices_and_the_next_run_goes_on(
    number: signal.Signals, long_units: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    flow = plan(tmp_path, tuned(long_units[0], SHORT_SLICES))
    stage = flow.stages[0]
    with started("local", "--config", tmp_path / "run.toml", "--procs", "2") as process:
        wait_for(lambda: len(slice_records(stage)) >= 8)
        # Ctrl-C reaches the whole group, a plain kill the leader alone
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        said = process.communicate(timeout=60)[0]
        assert process.returncode == 1
    assert f"stopped by {number.name}; run the same command again to go on" in said
    kept, done = slice_records(stage), attempts(flow)
    assert kept and not stage.state.failures()
    assert run_here(plan(tmp_path, long_units[0]))[0]
    assert_built_upon(stage, kept)
    assert done.items() <= attempts(flow).items()
    assert outputs(flow) == long_units[1]


# --- nothing twice ---


def test_run_again_nothing_is_reprocessed_and_it_says_so(undisturbed: FlowPlan, expected: dict[str, str]) -> None:
    before = attempts(undisturbed)
    complete, said = run_here(undisturbed)
    assert complete and attempts(undisturbed) == before
    assert len(said.splitlines()) == len(undisturbed.stages)
    assert all("complete" in line and "nothing to do" in line for line in said.splitlines())


def test_deleted_sentinels_run_exactly_their_units_and_what_depends_on_them(
    undisturbed: FlowPlan, demo: Path, models: Path, tmp_path: Path, expected: dict[str, str]
) -> None:
    shutil.copytree(undisturbed.run, tmp_path / "run", symlinks=True)  # a run directory can be moved
    flow = plan(tmp_path, short_flow(demo, models, tmp_path / "run"))
    assert not any(stage.pending for stage in flow.stages)
    everywhere = {
        "dedup.route/g00000",
        "dedup.match/p00000",
        "dedup.match/p00001",
        "dedup.cluster/all",
        "dedup.report/all",
        "bucket.cuts/all",
        "export.manifest/all",
    }
    shards = {f"{i:05d}" for i in range(9)}
    later = {f"{stage}/{i}" for stage in ("dedup.mark", "classify.fasttext", "bucket.assign", "select", "export.shards") for i in shards}
    cases = {
        "select/00003": {"select/00003", "export.shards/00003", "export.manifest/all"},
        "lid/00001": {"lid/00001", "quality/00001", "perplexity/00001", *everywhere, *later},
    }
    for key, dependents in cases.items():
        stage, _, unit = key.partition("/")
        before = attempts(flow)
        find(flow.stages, stage).state.done_path(unit).unlink()
        assert run_here(flow)[0]
        after = attempts(flow)
        assert {unit for unit in before if before[unit] != after[unit]} == dependents, f"after deleting {key}"
    assert outputs(flow) == expected


# --- what it says ---


def test_status_adds_up_at_every_stage(undisturbed: FlowPlan, demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--json", "--config", str(undisturbed.config.path)]) == 0
    stages = {stage["stage"]: stage for stage in json.loads(capsys.readouterr().out)["stages"]}
    assert list(stages) == [stage.name for stage in undisturbed.stages]
    for stage in stages.values():
        counts = stage["counts"]
        assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())
        assert stage["complete"] and stage["done"] == stage["units"] and not stage["failed"]
    n_documents = stages["extract"]["counts"]["kept"]
    assert stages["extract"]["counts"]["read"] == count_responses(demo)
    for name in (
        "sig",
        "lid",
        "quality",
        "perplexity",
        "dedup.route",
        "dedup.mark",
        "classify.fasttext",
        "bucket.assign",
        "select",
        "export.shards",
    ):
        assert stages[name]["counts"]["read"] == n_documents, f"{name} has not seen every document"
    assert stages["export.manifest"]["counts"]["kept"] == stages["export.shards"]["counts"]["kept"] > 0


def count_responses(demo: Path) -> int:
    """Response records, counted by another reader than ours."""
    found = 0
    for path in sorted((demo / "input").glob("*.warc.gz")):
        with path.open("rb") as file:
            found += sum(record.rec_type == "response" for record in ArchiveIterator(file))
    return found


def test_status_of_an_unknown_run_and_stage(tmp_path: Path, undisturbed: FlowPlan, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--config", str(tmp_path)]) == 1
    assert "is not a run directory yet; plan the run first" in capsys.readouterr().err
    assert cli.main(["status", "--config", str(undisturbed.run), "--stage", "dedup", "--json"]) == 0
    shown = [stage["stage"] for stage in json.loads(capsys.readouterr().out)["stages"]]
    assert shown == [f"dedup.{phase}" for phase in ("route", "match", "cluster", "mark", "report")]


# --- a full disk ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A filesystem of 1 MiB; skipped where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small filesystem: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("left", [0, 40_000], ids=["nothing left", "a little left"])
def test_a_full_disk_ends_in_a_clear_failure_and_retry_completes(
    left: int, demo: Path, models: Path, tmp_path: Path, small_disk: Path, expected: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    flow = plan(tmp_path, tuned(until(short_flow(demo, models, small_disk / "run"), "extract")))
    free = os.statvfs(small_disk)
    (small_disk / "ballast").write_bytes(b"x" * (free.f_bavail * free.f_bsize - left))
    assert cli.main(["local", "--in-process", "--config", str(tmp_path / "run.toml")]) == 1
    said = "".join(capsys.readouterr())
    assert re.search("No space left on device|bytes left: make room", said), said
    done = flow.stages[0].state.done_units()
    for unit in done:  # whatever is committed is whole
        sentinel = flow.stages[0].state.sentinel(unit)
        assert sentinel is not None
        for dataset, entry in sentinel["outputs"].items():
            assert entry["digest"] == expected[f"extract/{unit}/{dataset}"]
            assert (flow.run / entry["path"]).stat().st_size == entry["bytes"]
    (small_disk / "ballast").unlink()
    assert cli.main(["retry", "--local", "--config", str(tmp_path / "run.toml")]) == 0
    assert same(outputs(flow), expected)


# --- processes ---


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "jobs.cli", *map(str, arguments)]


def cli_run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=REPO, capture_output=True, text=True, check=False, timeout=120)


def started(*arguments: object) -> subprocess.Popen[str]:
    """In a process group of its own, of which it is the leader."""
    return subprocess.Popen(
        command(*arguments), cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
