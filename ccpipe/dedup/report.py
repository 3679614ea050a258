"""dedup.report: what a person should look at before trusting the marks.

In: `base` and the marks of all shards, `giants` (`ccpipe.dedup.cluster`), and `wet` for the sample texts. Out: `report`, a JSON file:
alarms    hosts that lost more than `alarm_share` of at least `alarm_documents` documents (`ccpipe.dedup.alarms`)
giants    each component of more than `max_cluster` documents, largest first: its size, how it was treated, the hosts that most of its
          sampled members are of, addresses and the beginnings of the texts of some of them
Counts: read = documents seen; extra alarms, giants.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ccpipe.counts import Counts
from ccpipe.dedup import SURVIVOR_KEYS, VERIFY_KEYS, DedupStage, family
from ccpipe.dedup.alarms import find_alarms
from ccpipe.dedup.exact import Texts
from ccpipe.dedup.files import Array2D
from ccpipe.dedup.past import OURS, PAST_SHIFT
from ccpipe.meta import count_rows, read_columns
from ccpipe.stage import Inputs, Outputs, Unit

MAX_HOSTS = 10
MAX_SAMPLES = 20
TEXT_CHARS = 400


class Report(DedupStage):
    reads_where = False

    ignores = frozenset(
        ("where", "scope", "partitions", "group_shards", "measure_similarity", "giant_similarity", *VERIFY_KEYS, *SURVIVOR_KEYS)
    )

    def needs(self) -> tuple[str, ...]:
        return ("url", "host")

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        marks = inputs[f"meta/{family(self.name)}"]
        config = self.config
        keep = f"{family(self.name)}_keep"
        alarms = find_alarms(
            inputs["base"], marks, keep, config.alarm_share, config.alarm_documents, out["report"].parent, config.memory_mb
        )
        giants = self._giants(inputs)
        value = {"alarm_share": config.alarm_share, "alarm_documents": config.alarm_documents, "alarms": alarms, "giants": giants}
        out["report"].write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        counts = Counts()
        counts.keep(sum(map(count_rows, marks)))
        counts.extra["alarms"], counts.extra["giants"] = len(alarms), len(giants)
        return counts

    def _giants(self, inputs: Inputs) -> list[dict[str, Any]]:
        rows = Array2D(inputs["giants"][0], "dedup.cluster", 3).read_all()
        texts = Texts(inputs["wet"], inputs["base"], self.config.shingle)
        starts = np.flatnonzero(np.diff(rows[:, 0], prepend=~rows[:1, 0]))
        return [self._giant(part, inputs["base"], texts) for part in np.split(rows, starts[1:]) if len(part)]

    def _giant(self, rows: np.ndarray, base: Sequence[Path], texts: Texts) -> dict[str, Any]:
        members = [int(member) & (OURS - 1) for member in rows[:, 2]]
        pages = read_pages(base, [member for member in members if not member >> PAST_SHIFT])
        hosts = Counter(str(page["host"]) for page in pages.values())
        chosen = [member for member in members[:: -(-len(members) // MAX_SAMPLES)] if member in pages]
        return {
            "smallest": int(rows[0, 0]) & (OURS - 1),
            "documents": int(rows[0, 1]),
            "treated_as": self.config.giant,
            "members_looked_at": len(pages),
            "hosts": dict(sorted(hosts.items(), key=lambda item: (-item[1], item[0]))[:MAX_HOSTS]),
            "sample": [{"document": m, "url": pages[m]["url"], "text": texts.text(m)[:TEXT_CHARS]} for m in chosen],
        }


def read_pages(base: Sequence[Path], documents: Sequence[int], columns: Sequence[str] = ("url", "host")) -> dict[int, Mapping[str, Any]]:
    """Document -> its columns; each shard's file is read once."""
    by_shard: dict[int, list[int]] = {}
    for document in documents:
        by_shard.setdefault(document >> 32, []).append(document)
    found: dict[int, Mapping[str, Any]] = {}
    for shard, members in sorted(by_shard.items()):
        rows = read_columns([base[shard]], columns).take([member & 0xFFFFFFFF for member in members])
        found |= dict(zip(members, rows.to_pylist(), strict=True))
    return found
