"""substrings.find and substrings.mark: runs of at least `min_tokens` tokens that occur before, within a group of shards.

After Lee et al. 2021 ("Deduplicating training data makes language models better", arXiv 2107.06499: exact substrings of 50 tokens).
They sort all suffixes; here the hashes of all windows of `min_tokens` tokens are sorted (a rolling hash, so text is read once), which
finds the same windows, and each candidate is verified token by token. Tokens are those of `ccpipe.tokens`: case and punctuation do
not count.

Of equal windows the first, by shard, row and place, stays; the tokens of the others are dropped, but for those that lie in the first
itself (a word said a thousand times overlaps itself). A dropped range begins with its first token and ends where the next begins.

find, in: `base` and `wet` of the group. Out: `<family>.ranges`, .npy, uint64, shape (n, 3): document, first token, end token; sorted.
mark, in: `base`, `wet` of the shard and all ranges. Out, in `meta/<family>`:
<family>_drop_ranges    list<uint32>  byte offsets in the text (start, stop, start, stop ...), for `drop_ranges` of export
<family>_dropped_bytes  uint32        their sum
Outside `where` both are null.

Memory of find: 17 bytes per token of the group (its hash twice while texts are collected, a flag), and `memory_mb` for windows. What
repeats between groups stays.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pydantic import Field

from ccpipe.annotate import text_buffers
from ccpipe.counts import Counts
from ccpipe.dedup.external import PairSorter
from ccpipe.dedup.files import Array2D, BadFile, write_rows
from ccpipe.exact import family
from ccpipe.exact.links import FirstLinker
from ccpipe.exact.texts import read_chosen
from ccpipe.kernels import BASE, kernel, mix
from ccpipe.meta import NOT_IN_WHERE, document_ids, select_rows, shard_groups, write_group
from ccpipe.stage import Inputs, Outputs, Stage, StageConfig, Unit, tuning
from ccpipe.tokens import hash_tokens, token_ranges

WINDOW_BLOCK = 1 << 20
"""Tokens whose windows are hashed at once."""


class SubstringConfig(StageConfig):
    min_tokens: int = Field(50, description="tokens of the shortest run that counts as repeated", ge=5, le=10_000)
    group_shards: int = Field(1, description="shards that are compared with each other; memory grows with them", ge=1)
    memory_mb: int = tuning(1024, "memory for windows, MiB", ge=1)
    batch_bytes: int = tuning(8 << 20, "compressed text read per batch, bytes", ge=1)


# --- the rules ---


@kernel
def hash_windows(tokens: np.ndarray, ends: np.ndarray, first: int, last: int, size: int, pairs: np.ndarray) -> int:
    """(hash, place of the first token) of all windows of `size` tokens that begin in first..last - 1 and lie in one document.

    tokens: uint64; ends: int64, rising, end of each document; pairs: uint64, shape (last - first, 2). Returns how many.
    """
    top = np.uint64(1)
    for _ in range(size):
        top *= BASE
    n = 0
    doc = int(np.searchsorted(ends, first, side="right"))
    at = first
    while at < last and doc < len(ends):
        stop = min(last, int(ends[doc]) - size + 1)
        if at < stop:
            value = np.uint64(0)
            for i in range(at, at + size):
                value = value * BASE + tokens[i]
            while at < stop:
                pairs[n, 0] = mix(value)
                pairs[n, 1] = at
                n += 1
                if at + size < ends[doc]:
                    value = value * BASE + tokens[at + size] - tokens[at] * top
                at += 1
        at = max(at, int(ends[doc]))
        doc += 1
    return n


@kernel
def drop_repeats(tokens: np.ndarray, links: np.ndarray, size: int, drop: np.ndarray) -> int:
    """Marks the tokens of windows that occur before; returns how many links were none (equal hashes of unequal windows).

    links: uint64, shape (n, 2): place of a window, place of the first equal one; sorted. drop: bool, shape (n_tokens,).
    """
    wrong = 0
    verified_at, verified_as = np.int64(-2), np.int64(-2)
    for i in range(len(links)):
        at, first = np.int64(links[i, 0]), np.int64(links[i, 1])
        # of a window one further in both places only the last token is new
        start = size - 1 if at == verified_at + 1 and first == verified_as + 1 else 0
        same = True
        for j in range(start, size):
            same = same and tokens[at + j] == tokens[first + j]
        if not same:
            wrong += 1
            continue
        verified_at, verified_as = at, first
        for place in range(max(at, first + size), at + size):
            drop[place] = True
    return wrong


def token_runs(drop: np.ndarray, ends: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Marked tokens as runs within documents: uint64, shape (n, 3): document, first token, end token, counted in the document."""
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64) if len(ends) else np.empty(0, np.int64)
    before = np.concatenate([[False], drop[:-1]]) if len(drop) else drop
    begins = drop & ~before
    begins[starts[starts < len(drop)]] = drop[starts[starts < len(drop)]]
    first = np.flatnonzero(begins)
    after = np.concatenate([drop[1:], [False]]) if len(drop) else drop
    last = drop & ~after
    last[ends[ends > 0] - 1] = drop[ends[ends > 0] - 1]
    stop = np.flatnonzero(last) + 1
    doc = np.searchsorted(ends, first, side="right")
    return np.column_stack([ids[doc], (first - starts[doc]).astype(np.uint64), (stop - starts[doc]).astype(np.uint64)]).astype(np.uint64)


# --- the stages ---


