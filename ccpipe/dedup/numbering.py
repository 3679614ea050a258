"""Numbers 0..n - 1 for the documents that occur in links, in their order, without sorting them.

One bit for each document of the shards concerned, and the number of bits set before every 512 of them: 1.125 bits a document of
the run, whatever the number of links. The number of a document is the count of its block and of the bits before it (Jacobson 1989).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ccpipe.dedup.external import Arrays
from ccpipe.kernels import kernel

PAGE_BITS = 12
"""Shards are looked up in pages of 4,096, so that ids far apart cost no more than ids from 0."""

BLOCK_BITS = 512
WORDS = BLOCK_BITS // 64
MAX_ROWS = 1 << 32


@kernel
def _note_rows(docs: np.ndarray, pages: np.ndarray, rows: np.ndarray, start: int) -> int:
    """Raise rows[page, shard], the rows a shard must have; stops at the first document of a page that is missing: its position."""
    for i in range(start, len(docs)):
        shard = np.int64(docs[i] >> np.uint64(32))
        page = pages[shard >> PAGE_BITS]
        if page < 0:
            return i
        slot = shard & ((1 << PAGE_BITS) - 1)
        rows[page, slot] = max(rows[page, slot], np.int64(docs[i] & np.uint64(0xFFFFFFFF)) + 1)
    return len(docs)


@kernel
def _bit(doc: np.uint64, pages: np.ndarray, starts: np.ndarray) -> Any:
    shard = np.int64(doc >> np.uint64(32))
    return starts[pages[shard >> PAGE_BITS], shard & ((1 << PAGE_BITS) - 1)] + np.int64(doc & np.uint64(0xFFFFFFFF))


@kernel
def _set_bits(docs: np.ndarray, pages: np.ndarray, starts: np.ndarray, words: np.ndarray) -> None:
    for i in range(len(docs)):
        bit = _bit(docs[i], pages, starts)
        words[bit >> 6] |= np.uint64(1) << np.uint64(bit & 63)


@kernel
def _popcount(word: np.uint64) -> Any:
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@kernel
def _count_before(words: np.ndarray, counts: np.ndarray) -> int:
    total = 0
    for block in range(len(words) // WORDS):
        counts[block] = total
        for word in range(block * WORDS, (block + 1) * WORDS):
            total += _popcount(words[word])
    return total


@kernel
def _number(docs: np.ndarray, pages: np.ndarray, starts: np.ndarray, words: np.ndarray, counts: np.ndarray, numbers: np.ndarray) -> None:
    for i in range(len(docs)):
        bit = _bit(docs[i], pages, starts)
        number = np.int64(counts[bit // BLOCK_BITS])
        for word in range(bit // BLOCK_BITS * WORDS, bit >> 6):
            number += _popcount(words[word])
        numbers[i] = number + _popcount(words[bit >> 6] & ((np.uint64(1) << np.uint64(bit & 63)) - np.uint64(1)))


@kernel
def _find_bits(numbers: np.ndarray, words: np.ndarray, counts: np.ndarray, bits: np.ndarray) -> None:
    """Where the bit of each number is: by bisection of the counts, then word by word."""
    for i in range(len(numbers)):
        number = np.int64(numbers[i])
        low, high = 0, len(counts)
        while high - low > 1:
            middle = (low + high) >> 1
            if np.int64(counts[middle]) <= number:
                low = middle
            else:
                high = middle
        left = number - np.int64(counts[low])
        word = low * WORDS
        while _popcount(words[word]) <= left:
            left -= _popcount(words[word])
            word += 1
        rest = words[word]
        for _ in range(left):
            rest &= rest - np.uint64(1)
        bits[i] = 64 * word + _popcount((rest & (~rest + np.uint64(1))) - np.uint64(1))


class Numbering:
    """Made in three steps: `note_rows` and `mark` see all documents, then `number` and `documents` answer."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.pages = np.full(1 << (32 - PAGE_BITS), -1, dtype=np.int32)
        self.rows = np.zeros((0, 1 << PAGE_BITS), dtype=np.int64)
        self.length = 0

    def note_rows(self, docs: np.ndarray) -> None:
        """docs: uint64, shape (n,)."""
        done = 0
        while (done := int(_note_rows(docs, self.pages, self.rows, done))) < len(docs):
            self.pages[int(docs[done]) >> (32 + PAGE_BITS)] = len(self.rows)
            self.rows = np.concatenate([self.rows, np.zeros((1, 1 << PAGE_BITS), np.int64)])

    def mark(self, blocks: Iterable[np.ndarray]) -> int:
        """All documents, as `note_rows` has seen them; returns how many different ones."""
        order = np.flatnonzero(self.pages >= 0)
        self.rows = self.rows[self.pages[order]]
        self.pages[order] = np.arange(len(order))
        blocks_of = -(-self.rows.ravel() // BLOCK_BITS)
        first = np.cumsum(blocks_of) - blocks_of
        self.starts = (first * BLOCK_BITS).reshape(self.rows.shape)
        self.used = np.flatnonzero(blocks_of)
        self.used_starts = self.starts.ravel()[self.used]
        self.used_shards = (order[self.used >> PAGE_BITS] << PAGE_BITS) + (self.used & ((1 << PAGE_BITS) - 1))
        n_blocks = int(blocks_of.sum())
        self.words = self.arrays.zeros(n_blocks * WORDS, np.uint64)
        self.counts = self.arrays.zeros(n_blocks, np.uint64)
        for docs in blocks:
            _set_bits(docs, self.pages, self.starts, self.words)
        self.length = int(_count_before(self.words, self.counts))
        return self.length

    def number(self, docs: np.ndarray) -> np.ndarray:
        """Numbers of marked documents: int64, shape (n,)."""
        numbers = np.empty(len(docs), np.int64)
        _number(docs, self.pages, self.starts, self.words, self.counts, numbers)
        return numbers

    def documents(self, numbers: np.ndarray) -> np.ndarray:
        """The documents that have these numbers: uint64, shape (n,)."""
        bits = np.empty(len(numbers), np.int64)
        _find_bits(numbers, self.words, self.counts, bits)
        at = np.searchsorted(self.used_starts, bits, "right") - 1
        rows = (bits - self.used_starts[at]).astype(np.uint64)
        docs: np.ndarray = (self.used_shards[at].astype(np.uint64) << np.uint64(32)) | rows
        return docs
