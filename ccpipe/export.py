"""Export: the corpus itself, as compressed JSON lines and as token ids ready for training.

In: the WET and the meta of a shard. Out: `jsonl` (zstd, one document a line), `tokens` and `index` (Megatron-LM's indexed dataset,
see `ccpipe.indexed_dataset`; without a tokenizer they hold no document) and `stats`; then one manifest over all shards.
Only documents whose `keep` column is true are written; the edit lists of `drop_lines` and `drop_ranges` are applied here and nowhere else.
Order is that of the shard: shuffling belongs to the training run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from ccpipe.counts import Counts
from ccpipe.indexed_dataset import IndexedWriter, count_sequences
from ccpipe.jsonl import JsonLines, json_values
from ccpipe.meta import NOT_IN_WHERE, document_ids, read_columns, select_rows, shard_groups
from ccpipe.stage import Inputs, ModelFile, Outputs, Stage, StageConfig, Unit, tuning
from ccpipe.tokenizer import Tokenizer, open_tokenizer
from ccpipe.wet import PLACE_COLUMNS, read_rows

OWN_KEYS = ("id", "doc", "text")
"""Keys of every line: readable id `<shard>-<row>`, document id as a number, text."""

ENCODE_CHARS = 1 << 20
"""Text tokenised in one call; a tokenizer holds about a hundred bytes per token."""


class ExportConfig(StageConfig):
    """Shared by ExportShards and ExportManifest."""

    tokenizer: ModelFile | None = Field(None, description="tokenizer.json (Hugging Face) or .model (SentencePiece); None: JSON lines only")
    eos: str | None = Field(None, description="token appended to every document; None: SentencePiece's own (tokenizer.json needs a name)")
    columns: tuple[str, ...] = Field(("url", "title"), description="columns of the meta copied into each line, in this order")
    drop_lines: tuple[str, ...] = Field((), description="columns of line numbers whose lines are left out (`quality_drop_lines`)")
    drop_ranges: tuple[str, ...] = Field((), description="columns of byte ranges that are left out (`substrings_drop_ranges`)")
    keep: str | None = Field("select_keep", description="boolean column: documents written; None: all")
    level: int = Field(3, ge=1, le=19, description="zstd level of the JSON lines")
    batch_bytes: int = tuning(8 << 20, "compressed text read per batch, bytes", ge=1)

    @field_validator("columns")
    @classmethod
    def _no_own_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        taken = sorted(set(value) & set(OWN_KEYS))
        if taken:
            raise ValueError(f"columns has {taken}, which every line holds already: take them out")
        return value


# --- the rule ---


def drop_lines(text: str, numbers: Iterable[int]) -> str:
    """The text without the lines of these numbers, counted from 0.

    >>> drop_lines("Home\\nA sentence.\\n12", [0, 2])
    'A sentence.'
    """
    dropped = set(numbers)
    return "\n".join(line for i, line in enumerate(text.split("\n")) if i not in dropped) if dropped else text


def drop_ranges(text: str, numbers: Iterable[int], ranges: Iterable[Sequence[int]]) -> str:
    """The text without the lines of these numbers and without byte ranges of the UTF-8 text, each a list start, stop, start, stop ...

    A line of which nothing is left goes with its newline; other newlines stay.

    >>> drop_ranges("Home\\nKept, and then copied text.\\ncopied line\\nend", [0], [[9, 26], [33, 44]])
    'Kept text.\\nend'
    """
    data = text.encode()
    gone = np.zeros(len(data), dtype=bool)
    for flat in ranges:
        for start, stop in zip(flat[::2], flat[1::2], strict=True):
            gone[start:stop] = True
    dropped, kept, at = set(numbers), [], 0
    for number, line in enumerate(data.split(b"\n")):
        mask = gone[at : at + len(line)]
        left = np.frombuffer(line, np.uint8)[~mask].tobytes() if mask.any() else line
        at += len(line) + 1
        if number not in dropped and (left.strip() or not mask.any()):
            kept.append(left)
    return b"\n".join(kept).decode()


def readable_id(document: int) -> str:
    """
    >>> readable_id(12 << 32 | 345)
    '00012-0000345'
    """
    return f"{document >> 32:05d}-{document & 0xFFFFFFFF:07d}"


# --- the stages ---


class ExportShards(Stage):
    """One shard's kept documents -> JSON lines, tokens, index and statistics."""

    class Config(ExportConfig):
        pass

    _tokenizer: Tokenizer | None = None

    def needs(self) -> tuple[str, ...]:
        keep = (self.config.keep,) if self.config.keep else ()
        return (*keep, *self.config.columns, *self.config.drop_lines, *self.config.drop_ranges)

    def check(self) -> None:
        self.load()

    def check_inputs(self, types: Mapping[str, pa.DataType], writers: Mapping[str, Stage]) -> None:
        keep = self.config.keep
        if keep and types[keep] != pa.bool_():
            raise ValueError(
                f"keep = {keep!r} is a column of {types[keep]}, expected bool: name the column of a decision, such as 'select_keep'"
            )
        for name in self.config.drop_lines:
            kind = types[name]
            if not (pa.types.is_list(kind) and pa.types.is_integer(kind.value_type)):
                raise ValueError(
                    f"drop_lines names {name!r}, a column of {kind}, expected lists of line numbers (list<uint32>): "
                    "name one such as 'quality_drop_lines', or leave drop_lines out"
                )

        for name in self.config.drop_ranges:
            if types[name] != pa.list_(pa.uint32()):
                raise ValueError(
                    f"drop_ranges names {name!r}, a column of {types[name]}, expected byte ranges (list<uint32>): "
                    "name one such as 'substrings_drop_ranges', or leave drop_ranges out"
                )

    def load(self) -> None:
        if self.config.tokenizer is not None:
            self._tokenizer = open_tokenizer(str(self.config.tokenizer), self.config.eos)

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        counts = Counts()
        vocab_size = self._tokenizer.vocab_size if self._tokenizer else 0
        with ExitStack() as stack:
            lines = stack.enter_context(JsonLines(out["jsonl"], self.config.level))
            tokens = stack.enter_context(IndexedWriter(out["tokens"], out["index"], vocab_size))
            for batch in self._batches(unit.shards[0], inputs, counts):
                for record in batch:
                    lines.write(record)
                self._add_tokens([record["text"] for record in batch], tokens)
        counts.extra["tokens"] = tokens.n_tokens
        stats = {
            "shard": unit.id,
            "documents": counts.kept,
            "tokens": tokens.n_tokens,
            "text_bytes": counts.extra["text_bytes"],
            "tokenizer": Path(self.config.tokenizer).name if self.config.tokenizer else None,
            "vocab_size": vocab_size,
            "eos": self._tokenizer.eos if self._tokenizer else None,
            "dtype": tokens.dtype.name,
            "files": {name: out[name].stat().st_size for name in ("index", "jsonl", "tokens")},
        }
        _write_json(out["stats"], stats)
        return counts

    def _batches(self, shard: int, inputs: Inputs, counts: Counts) -> Iterator[list[dict[str, Any]]]:
        """Records of the documents to write, batch by batch."""
        groups = shard_groups(inputs)
        meta = read_columns(groups, [*self.needs(), *PLACE_COLUMNS])
        rows = self._chosen(groups, meta, counts)
        lengths = meta.column("wet_length").to_numpy()[rows].astype(np.int64)
        batch = (np.cumsum(lengths) - lengths) // self.config.batch_bytes
        ids = document_ids(shard, len(meta))
        for part in np.split(rows, np.flatnonzero(np.diff(batch)) + 1) if len(rows) else ():
            part_meta = meta.take(pa.array(part))
            texts = read_rows(inputs["wet"][0], part_meta)
            yield self._records(texts, part_meta, ids[part].tolist(), counts)

    def _chosen(self, groups: Sequence[Path], meta: pa.Table, counts: Counts) -> np.ndarray:
        """Numbers of the rows to write; the others are counted."""
        inside = select_rows(groups, self.config.where)
        keep = inside
        if self.config.keep:
            keep = inside & meta.column(self.config.keep).fill_null(False).to_numpy().astype(bool)
        counts.drop(NOT_IN_WHERE, int((~inside).sum()))
        counts.drop("not_selected", int((inside & ~keep).sum()))
        return np.flatnonzero(keep)

    def _records(self, texts: pa.Array, meta: pa.Table, ids: list[int], counts: Counts) -> list[dict[str, Any]]:
        columns = {name: json_values(meta.column(name)) for name in self.config.columns}
        edits = [meta.column(name).to_pylist() for name in self.config.drop_lines]
        cuts = [meta.column(name).to_pylist() for name in self.config.drop_ranges]
        records: list[dict[str, Any]] = []
        for i, (document, original) in enumerate(zip(ids, texts.to_pylist(), strict=True)):
            numbers, ranges = [number for lists in edits for number in lists[i] or ()], [lists[i] for lists in cuts if lists[i]]
            text = drop_ranges(original, numbers, ranges) if ranges else drop_lines(original, numbers)
            if not text.strip():
                counts.drop("empty_after_edits" if original.strip() else "empty_text")
                continue
            counts.keep()
            counts.extra["text_bytes"] += len(text.encode())
            if text is not original:
                counts.extra["edited_bytes"] += len(original.encode()) - len(text.encode())
            own = {"id": readable_id(document), "doc": document, "text": text}
            records.append({**own, **{name: values[i] for name, values in columns.items()}})
        return records

    def _add_tokens(self, texts: list[str], tokens: IndexedWriter) -> None:
        if self._tokenizer is None:
            return
        for part in _pieces(texts, ENCODE_CHARS):
            tokens.add([[*ids, self._tokenizer.eos] for ids in self._tokenizer.encode(part)])


