"""A Hugging Face sequence classifier from a local folder, run so that a document's score depends on the document alone.

In: texts. Out: one float each, or None where the model has no finite answer. Nothing is downloaded and no code of the
model's author is run. Floating-point sums depend on the shape of a batch and, on a CPU, on the row, so a document is padded
to the next multiple of `PAD_TOKENS` and a CPU takes one at a time (its core is busy with one as with many). On a GPU every
batch of a width has the same number of rows, the last one filled up: what shares the batch, and where a killed unit
resumes, does not change the shape.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAD_TOKENS = 64
"""Width of a batch: a multiple of this. Wider steps pad more, narrower ones leave more incomplete batches."""

CHARS_PER_TOKEN = 32
"""Text beyond `max_length * CHARS_PER_TOKEN` characters is not tokenised: a page of megabytes costs no more than a long one."""


@dataclass(frozen=True)
class Batch:
    """Rows of one width; `members` are numbers of documents."""

    width: int
    members: tuple[int, ...]


def plan_batches(lengths: Sequence[int], max_length: int, batch_tokens: int) -> list[Batch]:
    """Documents sorted into batches of equal width, shortest first, in their own order within a width.

    >>> plan_batches([10, 500, 64, 20], 512, 128)
    [Batch(width=64, members=(0, 2)), Batch(width=64, members=(3,)), Batch(width=512, members=(1,))]
    """
    by_width: dict[int, list[int]] = {}
    for document, length in enumerate(lengths):
        by_width.setdefault(padded_width(length, max_length), []).append(document)
    return [
        Batch(width, tuple(members[i : i + rows]))
        for width, members in sorted(by_width.items())
        for rows in (batch_rows(width, batch_tokens),)
        for i in range(0, len(members), rows)
    ]


def padded_width(length: int, max_length: int) -> int:
    return min(-(-max(length, 1) // PAD_TOKENS) * PAD_TOKENS, max_length)


def batch_rows(width: int, batch_tokens: int) -> int:
    return max(batch_tokens // width, 1)


class SequenceClassifier:
    """Model and tokenizer of one folder, on the GPU where there is one.

    `label`: name or number of the label whose probability is wanted; ignored by a model with one output, whose raw
    value is the score. Only safetensors are read. Raises `FileNotFoundError` or `ValueError` with the folder.
    """

    def __init__(self, folder: str, label: str | None, max_length: int, batch_tokens: int, dtype: str) -> None:
        # before the first import: no look at the network, no threads of the tokenizer beside one process per core
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self._column = find_label(label, folder)
        check_folder(folder)
        local = {"local_files_only": True, "trust_remote_code": False}
        self._torch = torch
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self._device.type == "cpu":
            torch.set_num_threads(1)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        kind = getattr(torch, _dtype_name(dtype, self._device.type, torch))
        model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True, dtype=kind, **local)
        self._model = model.eval().to(self._device)
        self._max_length = _usable_length(max_length, self._tokenizer, model.config)
        self._batch_tokens = batch_tokens if self._device.type == "cuda" else 1
        self._probe(folder)

    def _probe(self, folder: str) -> None:
        """A model that cannot score one plain word is broken; after this, a failure is the document's."""
        try:
            self._forward(self._tokenize(["word"]), padded_width(1, self._max_length))
        except (RuntimeError, IndexError) as error:
            raise ValueError(
                f"the model in {folder} fails on the text 'word' ({error}); expected a score: "
                "see that tokenizer and weights belong together, and load the folder with transformers alone"
            ) from error

    def scores(self, texts: Sequence[str]) -> list[float | None]:
        """One score per text, in order; None where the text is blank, or the model fails on it or gives no finite number."""
        found: list[float | None] = [None] * len(texts)
        wanted = [i for i, text in enumerate(texts) if text.strip()]
        tokens = self._tokenize([texts[i] for i in wanted])
        for batch in plan_batches([len(ids) for ids in tokens], self._max_length, self._batch_tokens):
            for member, score in self._score_batch(batch, tokens):
                found[wanted[member]] = score if math.isfinite(score) else None
        return found

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        cut = [text[: self._max_length * CHARS_PER_TOKEN] for text in texts]
        answer = self._tokenizer(cut, truncation=True, max_length=self._max_length, return_attention_mask=False)
        return list(answer["input_ids"])

    def _score_batch(self, batch: Batch, tokens: list[list[int]]) -> Iterator[tuple[int, float]]:
        """Scores of a batch. One that fails is tried document by document, so that one bad document costs only itself."""
        rows = [tokens[i] for i in batch.members]
        try:
            yield from zip(batch.members, self._forward(rows, batch.width), strict=True)
        except self._torch.OutOfMemoryError:
            raise  # says something of `batch_tokens`, not of a document
        except (RuntimeError, IndexError):
            yield from ((i, self._try_alone(tokens[i], batch.width)) for i in batch.members)

    def _try_alone(self, row: list[int], width: int) -> float:
        try:
            return self._forward([row], width)[0]
        except (RuntimeError, IndexError):
            return math.nan

    def _forward(self, rows: list[list[int]], width: int) -> list[float]:
        """Scores of at most one batch of token rows; filled up with its first row to the rows that this width always has."""
        filled = rows + [rows[0]] * (batch_rows(width, self._batch_tokens) - len(rows))
        pad = self._tokenizer.pad_token_id or 0
        ids = self._torch.tensor([row + [pad] * (width - len(row)) for row in filled], device=self._device)
        mask = self._torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in filled], device=self._device)
        with self._torch.inference_mode():
            logits = self._model(input_ids=ids, attention_mask=mask).logits.float()
        answer = logits[:, 0] if logits.shape[1] == 1 else logits.softmax(dim=1)[:, self._column]
        return [float(score) for score in answer[: len(rows)].tolist()]


