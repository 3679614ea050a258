"""Estimates: a probe on a sample says what the whole input takes, start-up is not multiplied, and sizing reads what was measured."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from flows import plan, run_here, short_flow, until
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hpc.planning.measured import Measured, measure
from jobs.demo.prepare import prepare
from jobs.errors import UsageError
from jobs.estimate import StageEstimate, parse_nodes, scale_up
from jobs.estimate_show import run_estimate
from jobs.planning import FlowPlan
from jobs.probe import Probe, Probed, fit, run_probe
from jobs.sample import Sample

FIRST = ("extract", "sig", "quality", "lid", "dedup", "select", "export")


def quiet() -> Console:
    return Console(file=StringIO(), width=300)


def said(console: Console) -> str:
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def probed(demo: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FlowPlan, Probe, str]:
    """A probe of half of the demo's pages by a flow without slow stages; read only."""
    folder = tmp_path_factory.mktemp("probed")
    text = until(short_flow(demo, models, folder / "run"), *FIRST)
    text = re.sub(r"^where = .*bucket.*$", "where = \"dedup_keep AND lid_label = 'en'\"", text, flags=re.MULTILINE)
    flow, console = plan(folder, text), quiet()
    probe = run_probe(flow, "50%", 2, console)
    assert probe is not None, said(console)
    return flow, probe, said(console)


# --- from seconds to laws ---


@given(st.floats(0, 5), st.floats(0.01, 10), st.floats(0, 20), st.integers(2, 4))
def test_what_a_unit_costs_in_any_case_is_told_from_what_grows(fixed: float, rate: float, warm_up: float, workers: int) -> None:
    processes = []
    for w in range(workers):
        costs = [8.0 + w, 5.0, 3.0, 1.0 + w / 4]
        processes.append([(cost, fixed + rate * cost + (warm_up if i == 0 else 0.0)) for i, cost in enumerate(costs)])
    assert fit(processes) == (pytest.approx(fixed, abs=1e-5), pytest.approx(rate, abs=1e-4), pytest.approx(warm_up, abs=1e-3))


def test_one_odd_unit_does_not_move_the_line() -> None:
    costs = [float(c) for c in range(1, 12)]
    seconds = [1.0 + 2.0 * c for c in costs]
    seconds[0] = 3.0 + 2.0  # a page that is slow to parse
    fixed, _, _ = fit([[(9.0, 99.0), *zip(costs, seconds, strict=True)]])
    assert fixed == pytest.approx(1.0)


def test_a_unit_done_again_takes_the_place_of_a_cold_one() -> None:
    assert fit([[(10.0, 4.0)]], again=[(10.0, 1.0)]) == (0.0, pytest.approx(0.1), pytest.approx(3.0))
    assert fit([[(10.0, 4.0)]]) == (0.0, pytest.approx(0.4), 0.0)


# --- scaling ---


def probe_of(flow: FlowPlan, share: float, **changes: Any) -> Probe:
    """A made-up probe: every unit a tenth of a second for a declared one, three seconds to start."""
    measured = Measured(0.1, 1.0, 200 << 20, 1000.0, 8, 1e-3, "a probe", startup_s=3.0)
    counts = {"read": 100, "kept": 50, "extra": {"tokens": 700, "text_bytes": 2800}, **changes}
    stages = {stage.name: Probed(measured, 8, 1.0, 100.0, counts) for stage in flow.stages}
    return Probe(share, Sample((), 10, (), 0), 1000, 2, stages)


def by_name(stages: Sequence[StageEstimate]) -> dict[str, StageEstimate]:
    return {stage.stage: stage for stage in stages}


def test_loading_is_paid_once_a_process_and_not_once_a_byte(probed: tuple[FlowPlan, Probe, str]) -> None:
    flow = probed[0]
    estimate = scale_up(flow, probe_of(flow, 0.01), [1, 10])
    for stage in flow.stages:
        found = by_name(estimate.stages)[stage.name]
        assert found.startup_hours * 3600 <= 3.0 * len(stage.plan.units) + 1e-6
    extract = by_name(estimate.stages)["extract"]
    declared = sum(unit.cost for unit in flow.find("extract").plan.units)
    assert (extract.core_hours - extract.startup_hours) * 3600 == pytest.approx(0.1 * declared)
    assert extract.output_bytes == pytest.approx(1000 * declared)


def test_more_nodes_shorten_the_wall_to_the_longest_unit_and_no_further(probed: tuple[FlowPlan, Probe, str]) -> None:
    flow = probed[0]
    estimate = scale_up(flow, probe_of(flow, 0.01), [1, 2, 1000])
    for stage in estimate.stages:
        longest = max(unit.cost for unit in flow.find(stage.stage).plan.units) * 0.1
        assert stage.wall_s[1] >= stage.wall_s[2] >= stage.wall_s[1000] >= 3.0 + longest - 1e-9
    assert estimate.wall_s(1) == pytest.approx(sum(stage.wall_s[1] for stage in estimate.stages))


