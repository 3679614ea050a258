"""JSON lines in one zstd frame, whose bytes depend on the records alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import zstandard

WRITE_BYTES = 1 << 20
"""The compressor is fed pieces of exactly this size: its output may depend on how the input is cut."""


class JsonLines:
    """Writes one JSON object a line. One frame with a checksum: several readers stop in silence after the first of many."""

    def __init__(self, path: Path, level: int) -> None:
        self._file = path.open("wb")
        self._sink = zstandard.ZstdCompressor(level=level, write_checksum=True).stream_writer(self._file)
        self._pending = bytearray()

    def write(self, record: dict[str, Any]) -> None:
        self._pending += json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        while len(self._pending) >= WRITE_BYTES:
            self._sink.write(bytes(self._pending[:WRITE_BYTES]))
            del self._pending[:WRITE_BYTES]

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._sink.write(bytes(self._pending))
        self._sink.flush(zstandard.FLUSH_FRAME)
        self._file.close()


def json_values(column: pa.ChunkedArray) -> list[Any]:
    """A column as JSON values: float32 in its own shortest form, what is no finite number as null."""
    values: list[Any] = column.to_pylist()
    if not pa.types.is_floating(column.type):
        return values
    short = np.float32 if pa.types.is_float32(column.type) else np.float64
    return [float(str(short(value))) if value is not None and math.isfinite(value) else None for value in values]
