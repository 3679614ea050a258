"""same_url.mark, same_text.mark, paragraphs.mark: the verdict as a column group of one shard.

In: `base` (and `meta/*` where `where` names their columns) and `wet` (paragraphs) of the shard, all `<family>.links`. Out: `meta/<family>`:

same_url_keep, same_text_keep       bool          false where an earlier document has the same URL or text
same_url_of, same_text_of           uint64        that document, the first of all; null where it is kept
same_url_reason, same_text_reason   string        "same_url", "same_text"; null where it is kept; "not_in_where"
paragraphs_drop_lines               list<uint32>  numbers of the lines that were there before, for `drop_lines` of export
paragraphs_dropped_bytes            uint32        their bytes, newlines included

Outside `where` all but the reason is null.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from ccpipe.counts import Counts
from ccpipe.dedup.files import BadFile
from ccpipe.exact import ExactConfig, ParagraphConfig, family
from ccpipe.exact.links import read_links
from ccpipe.exact.texts import read_chosen
from ccpipe.meta import NOT_IN_WHERE, document_ids, select_rows, shard_groups, write_group
from ccpipe.stage import Inputs, Outputs, Stage, Unit

ROW_MASK = np.uint64(0xFFFFFFFF)


class DocumentMark(Stage):
    class Config(ExactConfig):
        pass

    ignores = frozenset(("partitions", "group_shards", "scope"))

    @property
    def prefix(self) -> str:
        return family(self.name)

    def columns(self) -> dict[str, pa.DataType]:
        return {f"{self.prefix}_keep": pa.bool_(), f"{self.prefix}_of": pa.uint64(), f"{self.prefix}_reason": pa.string()}

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        shard = unit.shards[0]
        chosen = select_rows(shard_groups(inputs), self.config.where)
        links = read_links(inputs[f"{self.prefix}.links"], f"{self.prefix}.match", shard)
        rows = (links[:, 0] & ROW_MASK).astype(np.int64)
        if len(rows) and (rows[-1] >= len(chosen) or not chosen[rows].all()):
            raise BadFile(
                f"the links of {self.prefix} name documents that shard {shard} does not have in where ({len(chosen)} documents, "
                f"{int(chosen.sum())} in where): they come from other documents, rerun {self.prefix}.route"
            )
        of = document_ids(shard, len(chosen))
        dropped = np.zeros(len(chosen), dtype=bool)
        of[rows], dropped[rows] = links[:, 1], True
        reason = pa.array(np.where(dropped, self.prefix, NOT_IN_WHERE), pa.string(), mask=chosen & ~dropped)
        values = {"keep": pa.array(~dropped, mask=~chosen), "of": pa.array(of, mask=~dropped), "reason": reason}
        table = pa.table({f"{self.prefix}_{short}": column for short, column in values.items()}, pa.schema(self.columns()))
        write_group(out[f"meta/{self.prefix}"], table)
        counts = Counts()
        counts.drop(NOT_IN_WHERE, int((~chosen).sum()))
        counts.drop(self.prefix, int(dropped.sum()))
        counts.keep(int((chosen & ~dropped).sum()))
        return counts


class ParagraphMark(Stage):
    class Config(ParagraphConfig):
        pass

    ignores = frozenset(("partitions", "group_shards", "scope", "key", "min_letters"))

    @property
    def prefix(self) -> str:
        return family(self.name)

    def columns(self) -> dict[str, pa.DataType]:
        return {f"{self.prefix}_drop_lines": pa.list_(pa.uint32()), f"{self.prefix}_dropped_bytes": pa.uint32()}

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        shard = unit.shards[0]
        chosen = select_rows(shard_groups(inputs), self.config.where)
        links = read_links(inputs[f"{self.prefix}.links"], f"{self.prefix}.match", shard)
        repeated = (links[:, 0] & ROW_MASK).astype(np.int64)
        lists: list[list[int] | None] = [None] * len(chosen)
        sizes = np.zeros(len(chosen), dtype=np.uint32)
        counts = Counts()
        counts.drop(NOT_IN_WHERE, int((~chosen).sum()))
        first = 0
        for row, text in _documents(inputs, chosen, self.config.batch_bytes):
            lengths = [len(line) + 1 for line in text.split(b"\n")]
            low, high = np.searchsorted(repeated, [first, first + len(lengths)])
            numbers = (repeated[low:high] - first).tolist()
            lists[row] = numbers
            # the last line has no newline
            sizes[row] = min(sum(lengths[number] for number in numbers), len(text))
            first += len(lengths)
            counts.keep()
            counts.extra["lines"] += len(lengths)
            counts.extra["text_bytes"] += len(text)
        if len(repeated) and repeated[-1] >= first:
            raise BadFile(
                f"the links of {self.prefix} name line {repeated[-1]} of shard {shard}, which has {first} lines in where: "
                f"they come from another text, rerun {self.prefix}.route"
            )
        counts.extra["dropped_lines"] = len(repeated)
        counts.extra["dropped_bytes"] = int(sizes.sum())
        columns = self.columns()
        values = [pa.array(lists, pa.list_(pa.uint32())), pa.array(sizes, mask=~chosen)]
        write_group(out[f"meta/{self.prefix}"], pa.table(dict(zip(columns, values, strict=True)), pa.schema(columns)))
        return counts


def _documents(inputs: Inputs, chosen: np.ndarray, batch_bytes: int) -> Iterator[tuple[int, bytes]]:
    for rows, text in read_chosen(inputs, 0, chosen, batch_bytes):
        yield from zip(rows.tolist(), text.cast(pa.large_binary()).to_pylist(), strict=True)
