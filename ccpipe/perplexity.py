"""Perplexity: how surprising is a document to a language model of its own language.

In: the text and the language column (`lid_label` by default). Out: `value` (null where the language has no model), `bucket`
(head, middle or tail) and `reason`. Nothing is trained here. Method and normalisation are CCNet's (Wenzek et al. 2020):
normalised lines, SentencePiece pieces, a KenLM n-gram model, perplexity = 10 ** (-sum of log10 / sum of (pieces + 1)).
CCNet as published joins the lines of a document before scoring (its control-character rule deletes newlines); here each
line is a sentence to the model, as in its training text.

Cut-offs belong to one model, one normalisation and one crawl; CCNet takes the 30th and 60th percentile of each language.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ccpipe.annotate import Annotator, Documents
from ccpipe.stage import ModelFile, Stage

PUNCTUATION = str.maketrans(
    {
        **dict.fromkeys("，、", ","),
        **dict.fromkeys("„“”«»「」《》", '"'),
        **dict.fromkeys("´’", "'"),
        **dict.fromkeys("∶：", ":"),
        **dict.fromkeys("–━►", "-"),
        **{"。": ".", "．": ". ", "？": "?", "！": "!", "；": ";", "（": "(", "）": ")", "～": "~", "…": "...", "％": "%"},
        **{"—": " - ", "〈": "<", "〉": ">", "【": "[", "】": "]"},
        **dict.fromkeys(map(chr, (*range(0x20), *range(0x7F, 0xA0)))),  # control characters are deleted,
        **dict.fromkeys("\t\v\f\r\x85", " "),  # but those that separate words
    }
)
"""CCNet's map to ASCII, less its entry that made the full-width digit one a quotation mark (digits are 0 by then)."""

_DIGIT = re.compile(r"\d")


def normalize_line(line: str) -> str:
    """CCNet's normalisation for language models: lower case, no accents, digits as 0, ASCII punctuation, no controls.

    >>> normalize_line("  Él pagó １２€，“ayer”。 ")
    'el pago 00€,"ayer".'
    """
    line = line.strip().lower()
    if not line.isascii():
        # marks are dropped after canonical decomposition and not composed again, as in the models' training text
        line = "".join(char for char in unicodedata.normalize("NFD", line) if unicodedata.category(char) != "Mn")
    return _DIGIT.sub("0", line).translate(PUNCTUATION)


def perplexity(scores: Sequence[tuple[float, int]]) -> float | None:
    """Perplexity of a document from (log10 probability, pieces) of its lines; None without lines.

    >>> perplexity([(-4.0, 1), (-2.0, 0)])
    100.0
    """
    tokens = sum(pieces + 1 for _, pieces in scores)
    # a float holds 10 ** 308; the exponent is the mean surprise of one piece, a few units
    return float(10.0 ** min(-sum(score for score, _ in scores) / tokens, 30.0)) if tokens else None


def choose_bucket(value: float | None, cutoffs: tuple[float, float] | None) -> str | None:
    """CCNet's buckets: head below the first cut-off, middle below the second, else tail.

    >>> choose_bucket(1459.9, (1460, 1950)), choose_bucket(1460, (1460, 1950)), choose_bucket(5000, (1460, 1950))
    ('head', 'middle', 'tail')
    """
    if value is None or cutoffs is None:
        return None
    return "head" if value < cutoffs[0] else "middle" if value < cutoffs[1] else "tail"


class LanguageModel(BaseModel):
    """The two files that score one language."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sentencepiece: ModelFile = Field(description="SentencePiece model (.model)")
    kenlm: ModelFile = Field(description="KenLM model: ARPA, or the binary of build_binary (shared between processes by mmap)")


class _Scorer:
    """One language's models, opened."""

    def __init__(self, files: LanguageModel) -> None:
        import kenlm
        import sentencepiece

        for path in (files.sentencepiece, files.kenlm):
            if not Path(path).is_file():
                raise FileNotFoundError(f"no model file at {path}; expected a file: set `models` to one that exists")
        self._pieces = sentencepiece.SentencePieceProcessor(model_file=str(files.sentencepiece))
        config = kenlm.Config()
        config.show_progress = False
        config.arpa_complain = kenlm.ARPALoadComplain.NONE
        self._model = kenlm.Model(str(files.kenlm), config)

    def value(self, text: str) -> float | None:
        lines = [line for line in map(normalize_line, text.split("\n")) if line]
        pieces = self._pieces.encode(lines, out_type=str, num_threads=1)
        return perplexity([(self._model.score(" ".join(line)), len(line)) for line in pieces])


class KenLmPerplexity(Annotator):
    """Perplexity of each document under the model of its language."""

    class Config(Annotator.Config):
        models: dict[str, LanguageModel] = Field(description="language label -> its two model files", min_length=1)
        language: str = Field("lid_label", description="column that names the language of a document")
        cutoffs: dict[str, tuple[float, float]] = Field(
            {}, description="language label -> perplexity where head ends and where middle ends; CCNet: en 340, 520; zh 1460, 1950"
        )
        max_value: dict[str, float] = Field({}, description="language label -> perplexity above which a document is dropped")

        @model_validator(mode="after")
        def _known_languages(self) -> KenLmPerplexity.Config:
            for field in ("cutoffs", "max_value"):
                unknown = sorted(set(getattr(self, field)) - set(self.models))
                if unknown:
                    raise ValueError(f"{field} names {unknown}, models has {sorted(self.models)}: add the model or take the entry out")
            crossed = sorted(language for language, (head, middle) in self.cutoffs.items() if not 0 < head <= middle)
            if crossed:
                raise ValueError(f"cutoffs of {crossed} do not rise; expected 0 < head <= middle: write the smaller one first")
            return self

    _scorers: dict[str, _Scorer]

    def needs(self) -> tuple[str, ...]:
        return (self.config.language,)

    def check_inputs(self, types: Mapping[str, pa.DataType], writers: Mapping[str, Stage]) -> None:
        kind = types[self.config.language]
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise ValueError(
                f"language = {self.config.language!r} is a column of {kind}, expected the labels of a language identifier "
                "(string): name a column such as 'lid_label'"
            )

    def new_columns(self) -> dict[str, pa.DataType]:
        return {"value": pa.float32(), "bucket": pa.string(), "reason": pa.string()}

    def load(self) -> None:
        self._scorers = {language: _Scorer(files) for language, files in sorted(self.config.models.items())}

    def annotate(self, docs: Documents) -> Mapping[str, Any]:
        languages = docs.meta.column(self.config.language).to_pylist()
        values = [self._value(text, language) for text, language in zip(docs.text, languages, strict=True)]
        pairs = list(zip(values, languages, strict=True))
        return {
            "value": values,
            "bucket": [choose_bucket(value, self.config.cutoffs.get(language)) for value, language in pairs],
            "reason": [self._broken_rule(value, language) for value, language in pairs],
        }

    def _value(self, text: pa.LargeStringScalar, language: str | None) -> float | None:
        scorer = self._scorers.get(language) if language is not None else None
        # the text becomes a Python string only where a model waits for it
        return scorer.value(text.as_py()) if scorer else None

    def _broken_rule(self, value: float | None, language: str | None) -> str | None:
        limit = self.config.max_value.get(language)
        return "high_perplexity" if value is not None and limit is not None and value > limit else None