class FindRepeats(Stage):
    class Config(SubstringConfig):
        pass

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        counts = Counts()
        path = out[f"{family(self.name)}.ranges"]
        tokens, ends, ids = self._read(unit, inputs, counts)
        size, memory = self.config.min_tokens, self.config.memory_mb << 20
        windows, links, linker = PairSorter(memory // 2, path.parent), PairSorter(memory // 2, path.parent), FirstLinker()
        room = np.empty((min(WINDOW_BLOCK, len(tokens)), 2), np.uint64)
        for first in range(0, len(tokens), WINDOW_BLOCK):
            last = min(first + WINDOW_BLOCK, len(tokens))
            windows.add(room[: hash_windows(tokens, ends, first, last, size, room)])
        for block in windows.blocks():
            links.add(linker.link(block))
        drop = np.zeros(len(tokens), dtype=bool)
        for block in links.blocks():
            counts.extra["false_candidates"] += drop_repeats(tokens, block, size, drop)
        counts.extra["tokens"] = len(tokens)
        counts.extra["dropped_tokens"] = int(drop.sum())
        counts.extra["ranges"] = write_rows(path, 3, [token_runs(drop, ends, ids)])
        return counts

    def _read(self, unit: Unit, inputs: Inputs, counts: Counts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Token hashes of the group, uint64; end of each document, int64; ids of the documents, uint64."""
        tokens, lengths, ids = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
        for position in sorted(range(len(unit.shards)), key=lambda position: unit.shards[position]):
            chosen = select_rows(shard_groups(inputs, position), self.config.where)
            counts.keep(int(chosen.sum()))
            counts.drop(NOT_IN_WHERE, int((~chosen).sum()))
            shard_ids = document_ids(unit.shards[position], len(chosen))
            for rows, text in read_chosen(inputs, position, chosen, self.config.batch_bytes):
                hashes, ends = hash_tokens(*text_buffers(text))
                tokens.append(hashes.copy())
                lengths.append(np.diff(ends))
                ids.append(shard_ids[rows])
        return np.concatenate(tokens), np.cumsum(np.concatenate(lengths)), np.concatenate(ids)


class MarkRepeats(Stage):
    class Config(SubstringConfig):
        pass

    ignores = frozenset(("min_tokens", "group_shards"))

    @property
    def prefix(self) -> str:
        return family(self.name)

    def columns(self) -> dict[str, pa.DataType]:
        return {f"{self.prefix}_drop_ranges": pa.list_(pa.uint32()), f"{self.prefix}_dropped_bytes": pa.uint32()}

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        shard = unit.shards[0]
        chosen = select_rows(shard_groups(inputs), self.config.where)
        runs = self._runs(inputs, shard)
        wanted = np.zeros(len(chosen), dtype=bool)
        if any(row >= len(chosen) or not chosen[row] for row in runs):
            raise BadFile(f"the ranges of {self.prefix} name documents that shard {shard} does not have in where: rerun {self.prefix}.find")
        wanted[list(runs)] = True
        lists: list[list[int] | None] = [[] if there else None for there in chosen.tolist()]
        for rows, text in read_chosen(inputs, 0, wanted, self.config.batch_bytes):
            for row, ranges in zip(rows.tolist(), self._byte_ranges(text, [runs[row] for row in rows.tolist()]), strict=True):
                lists[row] = ranges
        sizes = np.array([sum(r[1::2]) - sum(r[::2]) if r else 0 for r in lists], dtype=np.uint32)
        columns = self.columns()
        values = [pa.array(lists, pa.list_(pa.uint32())), pa.array(sizes, mask=~chosen)]
        write_group(out[f"meta/{self.prefix}"], pa.table(dict(zip(columns, values, strict=True)), pa.schema(columns)))
        counts = Counts()
        counts.keep(int(chosen.sum()))
        counts.drop(NOT_IN_WHERE, int((~chosen).sum()))
        counts.extra["dropped_bytes"] = int(sizes.sum())
        counts.extra["edited_documents"] = len(runs)
        return counts

    def _runs(self, inputs: Inputs, shard: int) -> dict[int, np.ndarray]:
        """Row -> first and end tokens, shape (n, 2), of the documents of this shard that lose something."""
        found: dict[int, np.ndarray] = {}
        for path in inputs[f"{self.prefix}.ranges"]:
            file = Array2D(path, f"{self.prefix}.find", 3)
            ids = file.map()
            bounds = (shard << 32, (shard + 1) << 32)
            first, last = (bisect.bisect_left(range(file.rows), bound, key=lambda row: int(ids[row, 0])) for bound in bounds)
            runs = file.read(first, last)
            rows, starts = np.unique(runs[:, 0] & np.uint64(0xFFFFFFFF), return_index=True)
            found |= dict(zip(rows.astype(np.int64).tolist(), np.split(runs[:, 1:].astype(np.int64), starts[1:]), strict=False))
        return found

    def _byte_ranges(self, text: pa.Array, runs: list[np.ndarray]) -> Iterator[list[int]]:
        data, offsets = text_buffers(text)
        places, ends = token_ranges(data, offsets)
        for i, tokens in enumerate(runs):
            mine = places[ends[i] : ends[i + 1]] - offsets[i]
            if tokens[-1, 1] > len(mine):
                raise BadFile(f"the ranges of {self.prefix} go to token {tokens[-1, 1]} of a text of {len(mine)}: rerun {self.prefix}.find")
            # a range goes to where the next token begins, or to the end of the text
            begins = np.append(mine[:, 0], offsets[i + 1] - offsets[i])
            yield np.column_stack([begins[tokens[:, 0]], begins[tokens[:, 1]]]).ravel().tolist()
