"""Status adds up, from files alone, whether a stage is complete, under way, or in trouble."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console
from status_files import claim, commit, make_stage, save_task
from toy import Squares, make_squares

import hpc.watch.evidence
import hpc.watch.status
from hpc.cli import main
from hpc.dispatch.gate import run_gate
from hpc.fs.files import replace_json
from hpc.state.attempt import Attempt, new_attempt
from hpc.state.claims import try_claim
from hpc.state.fold import FOLD_UNITS, write_archive
from hpc.state.launch import start_order
from hpc.state.pending import retire
from hpc.state.state import MAX_FAILURES, StageState
from hpc.watch.evidence import folded_units
from hpc.watch.show import show_status
from hpc.watch.status import run_status, stage_status
from hpc.workers.commit import record_failure
from hpc.workers.worker import Worker


def work(state: StageState, units: list[str]) -> None:
    Worker(state, Squares(), units, lambda: False, poll_s=0.01).run()


def shown(state: StageState) -> str:
    console = Console(file=io.StringIO(), width=200)
    show_status(console, state.run, [stage_status(state)])
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# --- counts -----------------------------------------------------------------------------------------------------------


def test_counts_of_a_complete_stage_are_the_sum_over_its_units(tmp_path: Path) -> None:
    sizes = [7, 0, 3, 10]
    state = make_squares(tmp_path, sizes)
    work(state, start_order(state.plan.largest_first, 0, 1))
    before = stage_status(state)
    assert run_gate(state).complete
    after = stage_status(state)
    assert not before.complete and after.complete
    for status in (before, after):
        assert (status.done, status.units, status.failed, status.working) == (4, 4, 0, 0)
        assert status.states == {"done": 4, "working": 0, "silent": 0, "failed": 0, "parked": 0, "waiting": 0}
        assert status.counts["read"] == status.counts["kept"] == sum(sizes)
        assert status.counts["extra"]["sum"] == sum(sum(range(n)) for n in sizes)


def test_a_deleted_sentinel_makes_a_complete_stage_incomplete(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [2, 3])
    work(state, ["000", "001"])
    run_gate(state)
    state.done_path("001").unlink()
    status = stage_status(state)
    assert not status.complete and status.done == 1 and status.counts["read"] == 2


def test_a_folded_stage_is_complete_until_a_sentinel_is_taken_back(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [1] * FOLD_UNITS)
    work(state, list(state.plan.largest_first))
    assert run_gate(state).complete and state.archive_path.exists() and not list(state.folder.glob("done/*"))
    assert stage_status(state).complete and stage_status(state, units=FOLD_UNITS).counts["read"] == FOLD_UNITS
    success = state.success()
    retire(state, {"007"})
    replace_json(state.success_path, success)  # published by another gate at the same moment
    status = stage_status(state)
    assert not status.complete and (status.done, status.states["waiting"]) == (FOLD_UNITS - 1, 1)
    work(state, ["007"])
    assert run_gate(state).complete and stage_status(state).complete


@pytest.mark.parametrize("units", [0, 1, 300, 65_534, 65_535, 70_000])
def test_the_number_of_folded_sentinels_is_read_from_the_end_of_the_archive(tmp_path: Path, units: int) -> None:
    """Also beyond what the first format of ZIP could count."""
    write_archive(tmp_path / "done.zip", {f"{i:06d}": {} for i in range(units)})
    assert folded_units(tmp_path / "done.zip") == units
    assert folded_units(tmp_path / "none.zip") is None


def test_counts_of_a_large_stage_are_scaled_up_and_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred thousand sentinels some are opened; the estimate says that it is one."""
    monkeypatch.setattr(hpc.watch.evidence, "SENTINELS", 4)
    monkeypatch.setattr(hpc.watch.status, "SENTINELS", 4)
    state = make_squares(tmp_path, [5] * 13)
    work(state, [f"{i:03d}" for i in range(12)])
    status = stage_status(state)
    assert status.estimated and status.counts["read"] == 60


def test_files_opened_are_bounded_whatever_the_number_of_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, now = make_stage(tmp_path, [1] * 40), time.time()
    for i in range(20):
        commit(state, f"{i:03d}", now - i, 1.0)
    for i in range(20, 40):
        claim(state, f"{i:03d}", now - 5, now)
    for name, limit in {"TIMES": 8, "SENTINELS": 4, "CLAIMS": 3}.items():
        monkeypatch.setattr(hpc.watch.evidence, name, limit)
    looked = hpc.watch.evidence.look_closely(state)
    assert (len(looked.commits), len(looked.sentinels()), len(looked.held)) == (8, 4, 3)
    status = stage_status(state)
    assert (status.done, status.working, status.workers) == (20, 20, 20)


