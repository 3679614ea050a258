"""semantic.mark: the verdict as a column group of one shard, `meta/<family>`:

semantic_keep        bool     false for a duplicate; true also for what has no embedding
semantic_of          uint64   the most similar document before it in the order of its cluster, which may itself be dropped
semantic_similarity  float32  their cosine; null where it is kept
semantic_reason      string   "semantic"; null where it is kept; "not_in_where"
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ccpipe.counts import Counts
from ccpipe.dedup.files import BadFile
from ccpipe.exact import family
from ccpipe.exact.links import read_links
from ccpipe.meta import NOT_IN_WHERE, select_rows, shard_groups, write_group
from ccpipe.semantic import SemanticConfig, bits_similarity
from ccpipe.stage import Inputs, Outputs, Stage, Unit


class SemanticMark(Stage):
    class Config(SemanticConfig):
        pass

    ignores = frozenset(("threshold", "order", "max_cluster", "partitions", "n_clusters", "sample", "iterations"))

    @property
    def prefix(self) -> str:
        return family(self.name)

    def columns(self) -> dict[str, pa.DataType]:
        kinds = {"keep": pa.bool_(), "of": pa.uint64(), "similarity": pa.float32(), "reason": pa.string()}
        return {f"{self.prefix}_{short}": kind for short, kind in kinds.items()}

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        chosen = select_rows(shard_groups(inputs), self.config.where)
        links = read_links(inputs[f"{self.prefix}.links"], f"{self.prefix}.match", unit.shards[0], 3)
        rows = (links[:, 0] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        if len(rows) and (rows[-1] >= len(chosen) or not chosen[rows].all()):
            raise BadFile(
                f"the links of {self.prefix} name documents that shard {unit.shards[0]} does not have in where: rerun {self.prefix}"
            )
        dropped, of, similarity = np.zeros(len(chosen), bool), np.zeros(len(chosen), np.uint64), np.zeros(len(chosen), np.float32)
        dropped[rows], of[rows], similarity[rows] = True, links[:, 1], bits_similarity(links[:, 2])
        values = [
            pa.array(~dropped, mask=~chosen),
            pa.array(of, mask=~dropped),
            pa.array(similarity, mask=~dropped),
            pa.array(np.where(dropped, self.prefix, NOT_IN_WHERE), pa.string(), mask=chosen & ~dropped),
        ]
        columns = self.columns()
        write_group(out[f"meta/{self.prefix}"], pa.table(dict(zip(columns, values, strict=True)), pa.schema(columns)))
        counts = Counts()
        counts.drop(NOT_IN_WHERE, int((~chosen).sum()))
        counts.drop(self.prefix, int(dropped.sum()))
        counts.keep(int((chosen & ~dropped).sum()))
        return counts
