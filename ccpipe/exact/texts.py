"""Texts of a shard, and the keys of their lines."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from ccpipe.annotate import text_buffers
from ccpipe.lines import Key, key_table, scan_lines
from ccpipe.meta import read_columns
from ccpipe.stage import Inputs
from ccpipe.wet import PLACE_COLUMNS, read_rows


def read_chosen(inputs: Inputs, position: int, chosen: np.ndarray, batch_bytes: int) -> Iterator[tuple[np.ndarray, pa.Array]]:
    """Row numbers and texts of the chosen documents of a shard, in batches of about `batch_bytes` compressed text."""
    places = read_columns([inputs["base"][position]], PLACE_COLUMNS)
    rows = np.flatnonzero(chosen)
    sizes = places.column("wet_length").to_numpy()[rows].astype(np.int64)
    number = (np.cumsum(sizes) - sizes) // batch_bytes
    for part in np.split(rows, np.flatnonzero(np.diff(number)) + 1):
        if len(part):
            yield part, read_rows(inputs["wet"][position], places.take(pa.array(part)))


def hash_lines(text: pa.Array, key: Key) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of all lines of a batch: keys, uint64; letters, int64 (-1: never dropped); and per document the number of lines, int64.

    Lines are what `text.split("\\n")` gives, as in `drop_lines` of export.
    """
    data, offsets = text_buffers(text)
    table = key_table(key)
    whole = data[offsets[0] : offsets[-1]]
    breaks = np.flatnonzero(whole == 10) + int(offsets[0])
    n_lines = np.searchsorted(breaks, offsets[1:]) - np.searchsorted(breaks, offsets[:-1]) + 1
    n, total = 0, int(n_lines.sum())
    ends, keys, letters = np.empty(total, np.int64), np.empty(total, np.uint64), np.empty(total, np.int64)
    for i in range(len(offsets) - 1):
        n += scan_lines(data[offsets[i] : offsets[i + 1]], table, ends[n:], keys[n:], letters[n:])
    return keys, letters, n_lines
