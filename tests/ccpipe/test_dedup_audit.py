"""What a person is shown of dedup: alarms, giants and sampled pairs, in a page that is harmless whatever the documents hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from dedup_flow import Flow, text_flow
from selectolax.lexbor import LexborHTMLParser

from ccpipe.dedup.alarms import find_alarms
from ccpipe.dedup.audit import Audit, audit
from ccpipe.dedup.audit_show import to_html, to_text
from ccpipe.dedup.exact import Texts
from ccpipe.dedup.report import Report
from ccpipe.stage import Unit

EVIL = "<script>alert(1)</script> \x1b[31mred & \"quoted\" ]]> <img src='http://evil.example/x.png'>"


def pages(n: int) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """Two shards: n pages, and of each a copy with one other line, some on another host."""
    rng = np.random.default_rng(0)
    originals = ["\n".join(" ".join(f"w{x}" for x in rng.integers(0, 1 << 40, 20)) for _ in range(12)) for _ in range(n)]
    copies = ["\n".join([*text.split("\n")[:-1], f"copy {i} {EVIL}"]) for i, text in enumerate(originals)]
    hosts = [["a.example"] * n, ["www.mirror.example" if i % 2 else "a.example" for i in range(n)]]
    meta = [{"host": part, "url": [f"http://{host}/{i}?<b>" for i, host in enumerate(part)]} for part in hosts]
    return [originals, copies], meta


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    texts, meta = pages(30)
    made = text_flow(
        tmp_path_factory.mktemp("audit") / "flow", texts, {"bands": 16, "rows": 8, "max_cluster": 5, "alarm_documents": 10}, meta
    )
    made.all()
    return made


def audited(flow: Flow, n_pairs: int = 3, seed: int = 1) -> Audit:
    return audit(flow.all_of("base"), flow.all_of("meta/dedup"), Texts(flow.wet, flow.all_of("base"), 5), n_pairs, seed)


def test_pairs_show_what_differs_and_how_alike_the_texts_are(flow: Flow) -> None:
    found = audited(flow)
    assert found.dropped == 30 and found.of_past == 0 and sum(n for name, n in found.seen.items() if name.startswith("similarity")) == 30
    for pair in found.pairs:
        row = pair.kept & 0xFFFFFFFF
        assert (pair.dropped, pair.kept) == (1 << 32 | row, row)
        assert pair.only_dropped == [f"copy {row} {EVIL}"] and len(pair.only_kept) == 1 and pair.more_lines == 0
        assert 0.7 < pair.exact < 1 and abs(pair.exact - (pair.estimate or 0)) < 0.15
    across = [pair for pair in found.pairs if pair.stratum == "across hosts"]
    assert len(across) == 3 and all("mirror.example" in pair.dropped_url and "a.example" in pair.kept_url for pair in across)


def test_a_seed_shows_the_same_pairs_and_another_seed_others(flow: Flow) -> None:
    one, again, other = (audited(flow, seed=seed) for seed in (1, 1, 2))
    assert one == again and [p.dropped for p in one.pairs] != [p.dropped for p in other.pairs]
    assert {p.dropped for p in one.pairs} <= {p.dropped for p in audited(flow, n_pairs=5).pairs}


def test_the_page_holds_texts_as_text_and_loads_nothing(flow: Flow) -> None:
    evil = {"url": EVIL, "text": EVIL}
    facts = {
        "counts": flow.counts["dedup.cluster"].extra,
        "alarms": [{"host": EVIL, "documents": 9, "dropped": 9}],
        "giants": [{"documents": 9, "treated_as": "first", "hosts": {EVIL: 1}, "members_looked_at": 1, "sample": [evil]}],
    }
    html = to_html(audited(flow), facts, EVIL)
    page = LexborHTMLParser(html)
    for tag in ("script", "img", "link", "iframe", "b > b"):
        assert page.css(tag) == [], tag
    assert {name for node in page.css("*") for name in node.attributes} <= {"lang", "charset", "class"}
    shown = page.body.text()
    assert EVIL in shown and "http://www.mirror.example/" in shown and "of resemblance alone" in shown
    assert len(page.css("section")) == len(audited(flow).pairs) + 1
    text = "\n".join(to_text(audited(flow), facts))
    assert "\x1b" not in text and "  - copy" in text and "alarm:" in text and "giant: 9 documents" in text


def test_hosts_that_lose_nearly_all_are_named(tmp_path: Path) -> None:
    """www. is no other host; documents outside `where` do not count; the limits hold exactly."""
    hosts = ["a.example"] * 10 + ["www.b.example"] * 5 + ["b.example"] * 5 + ["c.example"] * 9 + ["d.example"] * 110 + [None] * 10
    keep = [True] + [False] * 9 + [False] * 10 + [False] * 9 + [True] * 10 + [None] * 110
    base, marks = [], []
    for i, part in enumerate(np.split(np.arange(len(hosts)), [7, 20])):
        base.append(tmp_path / f"base-{i}.parquet")
        marks.append(tmp_path / f"marks-{i}.parquet")
        pa.parquet.write_table(pa.table({"host": pa.array([hosts[j] for j in part], pa.string())}), base[-1])
        pa.parquet.write_table(pa.table({"dedup_keep": pa.array([keep[j] for j in part], pa.bool_())}), marks[-1])
    find = lambda share, least: [(a["host"], a["dropped"]) for a in find_alarms(base, marks, "dedup_keep", share, least, tmp_path)]  # noqa: E731
    assert find(0.9, 10) == [("b.example", 10)]
    assert find(0.89, 10) == [("b.example", 10), ("a.example", 9)]
    assert find(0.9, 9) == [("b.example", 10), ("c.example", 9)]


def test_the_report_names_giants_with_hosts_and_texts(tmp_path: Path) -> None:
    texts, meta = pages(8)
    meta[1]["host"] = ["b.example"] * 8
    config = {"bands": 16, "rows": 8, "max_cluster": 5, "alarm_documents": 8}
    flow = text_flow(tmp_path / "giant", [[texts[0][0]] * 8, [texts[0][0]] * 8], config, meta)
    flow.all()
    inputs = {kind: flow.all_of(kind) for kind in ("base", "wet", "meta/dedup")} | {"giants": [flow.path("giants")]}
    report = Report("dedup.report", flow.settings)
    counts = report.run(Unit("all", 0, (), {}), inputs, {"report": tmp_path / "report.json"})
    value = json.loads((tmp_path / "report.json").read_text())
    assert (counts.read, counts.extra["giants"], counts.extra["alarms"]) == (16, 1, 1)
    assert value["alarms"] == [{"host": "b.example", "documents": 8, "dropped": 8}]
    giant = value["giants"][0]
    assert (giant["smallest"], giant["documents"], giant["treated_as"], giant["members_looked_at"]) == (0, 16, "first", 16)
    assert giant["hosts"] == {"a.example": 8, "b.example": 8} and len(giant["sample"]) == 16
    assert giant["sample"][9]["text"] == texts[0][0][:400] and giant["sample"][9]["url"] == meta[1]["url"][1]