class ExportManifest(Stage):
    """All shards' statistics -> one JSON with totals and the shards in order."""

    class Config(ExportConfig):
        pass

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        shards = [json.loads(path.read_text(encoding="utf-8")) for path in inputs["stats"]]
        for stats, index in zip(shards, inputs["index"], strict=True):
            n_sequences, expected = count_sequences(index), stats["documents"] if stats["tokenizer"] else 0
            if n_sequences != expected:
                raise ValueError(f"{index} names {n_sequences} documents, its statistics say {expected}: rerun export.shards for it")
        shards.sort(key=lambda stats: str(stats["shard"]))
        totals = {name: sum(stats[name] for stats in shards) for name in ("documents", "tokens", "text_bytes")}
        totals_of_files = {name: sum(stats["files"][name] for stats in shards) for name in ("index", "jsonl", "tokens")}
        common = ("tokenizer", "vocab_size", "eos", "dtype")
        head = {name: shards[0][name] for name in common} if shards else {}
        parts = [{name: value for name, value in stats.items() if name not in common} for stats in shards]
        _write_json(out["manifest"], {**totals, "files": totals_of_files, **head, "format": "Megatron-LM indexed dataset", "shards": parts})
        counts = Counts()
        counts.keep(totals["documents"])
        counts.extra.update({name: totals[name] for name in ("tokens", "text_bytes")})
        return counts


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _pieces(texts: list[str], max_chars: int) -> Iterator[list[str]]:
    """Texts in runs of about `max_chars` characters, at least one each."""
    part: list[str] = []
    size = 0
    for text in texts:
        if part and size + len(text) > max_chars:
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    if part:
        yield part