def test_a_run_is_told_in_the_order_of_its_flow(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [1])
    replace_json(tmp_path / "flow.json", {"stages": [{"stage": "squares", "fp12": state.fp12}]})
    assert [status.stage for status in run_status(tmp_path)] == ["squares"]
    with pytest.raises(FileNotFoundError):
        run_status(tmp_path / "elsewhere")


def test_a_stage_whose_plan_is_gone_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = make_squares(tmp_path, [1])
    replace_json(tmp_path / "flow.json", {"stages": [{"stage": "squares", "fp12": state.fp12}]})
    state.plan_path.unlink()
    assert main(["status", "--run", str(tmp_path)]) == 2
    assert f"squares: {state.plan_path} is gone; expected the plan" in capsys.readouterr().err


def test_status_writes_nothing(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [1, 2])
    work(state, ["000"])
    before = {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))}
    stage_status(state)
    assert {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))} == before


# --- failures ---------------------------------------------------------------------------------------------------------


def test_failures_are_grouped_by_cause_and_the_latest_counts(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [1] * 6)
    work(state, ["000"])
    for unit in ("000", "001", "002", "003"):
        record_failure(state, unit, new_attempt(), "worker killed by SIGKILL", kind="killed")
    for _ in range(MAX_FAILURES - 1):
        record_failure(state, "003", new_attempt(), "ValueError: bad\nsecond line")
        time.sleep(0.01)
    record_failure(state, "001", Attempt("zzzz", "host", 1, "", 0), "OSError: disk")  # ids that sort last and first, recorded last
    record_failure(state, "002", Attempt("0000", "host", 1, "", 0), "OSError: disk")
    status = stage_status(state)
    assert status.causes == {"OSError: disk": 2, "ValueError: bad": 1}
    assert (status.failed, status.parked) == (3, 1)  # 000 was committed in spite of its failure
    assert (status.states["failed"], status.states["parked"], status.states["waiting"]) == (2, 1, 2)
    assert all(Path(group.path).exists() for group in status.failures)
    assert "OSError: disk" in run_gate(state).missing["002"]


def test_a_unit_is_parked_after_as_many_failures_as_its_launch_allowed(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [1, 1])
    record_failure(state, "000", new_attempt(), "ValueError: bad", requested={"max_failures": 1})
    record_failure(state, "001", new_attempt(), "ValueError: bad", requested={"max_failures": 2})
    assert stage_status(state).parked == 1
    assert stage_status(state).failures[0].parked == 1


def test_failures_show_where_to_look_and_a_bad_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "logs of mine" / "7_1.log"
    monkeypatch.setenv("CCPIPE_LOG", str(log))
    state = make_squares(tmp_path, [1] * 9)
    for i in range(8):
        try:
            raise OSError(5, "Input/output error", f"/data/{i}.warc.gz")
        except OSError as error:
            attempt = Attempt(f"a{i}", "n13" if i < 7 else "n2", 1, "7_1", 0)
            record_failure(state, f"{i:03d}", attempt, f"{type(error).__name__}: {error}", error)
    text = shown(state)
    assert "squares: 8 units failed: OSError: [Errno 5] Input/output error: <path>" in text
    assert "n13 (7), n2 (1); nearly all on n13" in text
    assert f"{Path(__file__).name}:" in text and "000: OSError: [Errno 5] Input/output error: '/data/0.warc.gz'" in text
    assert f"less +/000 '{log}'" in text
    assert f"retry --run {tmp_path} --stage squares" in text
    replace_json(tmp_path / "flow.json", {"stages": [], "command": "ccpipe {verb} --config 'my run.toml'"})
    assert "ccpipe retry --config 'my run.toml' --stage squares" in shown(state)


def test_a_failure_record_of_garbage_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [1])
    record_failure(state, "000", new_attempt(), "x")
    next(iter(state.folder.glob("failed/*.json"))).write_text("{")
    with pytest.raises(ValueError, match="failed/000@"):
        stage_status(state)


# --- who works --------------------------------------------------------------------------------------------------------


def test_silent_is_who_missed_six_of_its_own_beats_by_the_newest_sign_of_life_of_its_host(tmp_path: Path) -> None:
    """The clock of the host that looks has no part in it: here all files are of last year."""
    state, last_year = make_stage(tmp_path, [1] * 5), time.time() - 365 * 86_400
    claim(state, "000", last_year - 500, last_year)
    claim(state, "001", last_year - 500, last_year - 91)
    claim(state, "002", last_year - 500, last_year - 89)
    claim(state, "003", last_year - 500, last_year - 359, beat_s=60.0)
    status = stage_status(state)
    assert (status.working, status.silent) == (4, 1)
    assert status.states["working"] == 3
    save_task(state, "t", last_year + 50)  # a task was heard of later
    assert stage_status(state).silent == 3