def test_tokens_are_counted_by_the_tokenizer_or_estimated_from_bytes(probed: tuple[FlowPlan, Probe, str]) -> None:
    flow = probed[0]
    assert scale_up(flow, probe_of(flow, 0.01), [1]).tokens == pytest.approx(70_000)
    without = scale_up(flow, probe_of(flow, 0.01, extra={"tokens": 0, "text_bytes": 2800}), [1])
    assert without.tokens == pytest.approx(70_000) and "4 bytes" in without.tokens_source
    nothing = scale_up(flow, probe_of(flow, 0.01, extra={}), [1])
    assert nothing.tokens is None and nothing.to_dict()["per_billion_tokens"] is None


def test_gpu_hours_are_declared_where_no_gpu_was_there(probed: tuple[FlowPlan, Probe, str]) -> None:
    flow = probed[0]
    stages = tuple(
        replace(s, spec=replace(s.spec, resources=s.resources.model_copy(update={"gpus": 2, "cpus": 16}))) if s.name == "sig" else s
        for s in flow.stages
    )
    probe = probe_of(flow, 0.01)
    probe.stages["sig"] = replace(probe.stages["sig"], measured=None, note="ran without a GPU")
    estimate = scale_up(replace(flow, stages=stages), probe, [1])
    sig = by_name(estimate.stages)["sig"]
    declared = sum(unit.cost for unit in flow.find("sig").plan.units)
    assert sig.gpu_hours == pytest.approx(declared / 3600) and sig.core_hours == pytest.approx(8 * sig.gpu_hours)
    assert sig.source.startswith("declared") and any("without a GPU" in note for note in estimate.notes)
    assert estimate.price is None
    priced = replace(estimate, core_hour_price=0.5, gpu_hour_price=2.0)
    assert priced.price == pytest.approx(0.5 * (priced.total("core_hours") - sig.core_hours) + 2 * sig.gpu_hours)


@pytest.mark.parametrize(("cpu_s", "told"), [(9.0, False), (4.0, True)])
def test_a_busy_machine_is_told_of(probed: tuple[FlowPlan, Probe, str], cpu_s: float, told: bool) -> None:
    flow, probe = probed[0], probe_of(probed[0], 0.01)
    stages = {name: replace(stage, unit_s=10.0, cpu_s=cpu_s) for name, stage in probe.stages.items()}
    notes = scale_up(flow, replace(probe, stages=stages), [1]).notes
    assert any("had a core for 40 %" in note for note in notes) == told


# --- a real probe ---


def test_a_probe_runs_every_stage_on_the_share_asked_for(probed: tuple[FlowPlan, Probe, str]) -> None:
    flow, probe, console = probed
    assert list(probe.stages) == [stage.name for stage in flow.stages]
    assert probe.share == pytest.approx(0.5, abs=0.1) and "of them in part" in console
    assert all(p.measured is not None and p.measured.rate > 0 and p.measured.startup_s > 0 for p in probe.stages.values())
    assert all(not stage.state.done_units() for stage in flow.stages), "the run itself is untouched"


def test_sizing_reads_what_the_probe_measured(probed: tuple[FlowPlan, Probe, str]) -> None:
    flow, probe, _ = probed
    for stage in flow.stages:
        found = measure(flow.run, stage.name, stage.state.fp12, {unit.id: unit.cost for unit in stage.plan.units})
        assert found == probe.stages[stage.name].measured
        assert found is not None and found.source.startswith("a probe of 5")


def test_a_second_probe_measures_anew(probed: tuple[FlowPlan, Probe, str], tmp_path: Path) -> None:
    flow = probed[0]
    text = until(flow.config.text, "extract")
    text = re.sub(r'^dir = ".*"', f'dir = "{tmp_path / "run"}"', text, flags=re.MULTILINE)
    one = plan(tmp_path, text)
    first, second = run_probe(one, "2", 1, quiet()), run_probe(one, "30%", 1, quiet())
    assert first is not None and second is not None and first.sample != second.sample
    assert json.loads((one.run / "probe" / "measured.json").read_text())["share"] == second.share
    assert second.stages["extract"].counts["read"] > 0


def test_a_stage_that_fails_in_the_probe_ends_the_estimate(demo: Path, models: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from ccpipe.lid import FastTextLid\n\n\nclass Bad(FastTextLid):\n"
        "    def slice(self, *args):\n        raise RuntimeError('no luck today')\n"
    )
    text = until(short_flow(demo, models, tmp_path / "run"), "extract", "lid")
    text = text.replace("[stage.lid]\n", '[stage.lid]\nuse = "bad:Bad"\n')
    plan(tmp_path, text.replace("[resources.default]\n", "[resources.default]\nretry_backoff_s = 0\n"))
    console = quiet()
    assert run_estimate(console, tmp_path / "run.toml", "1", [1], 1, False) == 1
    assert "no luck today" in said(console)


