"""fastText models: opened by path, asked about one document at a time.

In: a model file and a text. Out: (label, probability) pairs, best first. Labels lose their `__label__`.
A newline ends a document for fastText, so lines are joined by a space (deleting the newline glues words together).
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

LABEL_PREFIX = "__label__"
"""fastText's default `-label`."""


class _Binding(Protocol):
    def predict(self, text: str, k: int, threshold: float, on_unicode_error: str) -> list[tuple[float, str]]: ...


class FastTextModel:
    """A supervised fastText model.

    Raises `FileNotFoundError` or `ValueError` with the path when it cannot be opened or has no labels.
    """

    def __init__(self, path: str | Path) -> None:
        import fasttext

        if not Path(path).is_file():
            raise FileNotFoundError(f"no fastText model at {path}; expected a .bin or .ftz file: set `model` to one that exists")
        try:
            model = fasttext.load_model(str(path))
            self.labels = tuple(bare_label(label) for label in model.get_labels())
        except ValueError as error:
            raise ValueError(f"{path} is not a fastText model ({error}); expected a supervised .bin or .ftz file: fetch it again") from None
        if not any(label.startswith(LABEL_PREFIX) for label in model.get_labels()):
            raise ValueError(f"{path} has no {LABEL_PREFIX}... labels; expected a supervised model: train it with `fasttext supervised`")
        self._model = model
        # the binding below `predict`: the wrapper around it turns every answer into a tuple and an array
        self._binding: _Binding = model.f

    def predict(self, text: str, k: int) -> list[tuple[str, float]]:
        """The `k` best labels with their probabilities in 0..1; every label for k = -1.

        fastText adds 1e-5 inside its logarithm, so that a sure answer comes out as 1.00001: cut at 1.
        """
        found = self._binding.predict(join_lines(text) + "\n", k, 0.0, "replace")
        return [(bare_label(label), min(float(score), 1.0)) for score, label in found]


def bare_label(label: str) -> str:
    """
    >>> bare_label("__label__zho_Hans")
    'zho_Hans'
    """
    return label.removeprefix(LABEL_PREFIX)


def join_lines(text: str) -> str:
    """
    >>> join_lines("one\\ntwo")
    'one two'
    """
    return text.replace("\n", " ")
