"""The `sig` stage: one MinHash signature for every document of a shard.

In: `wet` and, of `base`, the columns that lead to each text. Out: `sig`, a .npy file, uint64 (uint32 with hash_bits = 32),
shape (n_docs, n_hashes), row i for document i, readable with `numpy.load(path, mmap_mode="r")`. Every document is signed, so
that signatures serve any later choice of documents; `where` belongs to the stages that read them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from ccpipe.annotate import text_buffers
from ccpipe.counts import Counts
from ccpipe.meta import read_columns
from ccpipe.minhash import N_HASHES, SEED, SHINGLE, narrow, sign
from ccpipe.stage import Inputs, Outputs, Stage, StageConfig, Unit, tuning
from ccpipe.wet import PLACE_COLUMNS, read_rows


class Sign(Stage):
    class Config(StageConfig):
        n_hashes: int = Field(N_HASHES, description="positions of a signature; hash_bits / 8 bytes each on disk", ge=1, le=65_536)
        hash_bits: Literal[32, 64] = Field(
            64, description="width of a position; 32 halves the files, unequal positions are equal once in 2^32"
        )
        shingle: int = Field(SHINGLE, description="tokens in a row that are compared as one", ge=1, le=1000)
        seed: int = Field(SEED, description="signatures of different seeds cannot be compared", ge=0, lt=1 << 63)
        batch_bytes: int = tuning(8 << 20, "compressed text read per batch, bytes", ge=1)

        @field_validator("where")
        @classmethod
        def _no_where(cls, value: str | None) -> None:
            if value is not None:
                raise ValueError(f"where = {value!r}: sig signs every document; put this predicate into the dedup table")

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        places = read_columns([inputs["base"][0]], PLACE_COLUMNS)
        counts = Counts()
        with out["sig"].open("wb") as file:
            shape = (len(places), self.config.n_hashes)
            np.lib.format.write_array_header_1_0(file, {"descr": f"<u{self.config.hash_bits // 8}", "fortran_order": False, "shape": shape})
            for batch in self._batches(places):
                text = read_rows(inputs["wet"][0], batch)
                signed = sign(*text_buffers(text), self.config.n_hashes, self.config.shingle, self.config.seed)
                values = narrow(signed.values) if self.config.hash_bits == 32 else signed.values
                file.write(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).data)
                counts.keep(len(text))
                counts.extra["tokens"] += int(signed.n_tokens.sum())
                counts.extra["shorter_than_shingle"] += int((signed.n_tokens < self.config.shingle).sum())
                counts.extra["without_tokens"] += int((signed.n_tokens == 0).sum())
        return counts

    def _batches(self, places: pa.Table) -> Iterator[pa.Table]:
        """Consecutive rows of about `batch_bytes` compressed text."""
        lengths = places.column("wet_length").to_numpy().astype(np.int64)
        number = (np.cumsum(lengths) - lengths) // self.config.batch_bytes
        starts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(places)]
        for first, last in itertools.pairwise(starts):
            if last > first:
                yield places.slice(first, last - first)
