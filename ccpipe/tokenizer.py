"""Tokenizers for export: a file of the user's, texts in, token ids out.

`tokenizer.json` is Hugging Face's format, `*.model` SentencePiece's. A token such as `<|endoftext|>` that stands in a page is text like
any other here: a page must not be able to end a document.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol


class Tokenizer(Protocol):
    vocab_size: int
    """One more than the largest id, special tokens included."""
    eos: int
    """Id that ends a document."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without any special token."""


def open_tokenizer(path: str, eos: str | None) -> Tokenizer:
    """Open by suffix. `eos`: the token that ends a document; None takes SentencePiece's own.

    Raises `FileNotFoundError` or `ValueError` with the path and the choices.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no tokenizer at {path}; expected a tokenizer.json or a SentencePiece .model: set `tokenizer` to one")
    if path.endswith(".json"):
        return HuggingFaceTokenizer(path, eos)
    if path.endswith(".model"):
        return SentencePieceTokenizer(path, eos)
    raise ValueError(f"{path} is of no known kind; expected a name that ends in .json (Hugging Face) or .model (SentencePiece)")


class HuggingFaceTokenizer:
    """A `tokenizer.json`."""

    def __init__(self, path: str, eos: str | None) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process per core works already
        from tokenizers import Tokenizer as Backend

        self._backend: Any = Backend.from_file(path)
        self._backend.no_padding()
        self._backend.no_truncation()
        self._backend.encode_special_tokens = True  # means: as the text that they are
        vocabulary = self._backend.get_vocab(with_added_tokens=True)
        special = [token.content for _, token in sorted(self._backend.get_added_tokens_decoder().items()) if token.special]
        self.vocab_size = max(vocabulary.values()) + 1
        self.eos = find_eos(eos, vocabulary.get(eos or ""), special, path)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]


class SentencePieceTokenizer:
    """A SentencePiece `.model`."""

    def __init__(self, path: str, eos: str | None) -> None:
        import sentencepiece

        self._backend = sentencepiece.SentencePieceProcessor(model_file=path)
        own = self._backend.eos_id()
        special = [self._backend.id_to_piece(i) for i in range(self._backend.get_piece_size()) if self._backend.is_control(i)]
        named = self._backend.piece_to_id(eos) if eos is not None else own
        known = named >= 0 and (eos is None or self._backend.id_to_piece(named) == eos)
        self.vocab_size = int(self._backend.get_piece_size())
        self.eos = find_eos(eos, named if known else None, special, path)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return list(self._backend.encode(list(texts), out_type=int, num_threads=1))


def find_eos(wanted: str | None, found: int | None, special: Sequence[str], path: str) -> int:
    """The id found, or a `ValueError` that names the special tokens."""
    if found is None:
        raise ValueError(f"eos {wanted!r} is not a token of {path}; its special tokens are {list(special)[:20]}: set `eos` to one of them")
    return int(found)
