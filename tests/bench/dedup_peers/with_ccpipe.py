"""`with_ccpipe.py FOLDER BANDS ROWS`: FOLDER/docs.jsonl signed, routed, matched, clustered and marked by one process; kept.json."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ccpipe.dedup.cluster import Cluster
from ccpipe.dedup.mark import Mark
from ccpipe.dedup.match import Match
from ccpipe.dedup.route import Route
from ccpipe.meta import write_group
from ccpipe.minhash import signatures
from ccpipe.stage import Inputs, Unit


def main() -> None:
    folder, bands, rows = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    imported = time.process_time()
    with (folder / "docs.jsonl").open() as lines:
        ids, texts = zip(*((doc["id"], doc["text"].encode()) for doc in map(json.loads, lines)), strict=True)
    offsets = np.cumsum([0, *map(len, texts)])
    np.save(folder / "sig.npy", signatures(np.frombuffer(b"".join(texts), np.uint8), offsets, n_hashes=bands * rows))
    write_group(folder / "base", pa.table({"id": pa.array(ids)}))
    signed = time.process_time()
    base: Inputs = {"sig": [folder / "sig.npy"], "base": [folder / "base"]}
    unit = Unit("0", 0, (0,), {"n_shards": 1})
    config = {"bands": bands, "rows": rows, "partitions": 1}
    for stage, name, inputs in (
        (Route, "route", base),
        (Match, "links", {"route": [folder / "route"]}),
        (Cluster, "clusters", {"links": [folder / "links"]}),
        (Mark, "meta/dedup", {**base, "clusters": [folder / "clusters"]}),
    ):
        out = folder / name.rpartition("/")[2]
        stage(f"dedup.{stage.__name__.lower()}", stage.Config.model_validate(config)).run(unit, inputs, {name: out})
    keep = pq.read_table(folder / "dedup").column("dedup_keep").to_pylist()
    (folder / "kept.json").write_text(json.dumps([int(number) for number, kept in zip(ids, keep, strict=True) if kept]))
    print(f"imports {imported:.1f} s, reading and signing {signed - imported:.1f} s, dedup {time.process_time() - signed:.1f} s of CPU")


if __name__ == "__main__":
    main()
