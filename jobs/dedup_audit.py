"""`ccpipe dedup-audit`: what dedup dropped, beside what was kept instead, with alarms and giant components."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from ccpipe.dedup.audit import Audit, audit
from ccpipe.dedup.audit_show import to_html, to_text
from ccpipe.dedup.exact import Texts
from hpc.fs.files import read_json
from jobs.save_index import complete_files, state_of


def run_audit(console: Console, run: Path, n_pairs: int, seed: int, html: Path | None, as_json: bool) -> int:
    """Print the audit of a run whose dedup.mark is complete, and write the page where one is wanted. Raises `UsageError`."""
    marks = complete_files(run, "dedup.mark", "meta/dedup")
    shingle = int((state_of(run, "dedup.mark").plan.identity["config"].get("signed") or {}).get("shingle", 5))
    base, wet = (complete_files(run, "extract", dataset) for dataset in ("base", "wet"))
    found = audit(base, marks, Texts(wet, base, shingle), n_pairs, seed)
    facts = read_facts(run)
    if as_json:
        print(json.dumps(to_dict(found, facts), ensure_ascii=False))
    else:
        for line in to_text(found, facts):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if html is not None:
        html.write_text(to_html(found, facts, f"dedup of {run.name}"), encoding="utf-8")
        if not as_json:
            console.print(f"page: {html}", markup=False, highlight=False, soft_wrap=True)
    return 0


def to_dict(found: Audit, facts: dict[str, Any]) -> dict[str, Any]:
    return {**asdict(found), **facts}


def read_facts(run: Path) -> dict[str, Any]:
    """Counts of dedup.cluster; alarms and giants of dedup.report, none where it has not run."""
    cluster = state_of(run, "dedup.cluster").sentinel("all")
    report = state_of(run, "dedup.report").sentinel("all")
    value = read_json(run / str(report["outputs"]["report"]["path"])) if report else {"alarms": [], "giants": []}
    return {"counts": cluster["counts"]["extra"] if cluster else {}, "alarms": value["alarms"], "giants": value["giants"]}


def alarm_lines(run: Path) -> list[str]:
    """For `status`: one line where dedup has something that a person should look at."""
    entries = (read_json(run / "flow.json")["stages"]) if (run / "flow.json").is_file() else []
    if not any(entry["stage"] == "dedup.report" for entry in entries):
        return []
    report = state_of(run, "dedup.report").sentinel("all")
    extra = report["counts"]["extra"] if report else {}
    if not (extra.get("alarms") or extra.get("giants")):
        return []
    alarms, giants = extra.get("alarms", 0), extra.get("giants", 0)
    hosts = f"{alarms:,} hosts lost nearly all of their documents"
    return [f"dedup: {hosts}, {giants:,} giant components; look at them with `ccpipe dedup-audit`"]
