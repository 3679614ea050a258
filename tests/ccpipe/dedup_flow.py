"""All phases of dedup over shards that tests make, by hand and in any order."""

from __future__ import annotations

import random
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
from ccpipe.dedup.save_index import save_index
from ccpipe.dedup.survivor import Survivor
from ccpipe.meta import write_group
from ccpipe.minhash import signatures
from ccpipe.stage import Unit
from ccpipe.wet_writer import WetWriter

Marks = dict[int, dict[str, Any]]
"""Document id -> its marks, without the family's prefix."""


@dataclass
class Flow:
    """`sigs`: of every shard; `meta`: further columns of every shard; `wet`: files of every shard, for `verify_text`."""

    folder: Path
    sigs: list[np.ndarray]
    config: dict[str, Any]
    meta: list[pa.Table] = field(default_factory=list)
    wet: list[Path] = field(default_factory=list)
    group_size: int = 2
    shuffle: Callable[[list[Any]], None] = lambda order: None
    counts: dict[str, Counts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.settings = DedupConfig(**{"partitions": 1, **self.config})
        for shard, sigs in enumerate(self.sigs):
            np.save(self.path("sig", shard), sigs)
            write_group(self.path("base", shard), self.meta[shard] if self.meta else pa.table({"x": np.arange(len(sigs))}))

    def path(self, kind: str, number: int = 0) -> Path:
        return self.folder / f"{kind.replace('/', '-')}-{number}.npy"

    def all_of(self, kind: str) -> list[Path]:
        return self.wet if kind == "wet" else [self.path(kind, shard) for shard in range(len(self.sigs))]

    def run_phase(self, stage: Any, index: int, shards: list[int], inputs: dict[str, list[Path]], *out: str) -> None:
        name = f"dedup.{stage.__name__.lower()}"
        made = stage(name, self.settings)
        inputs |= {kind: self.all_of(kind) for kind, of in made.more_inputs().items() if of == "all" and kind != "survivors"}
        counts = made.run(
            Unit(str(index), index, tuple(shards), {"n_shards": len(self.sigs)}), inputs, {o: self.path(o, index) for o in out}
        )
        assert counts.read == counts.kept + sum(counts.dropped.values())
        self.counts[name] = Counts.total([self.counts.get(name, Counts()), counts])

    def all(self) -> list[bytes]:
        """Bytes of the mark files."""
        shards, n_parts = list(range(len(self.sigs))), self.settings.partitions or 1
        groups = [shards[i : i + self.group_size] for i in range(0, len(shards), self.group_size)]
        for i, group in enumerate(groups):
            self.shuffle(group)
            inputs = {kind: [self.path(kind, shard) for shard in group] for kind in ("sig", "base")}
            self.run_phase(Route, i, group, inputs, "route")
        self.routes = [self.path("route", i) for i in range(len(groups))]
        parts = list(range(n_parts))
        self.shuffle(parts)
        for p in parts:
            routes = list(self.routes)
            self.shuffle(routes)
            self.run_phase(Match, p, [], {"route": routes}, "links")
        links = [self.path("links", p) for p in parts]
        self.run_phase(Cluster, 0, [], {"links": links}, "clusters", "giants")
        found = {"clusters": [self.path("clusters")]}
        if Survivor.wanted(self.settings):
            self.run_phase(Survivor, 0, [], {**found, "base": self.all_of("base")}, "survivors")
            found = {"clusters": [], "survivors": [self.path("survivors")]}
        for shard in shards:
            self.run_phase(Mark, shard, [shard], {"base": [self.path("base", shard)], "sig": self.all_of("sig"), **found}, "meta/dedup")
        return [path.read_bytes() for path in self.all_of("meta/dedup")]

    def marks(self) -> Marks:
        self.all()
        return {
            shard << 32 | row: {name.removeprefix("dedup_"): value for name, value in mark.items()}
            for shard in range(len(self.sigs))
            for row, mark in enumerate(pq.read_table(self.path("meta/dedup", shard)).to_pylist())
        }

    def save(self, to: Path, name: str = "past", sigs: bool = True, survivors: bool = False) -> str:
        """Save its index; returns the path of index.json."""

        def keeps(shard: int) -> np.ndarray:
            return np.asarray(pq.read_table(self.path("meta/dedup", shard)).column("dedup_keep").fill_null(False))

        made = {"signed": self.settings.signed, "scope": self.settings.scope_sql}
        save_index(to, name, self.routes, made, self.all_of("sig") if sigs else (), keeps if survivors else None)
        return str(to / "index.json")


def planted(rng: np.random.Generator, shards: tuple[int, ...], width: int = 16) -> list[np.ndarray]:
    """Signatures of which half are copies of earlier ones with some positions changed."""
    n = sum(shards)
    sigs = rng.integers(0, 1 << 63, (n, width)).astype(np.uint64)
    for i in range(1, n):
        if rng.random() < 0.5:
            changed = rng.random(width) < rng.choice([0.0, 0.1, 0.3])
            sigs[i] = np.where(changed, sigs[i], sigs[rng.integers(0, i)])
    return np.split(sigs, np.cumsum(shards)[:-1])


def shuffled(seed: int) -> Callable[[list[Any]], None]:
    return random.Random(seed).shuffle


def text_flow(folder: Path, texts: list[list[str]], config: dict[str, Any], meta: list[dict[str, Any]] | None = None) -> Flow:
    """A flow over texts, shard by shard, with their WET files and the columns that find them there."""
    folder.mkdir(parents=True)
    tables, wets, sigs = [], [], []
    for shard, part in enumerate(texts):
        wet = folder / f"{shard}.wet.gz"
        with wet.open("wb") as file:
            writer = WetWriter(file)
            places = [writer.write_text(text.encode(), f"http://host{shard}/{i}", "", f"{shard}/{i}", "") for i, text in enumerate(part)]
        parts = [text.encode() for text in part]
        offsets = np.cumsum([0, *map(len, parts)])
        sigs.append(signatures(np.frombuffer(b"".join(parts), np.uint8), offsets))
        columns = {
            "wet_offset": pa.array([at for at, _, _ in places], pa.uint64()),
            "wet_length": pa.array([n for _, n, _ in places], pa.uint32()),
        }
        tables.append(pa.table({**columns, "text_bytes": pa.array(map(len, parts), pa.uint32()), **(meta[shard] if meta else {})}))
        wets.append(wet)
    return Flow(folder / "flow", sigs, config, tables, wets)
