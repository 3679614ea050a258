"""Stages for a flow without WARCs: `extract` and `sig` of a synthetic crawl, so that dedup can be sent to Slurm at any size."""

from __future__ import annotations

import pyarrow as pa
from pydantic import Field
from synthetic_signatures import Crawl

from ccpipe.counts import Counts
from ccpipe.meta import write_group
from ccpipe.stage import Inputs, Outputs, Stage, StageConfig, Unit


class CrawlConfig(StageConfig):
    n_docs: int = Field(1_000_000, description="documents of the crawl", ge=1)
    shard_docs: int = Field(100_000, description="documents per shard", ge=1)

    def crawl(self) -> Crawl:
        return Crawl(self.n_docs, self.shard_docs)


class Pages(Stage):
    """A base of the right number of rows, and nothing else."""

    class Config(CrawlConfig):
        pass

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        counts = Counts()
        counts.keep(self.config.crawl().write_base(unit.index, out["base"]))
        out["wet"].write_bytes(b"")
        write_group(out["dropped"], pa.table({"url": pa.array([], pa.string())}))
        return counts


class Signatures(Stage):
    """The signatures of `synthetic_signatures.py`."""

    class Config(CrawlConfig):
        pass

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        counts = Counts()
        counts.keep(self.config.crawl().write_signatures(unit.index, out["sig"]))
        return counts
