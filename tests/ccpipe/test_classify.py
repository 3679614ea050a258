"""Classifiers: one score per document, whoever shares its batch."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ccpipe.annotate import Documents
from ccpipe.classify import FastTextClassifier, TransformerClassifier
from ccpipe.transformer import SequenceClassifier, batch_rows, padded_width, plan_batches

GOOD = ["the", "committee", "published", "a", "careful", "report", "about", "water", "and", "its", "history", "of", "river"]
SPAM = ["win", "cash", "now", "click", "free", "casino", "bonus", "offer", "prize", "cheap", "pills"]
WORDS = [*GOOD, *SPAM]


def sentence(words: list[str], n: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(words, k=n))


def batch(texts: list[str]) -> Documents:
    return Documents(pa.array(texts, pa.large_string()), pa.table({}), np.arange(len(texts), dtype=np.uint64))


@pytest.fixture(scope="module")
def spam_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    import fasttext

    folder = tmp_path_factory.mktemp("spam")
    lines = [f"__label__1 {sentence(GOOD, 12, i)}\n__label__0 {sentence(SPAM, 12, i)}\n" for i in range(200)]
    (folder / "train.txt").write_text("".join(lines), encoding="utf-8")
    # thread i fills the i-th tenth of the input matrix (fastText 0.9.2): below 11 threads some of it stays uninitialised
    model = fasttext.train_supervised(str(folder / "train.txt"), dim=8, epoch=20, lr=0.5, bucket=1000, thread=12, verbose=0)
    model.save_model(str(folder / "model.bin"))
    return str(folder / "model.bin")


def fasttext_stage(model: str, **config: Any) -> FastTextClassifier:
    built = FastTextClassifier("classify.spam", FastTextClassifier.Config(model=model, **config))
    built.load()
    return built


def test_the_score_is_the_probability_of_the_label(spam_model: str) -> None:
    docs = batch([sentence(GOOD, 20, 1), sentence(SPAM, 20, 1)])
    good, spam = fasttext_stage(spam_model).annotate(docs)["score"]
    assert good > 0.9 > 0.1 > spam
    opposite = fasttext_stage(spam_model, label="0").annotate(docs)["score"]
    assert opposite == pytest.approx([1 - good, 1 - spam], abs=1e-4)


def test_documents_below_the_score_are_named_and_keep_their_score(spam_model: str) -> None:
    answer = fasttext_stage(spam_model, min_score=0.5).annotate(batch([sentence(GOOD, 20, 2), sentence(SPAM, 20, 2), " \n"]))
    assert answer["reason"] == [None, "low_score", "not_scored"]
    assert answer["score"][1] is not None
    assert answer["score"][2] is None


def test_columns_carry_the_name_of_the_classifier(spam_model: str) -> None:
    assert list(fasttext_stage(spam_model).columns()) == ["spam_score", "spam_reason"]


def test_a_label_that_the_model_has_not_is_refused_with_the_choices(spam_model: str) -> None:
    with pytest.raises(ValueError, match=r"label 'hq' is not in .*\['0', '1'\]"):
        fasttext_stage(spam_model, label="__label__hq")


# --- transformers ---


def save_bert(folder: Path, num_labels: int) -> str:
    """A two-layer BERT with random weights and a vocabulary of whole words, saved as any Hugging Face model is."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set(WORDS))]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=256,
        num_labels=num_labels,
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_bert(tmp_path_factory.mktemp("bert") / "regression", 1)


