"""Tokenised documents as Megatron-LM's indexed dataset: a `.bin` of token ids and an `.idx` that says where each document is.

Layout of the index, little-endian (Megatron-LM, `megatron/core/datasets/indexed_dataset.py`): the nine bytes of `MAGIC`; version
1, uint64; dtype code, uint8; number of sequences n, uint64; number of document bounds n + 1, uint64; then int32 tokens per
sequence, int64 byte offset of each sequence in the `.bin`, and int64 document bounds 0, 1, ... n. One document is one sequence.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
DTYPE_CODES = {"uint16": 8, "int32": 4}
UINT16_VOCABULARY = 65_500
"""Megatron-LM takes uint16 below this number of ids, int32 (never negative, so uint32 to other readers) from it on."""


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """
    >>> token_dtype(32_000).name, token_dtype(151_669).name
    ('uint16', 'int32')
    """
    return np.dtype(np.uint16 if vocab_size < UINT16_VOCABULARY else np.int32).newbyteorder("<")


class IndexedWriter:
    """Writes documents to `tokens` as they come, and `index` at the end. Holds four bytes per document."""

    def __init__(self, tokens: Path, index: Path, vocab_size: int) -> None:
        self.dtype = token_dtype(vocab_size)
        self.n_tokens = 0
        self._index = index
        self._vocab_size = vocab_size
        self._lengths: list[npt.NDArray[np.int32]] = []
        self._file = tokens.open("wb")

    def add(self, documents: Sequence[Sequence[int]]) -> None:
        """Append documents. Raises `ValueError` where an id is not in the vocabulary."""
        lengths = np.fromiter(map(len, documents), dtype=np.int32, count=len(documents))
        ids = np.fromiter((token for document in documents for token in document), dtype=np.int64, count=int(lengths.sum()))
        if len(ids) and not 0 <= ids.min() <= ids.max() < self._vocab_size:
            seen = f"token ids {ids.min()}..{ids.max()}"
            raise ValueError(f"{seen}, expected 0..{self._vocab_size - 1}: the tokenizer misstates its vocabulary, take another file")
        ids.astype(self.dtype).tofile(self._file)
        self._lengths.append(lengths)
        self.n_tokens += len(ids)

    def __enter__(self) -> IndexedWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        if kind is None:
            self._write_index()

    def _write_index(self) -> None:
        lengths = np.concatenate([np.zeros(0, np.int32), *self._lengths])
        ends = np.cumsum(lengths, dtype=np.int64) * self.dtype.itemsize
        with self._index.open("wb") as file:
            file.write(HEADER.pack(MAGIC, 1, DTYPE_CODES[self.dtype.name], len(lengths), len(lengths) + 1))
            file.write(lengths.astype("<i4").tobytes())
            file.write((ends - lengths.astype(np.int64) * self.dtype.itemsize).astype("<i8").tobytes())
            file.write(np.arange(len(lengths) + 1, dtype="<i8").tobytes())


def count_sequences(index: Path) -> int:
    """Number of sequences that an index names. Raises `ValueError` where the file is no index."""
    with index.open("rb") as file:
        head = file.read(HEADER.size)
    if len(head) < HEADER.size or not head.startswith(MAGIC):
        raise ValueError(f"{index} begins with {head[:9]!r}; expected {MAGIC!r}: rerun the stage that wrote it")
    return int(HEADER.unpack(head)[3])
