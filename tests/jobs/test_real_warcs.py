"""The whole chain over real Common Crawl style WARCs: every response record is accounted for, at every stage."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from warcio.archiveiterator import ArchiveIterator

from jobs.demo.prepare import prepare

pytestmark = [pytest.mark.shared, pytest.mark.slow]

MAX_RSS_BYTES = 2 << 30


def count_responses(warcs: list[Path]) -> int:
    """Response records, by a reader that the stage does not use."""
    found = 0
    for path in warcs:
        with path.open("rb") as file:
            found += sum(record.rec_type == "response" for record in ArchiveIterator(file))
    return found


def test_every_response_of_the_dev_warcs_is_accounted_for(tmp_path: Path, shared_data: Path, models: Path) -> None:
    warcs = sorted((shared_data / "extraction" / "dev").glob("dev-0000[0-3].warc.gz"))
    config = prepare(tmp_path, models)
    text = re.sub(r"^inputs = .*$", f"inputs = {json.dumps([str(path) for path in warcs])}", config.read_text(), flags=re.MULTILINE)
    config.write_text(re.sub(r"^shard_bytes = .*$", 'shard_bytes = "9 MiB"', text, flags=re.MULTILINE))
    command = [sys.executable, "-m", "jobs.cli"]
    done = subprocess.run([*command, "local", "--config", str(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = subprocess.run([*command, "status", "--json", "--config", str(config)], capture_output=True, text=True, check=True)
    stages = {stage["stage"]: stage for stage in json.loads(shown.stdout)["stages"]}
    assert all(stage["complete"] for stage in stages.values())
    assert stages["extract"]["counts"]["read"] == count_responses(warcs)
    for name, stage in stages.items():
        counts = stage["counts"]
        assert counts["read"] == counts["kept"] + sum(counts["dropped"].values()), name
        assert stage["peak_rss_bytes"] < MAX_RSS_BYTES, name
    documents = stages["extract"]["counts"]["kept"]
    per_document = [name for name in stages if name not in ("extract", "dedup.match", "dedup.cluster", "export.manifest")]
    assert {name: stages[name]["counts"]["read"] for name in per_document} == dict.fromkeys(per_document, documents)
    assert stages["export.manifest"]["counts"]["read"] == stages["select"]["counts"]["kept"] > 0
