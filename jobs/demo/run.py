"""`make demo`: the bundled pages through all stages on this machine, and a table of what became of them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from hpc.dispatch.local import LocalRun
from hpc.fs.files import read_json
from hpc.state.state import StageState
from hpc.watch.status import run_status
from hpc.words import size
from hpc.workers.task import StopFlag
from jobs.config import load_config
from jobs.demo.prepare import prepare
from jobs.planning import FlowPlan, find, plan_flow
from jobs.show import summary_table


def run_demo(console: Console, out: Path, models: Path) -> int:
    """Prepare pages and models where they are missing, run the flow, print the table and where the output is."""
    started = time.monotonic()
    config = prepare(out, models, lambda line: console.print(line, style="dim", highlight=False))
    flow = plan_flow(load_config(config))
    todo = sum(len(stage.pending) for stage in flow.stages)
    console.print(f"{config}: {len(flow.manifest.files)} WARC files, {len(flow.stages)} stages, {todo} units to do", highlight=False)
    if not LocalRun(flow, None, False, console).run(flow.stages, StopFlag().install()):
        return 1
    show_result(console, flow)
    if not todo:
        console.print("everything was committed already: nothing was reprocessed", style="green")
    console.print(f"{time.monotonic() - started:.0f} s on {os.cpu_count()} cores; {todo} units run", highlight=False)
    return 0


def show_result(console: Console, flow: FlowPlan) -> None:
    """The table of counts, and the corpus: tokens, files, where."""
    console.print(summary_table(run_status(flow.run)))
    state = find(flow.stages, "export.manifest").state
    path = _output(state, "manifest")
    manifest = read_json(path)
    console.print(f"\ncorpus: {corpus_line(manifest)}", style="bold", highlight=False)
    shards = flow.run / "export" / "shards" / "current"
    n_bytes = sum(file.stat().st_size for file in shards.iterdir())
    console.print(f"output: {shards} ({size(n_bytes)}: JSONL.zst, .bin and .idx)\nmanifest: {path}", highlight=False, soft_wrap=True)


def corpus_line(manifest: dict[str, Any]) -> str:
    """
    >>> corpus_line({"documents": 63, "tokens": 45678, "text_bytes": 198000, "tokenizer": "tokenizer.json", "vocab_size": 8000})
    '63 documents, 193.4 KiB of text, 45,678 tokens (tokenizer.json, vocabulary of 8,000)'
    """
    text = f"{manifest['documents']:,} documents, {size(manifest['text_bytes'])} of text"
    if not manifest.get("tokenizer"):
        return text
    return f"{text}, {manifest['tokens']:,} tokens ({manifest['tokenizer']}, vocabulary of {manifest['vocab_size']:,})"


def _output(state: StageState, dataset: str) -> Path:
    sentinel = state.sentinel("all")
    assert sentinel is not None
    return state.run / str(sentinel["outputs"][dataset]["path"])
