"""KenLM perplexity against sums worked out by hand from the ARPA file's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ccpipe.annotate import Documents
from ccpipe.perplexity import KenLmPerplexity, normalize_line

UNIGRAMS = {"<unk>": (-3.0, 0.0), "<s>": (-99.0, -0.25), "</s>": (-0.75, 0.0), "▁the": (-0.5, -0.125), "▁river": (-1.5, 0.0)}
BIGRAMS = {("<s>", "▁the"): -0.25, ("▁the", "▁river"): -0.375}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """A SentencePiece model in which `the` and `river` are pieces, and a bigram model written by hand."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("lm")
    words = ["the", "river", "rose", "in", "the", "night", "and", "the", "old", "bridge", "near", "the", "river"]
    (folder / "text.txt").write_text("".join(" ".join(words[i % 7 :][: 4 + i % 9]) + "\n" for i in range(300)), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "en.sp"),
        vocab_size=60,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
        num_threads=1,
    )
    unigrams = "".join(f"{score}\t{word}\t{backoff}\n" for word, (score, backoff) in UNIGRAMS.items())
    bigrams = "".join(f"{score}\t{a} {b}\n" for (a, b), score in BIGRAMS.items())
    arpa = f"\\data\\\nngram 1={len(UNIGRAMS)}\nngram 2={len(BIGRAMS)}\n\n\\1-grams:\n{unigrams}\n\\2-grams:\n{bigrams}\n\\end\\\n"
    (folder / "en.arpa").write_text(arpa, encoding="utf-8")
    return {"en": {"sentencepiece": str(folder / "en.sp.model"), "kenlm": str(folder / "en.arpa")}}


def by_hand(lines: list[list[str]]) -> float:
    """Perplexity of pieces by the definition of a backoff model."""
    total, length = 0.0, 0
    for pieces in lines:
        known = [piece if piece in UNIGRAMS else "<unk>" for piece in pieces]
        for before, word in zip(["<s>", *known], [*known, "</s>"], strict=True):
            total += BIGRAMS.get((before, word), UNIGRAMS[word][0] + UNIGRAMS[before][1])
        length += len(pieces) + 1
    return float(10 ** (-total / length))


def stage(models: dict[str, dict[str, str]], **config: Any) -> KenLmPerplexity:
    built = KenLmPerplexity("perplexity", KenLmPerplexity.Config(models=models, **config))
    built.load()
    return built


def batch(texts: list[str], languages: list[str | None], column: str = "lid_label") -> Documents:
    return Documents(pa.array(texts, pa.large_string()), pa.table({column: pa.array(languages, pa.string())}), np.arange(len(texts)))


def pieces_of(models: dict[str, dict[str, str]], line: str) -> list[str]:
    import sentencepiece

    found: list[str] = sentencepiece.SentencePieceProcessor(model_file=models["en"]["sentencepiece"]).encode(line, out_type=str)
    return found


def test_perplexity_is_what_the_arpa_file_says(models: dict[str, dict[str, str]]) -> None:
    assert pieces_of(models, "the river") == ["▁the", "▁river"]
    docs = batch(["The river\n\n  THE RIVER the\n"], ["en"])
    value = stage(models).annotate(docs)["value"][0]
    assert value == pytest.approx(by_hand([["▁the", "▁river"], ["▁the", "▁river", "▁the"]]), rel=1e-5)
    assert value == pytest.approx(10 ** ((0.25 + 0.375 + 0.75 + 0.25 + 0.375 + 0.5 + 0.125 + 0.75) / 7), rel=1e-5)


def test_unknown_words_cost_what_unknown_pieces_cost(models: dict[str, dict[str, str]]) -> None:
    pieces = pieces_of(models, "the zebra")
    value = stage(models).annotate(batch(["the zebra"], ["en"]))["value"][0]
    assert value == pytest.approx(by_hand([pieces]), rel=1e-5)
    assert value > by_hand([["▁the", "▁river"]])


def test_no_model_for_the_language_means_null_and_kept(models: dict[str, dict[str, str]]) -> None:
    answer = stage(models, cutoffs={"en": (5, 10)}, max_value={"en": 1}).annotate(batch(["the river"] * 3, ["xx", None, "en"]))
    assert answer["value"][:2] == [None, None]
    assert answer["bucket"][:2] == [None, None]
    assert answer["reason"] == [None, None, "high_perplexity"]


def test_a_text_without_lines_has_no_perplexity(models: dict[str, dict[str, str]]) -> None:
    assert stage(models, max_value={"en": 1}).annotate(batch(["", " \n \n"], ["en", "en"])) == {
        "value": [None, None],
        "bucket": [None, None],
        "reason": [None, None],
    }


def test_buckets_are_named_by_the_cutoffs_of_the_language(models: dict[str, dict[str, str]]) -> None:
    docs = batch(["the river", "the the the", "zebra zebra"], ["en"] * 3)
    values = stage(models).annotate(docs)["value"]
    assert values == sorted(values)
    assert stage(models, cutoffs={"en": (values[1], values[2])}).annotate(docs)["bucket"] == ["head", "middle", "tail"]


def test_the_language_column_is_the_users_choice(models: dict[str, dict[str, str]]) -> None:
    built = stage(models, language="glot_label")
    assert built.needs() == ("glot_label",)
    assert built.annotate(batch(["the river"], ["en"], "glot_label"))["value"][0] is not None


def test_a_threshold_for_a_language_without_model_is_refused(models: dict[str, dict[str, str]]) -> None:
    with pytest.raises(ValidationError, match=r"cutoffs names \['zh'\], models has \['en'\]"):
        KenLmPerplexity.Config(models=models, cutoffs={"zh": (1460, 1950)})
    with pytest.raises(ValidationError, match=r"cutoffs of \['en'\] do not rise"):
        KenLmPerplexity.Config(models=models, cutoffs={"en": (520, 340)})


def test_a_missing_model_file_is_named(models: dict[str, dict[str, str]], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.arpa"):
        stage({"en": {**models["en"], "kenlm": str(tmp_path / "absent.arpa")}})


NORMALISED = [
    ("Ünïcödé", "unicode"),
    ("１２３ ４５.６", "000 00.0"),  # CCNet's table turns a full-width one into a quotation mark
    ("“他说：你好！”（笑）", '"他说:你好!"(笑)'),
    ("がパ", "かハ"),
    ("a—b…", "a - b..."),
    ("a\tb\x00c\x85d", "a bc d"),
    ("  ", ""),
]


@pytest.mark.parametrize(("line", "wanted"), NORMALISED)
def test_lines_are_normalised_as_ccnets_models_expect(line: str, wanted: str) -> None:
    assert normalize_line(line) == wanted


@given(st.text())
def test_normalised_lines_hold_no_capitals_of_ascii_no_digits_but_zero_and_no_controls(line: str) -> None:
    normal = normalize_line(line)
    assert not any("A" <= c <= "Z" or c < " " or "\x7f" <= c < "\xa0" or (c.isdecimal() and c != "0") for c in normal)