@pytest.fixture(scope="module")
def two_labels(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_bert(tmp_path_factory.mktemp("bert") / "labels", 2)


def transformer_stage(model: str, **config: Any) -> TransformerClassifier:
    built = TransformerClassifier("classify.edu", TransformerClassifier.Config(model=model, **{"batch_tokens": 512, **config}))
    built.load()
    return built


def by_transformers(folder: str, text: str, max_length: int = 256) -> list[float]:
    """Logits of one document alone, as the library's own documentation computes them."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        logits = model(**tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")).logits
    return [float(value) for value in logits[0]]


TEXTS = [sentence(WORDS, 1 + 37 * i % 300, i) for i in range(30)]


def test_a_regression_score_is_the_raw_output(regression: str) -> None:
    scores = transformer_stage(regression).annotate(batch(TEXTS))["score"]
    assert scores == pytest.approx([by_transformers(regression, text)[0] for text in TEXTS], abs=1e-4)
    assert len(set(scores)) > 20


def test_a_label_score_is_its_softmax_probability(two_labels: str) -> None:
    scores = transformer_stage(two_labels, label="LABEL_1").annotate(batch(TEXTS[:5]))["score"]
    logits = np.array([by_transformers(two_labels, text) for text in TEXTS[:5]])
    assert scores == pytest.approx(list(np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1)), abs=1e-4)
    assert transformer_stage(two_labels, label="1").annotate(batch(TEXTS[:5]))["score"] == scores


def test_an_unknown_label_is_refused_with_the_choices(two_labels: str) -> None:
    stage = TransformerClassifier("classify.edu", TransformerClassifier.Config(model=two_labels))
    for ask in (stage.check, stage.load):
        with pytest.raises(ValueError, match=r"label None is not in .*\['LABEL_0', 'LABEL_1'\]"):
            ask()


def test_a_score_does_not_depend_on_the_other_documents(regression: str) -> None:
    """Bit for bit: batches are cut differently when a killed unit resumes."""
    stage = transformer_stage(regression)
    together = stage.annotate(batch(TEXTS))["score"]
    order = random.Random(3).sample(range(len(TEXTS)), len(TEXTS))
    shuffled = stage.annotate(batch([TEXTS[i] for i in order]))["score"]
    assert [together[i] for i in order] == shuffled
    assert [stage.annotate(batch([text]))["score"][0] for text in TEXTS] == together


def test_blank_documents_cost_nobody_else_a_score(regression: str) -> None:
    answer = transformer_stage(regression).annotate(batch(["", TEXTS[3], " \n", TEXTS[4]]))
    assert answer["score"] == [None, *transformer_stage(regression).annotate(batch([TEXTS[3]]))["score"], None, answer["score"][3]]
    assert answer["reason"] == ["not_scored", None, "not_scored", None]


def test_one_document_that_fails_does_not_poison_its_batch(regression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = transformer_stage(regression)
    wanted = stage.annotate(batch(TEXTS))["score"]
    stage._model._batch_tokens = 512  # several documents in a batch, as on a GPU
    forward = SequenceClassifier._forward
    length = len(stage._model._tokenize([TEXTS[7]])[0])

    def failing(self: SequenceClassifier, rows: list[list[int]], width: int) -> list[float]:
        if any(len(row) == length for row in rows):
            raise RuntimeError("index out of range")
        return forward(self, rows, width)

    monkeypatch.setattr(SequenceClassifier, "_forward", failing)
    answer = stage.annotate(batch(TEXTS))
    bad = [i for i, text in enumerate(TEXTS) if len(stage._model._tokenize([text])[0]) == length]
    assert [i for i, score in enumerate(answer["score"]) if score is None] == bad
    assert [i for i, reason in enumerate(answer["reason"]) if reason == "not_scored"] == bad
    assert [s for s in answer["score"] if s is not None] == pytest.approx([s for i, s in enumerate(wanted) if i not in bad], abs=1e-4)


def test_batches_of_many_documents_give_the_same_scores(regression: str) -> None:
    """On a GPU batches are filled with as many documents as fit; up to rounding that changes nothing."""
    stage = transformer_stage(regression)
    wanted = stage.annotate(batch(TEXTS))["score"]
    stage._model._batch_tokens = 512
    assert stage.annotate(batch(TEXTS))["score"] == pytest.approx(wanted, abs=1e-4)


def test_a_model_that_cannot_score_a_word_is_refused_when_it_is_loaded(regression: str, tmp_path: Path) -> None:
    """A tokenizer of another model hands out ids that the weights have no row for."""
    folder = tmp_path / "mixed"
    shutil.copytree(regression, folder)
    config = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    config["model"]["vocab"] = {word: i + 5_000 for i, word in enumerate(config["model"]["vocab"])}
    config["added_tokens"] = [{**token, "id": token["id"] + 5_000} for token in config["added_tokens"]]
    for special in config["post_processor"].get("special_tokens", {}).values():
        special["ids"] = [i + 5_000 for i in special["ids"]]
    (folder / "tokenizer.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match="fails on the text 'word'"):
        transformer_stage(str(folder))


def test_only_the_first_tokens_are_read(regression: str) -> None:
    stage = transformer_stage(regression, max_length=64)
    long = sentence(WORDS, 400, 5)
    assert stage.annotate(batch([long]))["score"] == stage.annotate(batch([long + " casino" * 100]))["score"]
    assert stage.annotate(batch([long]))["score"][0] == pytest.approx(by_transformers(regression, long, 64)[0], abs=1e-4)


def test_every_document_is_in_one_batch_of_its_own_width() -> None:
    rng = random.Random(1)
    lengths = [rng.randint(0, 600) for _ in range(500)]
    batches = plan_batches(lengths, 512, 2048)
    assert sorted(member for b in batches for member in b.members) == list(range(500))
    assert all(padded_width(lengths[member], 512) == b.width for b in batches for member in b.members)
    assert all(len(b.members) <= batch_rows(b.width, 2048) for b in batches)
    assert [b.width for b in batches] == sorted(b.width for b in batches)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        transformer_stage(str(tmp_path))
