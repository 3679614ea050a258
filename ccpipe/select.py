"""Selection: the one place where a document is dropped from the corpus.

In: the columns that `where` names. Out: `select_keep`, true or false for every row. Nothing is deleted: export reads the column,
and another predicate tomorrow needs no other stage to run again.
"""

from __future__ import annotations

import pyarrow as pa

from ccpipe.counts import Counts
from ccpipe.meta import select_rows, shard_groups, write_group
from ccpipe.stage import Inputs, Outputs, Stage, StageConfig, Unit


class Select(Stage):
    """Marks the documents that satisfy `where`; without `where`, all."""

    class Config(StageConfig):
        pass

    def columns(self) -> dict[str, pa.DataType]:
        return {f"{self.prefix}_keep": pa.bool_()}

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        keep = select_rows(shard_groups(inputs), self.config.where)
        write_group(out[f"meta/{self.name}"], pa.table({f"{self.prefix}_keep": pa.array(keep)}))
        counts = Counts()
        counts.keep(int(keep.sum()))
        counts.drop("not_selected", int((~keep).sum()))
        return counts