@pytest.mark.parametrize("skew", [100.0, 86_400.0, -86_400.0])
def test_a_host_whose_clock_is_wrong_makes_nobody_silent_and_changes_no_forecast(tmp_path: Path, skew: float) -> None:
    """Claims carry the times of their holders' clocks; a host is compared only with itself."""
    now = time.time()
    found = []
    for ahead in (0.0, skew):
        state = make_stage(tmp_path / str(ahead), [10] * 60)
        for i in range(20):
            commit(state, f"{i:03d}", now - 100 + 5 * i, 50.0)
        for i in range(10):
            own = now + (ahead if i == 0 else 0.0)
            claim(state, f"{20 + i:03d}", own - 5 - i, own, host=f"n{i}")
        found.append(stage_status(state))
    true, skewed = found
    assert (skewed.silent, skewed.states["working"], skewed.workers) == (0, 10, 10)
    assert true.rate is not None and (skewed.rate, skewed.eta_s) == (true.rate, true.eta_s)


def test_a_claim_is_silent_beside_newer_ones_of_its_host_and_working_where_it_is_the_only_sign(tmp_path: Path) -> None:
    state, now = make_stage(tmp_path, [1] * 4), time.time()
    claim(state, "000", now - 500, now, host="a")
    claim(state, "001", now - 900, now - 200, host="b")  # another clock, or dead: nobody can tell
    assert stage_status(state).silent == 0
    claim(state, "002", now - 900, now - 50, host="b")
    assert stage_status(state).silent == 1
    save_task(state, "t", now + 3600, host="c")
    assert stage_status(state).silent == 1


def test_a_record_that_is_not_rewritten_while_others_are_stands_for_no_workers(tmp_path: Path) -> None:
    """Times of records come from the filesystem; a node that died must not count as working for ever."""
    state, now = make_stage(tmp_path, [1] * 40), time.time()
    for i in range(20):
        commit(state, f"{i:03d}", now - 20 + i, 0.5)
    save_task(state, "alive", now - 60, host="a", ended=False, exit=None)
    save_task(state, "dead", now - 900, host="b", ended=False, exit=None)
    assert stage_status(state).workers == 4


def test_a_stage_without_any_sign_of_life_is_called_still_and_nothing_is_foretold(tmp_path: Path) -> None:
    state, now = make_stage(tmp_path, [1] * 9), time.time()
    for i in range(6):
        commit(state, f"{i:03d}", now - 3000 + i, 1.0)
    claim(state, "006", now - 2995, now - 2900)
    status = stage_status(state)
    assert status.silent == 0 and status.stalled_s == pytest.approx(2900, abs=5)
    assert (status.rate, status.eta_s) == (None, None)
    assert "nothing has moved for about 48 min by this host's clock" in shown(state)


def test_nothing_is_foretold_where_nobody_works(tmp_path: Path) -> None:
    state, now = make_stage(tmp_path, [6] * 12), time.time()
    for i in range(4):
        commit(state, f"{i:03d}", now - 30 + 10 * i, 10.0)
    status = stage_status(state)
    assert (status.rate, status.eta_s, status.stalled_s, status.workers) == (None, None, None, 0)


def test_rate_and_eta_come_from_recent_commits_while_somebody_works(tmp_path: Path) -> None:
    state, now = make_stage(tmp_path, [6] * 12), time.time()
    for i in range(4):  # one commit in ten seconds, the latest just now
        commit(state, f"{i:03d}", now - 30 + 10 * i, 10.0)
    assert try_claim(state.claim_path("004"), new_attempt()) is not None
    status = stage_status(state)
    assert (status.working, status.workers) == (1, 1)
    assert status.rate == pytest.approx(3600 / 10, rel=0.05)
    assert status.eta_s == pytest.approx(8 * 10, rel=0.5)
    assert status.eta_low_s is not None and status.eta_high_s is not None and status.eta_low_s < 80 < status.eta_high_s


def test_workers_of_short_units_are_known_from_their_tasks(tmp_path: Path) -> None:
    """Their claims live for milliseconds: none may be there at the moment of looking."""
    state, now = make_stage(tmp_path, [1] * 40), time.time()
    for i in range(20):
        commit(state, f"{i:03d}", now - 20 + i, 0.5)
    assert stage_status(state).eta_s is None
    save_task(state, "t", now, ended=False, exit=None)
    save_task(state, "killed", now - 3600, ended=False, exit=None)
    status = stage_status(state)
    assert (status.workers, status.rate) == (4, pytest.approx(3600, rel=0.1))
    assert status.eta_s == pytest.approx(20, rel=0.4)


