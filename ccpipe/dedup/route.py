"""dedup.route: the band keys of a group of shards, sorted, in one file.

In, one of each for every shard of the group: `sig`; `base` and `meta/*` where `where` names their columns. Out: `route`,
a band file (see `ccpipe.dedup.files`). A key is the hash of one band of a signature and of the band's number.

Keys are uniform 64-bit hashes and partitions are ranges of them, so one sorted file serves any number of partitions.
Memory: about `memory_mb`; a group whose keys need more is done range by range, reading its signatures again for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ccpipe.bands import Banding, curve, threshold
from ccpipe.counts import Counts
from ccpipe.dedup import DedupConfig
from ccpipe.dedup.files import Array2D, BadFile, BandHeader, open_signatures, write_bands
from ccpipe.dedup.keys import band_keys, key_range
from ccpipe.dedup.pairs import sort_pairs
from ccpipe.meta import NOT_IN_WHERE, document_ids, select_rows, shard_groups
from ccpipe.minhash import N_HASHES
from ccpipe.stage import Inputs, Outputs, Stage, Unit

RECORD_MEMORY = 48
"""Bytes per record while a range is gathered and sorted: 16 as collected, 16 in one piece, 16 of the sort."""

READ_ROWS = 16_384
"""Signatures read at once: 16 MiB of 128 hashes."""

SHOWN = (50, 60, 70, 75, 80, 85, 90, 95)
"""Similarities, in percent, at which `explain` tells the chance of a pair to be found."""


@dataclass(frozen=True)
class Part:
    """The documents of one shard that take part: `chosen` bool, `ids` uint64, both of shape (n_docs,)."""

    sigs: Array2D
    chosen: np.ndarray
    ids: np.ndarray


class Route(Stage):
    class Config(DedupConfig):
        pass

    ignores = frozenset(("partitions", "keep", "max_cluster", "measure_similarity"))

    _n_hashes: int = N_HASHES
    """Width of the signatures that the flow writes; known after `check_inputs`."""

    def check_inputs(self, types: Mapping[str, pa.DataType], writers: Mapping[str, Stage]) -> None:
        # a stage of somebody's own that signs may call its width otherwise; then `run` finds out
        self._n_hashes = getattr(writers["sig"].config, "n_hashes", N_HASHES)
        self.config.banding(self._n_hashes)

    def explain(self) -> list[str]:
        banding = self.config.banding(self._n_hashes)
        chance = {round(100 * similarity): found for similarity, found in curve(banding.bands, banding.rows)}
        return [
            f"{banding.bands} bands x {banding.rows} rows, {banding.width} of {self._n_hashes} hashes; every second pair of similarity "
            f"{threshold(banding.bands, banding.rows):.2f} is found",
            "similarity  " + "".join(f"{percent / 100:>8.2f}" for percent in SHOWN),
            "chance      " + "".join(f"{chance[percent]:>8.1%}" for percent in SHOWN),
        ]

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        counts = Counts()
        # in the order of documents, so that equal keys come out in that order
        order = sorted(range(len(unit.shards)), key=lambda position: unit.shards[position])
        parts = [self._open(unit.shards[position], inputs, position, counts) for position in order]
        widths = {str(part.sigs.path): f"{part.sigs.columns} x {part.sigs.dtype.itemsize * 8} bits" for part in parts}
        if len(set(widths.values())) > 1:
            raise BadFile(f"signatures of different width cannot be compared ({widths}): rerun sig for the odd shards")
        n_hashes = parts[0].sigs.columns
        banding = self.config.banding(n_hashes)
        header = BandHeader(counts.kept, banding.bands, banding.rows, n_hashes)
        write_bands(out["route"], header, self._ranges(parts, banding, header.n_records))
        counts.extra["band_keys"] = header.n_records
        return counts

    def _open(self, shard: int, inputs: Inputs, position: int, counts: Counts) -> Part:
        chosen = select_rows(shard_groups(inputs, position), self.config.where)
        counts.keep(int(chosen.sum()))
        counts.drop(NOT_IN_WHERE, int((~chosen).sum()))
        return Part(open_signatures(inputs["sig"][position], len(chosen)), chosen, document_ids(shard, len(chosen)))

    def _ranges(self, parts: list[Part], banding: Banding, n_records: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Sorted keys and documents, range after range, each range small enough for the memory."""
        n_ranges = max(1, -(-n_records * RECORD_MEMORY // (self.config.memory_mb << 20)))
        for index in range(n_ranges):
            found = [piece for part in parts for piece in _read_keys(part, banding, *key_range(index, n_ranges))]
            keys = np.concatenate([keys for keys, _ in found] or [np.empty(0, np.uint64)])
            docs = np.concatenate([docs for _, docs in found] or [np.empty(0, np.uint64)])
            del found
            yield sort_pairs(keys, docs)


def _read_keys(part: Part, banding: Banding, first: int, last: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, part.sigs.rows, READ_ROWS):
        stop = min(start + READ_ROWS, part.sigs.rows)
        chosen = part.chosen[start:stop]
        if chosen.any():
            sigs, ids = part.sigs.read(start, stop), part.ids[start:stop]
            if not chosen.all():
                sigs, ids = sigs[chosen], ids[chosen]
            keys, docs = band_keys(sigs, ids, banding, first, last)
            yield keys.copy(), docs.copy()
