"""Every mistake in a run.toml is one clear line that names the choices, before anything is written or submitted."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flows import short_flow, tables

from jobs import cli
from jobs.config import ConfigError, load_config
from jobs.planning import plan_flow

Change = Callable[[str], str]


def swap(old: str, new: str) -> Change:
    def change(text: str) -> str:
        assert old in text, f"{old!r} is not in the flow"
        return text.replace(old, new, 1)

    return change


def more(text: str) -> Change:
    return lambda flow: flow + text


def without(table: str) -> Change:
    return lambda flow: flow.replace(tables(flow)[table], "")


def under(table: str, line: str) -> Change:
    return swap(f"[{table}]\n", f"[{table}]\n{line}\n")


MISTAKES: dict[str, tuple[Change, str]] = {
    "not TOML": (more("\n[stage.extract\n"), r"not TOML: .*line \d+"),
    "table twice": (more("\n[stage.extract]\n"), r"not TOML: .*(twice|overwrite)"),
    "unknown table": (
        more("\n[stages.extract]\n"),
        r"unknown table \[stages\]; valid tables: run, stage, resources. Did you mean 'stage'\?",
    ),
    "stage is no table": (
        lambda _: 'stage = 3\n[run]\nname = "a"\ndir = "b"\ninputs = ["c"]',
        r"stage = 3: expected tables \[stage.NAME\]",
    ),
    "a stage is no table": (lambda flow: "stage.lid = 3\n" + without("stage.lid")(flow), r"stage.lid = 3: expected a table \[stage.lid\]"),
    "resources are no table": (
        lambda flow: 'resources = "big"\n' + without("resources.default")(flow),
        r"resources = 'big': expected tables",
    ),
    "no stage": (lambda flow: tables(flow)["run"], r"no \[stage\.\*\] table; .* Stages: extract, sig, lid"),
    "unknown key of run": (
        under("run", "shard_size = 3"),
        r"\[run\] unknown key 'shard_size'; valid keys: dir, inputs, name, overlap, shard_bytes, site",
    ),
    "missing key of run": (swap('name = "demo"', ""), r"\[run\] key 'name' is missing"),
    "unknown key": (under("stage.lid", "treshold = 1"), r"\[stage.lid\] unknown key 'treshold'; valid keys: .*min_score, model"),
    "unknown inner key": (under("stage.perplexity.models.en", "sp = 'x'"), r"unknown key 'models.en.sp'; valid keys: kenlm, sentencepiece"),
    "unknown key of a family": (
        under("stage.dedup", "threshold = 0.8"),
        r"\[stage.dedup\] unknown key 'threshold'; valid keys: against, .*similarity",
    ),
    "out of range": (under("stage.lid", "min_score = 1.5"), r"\[stage.lid\] min_score = 1.5: .*less than or equal to 1"),
    "wrong kind": (under("stage.quality", "min_words = 'many'"), r"\[stage.quality\] min_words = 'many': .*integer"),
    "missing model key": (without("stage.perplexity.models.en"), r"\[stage.perplexity\]|cutoffs"),
    "unknown stage without use": (
        more("\n[stage.langid]\n"),
        r"\[stage.langid\] has no use = .package.module:Class., and 'langid' is not a stage",
    ),
    "nearly a stage": (more("\n[stage.extrct]\n"), r"Did you mean 'extract'\?"),
    "classifier without a name": (
        swap("[stage.classify.fasttext]", "[stage.classify]"),
        r"classifiers have names: write \[stage.classify.NAME\]",
    ),
    "a name that is no prefix": (
        more('\n[stage."a-b"]\nuse = "ccpipe.lid:FastTextLid"\n'),
        r"\[stage.a-b\]: a stage name is the prefix of its columns",
    ),
    "use without class": (under("stage.lid", 'use = "ccpipe.lid"'), r'use = "ccpipe.lid": expected "package.module:Class"'),
    "module not found": (
        under("stage.lid", 'use = "ccpipe.langid:X"'),
        r"cannot import 'ccpipe.langid' .*install it or put it beside the run.toml",
    ),
    "relative module": (under("stage.lid", 'use = ".lid:X"'), r'use = ".lid:X": importing \'.lid\' fails'),
    "class not found": (
        under("stage.lid", 'use = "ccpipe.lid:FasttextLid"'),
        r"ccpipe.lid has no stage class 'FasttextLid'; it has: FastTextLid",
    ),
    "not a stage class": (
        under("stage.lid", 'use = "ccpipe.lid:Ranking"'),
        r"ccpipe.lid has no stage class 'Ranking'; it has: FastTextLid",
    ),
    "abstract class": (
        under("stage.lid", 'use = "ccpipe.annotate:Annotator"'),
        r"ccpipe.annotate has no stage class 'Annotator'; it has: none",
    ),
    "module that raises": (
        more('\n[stage.mine]\nuse = "raises_on_import:Mine"\n'),
        r"importing 'raises_on_import' fails: ZeroDivisionError",
    ),
    "module with a typo": (more('\n[stage.mine]\nuse = "does_not_parse:Mine"\n'), r"importing 'does_not_parse' fails: SyntaxError.*line 1"),
    "no annotator": (
        more('\n[stage.mine]\nuse = "ccpipe.sig:Sign"\n'),
        r"stage mine cannot be an annotator: ccpipe.sig:Sign writes no columns",
    ),
    "a stage called base": (
        more('\n[stage.base]\nuse = "ccpipe.select:Select"\n'),
        r"stage base cannot be an annotator: `base` is the group",
    ),
    "missing model": (swap("lid.176.ftz", "lid.177.ftz"), r"stage lid: .*/lid.177.ftz does not exist \(a model file of its config\)"),
    "not a model": (swap("lid.176.ftz", "en.arpa"), r"stage lid: .*en.arpa"),
    "missing block list": (swap('/blocklist"', '/blacklist"'), r"stage extract: .*/blacklist does not exist"),
    "SQL syntax": (under("stage.lid", 'where = "url LIKE"'), r'\[stage.lid\] where = "url LIKE": .*syntax error at or near'),
    "unknown column": (
        swap("dedup_keep AND perp", "dedup_kept AND perp"),
        r"stage select reads column 'dedup_kept', .*Did you mean 'dedup_keep'\?",
    ),
    "unlike any column": (
        under("stage.lid", 'where = "xyzzy = 1"'),
        r"reads column 'xyzzy', which no stage of this flow writes; columns: .*url",
    ),
    "double quotes for a string": (swap('where = "dedup_keep"', 'where = "lid_label = en"'), r"stage classify.fasttext reads column 'en'"),
    "subquery": (under("stage.lid", 'where = "url IN (SELECT 1)"'), r"subqueries are not possible"),
    "two statements": (under("stage.lid", 'where = "true; DROP TABLE meta"'), r"syntax error"),
    "window function": (under("stage.lid", 'where = "row_number() OVER () < 10"'), r"window functions are not possible"),
    "aggregate": (under("stage.lid", 'where = "count(*) > 10"'), r"aggregates and unnest\(\) are not possible"),
    "aggregate of a column": (under("stage.lid", 'where = "max(text_bytes) > 10"'), r"aggregates|GROUP BY"),
    "rows from nowhere": (under("stage.lid", 'where = "unnest([true, false])"'), r"aggregates and unnest\(\) are not possible"),
    "chance": (under("stage.lid", 'where = "random() < 0.1"'), r"random\(\) differs from time to time"),
    "clock": (under("stage.lid", "where = \"now() > '2020-01-01'\""), r"now\(\) differs from time to time"),
    "files": (under("stage.lid", "where = \"url IN (FROM read_text('/etc/passwd'))\""), r"\[stage.lid\] where"),
    "types that do not compare": (under("stage.lid", 'where = "url > 5"'), r"Cannot compare values of type VARCHAR and type INTEGER"),
    "not a truth": (
        swap("dedup_keep AND perp", "lid_label AND perp"),
        r"\[stage.select\] .*true or false, this is lid_label, which is string: compare it with something",
    ),
    "a string is no truth": (swap('where = "dedup_keep"', 'where = "lid_label"'), r"a predicate is true or false, this is VARCHAR"),
    "where of extract": (under("stage.extract", 'where = "true"'), r"\[stage.extract\] .*extract comes before all columns"),
    "where of sig": (under("stage.sig", 'where = "true"'), r"\[stage.sig\] .*put this predicate into the dedup table"),
    "cycle": (
        under("stage.lid", 'where = "quality_n_words > 9"'),
        r"stages wait for each other: .*lid.*; a `where` names a column that is written later",
    ),
    "own column": (
        swap('where = "lid_reason IS NULL"\n\n#', 'where = "quality_reason IS NULL"\n\n#'),
        r"stage quality reads its own column group meta/quality",
    ),
    "dedup without sig": (without("stage.sig"), r"stage dedup.route reads sig, which no stage of this flow writes; add \[stage.sig\]"),
    "no extract": (without("stage.extract"), r"reads wet, which no stage of this flow writes; add \[stage.extract\]"),
    "a column twice": (
        more('\n[stage.fasttext]\nuse = "ccpipe.select:Select"\nwhere = "true"\n[stage.classify.select]\nuse = "ccpipe.select:Select"\n'),
        r"column 'select_keep' is written by meta/.*select and by stage .*select; rename the stage",
    ),
    "bands without rows": (under("stage.dedup", "bands = 14"), r"\[stage.dedup\] bands = 14, rows = None: give both"),
    "no such tokenizer": (swap("tokenizer.json", "tokeniser.json"), r"stage export.shards: .*tokeniser.json does not exist"),
    "no such token": (swap("<|endoftext|>", "<eot>"), r"stage export.*<eot>"),
    "resources for no stage": (
        more("\n[resources.quallity]\ncpus = 1\n"),
        r"\[resources.quallity\] is for no stage of this flow; valid names: .*quality",
    ),
    "unknown resource": (more("\n[resources.lid]\ncores = 2\n"), r"\[resources.lid\] unknown key 'cores'; valid keys: cpus, gpus"),
    "no cores": (more("\n[resources.lid]\ncpus = 0\n"), r"\[resources.lid\] cpus = 0: .*greater than or equal to 1"),
    "more cores than a node has": (
        more("\n[resources.lid]\ncpus = 65\n"),
        r"lid asks for 65 cpus; a node of site 'small' has 64. Set \[resources.lid\]",
    ),
    "more memory than a node has": (
        more("\n[resources.dedup.match]\ncpus = 64\nmem_gb = 5\n"),
        r"dedup.match asks for 320 GB \(64 processes x 5\)",
    ),
    "more time than allowed": (
        more("\n[resources.classify.fasttext]\ntime_limit_min = 1830\n"),
        r"classify.fasttext asks for 1830 minutes; .* allows 720",
    ),
    "no site profile": (swap('site = "site.toml"', 'site = "cite.toml"'), r"no site profile .*cite.toml; expected a TOML file"),
    "no inputs": (swap("/input/*.warc.gz", "/input/*.warc"), r"\[run\] inputs: inputs '.*/input/\*.warc' match no file"),
    "a missing list": (swap("/input/*.warc.gz", '/nowhere.txt", "@paths.txt'), r"match no file|input list .*paths.txt does not exist"),
    "a run name in two lines": (swap('name = "demo"', r'name = "demo\n#SBATCH --uid=0"'), r"\[run\] name = 'demo\\n#SBATCH --uid=0'"),
    "a newline at the end": (swap('name = "demo"', r'name = "demo\n"'), r"\[run\] name = 'demo\\n'"),
    "a run name with quotes": (swap('name = "demo"', "name = 'de\"mo'"), r"\[run\] name"),
    "a run name with spaces": (swap('name = "demo"', 'name = "the demo"'), r"\[run\] name"),
    "an empty run name": (swap('name = "demo"', 'name = ""'), r"\[run\] name"),
    "no shard size": (swap('shard_bytes = "1 KiB"', 'shard_bytes = "lots"'), r"\[run\] shard_bytes = 'lots'"),
}


@pytest.fixture
def good(demo: Path, models: Path, tmp_path: Path) -> str:
    (tmp_path / "site.toml").write_text('name = "small"\nnode_cpus = 64\nnode_mem_gb = 256\nmax_time_min = 720\n')
    (tmp_path / "raises_on_import.py").write_text("1 / 0")
    (tmp_path / "does_not_parse.py").write_text("def (")
    return under("run", 'site = "site.toml"')(short_flow(demo, models, tmp_path / "run"))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_line_and_nothing_is_written(
    mistake: str, good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = MISTAKES[mistake]
    (tmp_path / "run.toml").write_text(change(good), encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["plan", "--config", str(tmp_path / "run.toml")]) == 2
    shown = capsys.readouterr().err
    assert re.search(message, shown), shown
    lines = shown.splitlines()
    assert re.match(rf".*run.toml has {len(lines) - 1} problems?:", lines[0])
    assert all(line.startswith("  - ") for line in lines[1:]), "a problem of several lines"
    assert [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in str(path)] == before


def test_the_flow_without_mistakes_is_planned(good: str, tmp_path: Path) -> None:
    """All the mistakes above are made in it, one at a time."""
    (tmp_path / "run.toml").write_text(good)
    assert cli.main(["plan", "--config", str(tmp_path / "run.toml")]) == 0


def test_no_file_and_a_folder_instead_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--config", str(tmp_path / "run.toml")]) == 2
    assert "no such file; `ccpipe init` writes a commented run.toml" in capsys.readouterr().err
    assert cli.main(["plan", "--config", str(tmp_path)]) == 2
    assert "Is a directory; expected a run.toml" in capsys.readouterr().err


def test_mistakes_in_the_tables_are_told_all_at_once(good: str, tmp_path: Path) -> None:
    text = under("run", "shard_size = 3")(good)
    for change in (
        under("stage.lid", "treshold = 1"),
        under("stage.dedup", "threshold = 1"),
        more("\n[resources.x]\n[stages]\n[stage.langid]\n"),
    ):
        text = change(text)
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "run.toml")
    assert len(caught.value.problems) == 6, caught.value
    for word in ("shard_size", "treshold", "threshold", "resources.x", "stages", "langid"):
        assert sum(word in problem for problem in caught.value.problems) >= 1


def test_mistakes_in_the_flow_are_told_all_at_once(good: str, tmp_path: Path) -> None:
    text = good
    for change in (
        swap("lid.176.ftz", "lid.177.ftz"),
        swap("dedup_keep AND perp", "dedup_kept AND perp"),
        under("stage.lid", 'where = "quality_n_words >"'),
        more("\n[resources.lid]\ncpus = 65\n"),
        swap("/input/*.warc.gz", "/input/*.warc"),
        swap("<|endoftext|>", "<eot>"),
    ):
        text = change(text)
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        plan_flow(load_config(tmp_path / "run.toml"))
    for word in ("lid.177.ftz", "dedup_kept", "syntax error", "65 cpus", "match no file", "<eot>"):
        assert sum(word in problem for problem in caught.value.problems) >= 1, f"{word} is not among {caught.value}"
    assert not (tmp_path / "run").exists()


def test_the_most_specific_resources_win(good: str, tmp_path: Path) -> None:
    text = good + "[resources.dedup]\ncpus = 3\n[resources.dedup.match]\ncpus = 5\n[resources.lid]\ncpus = 7\n"
    (tmp_path / "run.toml").write_text(text)
    config = load_config(tmp_path / "run.toml")
    found = {stage: config.resources_of(stage).cpus for stage in ("sig", "lid", "dedup.route", "dedup.match", "dedup.mark")}
    assert found == {"sig": 2, "lid": 7, "dedup.route": 3, "dedup.match": 5, "dedup.mark": 3}


def test_paths_are_taken_from_the_folder_of_the_config(
    good: str, demo: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "models").symlink_to(models)
    (folder / "input").symlink_to(demo / "input")
    text = good.replace(str(models), "models").replace(f"{demo}/input", "input").replace(str(tmp_path / "run"), "../run")
    (folder / "run.toml").write_text(text.replace('site = "site.toml"', ""))
    monkeypatch.chdir(folder)
    flow = plan_flow(load_config(Path("run.toml")))
    assert flow.run.resolve() == tmp_path / "run" and len(flow.manifest.files) == 9
