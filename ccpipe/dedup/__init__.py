"""Fuzzy deduplication over MinHash signatures, in phases that talk through files.

route: signatures of a group of shards -> one file of (band key, document), sorted by key. match: one range of keys of all
route files -> links (document, smallest document with the same key). cluster: all links -> who is a duplicate of whom.
survivor (only with a `survivor` rule): another member of each cluster is kept. mark: one column group per shard. report: what
a person should look at. The marks depend on the signatures, the columns that the config names and the config alone: not on
the number of partitions, on how shards are grouped, or on the number and order of tasks.

All phases share one table of the run.toml and so one `DedupConfig`; what its policies mean: docs/dedup-policies.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ccpipe.bands import Banding, choose_bands
from ccpipe.dedup.indexfile import IndexFile
from ccpipe.minhash import N_HASHES
from ccpipe.stage import Stage, StageConfig, tuning

SCOPES = {"crawl": "regexp_extract(warc_path, 'CC-MAIN-[0-9]{4}-[0-9]+')", "language": "lid_label"}
"""Short names of scopes. FineWeb deduplicates each crawl by itself (Penedo et al. 2024), FineWeb2 each language (Penedo et al. 2025)."""

SURVIVORS = {"longest": "text_bytes DESC"}
"""Short names of survivor rules; "first" is the absence of one."""

WEIGHTS: dict[str, tuple[tuple[int, float], ...]] = {"fineweb2": ((1, 1), (2, 2), (3, 3), (5, 5), (100, 8), (1000, 1))}
"""Cluster size from which on -> how often the kept document is to be seen in training. FineWeb2's "rehydration" (Penedo et al. 2025,
arXiv 2506.20920)."""

VERIFY_KEYS = frozenset(("verify", "verify_text", "verify_zone", "representatives"))
GIANT_KEYS = frozenset(("max_cluster", "giant", "giant_similarity"))
ALARM_KEYS = frozenset(("alarm_share", "alarm_documents"))
SURVIVOR_KEYS = frozenset(("survivor", "weights"))
"""Keys that one or two phases know; the others ignore them."""


class DedupConfig(StageConfig):
    """`where` says which documents take part; the others get null marks and are never a reason to drop one."""

    similarity: float = Field(0.8, description="Jaccard similarity that shall be found; chooses bands and rows", gt=0, le=1)
    bands: int | None = Field(None, description="number of bands; with rows, instead of similarity", ge=1)
    rows: int | None = Field(None, description="signature positions per band; with bands, instead of similarity", ge=1)
    keep: Literal["first", "component"] = Field(
        "first",
        description="first: drop what shares a band with an earlier document; component: keep one of each connected component",
    )
    scope: str | None = Field(
        None, description="crawl, language, or a SQL expression over columns: documents of different values never meet; None: all may"
    )
    against: tuple[IndexFile, ...] = Field(
        (), description="folders that `ccpipe save-index` wrote: what resembles a document of theirs is dropped", max_length=127
    )
    survivor: str = Field(
        "first", min_length=1, description="who of a cluster is kept: first, longest, or a SQL order such as 'score DESC, text_bytes DESC'"
    )
    weights: Literal["fineweb2"] | tuple[tuple[int, float], ...] | None = Field(
        None, description="fineweb2, or [[cluster size from, weight], ...]: adds the column dedup_weight"
    )
    verify: float | None = Field(None, description="estimated similarity of the whole signatures that a link must have, 0..1", gt=0, le=1)
    verify_text: float | None = Field(
        None, gt=0, le=1, description="exact similarity of texts that a link must have, where the estimate is within verify_zone"
    )
    verify_zone: float = Field(0.1, description="estimates this far from verify_text decide without the texts", ge=0, le=1)
    representatives: int = Field(8, description="documents of one band key that others are compared with, under verify", ge=1, le=1024)
    partitions: int | None = Field(None, description="key ranges that are matched separately; nodes x cores where not given", ge=1)
    group_shards: int = Field(64, description="shards per route file", ge=1)
    max_cluster: int = Field(100_000, description="documents; a larger component is reported and treated as `giant` says", ge=2)
    giant: Literal["first", "split", "refuse"] = Field(
        "first",
        description="first: its documents are dropped as under keep = first; split: merged over links of giant_similarity alone; "
        "refuse: none of its documents is dropped",
    )
    giant_similarity: float = Field(0.9, description="estimated similarity of the links that hold a split giant together", gt=0, le=1)
    alarm_share: float = Field(0.9, description="a host that loses more than this share of its documents is reported, 0..1", ge=0, le=1)
    alarm_documents: int = Field(1000, description="hosts of fewer documents raise no alarm", ge=1)
    measure_similarity: bool = Field(True, description="fill dedup_similarity; opens the signature file of every linked shard")
    signed: dict[str, Any] | None = Field(None, description="what the signatures are; planning fills it in from the table of sig")
    memory_mb: int = tuning(1024, "working memory of a process in route, match and cluster, MiB; what needs more uses the disk", ge=1)

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.bands is None) != (self.rows is None):
            raise ValueError(f"bands = {self.bands}, rows = {self.rows}: give both, or neither and similarity chooses them")
        if self.against and self.scope == "crawl":
            raise ValueError('scope = "crawl" keeps crawls apart, so that against finds nothing: take one of the two out')
        return self

    @property
    def memory_bytes(self) -> int:
        return self.memory_mb << 20

    @field_validator("weights")
    @classmethod
    def _rising(cls, value: Any) -> Any:
        if isinstance(value, tuple):
            sizes = [size for size, _ in value]
            if sizes[:1] != [1] or sizes != sorted(set(sizes)) or min(weight for _, weight in value) < 0:
                raise ValueError(f"weights = {value}: expected [[1, w], [size, w], ...] with rising sizes and no weight below 0")
        return value

    @property
    def scope_sql(self) -> str | None:
        return SCOPES.get(self.scope, self.scope) if self.scope else None

    @property
    def survivor_sql(self) -> str | None:
        return None if self.survivor == "first" else SURVIVORS.get(self.survivor, self.survivor)

    @property
    def weight_table(self) -> tuple[tuple[int, float], ...]:
        return WEIGHTS[self.weights] if isinstance(self.weights, str) else self.weights or ()

    @property
    def shingle(self) -> int:
        """Tokens of a shingle in the signatures at hand."""
        return int((self.signed or {}).get("shingle", 5))

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


class DedupStage(Stage):
    """A phase: knows what signed the documents."""

    class Config(DedupConfig):
        pass

    def settle(self, writers: Mapping[str, Stage]) -> Mapping[str, Any]:
        return {"signed": signed_by(writers["sig"])} if "sig" in writers else {}

    def predict(self, documents: int, shards: int, extra: Mapping[str, int]) -> list[str]:
        from ccpipe.dedup.sizes import Sizes

        bands = self.config.banding((self.config.signed or {}).get("n_hashes", N_HASHES)).bands
        return Sizes(documents, shards, bands, self.config, extra.get("linked_documents")).explain(self.name.rpartition(".")[2])


def signed_by(signer: Stage) -> dict[str, Any]:
    """What makes signatures comparable: the class and version of the stage that wrote them, and its parameters that change them."""
    fields = type(signer.config).model_fields
    told = {name for name, field in fields.items() if (field.json_schema_extra or {}) != {"affects_result": False}} - {"where"}
    made = f"{type(signer).__module__}:{type(signer).__qualname__}"
    return {"by": made, "version": signer.version, **signer.config.model_dump(mode="json", include=told)}


def family(stage: str) -> str:
    """Name of the table that the phases share: `dedup` for stage `dedup.mark`."""
    return stage.rpartition(".")[0] or stage
