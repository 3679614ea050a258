"""What the phases of dedup will need: memory of a process, bytes on disk, and how a phase that would not fit is split.

In: how many documents and shards, and the config. Out: one or two sentences for each phase, for the dry run. Bounds, not guesses, where
the formats give them: route writes all keys, and the arrays of cluster have their sizes. How many documents are linked is known only
when match is done; before, `LINKED` of them are assumed, and the sentence says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ccpipe.dedup import DedupConfig
from ccpipe.dedup.external import PAIR_BYTES
from ccpipe.dedup.pairs import BYTES_PER_PAIR

PROCESS_BYTES = 250 << 20
"""Python with numba, pyarrow and DuckDB loaded, and buffers of some megabytes: 200 to 240 MiB seen."""

ROW_BYTES = 9
"""route keeps the id of a document (8) and whether it takes part (1) for all shards of a group."""

LINKED = 0.3
"""Share of the documents that share a band with another; FineWeb's crawls lose about as much (Penedo et al. 2024)."""

LINK_BYTES = 16
NODE_BYTES = 12
CLUSTER_ROW_BYTES = 32
DOCUMENT_BITS = 1.125
MARK_MEMORY_BYTES = 120
"""Columns of mark while they are gathered and written, per document of the shard: 70 to 110 seen."""

MARK_BYTES = (1, 21)
"""The column group compressed, per document: alone, and linked."""


@dataclass(frozen=True)
class Sizes:
    """`documents` of the run in `shards`; `linked` documents, None where it is not known; `bands` keys each."""

    documents: int
    shards: int
    bands: int
    config: DedupConfig
    linked: int | None = None

    @property
    def group_documents(self) -> int:
        """Of the largest route group, if shards are alike."""
        return math.ceil(self.documents / max(self.shards, 1) * min(self.config.group_shards, self.shards))

    @property
    def linked_documents(self) -> int:
        return round(self.documents * LINKED) if self.linked is None else self.linked

    def explain(self, phase: str) -> list[str]:
        """Sentences for one phase: route, match, cluster or mark; none for others."""
        known = {"route": self._route, "match": self._match, "cluster": self._cluster, "mark": self._mark}
        return known[phase]() if phase in known else []

    # --- bytes, tested against what the phases do ---

    def route_memory(self) -> int:
        return min(self.group_documents * self.bands * BYTES_PER_PAIR, self.config.memory_bytes) + self.group_documents * ROW_BYTES

    def route_runs(self) -> int:
        """Sorted runs on disk; 0 where a group fits the memory."""
        runs = math.ceil(self.group_documents * self.bands * BYTES_PER_PAIR / self.config.memory_bytes)
        return runs if runs > 1 else 0

    def route_disk(self) -> int:
        """All route files, their indices (less than one hundredth) included."""
        return math.ceil(self.documents * self.bands * PAIR_BYTES * 1.01) + 4096 * math.ceil(self.shards / self.config.group_shards)

    def match_records(self) -> int:
        return math.ceil(self.documents * self.bands / (self.config.partitions or 1))

    def match_ranges(self) -> int:
        return math.ceil(self.match_records() * BYTES_PER_PAIR / (self.config.memory_bytes / 2))

    def match_memory(self) -> int:
        half = self.config.memory_bytes // 2
        links = min(self.linked_documents * self.bands * BYTES_PER_PAIR // (self.config.partitions or 1), half)
        return min(self.match_records() * BYTES_PER_PAIR, half) + links

    def links_disk(self) -> int:
        """If every linked document shared all its bands, each with another smallest document: more there cannot be."""
        return self.linked_documents * self.bands * LINK_BYTES

    def cluster_arrays(self) -> int:
        return self.linked_documents * NODE_BYTES + math.ceil(self.documents * DOCUMENT_BITS / 8)

    def clusters_disk(self) -> int:
        return self.linked_documents * CLUSTER_ROW_BYTES

    def mark_memory(self) -> int:
        return math.ceil(self.documents / max(self.shards, 1)) * MARK_MEMORY_BYTES

    def mark_disk(self) -> int:
        alone, linked = MARK_BYTES
        return self.documents * alone + self.linked_documents * linked

    # --- words ---

    def _route(self) -> list[str]:
        runs = self.route_runs()
        spill = (
            f"; a group is sorted in {runs} runs, {size(self.group_documents * self.bands * PAIR_BYTES)} of scratch each" if runs else ""
        )
        return [
            f"Memory: {self.bands * BYTES_PER_PAIR} bytes a document while keys are sorted, at most memory_mb, and {ROW_BYTES}; "
            f"{self._process(self.route_memory())}{spill}.",
            f"Disk: {self.bands * PAIR_BYTES} bytes a document, {size(self.route_disk())} in all.",
        ]

    def _match(self) -> list[str]:
        ranges = self.match_ranges()
        split = f"; a partition is done in {ranges} ranges of keys" if ranges > 1 else ""
        return [
            f"Memory: {BYTES_PER_PAIR} bytes a key, {size(self.match_records() * BYTES_PER_PAIR)} a partition, at most half of memory_mb, "
            f"and as much for links; {self._process(self.match_memory())}{split}.",
            f"Disk: {LINK_BYTES} bytes a link, at most {size(self.links_disk())} in all{self._assumed()}.",
        ]

    def _cluster(self) -> list[str]:
        more = self.cluster_arrays() - self.config.memory_bytes
        spill = f"; {size(more)} of it mapped from scratch files" if more > 0 else ""
        return [
            f"Memory: {NODE_BYTES} bytes a linked document and {DOCUMENT_BITS} bits a document, {size(self.cluster_arrays())}, at most "
            f"memory_mb; {self._process(min(self.cluster_arrays(), self.config.memory_bytes))}{spill}{self._assumed()}.",
            f"Disk: {CLUSTER_ROW_BYTES} bytes a linked document, {size(self.clusters_disk())}.",
        ]

    def _mark(self) -> list[str]:
        alone, linked = MARK_BYTES
        return [
            f"Memory: {MARK_MEMORY_BYTES} bytes a document of the shard; {self._process(self.mark_memory())}.",
            f"Disk: about {alone} byte a document and {linked} a linked one, {size(self.mark_disk())} in all{self._assumed()}.",
        ]

    def _process(self, n_bytes: int) -> str:
        return f"{size(n_bytes + PROCESS_BYTES)} a process with what Python takes"

    def _assumed(self) -> str:
        return f", if {LINKED:.0%} of the documents are linked" if self.linked is None else ""


def size(n_bytes: float) -> str:
    """
    >>> size(300), size(1 << 20), size(3.5 * 2**30)
    ('300 bytes', '1 MiB', '3.5 GiB')
    """
    for unit, factor in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:,.{0 if n_bytes >= 100 * factor or n_bytes % factor == 0 else 1}f} {unit}"
    return f"{n_bytes:.0f} bytes"
