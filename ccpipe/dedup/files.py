"""The files between the phases, with the checks that keep wrong data from being merged.

Signature file: .npy, uint64 or uint32, shape (n_docs, n_hashes), as the sig stage writes it.
Band file (route), little-endian: 64 bytes of header (`MAGIC`, then uint64 index_bits, n_records, n_docs, bands, rows, n_hashes,
0); an index of 2^index_bits + 1 uint64, entry b = records whose key's upper index_bits bits are below b; the records, uint64
key and uint64 document, sorted by key, then document. So any range of keys is one short read, whatever the partitions.
Link file (match): .npy, uint64, shape (n, 2): document, a smaller document with the same key; sorted, no row twice.
Cluster file (cluster): .npy, uint64, shape (n, 4): document, cluster, duplicate of (itself when kept), cluster size; sorted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

MAGIC = b"CCBANDS1"
HEADER_BYTES = 64
RECORD_BYTES = 16
"""Key and document, uint64 each."""

RECORDS_PER_ENTRY = 1024
"""Records per index entry, about: the index is less than one hundredth of the file."""


class BadFile(Exception):
    """A file that is not what the phase before wrote, or is no longer there."""


def redo(stage: str, path: Path) -> str:
    """What to type to have one file written again, and all that depends on it.

    >>> redo("dedup.route", Path("run/dedup/route/0123/g00004.route"))
    'type ccpipe redo --stage dedup.route g00004'
    """
    return f"type ccpipe redo --stage {stage} {path.name.partition('.')[0]}"


def file_size(path: Path, stage: str) -> int:
    """Bytes of a file that a sentinel vouches for. Raises `BadFile` where it is lost."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise BadFile(f"{path} is gone, expected what {stage} committed: {redo(stage, path)}") from None


