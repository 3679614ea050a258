"""The stage table: every stage, what one unit of it is, which files it reads and writes, what it is expected to cost.

Columns are not listed here: a stage class says which it needs and which it writes, and the `where` of the config names
more. The order of stages follows from all of that; it is never wired by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """`units`: shard, group (of shards), partition (of band keys), all, or run (made once, when a run is first planned).

    `reads`: dataset -> "members" (the unit's own shards) or "all" (every unit of the stage that writes it). `columns`: the
    same, for the column groups that the class and the config name; None: the stage reads no columns. `writes`: dataset ->
    path below the run folder. `s_per_gb`: expected core-seconds (GPU-seconds) for one GB of input WARC.
    """

    stage: str
    about: str
    use: str | None
    units: str
    reads: dict[str, str]
    writes: dict[str, str]
    s_per_gb: float
    columns: str | None = "members"


ANNOTATOR = Row(
    "annotator",
    "new columns from the text: your own class",
    None,
    "shard",
    {"wet": "members", "base": "members"},
    {"meta/{stage}": "meta/{stage}/{fp}/{unit}.parquet"},
    60.0,
)
"""The row of a stage that the table does not name: a user's annotator, or one member of `classify`."""


def _annotator(stage: str, about: str, use: str | None, s_per_gb: float) -> Row:
    return Row(stage, about, use, ANNOTATOR.units, ANNOTATOR.reads, ANNOTATOR.writes, s_per_gb)


def _exact(family: str, what: str, classes: tuple[str, str, str], wet: bool) -> tuple[Row, ...]:
    """The three phases of a family of exact keys: route, match, mark."""
    members = {"wet": "members", "base": "members"} if wet else {"base": "members"}
    route, match, mark = (f"ccpipe.exact.{phase}:{name}" for phase, name in zip(("route", "match", "mark"), classes, strict=True))
    keys, links = (
        {f"{family}.route": f"exact/{family}/route/{{fp}}/{{unit}}.route"},
        {f"{family}.links": f"exact/{family}/links/{{fp}}/{{unit}}.links"},
    )
    marks = {f"meta/{family}": f"meta/{family}/{{fp}}/{{unit}}.parquet"}
    seconds = 10.0 if wet else 1.0
    return (
        Row(f"{family}.route", f"{what}: keys of a shard group, sorted", route, "group", members, keys, seconds),
        Row(
            f"{family}.match", f"{what}: equal keys -> links to the first", match, "partition", {f"{family}.route": "all"}, links, 0.5, None
        ),
        Row(f"{family}.mark", f"{what}: the verdict as columns", mark, "shard", {**members, f"{family}.links": "all"}, marks, seconds),
    )


TABLE: tuple[Row, ...] = (
    Row(
        "manifest",
        "globs or lists of WARC files -> frozen, byte-balanced shards",
        None,
        "run",
        {},
        {"manifest": "manifest.jsonl"},
        0.0,
        columns=None,
    ),
    Row(
        "extract",
        "WARC -> URL filter -> main text -> WET and meta/base",
        "ccpipe.extract:Extract",
        "shard",
        {},
        {
            "wet": "wet/{fp}/{unit}.warc.wet.gz",
            "base": "meta/base/{fp}/{unit}.parquet",
            "dropped": "dropped/{fp}/{unit}.parquet",
        },
        300.0,
        columns=None,
    ),
    Row(
        "sig",
        "128 64-bit MinHashes per document",
        "ccpipe.sig:Sign",
        "shard",
        {"wet": "members", "base": "members"},
        {"sig": "sig/{fp}/{unit}.npy"},
        15.0,
    ),
    _annotator("lid", "language, top 3 labels (fastText)", "ccpipe.lid:FastTextLid", 15.0),
    _annotator("quality", "document and line rules", "ccpipe.quality:CcCleanerRules", 10.0),
    _annotator("perplexity", "SentencePiece + KenLM", "ccpipe.perplexity:KenLmPerplexity", 30.0),
    _annotator("classify", "quality classifiers, one stage each: [stage.classify.NAME]", None, 600.0),
    Row(
        "dedup.route",
        "band keys of a shard group, sorted by partition",
        "ccpipe.dedup.route:Route",
        "group",
        {"sig": "members", "base": "members"},
        {"route": "dedup/route/{fp}/{unit}.route"},
        1.0,
    ),
    Row(
        "dedup.match",
        "equal keys of one partition -> links to the smallest id",
        "ccpipe.dedup.match:Match",
        "partition",
        {"route": "all"},
        {"links": "dedup/links/{fp}/{unit}.links"},
        1.0,
        columns=None,
    ),
    Row(
        "dedup.cluster",
        "links -> clusters",
        "ccpipe.dedup.cluster:Cluster",
        "all",
        {"links": "all"},
        {"clusters": "dedup/clusters/{fp}/clusters", "giants": "dedup/clusters/{fp}/giants"},
        0.5,
        columns=None,
    ),
    Row(
        "dedup.survivor",
        "the best document of each cluster by the rule; only with one",
        "ccpipe.dedup.survivor:Survivor",
        "all",
        {"clusters": "all", "base": "all"},
        {"survivors": "dedup/survivors/{fp}/survivors"},
        0.5,
        columns="all",
    ),
    Row(
        "dedup.mark",
        "cluster id, size, keep, duplicate of",
        "ccpipe.dedup.mark:Mark",
        "shard",
        {"base": "members", "sig": "all", "clusters": "all"},
        {"meta/dedup": "meta/dedup/{fp}/{unit}.parquet"},
        1.0,
    ),
    *_exact("same_url", "documents of one URL", ("UrlRoute", "KeyMatch", "DocumentMark"), wet=False),
    *_exact("same_text", "documents of one text", ("TextRoute", "KeyMatch", "DocumentMark"), wet=False),
    *_exact("paragraphs", "lines that were there before", ("ParagraphRoute", "ParagraphMatch", "ParagraphMark"), wet=True),
    Row(
        "substrings.find",
        "long runs of tokens that were there before, in a shard group",
        "ccpipe.exact.substrings:FindRepeats",
        "group",
        {"wet": "members", "base": "members"},
        {"substrings.ranges": "exact/substrings/{fp}/{unit}.ranges"},
        30.0,
    ),
    Row(
        "substrings.mark",
        "their byte ranges as columns",
        "ccpipe.exact.substrings:MarkRepeats",
        "shard",
        {"wet": "members", "base": "members", "substrings.ranges": "all"},
        {"meta/substrings": "meta/substrings/{fp}/{unit}.parquet"},
        10.0,
    ),
    Row(
        "semantic.centroids",
        "k-means over the embeddings of a sample",
        "ccpipe.semantic.centroids:Centroids",
        "all",
        {"base": "all"},
        {"semantic.centroids": "semantic/centroids/{fp}/centroids.npy"},
        5.0,
        columns="all",
    ),
    Row(
        "semantic.assign",
        "the nearest centroid of each document",
        "ccpipe.semantic.assign:AssignCentroids",
        "shard",
        {"base": "members", "semantic.centroids": "all"},
        {"semantic.assigned": "semantic/assigned/{fp}/{unit}.npy"},
        5.0,
    ),
    Row(
        "semantic.match",
        "similar pairs within a cluster",
        "ccpipe.semantic.match:SemanticMatch",
        "partition",
        {"semantic.assigned": "all"},
        {"semantic.links": "semantic/links/{fp}/{unit}.links"},
        10.0,
        columns=None,
    ),
    Row(
        "semantic.mark",
        "the verdict as columns",
        "ccpipe.semantic.mark:SemanticMark",
        "shard",
        {"base": "members", "semantic.links": "all"},
        {"meta/semantic": "meta/semantic/{fp}/{unit}.parquet"},
        1.0,
    ),
    Row(
        "dedup.report",
        "hosts that lost nearly all, giant components",
        "ccpipe.dedup.report:Report",
        "all",
        {"wet": "all", "base": "all", "meta/dedup": "all", "giants": "all"},
        {"report": "dedup/report/{fp}/report.json"},
        0.2,
        columns="all",
    ),
    Row(
        "bucket.cuts",
        "exact global quantiles of the scores",
        "ccpipe.bucket:Cuts",
        "all",
        {"base": "all"},
        {"cuts": "bucket/{fp}/cuts.json"},
        0.2,
        columns="all",
    ),
    Row(
        "bucket.assign",
        "buckets 0..19 per classifier, and their maximum",
        "ccpipe.bucket:Assign",
        "shard",
        {"base": "members", "cuts": "all"},
        {"meta/bucket": "meta/bucket/{fp}/{unit}.parquet"},
        0.2,
    ),
    Row(
        "select",
        "the SQL predicate that decides what is exported",
        "ccpipe.select:Select",
        "shard",
        {"base": "members"},
        {"meta/select": "meta/select/{fp}/{unit}.parquet"},
        0.2,
    ),
    Row(
        "export.shards",
        "selected documents -> JSONL.zst and token files",
        "ccpipe.export:ExportShards",
        "shard",
        {"wet": "members", "base": "members"},
        {
            "jsonl": "export/shards/{fp}/{unit}.jsonl.zst",
            "tokens": "export/shards/{fp}/{unit}.bin",
            "index": "export/shards/{fp}/{unit}.idx",
            "stats": "export/shards/{fp}/{unit}.json",
        },
        60.0,
    ),
    Row(
        "export.manifest",
        "token counts and the list of files",
        "ccpipe.export:ExportManifest",
        "all",
        {"stats": "all", "index": "all"},
        {"manifest": "export/manifest/{fp}/manifest.json"},
        0.1,
        columns=None,
    ),
)

FAMILIES: dict[str, tuple[str, ...]] = {
    family: tuple(row.stage for row in TABLE if row.stage.startswith(f"{family}."))
    for family in ("dedup", "same_url", "same_text", "paragraphs", "substrings", "semantic", "bucket", "export")
}
"""Stages that share one config table and are asked for together: `make stage=dedup`."""

OPEN_FAMILY = "classify"
"""The family whose members the config names: `[stage.classify.NAME]`, each with its own `use`."""

ROWS: dict[str, Row] = {row.stage: row for row in TABLE}

SECTIONS: tuple[str, ...] = tuple(dict.fromkeys(row.stage.partition(".")[0] for row in TABLE if row.units != "run"))
"""Names of the config's stage tables, in the order of the usual flow."""


@dataclass(frozen=True)
class Named:
    """A stage of a flow: its row with the stage's own name filled in."""

    name: str
    row: Row
    writes: dict[str, str] = field(default_factory=dict)


def named(name: str) -> Named:
    """The row for a stage name: its own, or the annotator's for `classify.NAME` and the user's stages."""
    row = ROWS.get(name) or (ROWS[OPEN_FAMILY] if name.startswith(f"{OPEN_FAMILY}.") else ANNOTATOR)
    writes = {dataset.replace("{stage}", name): template.replace("{stage}", name) for dataset, template in row.writes.items()}
    return Named(name, row, writes)
