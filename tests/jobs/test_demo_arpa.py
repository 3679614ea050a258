"""The demo's n-gram trainer: a proper distribution after every history, and KenLM agrees with every score."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.demo.arpa import BEGIN, END, UNKNOWN, NgramModel, train
from jobs.demo.texts import load_texts

Sentences = list[list[str]]
SENTENCES = st.lists(st.lists(st.sampled_from("abcde"), max_size=6), min_size=1, max_size=12)


def english() -> Sentences:
    return [block.lower().split() for text in load_texts("en")[:12] for _, block in text.body]


def mass(model: NgramModel, history: tuple[str, ...]) -> float:
    words = [gram[0] for gram in model.orders[0] if gram[0] != BEGIN]
    return float(sum(10 ** model.log10_prob(history, word) for word in words))


@settings(max_examples=60, deadline=None)
@given(SENTENCES, st.sampled_from([2, 3, 4]), st.lists(st.sampled_from("abcdex"), max_size=4))
def test_probabilities_sum_to_one_after_any_history(sentences: Sentences, order: int, history: list[str]) -> None:
    model = train(sentences, order)
    assert mass(model, tuple(history)) == pytest.approx(1, abs=1e-9)
    assert mass(model, (BEGIN, *history)) == pytest.approx(1, abs=1e-9)


def test_probabilities_sum_to_one_on_real_text() -> None:
    model = train(english())
    for history in [(), (BEGIN,), ("the",), ("of", "the"), (BEGIN, "the"), ("nothing", "known")]:
        assert mass(model, history) == pytest.approx(1, abs=1e-9)


def test_kenlm_gives_the_same_scores(tmp_path: Path) -> None:
    import kenlm

    sentences = english()
    model = train(sentences)
    model.write(tmp_path / "en.arpa")
    judge = kenlm.Model(str(tmp_path / "en.arpa"))
    assert judge.order == 3
    unseen = [["the", "zeppelin", "of", "the"], [], ["of"], ["qqq", "qqq"], *(sentence[::-1] for sentence in sentences[:20])]
    for sentence in [*sentences[:60], *unseen]:
        assert model.score(sentence) == pytest.approx(judge.score(" ".join(sentence)), abs=2e-3)


def test_kenlm_gives_the_same_score_for_every_word_and_the_same_unknowns(tmp_path: Path) -> None:
    import kenlm

    model = train([["a", "b"], ["a", "c", "b"], ["b"]])
    model.write(tmp_path / "m.arpa")
    judge = kenlm.Model(str(tmp_path / "m.arpa"))
    words = ["a", "c", "x", "b"]
    history = [BEGIN]
    for word, (log_prob, _, unknown) in zip([*words, END], judge.full_scores(" ".join(words)), strict=True):
        assert unknown == (word == "x")
        assert model.log10_prob(history, word) == pytest.approx(log_prob, abs=1e-5)
        history.append(UNKNOWN if unknown else word)


def test_counts_behind_other_words_decide_below_the_highest_order() -> None:
    """Kneser-Ney: `francisco`, frequent but only after `san`, is less likely in a new place than rarer words seen after many."""
    sentences = [["san", "francisco"]] * 8 + [["a", "cat"], ["the", "cat"], ["one", "cat"], ["dog"]]
    model = train(sentences, 2)
    assert model.log10_prob(("dog",), "cat") > model.log10_prob(("dog",), "francisco")


def test_text_that_it_has_seen_is_likelier_than_shuffled_text() -> None:
    model = train(english())
    line = ["the", "yeast", "works", "best", "at", "around", "twenty-five", "degrees"]
    assert model.score(line) > model.score(sorted(line)) + 3


def test_the_file_depends_on_the_sentences_alone(tmp_path: Path) -> None:
    train(english()).write(tmp_path / "a")
    train(reversed(english())).write(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_reserved_words_and_empty_input_are_refused() -> None:
    with pytest.raises(ValueError, match="reserved"):
        train([["a", END]])
    with pytest.raises(ValueError, match="no sentences"):
        train([])