def test_parked_units_do_not_delay_the_end(tmp_path: Path) -> None:
    state, now = make_stage(tmp_path, [10] * 8 + [10_000]), time.time()
    for i in range(6):
        commit(state, f"{i:03d}", now - 60 + 10 * i, 10.0)
    claim(state, "006", now - 5, now)
    late = stage_status(state).eta_s
    record_failure(state, "008", new_attempt(), "ValueError: poison", requested={"max_failures": 1})
    soon = stage_status(state).eta_s
    assert late is not None and soon is not None and late >= 10_000 and soon < 100


def test_a_night_without_workers_is_no_part_of_the_rate(tmp_path: Path) -> None:
    state, now = make_stage(tmp_path, [1] * 100), time.time()
    for i in range(40):  # yesterday
        commit(state, f"{i:03d}", now - 60_000 + 10 * i, 10.0)
    claim(state, "090", now - 20, now)  # began twenty seconds ago, nothing committed yet
    assert stage_status(state).rate == pytest.approx(360, rel=0.05)
    for i in range(40, 46):
        commit(state, f"{i:03d}", now - 25 + 5 * (i - 40), 5.0)
    assert stage_status(state).rate == pytest.approx(720, rel=0.05)


# --- stragglers -------------------------------------------------------------------------------------------------------


def test_stragglers_are_slow_for_their_cost_and_slower_than_nearly_all(tmp_path: Path) -> None:
    """Elapsed time is by the holder's own clock, which may be wrong by years."""
    state, now = make_stage(tmp_path, [10] * 20 + [100, 10, 10, 10]), time.time()
    for i in range(20):
        commit(state, f"{i:03d}", now - 400 + 20 * i, 20.0 if i else 150.0)  # 26.5 s for a cost of 10, 95 % within 26.5 s
    claim(state, "020", now - 700, now)  # large: 265 s expected
    claim(state, "021", now - 79, now)  # within three times the expected
    claim(state, "022", now - 81, now, host="n 7", job="7_3")
    save_task(state, "t3", now, job="7_3", log="/logs/new 7_3.log", ended=False)
    (state.slices_path("022")).mkdir(parents=True)
    for n in range(2):
        (state.slices_path("022") / f"{n:05d}.json").write_text("{}")
    (slow,) = stage_status(state).stragglers
    assert (slow.unit, slow.host, slow.job, slow.slices, slow.log) == ("022", "n 7", "7_3", 2, "/logs/new 7_3.log")
    assert (slow.elapsed_s, slow.expected_s) == (pytest.approx(81), pytest.approx(26.5))
    assert slow.command == "less +/022 '/logs/new 7_3.log'"
    text = shown(state)
    assert "022 on n 7, job 7_3 takes 1m21s so far, expected 26s; 2 slices committed" in text


def test_where_times_differ_much_only_what_is_slower_than_nearly_all_is_slow(tmp_path: Path) -> None:
    """Three times the expected is nothing special in a stage where every tenth unit takes thirty times as long."""
    state, now = make_stage(tmp_path, [10] * 43), time.time()
    for i in range(40):
        commit(state, f"{i:03d}", now - 4000 + 20 * i, 300.0 if i % 10 == 0 else 10.0)  # 39 s expected, 5 % take 300 s or more
    claim(state, "041", now - 290, now)
    claim(state, "042", now - 310, now)
    assert [slow.unit for slow in stage_status(state).stragglers] == ["042"]


def test_nobody_is_slow_before_some_units_are_known(tmp_path: Path) -> None:
    state, now = make_stage(tmp_path, [10] * 9), time.time()
    for i in range(4):
        commit(state, f"{i:03d}", now - 400 + 20 * i, 1.0)
    claim(state, "006", now - 700, now)
    assert stage_status(state).stragglers == []
    commit(state, "004", now - 300, 1.0)
    assert [slow.unit for slow in stage_status(state).stragglers] == ["006"]


def test_claims_of_committed_units_and_of_units_of_another_plan_are_no_work(tmp_path: Path) -> None:
    state, now = make_stage(tmp_path, [1, 1]), time.time()
    commit(state, "000", now, 1.0)
    claim(state, "000", now - 9, now)
    claim(state, "999", now - 9, now)
    state.claim_path("001").write_text("")  # just created, says nothing yet
    status = stage_status(state)
    assert (status.working, status.workers, status.states["waiting"]) == (1, 0, 0)


def test_brackets_in_causes_are_shown_as_they_are(tmp_path: Path) -> None:
    state = make_squares(tmp_path, [1])
    record_failure(state, "000", new_attempt(), "ValueError: [red]tag[/red] [Errno 28]")
    assert "[red]tag" in shown(state)