def _dtype_name(wanted: str, device: str, torch: Any) -> str:
    """`auto`: float32 on the CPU; bfloat16 on a GPU that has it (FineWeb-Edu's inference), else float16."""
    if wanted != "auto":
        return wanted
    if device == "cpu":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def _usable_length(wanted: int, tokenizer: Any, config: Any) -> int:
    """Tokens that config, tokenizer and position table all allow. RoBERTa's table has two rows before the first token."""
    positions = getattr(config, "max_position_embeddings", None) or wanted
    if "roberta" in str(getattr(config, "model_type", "")):
        positions -= 2
    return int(min(wanted, tokenizer.model_max_length, positions))


def check_folder(folder: str) -> None:
    """Refuse a model whose loading would run somebody's code: weights that are a pickle, or classes that come with the model.

    Raises `FileNotFoundError` or `ValueError`, with the command that makes safetensors of other weights.
    """
    path = Path(folder)
    for name in ("config.json", "tokenizer_config.json"):
        if (path / name).is_file() and "auto_map" in json.loads((path / name).read_text(encoding="utf-8")):
            raise ValueError(
                f"{path / name} has `auto_map`: the model wants to run Python code of its author; expected a model that transformers "
                "knows by itself. Choose another model, or write a stage of your own that loads this one (docs/sites.md, Security)"
            )
    if not any(path.glob("*.safetensors")):
        others = sorted(
            found.name for kind in ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.h5", "*.msgpack") for found in path.glob(kind)
        )
        raise FileNotFoundError(
            f"no *.safetensors in {folder}, which has {others[:5] or 'no weights'}; expected safetensors, since other formats can run "
            'code as they are read. Where you trust the model, convert it elsewhere: python -c "import sys; from transformers import '
            'AutoModelForSequenceClassification as M; M.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])" OLD NEW'
        )


def find_label(label: str | None, folder: str) -> int:
    """Output of the model in `folder` that holds the label's score, from its config.json alone.

    Raises `FileNotFoundError` where that is missing, `ValueError` with the labels where `label` is none of them.
    """
    path = Path(folder, "config.json")
    if not path.is_file():
        raise FileNotFoundError(f"no config.json in {folder}; expected the folder of a Hugging Face model: set `model` to one")
    config = json.loads(path.read_text(encoding="utf-8"))
    # a config that names none has two outputs, called so (PretrainedConfig of transformers)
    named = config.get("id2label") or {i: f"LABEL_{i}" for i in range(config.get("num_labels", 2))}
    names = [str(name) for _, name in sorted(named.items(), key=lambda item: int(item[0]))]
    if len(names) == 1:
        return 0
    if label in names:
        return names.index(label)
    if label is not None and label.isdecimal() and int(label) < len(names):
        return int(label)
    raise ValueError(f"label {label!r} is not in {folder}, which has {names[:20]}: set `label` to one of them")
