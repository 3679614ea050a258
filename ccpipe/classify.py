"""Quality classifiers: a fastText model or a Hugging Face sequence classifier gives each document a score.

In: the text. Out: `score` (null where there is nothing to score) and `reason`. No threshold is built in: it belongs to the
model (DCLM's fastText 0.018112; FineWeb-Edu 3 of 0..5). Ranking documents into buckets is the stage `bucket`.
The stage's name tells classifiers apart: `classify.edu` writes `edu_score`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from ccpipe.annotate import Annotator, Documents
from ccpipe.fasttext_model import FastTextModel, bare_label
from ccpipe.stage import ModelFile
from ccpipe.transformer import SequenceClassifier, check_folder, find_label

COLUMNS: dict[str, pa.DataType] = {"score": pa.float32(), "reason": pa.string()}


def broken_rule(score: float | None, min_score: float | None) -> str | None:
    """
    >>> broken_rule(0.2, 0.5), broken_rule(0.5, 0.5), broken_rule(0.2, None), broken_rule(None, 0.5)
    ('low_score', None, None, 'not_scored')
    """
    if score is None:
        return "not_scored"
    return "low_score" if min_score is not None and score < min_score else None


def check_label(label: str, labels: Sequence[str], model: str) -> None:
    """Raise `ValueError` naming the choices where a model has no such label."""
    if label not in labels:
        raise ValueError(f"label {label!r} is not in {model}, which has {sorted(labels)[:20]}: set `label` to one of them")


class FastTextClassifier(Annotator):
    """Probability of one label of a supervised fastText model; lines are joined by a space, as in DCLM."""

    class Config(Annotator.Config):
        model: ModelFile = Field(description="supervised fastText model (.bin or .ftz)")
        label: str = Field("__label__1", description="label whose probability is the score; with or without `__label__`")
        min_score: float | None = Field(None, ge=0, le=1, description="probability below which a document is dropped; None: none is")

    _model: FastTextModel

    def new_columns(self) -> dict[str, pa.DataType]:
        return COLUMNS

    def check(self) -> None:
        self.load()

    def load(self) -> None:
        self._model = FastTextModel(self.config.model)
        check_label(bare_label(self.config.label), self._model.labels, self.config.model)

    def annotate(self, docs: Documents) -> Mapping[str, Any]:
        scores = [self._score(text) for text in docs.texts()]
        return {"score": scores, "reason": [broken_rule(score, self.config.min_score) for score in scores]}

    def _score(self, text: str) -> float | None:
        """Probability of the label, 0 where it is not among those that the model gives; None for a blank text."""
        return dict(self._model.predict(text, -1)).get(bare_label(self.config.label), 0.0) if text.strip() else None


class TransformerClassifier(Annotator):
    """Raw output of a regression model, or the probability of one label of a classifier; first `max_length` tokens."""

    uses_gpu: ClassVar[bool] = True
    """One process per GPU where there are GPUs; works on the CPU too, at a few documents a second."""

    class Config(Annotator.Config):
        model: ModelFile = Field(description="folder of a Hugging Face sequence classifier: config.json, model.safetensors, tokenizer")
        label: str | None = Field(None, description="name or number of the label whose probability is the score; unused with one output")
        min_score: float | None = Field(None, description="score below which a document is dropped; FineWeb-Edu 3 of 0..5")
        max_length: int = Field(512, ge=8, le=32_768, description="tokens read of each document; FineWeb-Edu 512, CCI4.0 2048")
        batch_tokens: int = Field(4096, ge=1, description="tokens per forward pass, padding included; a GPU of 40 GB takes 262144")
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
            "auto", description="number format of the model; auto: float32 on a CPU, bfloat16 (else float16) on a GPU"
        )

    _model: SequenceClassifier

    def new_columns(self) -> dict[str, pa.DataType]:
        return COLUMNS

    def check(self) -> None:
        find_label(self.config.label, self.config.model)
        check_folder(self.config.model)

    def load(self) -> None:
        c = self.config
        self._model = SequenceClassifier(c.model, c.label, c.max_length, c.batch_tokens, c.dtype)

    def annotate(self, docs: Documents) -> Mapping[str, Any]:
        scores = self._model.scores(docs.texts())
        return {"score": scores, "reason": [broken_rule(score, self.config.min_score) for score in scores]}
