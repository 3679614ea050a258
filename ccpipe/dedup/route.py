"""dedup.route: the band keys of a group of shards, sorted, in one file.

In, one of each for every shard of the group: `sig`; `base` and `meta/*` where `where` names their columns. Out: `route`,
a band file (see `ccpipe.dedup.files`). A key is the hash of one band of a signature and of the band's number.

Keys are uniform 64-bit hashes and partitions are ranges of them, so one sorted file serves any number of partitions.
Memory: about `memory_mb`; keys that need more are sorted in runs, which wait on disk beside the output and are merged, so
that the signatures are read once whatever the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ccpipe.bands import Banding, curve, threshold
from ccpipe.counts import Counts
from ccpipe.dedup import ALARM_KEYS, GIANT_KEYS, SURVIVOR_KEYS, VERIFY_KEYS, DedupStage
from ccpipe.dedup.external import PairSorter
from ccpipe.dedup.files import Array2D, BadFile, BandHeader, open_signatures, write_bands
from ccpipe.dedup.keys import NO_SALTS, band_keys
from ccpipe.dedup.scope import check_scope, read_salts, scope_columns
from ccpipe.meta import NOT_IN_WHERE, document_ids, select_rows, shard_groups
from ccpipe.minhash import N_HASHES
from ccpipe.stage import Inputs, Outputs, Stage, Unit

READ_BYTES = 4 << 20
"""Signatures read at once: 4,096 of 128 hashes, which the third cache holds until they are hashed."""

SHOWN = (50, 60, 70, 75, 80, 85, 90, 95)
"""Similarities, in percent, at which `explain` tells the chance of a pair to be found."""


@dataclass(frozen=True)
class Part:
    """The documents of one shard that take part: `chosen` bool, `ids` and `salts` uint64, all of shape (n_docs,); one scope: no salts."""

    sigs: Array2D
    chosen: np.ndarray
    ids: np.ndarray
    salts: np.ndarray


class Route(DedupStage):
    ignores = frozenset(("partitions", "keep", "measure_similarity", "against", *VERIFY_KEYS, *GIANT_KEYS, *ALARM_KEYS, *SURVIVOR_KEYS))

    _n_hashes: int = N_HASHES
    """Width of the signatures that the flow writes; known after `check_inputs`."""

    def needs(self) -> tuple[str, ...]:
        return scope_columns(self.config.scope_sql)

    def check(self) -> None:
        check_scope(self.config.scope_sql)

    def check_inputs(self, types: Mapping[str, pa.DataType], writers: Mapping[str, Stage]) -> None:
        # a stage of somebody's own that signs may call its width otherwise; then `run` finds out
        self._n_hashes = getattr(writers["sig"].config, "n_hashes", N_HASHES)
        self.config.banding(self._n_hashes)
        check_scope(self.config.scope_sql, types)

    def explain(self) -> list[str]:
        banding = self.config.banding(self._n_hashes)
        chance = {round(100 * similarity): found for similarity, found in curve(banding.bands, banding.rows)}
        scope = [f"documents meet only within one value of {self.config.scope_sql}"] if self.config.scope else []
        return [
            *scope,
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
            raise BadFile(f"signatures of different width cannot be compared ({widths}): type ccpipe redo --stage sig and the odd shards")
        n_hashes = parts[0].sigs.columns
        banding = self.config.banding(n_hashes)
        header = BandHeader(counts.kept, banding.bands, banding.rows, n_hashes)
        sorter = PairSorter(self.config.memory_bytes, out["route"].parent, expected=header.n_records)
        for part in parts:
            _collect_keys(part, banding, sorter)
        write_bands(out["route"], header, sorter.blocks())
        counts.extra["band_keys"] = header.n_records
        counts.extra["spilled_bytes"] = sorter.spilled_bytes
        return counts

    def _open(self, shard: int, inputs: Inputs, position: int, counts: Counts) -> Part:
        chosen = select_rows(shard_groups(inputs, position), self.config.where)
        counts.keep(int(chosen.sum()))
        counts.drop(NOT_IN_WHERE, int((~chosen).sum()))
        sql = self.config.scope_sql
        salts = read_salts(shard_groups(inputs, position), sql, chosen) if sql else NO_SALTS
        return Part(open_signatures(inputs["sig"][position], len(chosen)), chosen, document_ids(shard, len(chosen)), salts)


def _collect_keys(part: Part, banding: Banding, sorter: PairSorter) -> None:
    for start, stop in _windows(part.sigs):
        chosen = part.chosen[start:stop]
        if chosen.any():
            sigs, ids, salts = part.sigs.read(start, stop), part.ids[start:stop], part.salts[start:stop]
            if not chosen.all():
                sigs, ids, salts = sigs[chosen], ids[chosen], salts[chosen] if len(salts) else salts
            _add_keys(sigs, ids, salts, banding, sorter)


def _windows(sigs: Array2D) -> Iterator[tuple[int, int]]:
    step = max(READ_BYTES // (8 * sigs.columns), 1)
    for start in range(0, sigs.rows, step):
        yield start, min(start + step, sigs.rows)


def _add_keys(sigs: np.ndarray, ids: np.ndarray, salts: np.ndarray, banding: Banding, sorter: PairSorter) -> None:
    """Straight into the sorter's memory as long as there is room."""
    wanted = len(sigs) * banding.bands
    room = sorter.room(wanted)
    if len(room) == wanted:
        band_keys(sigs, ids, banding, room, salts)
        sorter.take(wanted)
    else:
        sorter.add(band_keys(sigs, ids, banding, salts=salts))
