"""`with_datatrove.py FOLDER BANDS ROWS`, run by the peers' own Python: datatrove's four MinHash stages over FOLDER/docs.jsonl."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.typeshelper import Languages


def main() -> None:
    folder, bands, rows = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    config = MinhashConfig(num_buckets=bands, hashes_per_bucket=rows, hash_config=HashConfig(precision=64))

    def reader() -> JsonlReader:
        return JsonlReader(str(folder), glob_pattern="docs.jsonl", compression=None)

    names = {name: str(folder / name) for name in ("signatures", "buckets", "remove", "kept")}
    stages = [
        ([reader(), MinhashDedupSignature(names["signatures"], config=config, language=Languages.english)], 1),
        ([MinhashDedupBuckets(names["signatures"], names["buckets"], config=config)], bands),
        ([MinhashDedupCluster(names["buckets"], names["remove"], config=config)], 1),
        ([reader(), MinhashDedupFilter(names["remove"]), JsonlWriter(names["kept"])], 1),
    ]
    for number, (pipeline, tasks) in enumerate(stages):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=str(folder / f"logs{number}")).run()
    kept = []
    for path in (folder / "kept").glob("*.jsonl.gz"):
        with gzip.open(path, "rt") as lines:
            kept += [int(json.loads(line)["id"]) for line in lines]
    (folder / "kept.json").write_text(json.dumps(sorted(kept)))


if __name__ == "__main__":
    main()
