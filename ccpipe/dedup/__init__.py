"""Fuzzy deduplication over MinHash signatures, in four phases that talk through files.

route: signatures of a group of shards -> one file of (band key, document), sorted by key. match: one range of keys of all
route files -> links (document, smallest document with the same key). cluster: all links -> who is a duplicate of whom.
mark: one column group per shard. The marks depend on the signatures and the config alone: not on the number of
partitions, on how shards are grouped, or on the number and order of tasks.

All four phases share one table of the run.toml and so one `DedupConfig`.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ccpipe.bands import Banding, choose_bands
from ccpipe.stage import StageConfig, tuning


class DedupConfig(StageConfig):
    """`where` says which documents take part; the others get null marks and are never a reason to drop one."""

    similarity: float = Field(0.8, description="Jaccard similarity that shall be found; chooses bands and rows", gt=0, le=1)
    bands: int | None = Field(None, description="number of bands; with rows, instead of similarity", ge=1)
    rows: int | None = Field(None, description="signature positions per band; with bands, instead of similarity", ge=1)
    keep: Literal["first", "component"] = Field(
        "first",
        description="first: drop what shares a band with an earlier document; component: keep one of each connected component",
    )
    partitions: int | None = Field(None, description="key ranges that are matched separately; nodes x cores where not given", ge=1)
    group_shards: int = Field(64, description="shards per route file", ge=1)
    max_cluster: int = Field(100_000, description="documents; a larger component is reported and not merged, see cluster", ge=2)
    measure_similarity: bool = Field(True, description="fill dedup_similarity; opens the signature file of every linked shard")
    memory_mb: int = tuning(1024, "working memory of a process in route, match and cluster, MiB; what needs more uses the disk", ge=1)

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.bands is None) != (self.rows is None):
            raise ValueError(f"bands = {self.bands}, rows = {self.rows}: give both, or neither and similarity chooses them")
        return self

    @property
    def memory_bytes(self) -> int:
        return self.memory_mb << 20

    def banding(self, n_hashes: int) -> Banding:
        """Bands and rows for signatures of `n_hashes` positions. Raises `ValueError` where they do not fit."""
        if self.bands is None or self.rows is None:
            return choose_bands(self.similarity, n_hashes)
        chosen = Banding(self.bands, self.rows)
        if chosen.width > n_hashes:
            choices = [f"bands = {n_hashes // self.rows}"] if self.rows <= n_hashes else []
            choices += [f"rows = {n_hashes // self.bands}"] if self.bands <= n_hashes else []
            raise ValueError(
                f"bands = {self.bands}, rows = {self.rows} need {chosen.width} hashes, the signatures have {n_hashes}: "
                f"take {', or '.join([*choices, f'n_hashes = {chosen.width} in the table of the stage that signs'])}"
            )
        return chosen


def family(stage: str) -> str:
    """Name of the table that the phases share: `dedup` for stage `dedup.mark`."""
    return stage.rpartition(".")[0] or stage