def test_what_is_shown_and_what_programs_read_say_the_same(
    demo: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output holds the JSON alone; progress goes elsewhere."""
    plan(tmp_path, until(short_flow(demo, models, tmp_path / "run"), "extract"))
    assert run_estimate(quiet(), tmp_path / "run.toml", "3", [4, 1], 1, True) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["share"] == pytest.approx(1 / 3, abs=0.1) and value["nodes"] == [1, 4]
    assert [stage["stage"] for stage in value["stages"]] == ["extract"] and value["stages"][0]["units"] == 9
    assert value["total"]["core_hours"] == pytest.approx(value["stages"][0]["core_hours"]) and value["tokens"] is None
    console = quiet()
    assert run_estimate(console, tmp_path / "run.toml", "3", [1, 4], 1, False) == 0
    shown = said(console)
    assert re.search(r"extract +9 ", shown) and "4 nodes" in shown and "Kept tokens: unknown, nothing is exported." in shown


def test_an_estimate_whose_inputs_are_gone_says_which(demo: Path, models: Path, tmp_path: Path) -> None:
    shutil.copytree(demo, tmp_path / "in")
    plan(tmp_path, until(short_flow(tmp_path / "in", models, tmp_path / "run"), "extract"))
    gone = min((tmp_path / "in" / "input").glob("*.warc.gz"))
    gone.unlink()
    with pytest.raises(UsageError, match=rf"1 of \d+ input files of the manifest .* gone, such as {re.escape(str(gone))}; expected"):
        run_estimate(quiet(), tmp_path / "run.toml", "1%", [1], 1, False)


def test_a_stage_without_units_costs_nothing(probed: tuple[FlowPlan, Probe, str]) -> None:
    flow, probe, _ = probed
    bare = [replace(stage, plan=replace(stage.plan, units=())) for stage in flow.stages]
    estimate = scale_up(replace(flow, stages=tuple(bare)), probe, [1, 10])
    assert estimate.total("core_hours") == 0 and estimate.wall_s(1) == 0 and estimate.total("units") == 0


@pytest.mark.parametrize("text", ["", "0", "1,0", "one", "1,,2", "-3"])
def test_numbers_of_nodes_are_checked(text: str) -> None:
    with pytest.raises(UsageError, match="1,10,100"):
        parse_nodes(text)


# --- against the whole ---


def process_hours(flow: FlowPlan) -> dict[str, float]:
    """Hours of unit work, stage by stage, by the sentinels of the whole run."""
    found = {}
    for stage in flow.stages:
        sentinels = [stage.state.sentinel(unit.id) for unit in stage.plan.units]
        found[stage.name] = sum(s["seconds"]["wall"] for s in sentinels if s) / 3600
    return found


@pytest.mark.shared
@pytest.mark.slow
def test_a_probe_of_the_dev_warcs_predicts_the_whole_within_a_factor_of_three(
    tmp_path: Path, shared_data: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warcs = sorted((shared_data / "extraction" / "dev").glob("dev-0000[0-3].warc.gz"))
    config = prepare(tmp_path, models)
    text = re.sub(r"^inputs = .*$", f"inputs = {json.dumps([str(path) for path in warcs])}", config.read_text(), flags=re.MULTILINE)
    text = re.sub(r"^shard_bytes = .*$", 'shard_bytes = "9 MiB"', text, flags=re.MULTILINE)
    flow = plan(tmp_path, text)
    console = quiet()
    probe = run_probe(flow, "10%", 2, console)
    assert probe is not None, said(console)
    estimate = scale_up(flow, probe, [1])
    complete, words = run_here(flow, procs=2)
    assert complete, words
    hours, expected = process_hours(flow), by_name(estimate.stages)
    work = {name: expected[name].core_hours - expected[name].startup_hours for name in hours}
    tokens = sum(
        s["counts"]["extra"]["tokens"]
        for unit in flow.find("export.shards").plan.units
        if (s := flow.find("export.shards").state.sentinel(unit.id))
    )
    written = sum((flow.run / path).stat().st_size for path in outputs_of(flow))
    with capsys.disabled():
        print(f"\na probe of {100 * probe.share:.1f} % against the whole, predicted / measured:")
        for name, measured in hours.items():
            print(f"  {name:<20} {3600 * work[name]:8.2f} s / {3600 * measured:8.2f} s = {work[name] / max(measured, 1e-9):.2f}")
        print(f"  {'all':<20} {sum(work.values()) / sum(hours.values()):.2f}, tokens {(estimate.tokens or 0) / tokens:.2f}, ", end="")
        print(f"bytes written {estimate.total('output_bytes') / written:.2f}")
    assert 1 / 3 < sum(work.values()) / sum(hours.values()) < 3
    assert 1 / 3 < (estimate.tokens or 0) / tokens < 3
    assert 1 / 2 < estimate.total("output_bytes") / written < 2


def outputs_of(flow: FlowPlan) -> list[str]:
    sentinels = [stage.state.sentinel(unit.id) for stage in flow.stages for unit in stage.plan.units]
    return [output["path"] for sentinel in sentinels if sentinel for output in sentinel["outputs"].values()]
