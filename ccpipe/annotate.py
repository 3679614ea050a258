"""Annotators: classes that turn a batch of documents into new columns, and the one driver that feeds them all.

In: `base` (and the column groups that `where` and `needs` name) and the WET of one shard.
Out: one column group, row-aligned with the base; rows outside `where` get null.
A column called `<prefix>_reason` is special: null means looked at and kept, a word names the rule that the document broke,
and rows outside `where` get `not_in_where`, so that `quality_reason IS NULL` never lets through what nobody looked at.

Write your own: subclass `Annotator`, name it in the run.toml as `use = "yourpackage.module:Class"`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ccpipe.counts import Counts
from ccpipe.meta import NOT_IN_WHERE, document_ids, read_columns, select_rows, shard_groups, write_group
from ccpipe.stage import Cursor, Inputs, Outputs, SlicedStage, StageConfig, Unit, tuning
from ccpipe.wet import PLACE_COLUMNS, read_rows

SLICE_FILE = "columns.parquet"


@dataclass(frozen=True)
class Documents:
    """A batch of documents: `text` is an Arrow large_string array, `meta` the needed columns, `ids` uint64, all of shape (n,)."""

    text: pa.Array
    meta: pa.Table
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.text)

    def texts(self) -> list[str]:
        """The texts as Python strings; for libraries that want one document at a time."""
        return list(self.text.to_pylist())

    def buffers(self) -> tuple[np.ndarray, np.ndarray]:
        """UTF-8 bytes, uint8, shape (n_bytes,), and offsets, int64, shape (n + 1,): text i is data[offsets[i]:offsets[i + 1]]."""
        return text_buffers(self.text)


def text_buffers(text: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The two buffers of an Arrow large_string array without copying: bytes, uint8, and offsets, int64, shape (n + 1,)."""
    _, offsets_buffer, data_buffer = text.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[text.offset : text.offset + len(text) + 1]
    data = np.frombuffer(data_buffer, dtype=np.uint8) if data_buffer is not None else np.zeros(0, dtype=np.uint8)
    return data, offsets


class Annotator(SlicedStage):
    """Turns batches of documents into columns.

    A subclass gives `new_columns` (short name -> Arrow type) and `annotate` (batch -> short name -> values); where it
    needs other columns or a model, also `needs` and `load`. Column names in files are `<stage name>_<short name>`.

    >>> class Shouting(Annotator):
    ...     def new_columns(self):
    ...         return {"share": pa.float32(), "reason": pa.string()}
    ...     def annotate(self, docs):
    ...         share = [sum(map(str.isupper, t)) / max(len(t), 1) for t in docs.texts()]
    ...         return {"share": share, "reason": ["shouting" if s > 0.5 else None for s in share]}
    """

    class Config(StageConfig):
        batch_bytes: int = tuning(8 << 20, "compressed text read per batch, bytes", ge=1)
        slice_rows: int = tuning(50_000, "documents per committed slice", ge=1)

    reads_text: ClassVar[bool] = True
    """False for an annotator of columns alone: the WET is not opened and the texts are empty."""

    @abstractmethod
    def new_columns(self) -> dict[str, pa.DataType]:
        """Short column name -> Arrow type."""

    @abstractmethod
    def annotate(self, docs: Documents) -> Mapping[str, Any]:
        """Short column name -> Arrow array, NumPy array or list, one value for each document."""

    def columns(self) -> dict[str, pa.DataType]:
        return {f"{self.prefix}_{short}": kind for short, kind in self.new_columns().items()}

    def slice(self, unit: Unit, inputs: Inputs, folder: Path, cursor: Cursor | None) -> tuple[Counts, Cursor | None]:
        first = cursor["row"] if cursor else 0
        groups = shard_groups(inputs)
        chosen = select_rows(groups, self.config.where)
        last = min(first + self.config.slice_rows, len(chosen))
        rows = first + np.flatnonzero(chosen[first:last])
        ids = document_ids(unit.shards[0], len(chosen))
        counts = Counts()
        counts.drop(NOT_IN_WHERE, last - first - len(rows))
        wanted = read_columns(groups, [*self.needs(), *(PLACE_COLUMNS if self.reads_text else ("wet_length",))])
        parts = [self._annotate_rows(batch, wanted, ids, inputs, counts) for batch in self._batches(rows, wanted)]
        schema = pa.schema(self.columns())
        new = pa.concat_tables(parts) if parts else schema.empty_table()
        write_group(folder / SLICE_FILE, scatter(new, rows - first, last - first, f"{self.prefix}_reason"))
        return counts, ({"row": last} if last < len(chosen) else None)

    def join(self, unit: Unit, inputs: Inputs, slices: Sequence[Path], out: Outputs) -> None:
        write_group(out[f"meta/{self.name}"], pa.concat_tables([pq.read_table(folder / SLICE_FILE) for folder in slices]))

    def _batches(self, rows: np.ndarray, wanted: pa.Table) -> Iterator[np.ndarray]:
        """Row numbers in batches of about `batch_bytes` compressed text."""
        lengths = wanted.column("wet_length").to_numpy()[rows].astype(np.int64)
        batch = (np.cumsum(lengths) - lengths) // self.config.batch_bytes
        yield from (part for part in np.split(rows, np.flatnonzero(np.diff(batch)) + 1) if len(part))

    def _annotate_rows(self, rows: np.ndarray, wanted: pa.Table, ids: np.ndarray, inputs: Inputs, counts: Counts) -> pa.Table:
        meta = wanted.take(pa.array(rows))
        text = read_rows(inputs["wet"][0], meta) if self.reads_text else pa.array([""] * len(rows), pa.large_string())
        docs = Documents(text, meta.select(list(self.needs())), ids[rows])
        return self._check(self.annotate(docs), len(docs), counts)

    def _check(self, values: Mapping[str, Any], n_docs: int, counts: Counts) -> pa.Table:
        """The annotator's answer as a table, counted by reason. Raises `ValueError` where it breaks its promise."""
        promised = self.new_columns()
        if set(values) != set(promised):
            raise ValueError(f"{type(self).__name__}.annotate gave columns {sorted(values)}, new_columns promised {sorted(promised)}")
        arrays = {short: _as_array(values[short], kind) for short, kind in promised.items()}
        for short, array in arrays.items():
            if len(array) != n_docs:
                raise ValueError(f"{type(self).__name__}.annotate gave {len(array)} values of {short!r} for {n_docs} documents")
        broken = arrays["reason"].drop_null() if "reason" in arrays else pa.array([], pa.string())
        for entry in pc.value_counts(broken).to_pylist():
            counts.drop(entry["values"], entry["counts"])
        counts.keep(n_docs - len(broken))
        return pa.table({f"{self.prefix}_{short}": array for short, array in arrays.items()})


def _as_array(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        return values.cast(kind)
    return pa.array(values, kind)


def scatter(values: pa.Table, rows: np.ndarray, n_rows: int, reason: str) -> pa.Table:
    """`values` at `rows` of a table of `n_rows`, null elsewhere; a column called `reason` says `not_in_where` there."""
    positions = np.full(n_rows, -1, dtype=np.int64)
    positions[rows] = np.arange(len(rows))
    table = values.take(pa.array(positions, mask=positions < 0))
    if reason not in table.column_names:
        return table
    given = table.column(reason).combine_chunks()
    filled = pc.if_else(pa.array(positions < 0), pa.scalar(NOT_IN_WHERE, given.type), given)
    return table.set_column(table.column_names.index(reason), reason, filled)
