"""All dedup phases over a folder of signatures, and what must come out, found without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ccpipe.counts import Counts
from ccpipe.dedup import DedupConfig
from ccpipe.dedup.cluster import Cluster
from ccpipe.dedup.mark import Mark
from ccpipe.dedup.match import Match
from ccpipe.dedup.route import Route
from ccpipe.meta import write_group
from ccpipe.stage import Inputs, Unit


@dataclass
class Run:
    """All phases over the shards of a folder, by hand."""

    folder: Path
    sigs: list[np.ndarray]
    config: dict[str, Any]
    meta: list[pa.Table] = field(default_factory=list)
    group_size: int = 2
    shuffle: Callable[[list[int]], None] = lambda order: None
    counts: dict[str, Counts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        for shard, sigs in enumerate(self.sigs):
            np.save(self.path("sig", shard), sigs)
            write_group(self.path("base", shard), self.meta[shard] if self.meta else pa.table({"x": np.arange(len(sigs))}))

    def path(self, kind: str, number: int) -> Path:
        return self.folder / f"{kind}-{number}.npy"

    def inputs(self, kind: str, count: int) -> list[Path]:
        order = list(range(count))
        self.shuffle(order)
        return [self.path(kind, number) for number in order]

    def all(self) -> list[bytes]:
        """Bytes of the mark files."""
        config = DedupConfig(**self.config)
        shards, partitions = list(range(len(self.sigs))), config.partitions or 1
        groups = [shards[i : i + self.group_size] for i in range(0, len(shards), self.group_size)]
        units: list[tuple[Any, int, list[int], Inputs, str]] = []
        for i, group in enumerate(groups):
            self.shuffle(group)
            sig, base = ([self.path(kind, shard) for shard in group] for kind in ("sig", "base"))
            units.append((Route, i, group, {"sig": sig, "base": base}, "route"))
        for p in range(partitions):
            units.append((Match, p, [], {"route": self.inputs("route", len(groups))}, "links"))
        units.append((Cluster, 0, [], {"links": self.inputs("links", partitions)}, "clusters"))
        sig = [self.path("sig", shard) for shard in shards]
        for shard in shards:
            inputs: Inputs = {"base": [self.path("base", shard)], "sig": sig, "clusters": [self.path("clusters", 0)]}
            units.append((Mark, shard, [shard], inputs, "meta/dedup"))
        totals: dict[str, list[Counts]] = {}
        for stage, index, members, inputs, out in units:
            name = f"dedup.{stage.__name__.lower()}"
            unit = Unit(str(index), index, tuple(members), {"n_shards": len(shards)})
            counts = stage(name, stage.Config(**self.config)).run(unit, inputs, {out: self.path(out.rpartition("/")[2], index)})
            assert counts.read == counts.kept + sum(counts.dropped.values())
            totals.setdefault(name, []).append(counts)
        self.counts = {name: Counts.total(parts) for name, parts in totals.items()}
        return [self.path("dedup", shard).read_bytes() for shard in shards]

    def marks(self) -> list[dict[str, Any]]:
        self.all()
        return [row for shard in range(len(self.sigs)) for row in pq.read_table(self.path("dedup", shard)).to_pylist()]


def planted(rng: np.random.Generator, shards: tuple[int, ...], width: int = 16) -> list[np.ndarray]:
    """Signatures of which half are copies of earlier ones with some positions changed."""
    n = sum(shards)
    sigs = rng.integers(0, 1 << 63, (n, width)).astype(np.uint64)
    for i in range(1, n):
        if rng.random() < 0.5:
            changed = rng.random(width) < rng.choice([0.0, 0.1, 0.3])
            sigs[i] = np.where(changed, sigs[i], sigs[rng.integers(0, i)])
    return np.split(sigs, np.cumsum(shards)[:-1])


def brute_force(sigs: list[np.ndarray], bands: int, rows: int, keep: str, chosen: Callable[[int], bool] = lambda i: True) -> list[Any]:
    """(cluster, size, of) of every document by comparing all pairs with Python lists; None where it takes no part."""
    ids = [shard << 32 | row for shard, part in enumerate(sigs) for row in range(len(part))]
    docs = [list(map(int, row)) for part in sigs for row in part]
    n = len(ids)
    keys = [{(b, *doc[b * rows : b * rows + rows]) for b in range(bands)} if chosen(i) else set() for i, doc in enumerate(docs)]
    near = [[j for j in range(n) if keys[i] & keys[j]] for i in range(n)]
    lead = [min(near[i], default=i) for i in range(n)]
    # all documents of one key know its smallest member, so the smallest neighbour is the smallest link
    if keep == "component":
        for _ in range(n):
            lead = [min([lead[j] for j in near[i]], default=i) for i in range(n)]
    root = []
    for i in range(n):
        root.append(i if lead[i] == i else root[lead[i]])
    return [(ids[root[i]], root.count(root[i]), ids[lead[i]]) if chosen(i) else None for i in range(n)]


def verdicts(marks: list[dict[str, Any]], ids: list[int]) -> list[Any]:
    return [
        None if m["dedup_keep"] is None else (m["dedup_cluster"], m["dedup_size"], i if m["dedup_of"] is None else m["dedup_of"])
        for m, i in zip(marks, ids, strict=True)
    ]


SMALL = {"bands": 4, "rows": 4, "partitions": 3}