@dataclass(frozen=True)
class BandHeader:
    """`n_docs` documents with `bands` keys each, of `rows` positions, out of signatures of `n_hashes`."""

    n_docs: int
    bands: int
    rows: int
    n_hashes: int

    @property
    def n_records(self) -> int:
        return self.n_docs * self.bands

    @property
    def index_bits(self) -> int:
        return min(max(self.n_records // RECORDS_PER_ENTRY, 1).bit_length() - 1, 24)


class BandFile:
    """A band file, opened and checked; holds the index, no file handle. Raises `BadFile`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        size = file_size(path, "dedup.route")
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
            if len(head) < HEADER_BYTES or head[: len(MAGIC)] != MAGIC:
                raise BadFile(f"{path} begins with {head[:8]!r}, a band file with {MAGIC!r}: {redo('dedup.route', path)}")
            bits, n_records, n_docs, bands, rows, n_hashes, _ = (int(x) for x in np.frombuffer(head, "<u8", offset=len(MAGIC)))
            self.header = BandHeader(n_docs, bands, rows, n_hashes)
            self.records_at = HEADER_BYTES + ((1 << bits) + 1) * 8
            expected = self.records_at + n_records * RECORD_BYTES
            if size != expected or n_records != self.header.n_records:
                raise BadFile(f"{path} has {size} bytes, its header promises {expected}: {redo('dedup.route', path)}")
            self.shift = 64 - bits
            self.index = np.fromfile(file, "<u8", (1 << bits) + 1)
        if int(self.index[-1]) != n_records or (np.diff(self.index.astype(np.int64)) < 0).any():
            raise BadFile(f"{path}: its index does not fit its {n_records} records: {redo('dedup.route', path)}")

    def count(self, first: int, last: int) -> int:
        """Records that `read` must touch for the keys first..last."""
        return int(self.index[(last >> self.shift) + 1] - self.index[first >> self.shift])

    def read(self, first: int, last: int) -> np.ndarray:
        """Records with keys first..last, both included, sorted: uint64, shape (n, 2), key and document."""
        blocks = list(self.read_blocks(first, last, max(self.count(first, last), 1)))
        return blocks[0] if blocks else np.empty((0, 2), np.uint64)

    def read_blocks(self, first: int, last: int, block_records: int) -> Iterator[np.ndarray]:
        """The same piece by piece: at most `block_records` are read at once."""
        start, stop = int(self.index[first >> self.shift]), int(self.index[(last >> self.shift) + 1])
        with self.path.open("rb") as file:
            file.seek(self.records_at + start * RECORD_BYTES)
            for at in range(start, stop, block_records):
                wanted = min(block_records, stop - at)
                found = np.fromfile(file, "<u8", 2 * wanted).reshape(-1, 2)
                self._check_records(found, at, wanted)
                low, high = np.searchsorted(found[:, 0], np.array([first, last], np.uint64), "left")
                high += np.searchsorted(found[high:, 0], np.uint64(last), "right")
                yield found[low:high]

    def _check_records(self, found: np.ndarray, at: int, wanted: int) -> None:
        """The index must say the truth about the first and the last of them, and all must be in order."""
        if len(found) != wanted:
            raise BadFile(f"{self.path}: {len(found)} records at {at}, expected {wanted}: {redo('dedup.route', self.path)}")
        for record, place in ((found[0], at), (found[-1], at + wanted - 1)):
            entry = int(record[0]) >> self.shift
            if not self.index[entry] <= place < self.index[entry + 1]:
                raise BadFile(
                    f"{self.path}: record {place} has key {int(record[0]):#x}, its index places such keys at {int(self.index[entry])} to "
                    f"{int(self.index[entry + 1])}: the records are not those of the index; {redo('dedup.route', self.path)}"
                )


def write_bands(path: Path, header: BandHeader, parts: Iterable[np.ndarray]) -> None:
    """Write a band file; `parts`: uint64, shape (n, 2), key and document, each sorted and not below the one before."""
    bits = header.index_bits
    counts = np.zeros((1 << bits) + 1, dtype=np.int64)
    with path.open("wb") as file:
        file.write(bytes(HEADER_BYTES + counts.nbytes))
        for part in parts:
            file.write(np.ascontiguousarray(part, "<u8").data)
            keys = part[:, 0]
            # sorted keys: the records below each index entry
            bounds = np.arange(1, 1 << bits, dtype=np.uint64) << np.uint64(64 - bits)
            counts += np.concatenate([[0], np.searchsorted(keys, bounds), [len(keys)]])
        file.seek(0)
        fields = (bits, header.n_records, header.n_docs, header.bands, header.rows, header.n_hashes, 0)
        file.write(MAGIC + np.array(fields, "<u8").tobytes())
        file.write(counts.astype("<u8").data)
    if int(counts[-1]) != header.n_records:
        raise BadFile(f"{path}: {int(counts[-1])} records written, {header.n_records} announced: an error in this program, report it")


class Array2D:
    """A .npy file of two dimensions, checked before anything is read: uint64, or another of `kinds`. Raises `BadFile`."""

    def __init__(self, path: Path, stage: str, columns: int | None = None, kinds: tuple[str, ...] = ("<u8",)) -> None:
        self.path, self.stage = path, stage
        size = file_size(path, stage)
        try:
            with path.open("rb") as file:
                np.lib.format.read_magic(file)
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
                self.start = file.tell()
        except ValueError as error:
            raise BadFile(f"{path} is no .npy file ({error}): {redo(stage, path)}") from None
        if len(shape) != 2 or fortran or dtype.str not in kinds or (columns is not None and shape[1] != columns):
            wanted = f"{' or '.join(np.dtype(kind).name for kind in kinds)} of shape (n, {columns or 'hashes'})"
            raise BadFile(f"{path} holds {dtype} of shape {shape}, expected {wanted}: {redo(stage, path)}")
        self.rows, self.columns, self.dtype = int(shape[0]), int(shape[1]), dtype
        self.row_bytes = self.columns * dtype.itemsize
        expected = self.start + self.rows * self.row_bytes
        if size != expected:
            raise BadFile(f"{path} has {size} bytes, shape {shape} needs {expected}: {redo(stage, path)}")

    def read(self, first: int, last: int) -> np.ndarray:
        """Rows first..last - 1: shape (last - first, columns)."""
        with self.path.open("rb") as file:
            file.seek(self.start + first * self.row_bytes)
            found = np.fromfile(file, self.dtype, (last - first) * self.columns)
        if len(found) != (last - first) * self.columns:
            raise BadFile(f"{self.path} ends within rows {first}..{last}: {redo(self.stage, self.path)}")
        return found.reshape(-1, self.columns)

    def read_all(self) -> np.ndarray:
        return self.read(0, self.rows)

    def map(self) -> np.ndarray:
        """All rows, memory mapped: for a few rows here and there."""
        mapped: np.ndarray = np.memmap(self.path, self.dtype, "r", self.start, (self.rows, self.columns)) if self.rows else self.read_all()
        return mapped


def open_signatures(path: Path, n_rows: int | None = None) -> Array2D:
    """The signatures of a shard; `n_rows`: documents of its base. Raises `BadFile`."""
    sigs = Array2D(path, "sig", kinds=("<u8", "<u4"))
    if n_rows is not None and sigs.rows != n_rows:
        raise BadFile(f"{path} has {sigs.rows} signatures, the base of its shard {n_rows} documents: {redo('sig', path)}")
    return sigs


def write_rows(path: Path, columns: int, blocks: Iterable[np.ndarray]) -> int:
    """Write a .npy file of uint64, shape (n, columns), from consecutive blocks of rows; returns n."""
    n_rows = 0
    with path.open("wb") as file:
        _write_header(file, 0, columns)
        start = file.tell()
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype="<u8").data)
            n_rows += len(block)
        file.seek(0)
        _write_header(file, n_rows, columns)
        # numpy leaves room for the number of rows to grow
        if file.tell() != start:
            raise BadFile(
                f"{path}: a header of {file.tell()} bytes for {n_rows} rows, expected {start}: numpy changed its format, report it"
            )
    return n_rows


def _write_header(file: IO[bytes], n_rows: int, columns: int) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "<u8", "fortran_order": False, "shape": (n_rows, columns)})
