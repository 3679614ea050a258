"""Exact duplicates: of documents by URL or text, of paragraphs, and of long runs of tokens.

What is equal has equal keys, so no signatures and no clusters are needed: route (keys of a shard group, sorted), match (equal keys of
one range of all route files -> links to the first) and mark (a column group per shard) are three phases over the files and the
machinery of `ccpipe.dedup`. The first occurrence, by shard and row, is the one that stays. A key is 64 bits: among 3 billion
different things two share one with a chance of 1 in 4.

same_url     documents of one canonical URL (`ccpipe.exact.urls`)
same_text    documents of one digest, so the same bytes of text
paragraphs   lines, by CCNet's keys (`ccpipe.lines`); an edit list of line numbers for `drop_lines` of export
substrings   runs of at least `min_tokens` tokens within a group of shards; an edit list of byte ranges for `drop_ranges` of export
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ccpipe.lines import Key
from ccpipe.stage import StageConfig, tuning


class ExactConfig(StageConfig):
    """`where` says which documents take part; the others get null marks and are never a reason to drop one."""

    scope: Literal["run", "group"] = Field("run", description="run: all shards; group: only within `group_shards` shards, as CCNet does")
    partitions: int | None = Field(None, description="key ranges that are matched separately; nodes x cores where not given", ge=1)
    group_shards: int = Field(64, description="shards per route file", ge=1)
    memory_mb: int = tuning(1024, "memory for keys in route and match, MiB", ge=1)


class ParagraphConfig(ExactConfig):
    key: Key = Field("ccnet_code", description="what of a line is compared, see ccpipe.lines: exact, ccnet_code or ccnet_paper")
    min_letters: int = Field(1, description="lines with fewer letters and digits stay", ge=1)
    batch_bytes: int = tuning(8 << 20, "compressed text read per batch, bytes", ge=1)


def family(stage: str) -> str:
    """Name of the table that the phases share: `same_url` for stage `same_url.mark`."""
    return stage.rpartition(".")[0] or stage
