"""A sample of the input, the same each time: whole files evenly spaced over the sorted list, or the first parts of up to eight.

Parts end where a record ends, so that a sample of gigabyte WARCs is about the share that was asked for, and holds no damage that
the input does not have. They are of unequal size on purpose: only so can what a unit costs in any case be told from what grows with it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ByteSize, TypeAdapter, ValidationError

from ccpipe.warc import read_records
from hpc.state.manifest import InputFile
from jobs.errors import UsageError

MAX_PARTS = 8
MIN_PART_BYTES = 16 << 10
"""Parts smaller than a few pages say nothing: there are fewer of them instead."""

COPY_BYTES = 1 << 20
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Wanted:
    """What `--probe` asks for: bytes of the input, or a number of whole files."""

    n_bytes: int = 0
    files: int = 0


@dataclass(frozen=True)
class Sample:
    """`paths` to read, `n_bytes` in all; `sources` the input files they come from, `cut` how many of them are only a part."""

    paths: tuple[Path, ...]
    n_bytes: int
    sources: tuple[str, ...]
    cut: int


def parse_probe(text: str, total_bytes: int) -> Wanted:
    """`1%`, `200MB` or `3` (files). Raises `UsageError`.

    >>> parse_probe("1%", 5000), parse_probe("2 kB", 5000), parse_probe("3", 5000)
    (Wanted(n_bytes=50, files=0), Wanted(n_bytes=2000, files=0), Wanted(n_bytes=0, files=3))
    """
    text = text.strip()
    if (share := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text)) and 0 < float(share[1]) <= 100:
        return Wanted(n_bytes=max(1, round(total_bytes * float(share[1]) / 100)))
    if re.fullmatch(r"[1-9]\d*", text):
        return Wanted(files=int(text))
    try:
        n_bytes = int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        n_bytes = 0
    if n_bytes <= 0 or text.endswith("%"):
        raise UsageError(f"--probe {text!r}: expected a share such as 1%, a size such as 200MB, or a number of files such as 3")
    return Wanted(n_bytes=min(n_bytes, total_bytes))


def take_sample(files: Sequence[InputFile], wanted: Wanted, folder: Path) -> Sample:
    """Write parts into `folder`, which must be empty or absent; whole files are read where they are."""
    files = sorted((file for file in files if file.bytes), key=lambda file: file.path)
    if not files:
        raise UsageError("the input holds no bytes: there is nothing to probe. Check `inputs` in [run]")
    mean = sum(file.bytes for file in files) / len(files)
    if wanted.files or wanted.n_bytes >= MAX_PARTS * mean or wanted.n_bytes >= sum(file.bytes for file in files):
        chosen = spaced(files, wanted.files or round(wanted.n_bytes / mean))
        return Sample(tuple(Path(file.path) for file in chosen), sum(f.bytes for f in chosen), tuple(f.path for f in chosen), 0)
    chosen = spaced(files, min(MAX_PARTS, max(1, wanted.n_bytes // MIN_PART_BYTES)))
    return _cut(chosen, part_sizes([file.bytes for file in chosen], wanted.n_bytes), folder)


def spaced(files: Sequence[InputFile], n: int) -> list[InputFile]:
    """`n` files from the middles of equal stretches of the list."""
    n = max(1, min(n, len(files)))
    return [files[(2 * i + 1) * len(files) // (2 * n)] for i in range(n)]


def part_sizes(sizes: Sequence[int], n_bytes: int) -> list[int]:
    """How much of each file: from half the mean to one and a half of it, never more than there is, `n_bytes` in all if possible.

    >>> part_sizes([1000, 1000, 1000], 300), part_sizes([10, 1000, 1000], 300)
    ([50, 100, 150], [10, 116, 174])
    """
    n = len(sizes)
    weights = [0.5 + i / (n - 1) if n > 1 else 1.0 for i in range(n)]
    parts = [0.0] * n
    for _ in range(n):  # what a short file lacks is shared out among the others
        open_weights = sum(w for w, part, size in zip(weights, parts, sizes, strict=True) if part < size)
        rest = n_bytes - sum(parts)
        if rest < 1 or not open_weights:
            break
        parts = [
            min(size, part + rest * w / open_weights) if part < size else part for w, part, size in zip(weights, parts, sizes, strict=True)
        ]
    return [int(part) for part in parts]


def _cut(files: Sequence[InputFile], parts: Sequence[int], folder: Path) -> Sample:
    folder.mkdir(parents=True, exist_ok=True)
    paths, total, cut = [], 0, 0
    for i, (file, part) in enumerate(zip(files, parts, strict=True)):
        end = end_of_part(Path(file.path), part)
        if end >= file.bytes:
            paths.append(Path(file.path))
            total += file.bytes
            continue
        # the number in front keeps files of one name apart
        paths.append(folder / f"{i:02d}-{Path(file.path).name}")
        _copy_head(Path(file.path), paths[-1], end)
        total, cut = total + end, cut + 1
    return Sample(tuple(paths), total, tuple(file.path for file in files), cut)


def end_of_part(path: Path, wanted: int) -> int:
    """Offset of the end of a record nearest to `wanted` bytes, behind at least one page; the size of the file where it cannot be cut.

    A gzip member, a record of a plain WARC and a Zstandard frame can be cut off; a file that is one such piece cannot.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(ZSTD_MAGIC)) == ZSTD_MAGIC:
            return _end_of_frames(path, wanted) or size
    end, pages = 0, 0
    for record in read_records(path, None, 1, Counter()):
        if not record.length:  # from here on records have no byte ranges of their own
            return end if pages else size
        before, end = end, record.offset + record.length
        if end >= wanted:
            if pages and before and wanted - before < end - wanted:
                return before
            if pages or record.kind == "response":
                return min(end, size)
        pages += record.kind == "response"
    return size


def _end_of_frames(path: Path, wanted: int) -> int | None:
    """Offset of the end of the first Zstandard frame that ends at `wanted` or behind; None where frames cannot be followed."""
    import zstandard

    with path.open("rb") as file:
        offset, buffer = 0, b""
        while buffer := buffer or file.read(COPY_BYTES):
            frame = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
            while not frame.eof:
                try:
                    frame.decompress(buffer)
                except zstandard.ZstdError:
                    return None
                offset += len(buffer) - len(frame.unused_data)
                buffer = frame.unused_data if frame.eof else file.read(COPY_BYTES)
                if not buffer and not frame.eof:
                    return None
            if offset >= wanted:
                return offset
    return None


def _copy_head(source: Path, target: Path, n_bytes: int) -> None:
    with source.open("rb") as file, target.open("wb") as copy:
        while n_bytes and (data := file.read(min(COPY_BYTES, n_bytes))):
            copy.write(data)
            n_bytes -= len(data)
