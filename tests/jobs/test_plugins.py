"""A user's own annotator, in a file beside the run.toml, is a stage like any other; a broken one is told what it did."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from flows import plan, run_here, short_flow, until

from hpc.dispatch.gate import run_gate
from jobs import cli
from jobs.planning import FlowPlan, StagePlan, find

REPO = Path(__file__).resolve().parents[2]

HOUSE = '''
"""Rules of the house."""
import pyarrow as pa
from pydantic import Field

from ccpipe.annotate import Annotator


class HouseRules(Annotator):
    class Config(Annotator.Config):
        max_share: float = Field(0.03, ge=0, le=1, description="share of upper-case letters")

    def new_columns(self):
        return {"share": pa.float32(), "letters": pa.int32(), "reason": pa.string()}

    def needs(self):
        return ("lid_label",)

    def annotate(self, docs):
        share = [sum(map(str.isupper, text)) / max(len(text), 1) for text in docs.texts()]
        letters = [len(text) for text in docs.texts()]
        assert docs.meta.column_names == ["lid_label"] and len(docs.ids) == len(docs)
        return {"share": share, "letters": letters, "reason": ["shouting" if s > self.config.max_share else None for s in share]}
'''

USED = """
[stage.house]
use = "{module}:HouseRules"
where = "lid_reason IS NULL"
max_share = 0.03

[stage.select]
where = "house_reason IS NULL AND house_letters > 100"
"""


@pytest.fixture
def text(demo: Path, models: Path, tmp_path: Path) -> str:
    return until(short_flow(demo, models, tmp_path / "run"), "extract", "lid")


def with_plugin(tmp_path: Path, text: str, module: str, source: str, use: str = USED) -> FlowPlan:
    """Module names are unique to each test: a process imports a name once."""
    (tmp_path / f"{module}.py").write_text(source)
    return plan(tmp_path, text + use.format(module=module))


def table(stage: StagePlan, run: Path, shard: int) -> dict[str, list[object]]:
    sentinel = stage.state.sentinel(f"{shard:05d}")
    assert sentinel is not None
    (entry,) = sentinel["outputs"].values()
    return dict(pq.read_table(run / entry["path"]).to_pydict())


def test_its_columns_are_there_and_another_stage_selects_by_them(text: str, tmp_path: Path) -> None:
    flow = with_plugin(tmp_path, text, "house_one", HOUSE)
    complete, said = run_here(flow)
    assert complete, said
    shouting = 0
    for shard in range(9):
        house, select = (table(find(flow.stages, name), flow.run, shard) for name in ("house", "select"))
        assert list(house) == ["house_share", "house_letters", "house_reason"]
        for share, letters, reason, keep in zip(*house.values(), select["select_keep"], strict=True):
            assert reason == ("not_in_where" if share is None else "shouting" if float(str(share)) > 0.03 else None)
            assert keep == (reason is None and int(str(letters)) > 100)
            shouting += reason == "shouting"
    counts = find(flow.stages, "house").state.success()
    assert counts is not None and counts["counts"]["dropped"]["shouting"] == shouting > 0
    assert (flow.run / "meta/house/current/00000.parquet").exists()


def test_it_works_in_child_processes_started_from_anywhere(text: str, tmp_path: Path) -> None:
    """The module is found beside the run.toml, not through the folder where the command was typed."""
    with_plugin(tmp_path, text, "house_two", HOUSE)
    command = [sys.executable, "-m", "jobs.cli", "local", "--config", str(tmp_path / "run.toml"), "--procs", "2"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_parameters_are_checked_like_any(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_plugin(tmp_path, text, "house_three", HOUSE)
    config = tmp_path / "run.toml"
    config.write_text(config.read_text().replace("max_share = 0.03", "max_shar = 0.03"))
    assert cli.main(["plan", "--config", str(config)]) == 2
    assert "[stage.house] unknown key 'max_shar'; valid keys: batch_bytes, max_share, slice_rows, where" in capsys.readouterr().err


GAVE = r"ValueError: HouseRules.annotate gave "
BROKEN = {
    "an exception": ("share = [", "raise RuntimeError('cannot ' + 'say')\n        share = [", r"RuntimeError: cannot say"),
    "a column too few": ('"letters": letters, "reason"', '"reason"', GAVE + r"columns \['reason', 'share'\], new_columns promised \['l"),
    "a column of another name": ('"letters": letters', '"n": letters', GAVE + r"columns \['n', 'reason', 'share'\], new_columns promised"),
    "too few values": (
        "letters = [len(text) for text in docs.texts()]",
        "letters = [1]",
        GAVE + r"1 values of 'letters' for \d+ documents",
    ),
    "values of another type": ("letters = [len(text) for", "letters = ['many' for", r"Arrow\w+: .*many"),
    "a model that cannot be opened": (
        "def needs",
        "def load(self):\n        open('/no/model')\n\n    def needs",
        r"FileNotFoundError: .*/no/model",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_one_is_told_what_it_did_and_the_stages_behind_it_do_not_run(kind: str, text: str, tmp_path: Path) -> None:
    old, new, message = BROKEN[kind]
    assert old in HOUSE
    flow = with_plugin(tmp_path, text, "house_" + re.sub(r"\W", "_", kind), HOUSE.replace(old, new, 1))
    complete, said = run_here(flow)
    assert not complete
    assert re.search(rf"00000: parked after 3 attempts, last on .*: {message}", said), said
    assert "to try again: ccpipe retry" in said
    assert find(flow.stages, "lid").state.success() and not find(flow.stages, "select").state.done_units()
    first = next(iter(find(flow.stages, "house").state.failures().values()))[0].read_text()
    assert re.search(rf'"traceback": "Traceback.*{message}', first), first


def test_parked_units_do_not_stop_the_others_and_retry_does_the_rest_alone(text: str, tmp_path: Path) -> None:
    """One shard of nine that its surroundings do not let through: eight are committed; set right, the ninth."""
    (tmp_path / "away").touch()
    poison = f"if docs.ids[0] >> 32 == 4 and __import__('os').path.exists({str(tmp_path / 'away')!r}):\n"
    poison += "            raise ValueError('poison')\n        share = ["
    flow = with_plugin(tmp_path, text, "house_poison", HOUSE.replace("share = [", poison, 1))
    assert not run_here(flow)[0]
    house = find(flow.stages, "house")
    assert house.state.done_units() == {f"{i:05d}" for i in range(9) if i != 4}
    assert list(run_gate(house.state).missing) == ["00004"]
    before = {unit: house.state.sentinel(unit) for unit in house.state.done_units()}

    (tmp_path / "away").unlink()
    assert not run_here(flow)[0], "a parked unit is not tried again unasked"
    command = [sys.executable, "-m", "jobs.cli", "retry", "--local", "--config", str(tmp_path / "run.toml")]
    retried = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False, timeout=120)
    assert retried.returncode == 0 and "1 units that failed before may be tried again" in retried.stdout, retried.stdout + retried.stderr
    assert {unit: house.state.sentinel(unit) for unit in before} == before
    assert house.state.is_done("00004") and find(flow.stages, "select").state.success()


def test_an_edited_module_is_another_stage(text: str, tmp_path: Path) -> None:
    first = with_plugin(tmp_path, text, "house_edited", HOUSE)
    again = with_plugin(tmp_path, text, "house_edited", HOUSE.replace("len(text) for text", "len(text.encode()) for text"))
    changed = {a.name for a, b in zip(first.stages, again.stages, strict=True) if a.plan.fingerprint != b.plan.fingerprint}
    assert changed == {"house", "select"}
