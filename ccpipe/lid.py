"""Language identification: which language is a document in, and how sure is the model.

In: the text. Out: `label`, `score`, `label2`, `score2`, ... (best first) and `reason`. Nothing is translated, split by
line or dropped here. Thresholds: cc_cleaner keeps labels above 0.5, of which a softmax model can give at most one; so the
best labels are stored with their scores and the best one decides, as CCNet and HPLT do (0.5).

Any supervised fastText model serves: lid.176 (labels `en`, `zh`), GlotLID or OpenLID (labels `zho_Hans`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pydantic import Field

from ccpipe.annotate import Annotator, Documents
from ccpipe.fasttext_model import FastTextModel
from ccpipe.stage import ModelFile

Ranking = list[tuple[str, float]]
"""Labels with their probabilities, best first."""


def broken_rule(ranking: Ranking, min_score: float) -> str | None:
    """Name of the rule that a document breaks, None when its language is known.

    >>> broken_rule([("zh", 0.94), ("wuu", 0.03)], 0.5)
    >>> broken_rule([("en", 0.12)], 0.5), broken_rule([], 0.5)
    ('no_language', 'no_language')
    """
    return None if ranking and ranking[0][1] >= min_score else "no_language"


class FastTextLid(Annotator):
    """Labels each document with its most likely languages."""

    class Config(Annotator.Config):
        model: ModelFile = Field(description="supervised fastText model (.bin or .ftz)")
        min_score: float = Field(0.5, ge=0, le=1, description="probability the best label must reach (cc_cleaner, CCNet, HPLT: 0.5)")
        k: int = Field(3, ge=1, le=10, description="labels stored per document (cc_cleaner: 3)")

    _model: FastTextModel

    def new_columns(self) -> dict[str, pa.DataType]:
        ranks = {f"{word}{_suffix(i)}": kind for i in range(self.config.k) for word, kind in _RANK_TYPES.items()}
        return {**ranks, "reason": pa.string()}

    def check(self) -> None:
        self.load()

    def load(self) -> None:
        self._model = FastTextModel(self.config.model)

    def annotate(self, docs: Documents) -> Mapping[str, Any]:
        rankings = [self._rank(text) for text in docs.texts()]
        values: dict[str, Any] = {}
        for i in range(self.config.k):
            values[f"label{_suffix(i)}"] = [r[i][0] if i < len(r) else None for r in rankings]
            values[f"score{_suffix(i)}"] = [r[i][1] if i < len(r) else None for r in rankings]
        return {**values, "reason": [broken_rule(r, self.config.min_score) for r in rankings]}

    def _rank(self, text: str) -> Ranking:
        # on an empty line a model answers with its prior, which says nothing of the document
        return self._model.predict(text, self.config.k) if text.strip() else []


_RANK_TYPES = {"label": pa.string(), "score": pa.float32()}


def _suffix(rank: int) -> str:
    return str(rank + 1) if rank else ""
