"""SentencePiece and n-gram models of English and Chinese, trained on the bundled texts in seconds.

In: the bundled texts. Out: `{en,zh}.sp.model` and `{en,zh}.arpa`, which the perplexity stage opens. They have seen some
ten thousand words: they tell these texts from keyword spam, and no more.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from ccpipe.perplexity import normalize_line
from jobs.demo.arpa import train
from jobs.demo.texts import load_texts

LANGUAGES = ("en", "zh")
ORDER = 3
VOCABULARY = {"en": 2000, "zh": 3000}
"""Pieces wanted; the trainer stops earlier where the text gives no more."""


def training_lines(lang: str) -> list[str]:
    """The lines of all texts of a language, normalised as the perplexity stage does."""
    lines = [normalize_line(line) for text in load_texts(lang) for line in text.plain().split("\n")]
    return [line for line in lines if line]


def train_pieces(folder: Path) -> None:
    """Write `{en,zh}.sp.model`; one thread, so that the bytes depend on the text alone."""
    import sentencepiece

    for lang in LANGUAGES:
        model = BytesIO()  # a file name would become part of the model
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(training_lines(lang)),
            model_writer=model,
            vocab_size=VOCABULARY[lang],
            hard_vocab_limit=False,
            character_coverage=1.0,
            model_type="unigram",
            num_threads=1,
            minloglevel=2,
        )
        (folder / f"{lang}.sp.model").write_bytes(model.getvalue())


def train_ngrams(folder: Path) -> None:
    """Write `{en,zh}.arpa` over the pieces of `{en,zh}.sp.model` in the same folder."""
    import sentencepiece

    for lang in LANGUAGES:
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{lang}.sp.model"))
        train(pieces.encode(training_lines(lang), out_type=str, num_threads=1), ORDER).write(folder / f"{lang}.arpa")
