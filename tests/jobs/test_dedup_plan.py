"""`plan` says what each phase of dedup will need: expected before anything is counted, counted afterwards."""

from __future__ import annotations

from pathlib import Path

import flows


def test_memory_and_disk_of_every_phase_before_and_after_counting(demo: Path, models: Path, tmp_path: Path) -> None:
    text = flows.until(flows.short_flow(demo, models, tmp_path / "run"), "extract", "sig", "lid", "quality", "dedup")
    flow = flows.plan(tmp_path, text)
    phases = ["dedup.route", "dedup.match", "dedup.cluster", "dedup.mark"]
    for phase in phases:
        said = "\n".join(flow.explain(phase))
        assert "documents, expected of 35,000 a GB of input:" in said
        assert "Memory: " in said and "Disk: " in said and "bytes a" in said
    assert "Memory" not in "\n".join(flow.explain("extract"))
    flows.run_here(flow, [stage for stage in flow.stages if stage.name in ("extract", *phases) or stage.name in ("sig", "lid", "quality")])
    again = flows.plan(tmp_path, text)
    kept = again.known_counts()[0]
    assert kept > 50
    for phase in phases:
        said = "\n".join(again.explain(phase))
        assert f"For {kept} documents, counted by extract:" in said
        assert "are linked" not in said
