"""Export: JSON lines and token files, read back by parsers written from the format alone."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pydantic import ValidationError

from ccpipe.counts import Counts
from ccpipe.export import ExportManifest, ExportShards, drop_lines
from ccpipe.indexed_dataset import IndexedWriter
from ccpipe.stage import Unit
from ccpipe.tokenizer import open_tokenizer
from ccpipe.wet import text_digest

TEXTS = [
    "The river rose slowly during the night.\nHome\nBoats were brought out of the barns.",
    "河水在夜里慢慢上涨。\n首页\n孩子们觉得一切都很有趣。",
    "Not selected.",
    "Home\nLogin",
    "",
    'Quotes " and \\ and \u2028 stay as they are 🎉',
]
META: dict[str, Any] = {
    "select_keep": [True, True, False, True, True, True],
    "quality_drop_lines": [[1], [1], [0], [0, 1], None, None],
    "lid_label": ["en", "zh", "en", None, None, "en"],
    "lid_score": [0.1, 0.9, 0.5, None, float("nan"), 1.0],
}


@dataclass
class Shard:
    number: int
    inputs: dict[str, list[Path]]


def make_shard(folder: Path, number: int = 3, texts: list[str] = TEXTS, meta: dict[str, Any] = META) -> Shard:
    """A WET of hand-made conversion records with its meta."""
    folder.mkdir(exist_ok=True, parents=True)
    wet, base, group = folder / f"{number}.wet.gz", folder / f"{number}.base.parquet", folder / f"{number}.meta.parquet"
    offsets, lengths = [], []
    with wet.open("wb") as file:
        for text in texts:
            body = text.encode()
            head = f"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            member = gzip.compress(head + body + b"\r\n\r\n", mtime=0)
            offsets.append(file.tell())
            lengths.append(len(member))
            file.write(member)
    base_columns = {
        "url": [f"https://example.org/{i}" for i in range(len(texts))],
        "title": pa.array([None] * len(texts), pa.string()),
        "wet_offset": pa.array(offsets, pa.uint64()),
        "wet_length": pa.array(lengths, pa.uint32()),
        "digest": [text_digest(text.encode()) for text in texts],
    }
    pq.write_table(pa.table(base_columns), base)
    kinds = {"quality_drop_lines": pa.list_(pa.uint32()), "lid_score": pa.float32()}
    pq.write_table(pa.table({name: pa.array(values, kinds.get(name)) for name, values in meta.items()}), group)
    return Shard(number, {"wet": [wet], "base": [base], "meta/all": [group]})


def export(shard: Shard, out: Path, **config: Any) -> tuple[dict[str, Path], Counts]:
    out.mkdir(exist_ok=True, parents=True)
    stage = ExportShards("export.shards", ExportShards.Config(**config))
    stage.load()
    paths = {name: out / f"{shard.number}.{name}" for name in ("jsonl", "tokens", "index", "stats")}
    counts = stage.run(Unit(f"{shard.number:05d}", shard.number, (shard.number,), {}), shard.inputs, paths)
    assert counts.read == counts.kept + sum(counts.dropped.values())
    return paths, counts


def read_lines(path: Path) -> list[dict[str, Any]]:
    with path.open("rb") as file:
        return [json.loads(line) for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8", newline="\n")]


def read_indexed(tokens: Path, index: Path) -> list[list[int]]:
    """Documents of an indexed dataset, one field after the other."""
    data = index.read_bytes()
    assert data[:9] == b"MMIDIDX\x00\x00"
    (version,) = struct.unpack_from("<Q", data, 9)
    assert version == 1
    kind = {8: "<u2", 4: "<i4"}[data[17]]
    n_sequences, n_bounds = struct.unpack_from("<QQ", data, 18)
    sizes = struct.unpack_from(f"<{n_sequences}i", data, 34)
    pointers = struct.unpack_from(f"<{n_sequences}q", data, 34 + 4 * n_sequences)
    bounds = struct.unpack_from(f"<{n_bounds}q", data, 34 + 12 * n_sequences)
    assert len(data) == 34 + 12 * n_sequences + 8 * n_bounds
    assert list(bounds) == list(range(n_sequences + 1))
    body = tokens.read_bytes()
    width = int(kind[-1])
    assert len(body) == width * sum(sizes)
    return [np.frombuffer(body[p : p + width * n], dtype=kind).tolist() for p, n in zip(pointers, sizes, strict=True)]


@pytest.fixture(scope="module")
def hf_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE trained on the texts above, with an end token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.enable_truncation(4)  # as some published files have it
    path = tmp_path_factory.mktemp("hf") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="module")
def sp_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import sentencepiece

    folder = tmp_path_factory.mktemp("sp")
    (folder / "text.txt").write_text("\n".join(TEXTS * 20), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "m"),
        vocab_size=400,
        hard_vocab_limit=False,
        byte_fallback=True,
        minloglevel=2,
        num_threads=1,
    )
    return folder / "m.model"


WRITTEN = [
    "The river rose slowly during the night.\nBoats were brought out of the barns.",
    "河水在夜里慢慢上涨。\n孩子们觉得一切都很有趣。",
    TEXTS[5],
]


def test_lines_hold_the_kept_documents_edited_and_in_order(tmp_path: Path) -> None:
    shard = make_shard(tmp_path)
    config = {"drop_lines": ["quality_drop_lines"], "columns": ["url", "lid_label", "lid_score"]}
    paths, counts = export(shard, tmp_path / "out", **config)
    lines = read_lines(paths["jsonl"])
    assert [list(line) for line in lines] == [["id", "doc", "text", "url", "lid_label", "lid_score"]] * 3
    assert [line["text"] for line in lines] == WRITTEN
    assert [line["id"] for line in lines] == ["00003-0000000", "00003-0000001", "00003-0000005"]
    assert [line["doc"] for line in lines] == [3 << 32, 3 << 32 | 1, 3 << 32 | 5]
    assert [line["lid_score"] for line in lines] == [0.1, 0.9, 1.0]
    assert counts.to_dict() == {
        "read": 6,
        "kept": 3,
        "dropped": {"empty_after_edits": 1, "empty_text": 1, "not_selected": 1},
        "extra": {"text_bytes": sum(len(text.encode()) for text in WRITTEN), "edited_bytes": len("\nHome\n首页".encode()), "tokens": 0},
    }


def test_without_edit_lists_the_text_is_the_wets(tmp_path: Path) -> None:
    paths, _ = export(make_shard(tmp_path), tmp_path / "out", keep=None)
    assert [line["text"] for line in read_lines(paths["jsonl"])] == [text for text in TEXTS if text]


def test_a_number_that_is_none_becomes_null(tmp_path: Path) -> None:
    shard = make_shard(tmp_path, texts=["a", "b"], meta={"x_score": [float("nan"), None]})
    paths, _ = export(shard, tmp_path, keep=None, columns=["x_score"])
    assert [line["x_score"] for line in read_lines(paths["jsonl"])] == [None, None]


def test_without_a_tokenizer_the_token_files_are_valid_and_empty(tmp_path: Path) -> None:
    paths, _ = export(make_shard(tmp_path), tmp_path / "out")
    assert read_indexed(paths["tokens"], paths["index"]) == []


def test_hugging_face_tokens_lead_back_to_the_text(tmp_path: Path, hf_tokenizer: Path) -> None:
    from tokenizers import Tokenizer

    config = {"tokenizer": str(hf_tokenizer), "eos": "<|endoftext|>", "drop_lines": ["quality_drop_lines"]}
    paths, counts = export(make_shard(tmp_path), tmp_path / "out", **config)
    documents = read_indexed(paths["tokens"], paths["index"])
    backend = Tokenizer.from_file(str(hf_tokenizer))
    end = backend.token_to_id("<|endoftext|>")
    assert [ids[-1] for ids in documents] == [end] * 3
    assert [backend.decode(ids[:-1]) for ids in documents] == WRITTEN
    assert counts.extra["tokens"] == sum(map(len, documents))


def test_sentencepiece_tokens_are_its_ids_and_its_end(tmp_path: Path, sp_tokenizer: Path) -> None:
    import sentencepiece

    paths, _ = export(make_shard(tmp_path), tmp_path / "out", tokenizer=str(sp_tokenizer), drop_lines=["quality_drop_lines"])
    backend = sentencepiece.SentencePieceProcessor(model_file=str(sp_tokenizer))
    assert read_indexed(paths["tokens"], paths["index"]) == [[*backend.encode(text), backend.eos_id()] for text in WRITTEN]


@pytest.mark.parametrize("kind", ["hf", "sp"])
def test_a_page_cannot_end_a_document(kind: str, hf_tokenizer: Path, sp_tokenizer: Path) -> None:
    path, eos = {"hf": (hf_tokenizer, "<|endoftext|>"), "sp": (sp_tokenizer, "</s>")}[kind]
    tokenizer = open_tokenizer(str(path), eos)
    assert tokenizer.eos not in tokenizer.encode([f"before {eos} after"])[0]


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    for vocab_size, width in ((65_499, 2), (65_500, 4)):
        with IndexedWriter(tmp_path / "bin", tmp_path / "idx", vocab_size) as writer:
            writer.add([[1, 2, vocab_size - 1], [], [7]])
        assert (tmp_path / "bin").stat().st_size == 4 * width
        assert read_indexed(tmp_path / "bin", tmp_path / "idx") == [[1, 2, vocab_size - 1], [], [7]]


def test_an_id_outside_the_vocabulary_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"0\.\.100, expected 0\.\.99"), IndexedWriter(tmp_path / "bin", tmp_path / "idx", 100) as writer:
        writer.add([[0, 100]])


def test_bytes_do_not_depend_on_how_documents_were_batched(tmp_path: Path, hf_tokenizer: Path) -> None:
    rng = random.Random(5)
    texts = [" ".join(str(rng.random()) for _ in range(rng.randint(1, 3000))) for _ in range(60)]
    shard = make_shard(tmp_path, texts=texts, meta={"lid_label": ["en"] * 60})
    config = {"tokenizer": str(hf_tokenizer), "eos": "<|endoftext|>", "keep": None}
    first, _ = export(shard, tmp_path / "a", **config, batch_bytes=1)
    second, _ = export(shard, tmp_path / "b", **config)
    frame = zstandard.ZstdDecompressor().decompressobj()
    assert [json.loads(line)["text"] for line in frame.decompress(first["jsonl"].read_bytes()).splitlines()] == texts
    assert sum(map(len, texts)) > 1 << 20  # more than one piece for the compressor
    assert {name: path.read_bytes() for name, path in first.items()} == {name: path.read_bytes() for name, path in second.items()}


def test_the_manifest_adds_the_shards_up_in_order(tmp_path: Path, hf_tokenizer: Path) -> None:
    config = {"tokenizer": str(hf_tokenizer), "eos": "<|endoftext|>"}
    done = [export(make_shard(tmp_path / str(number), number), tmp_path / "out", **config) for number in (12, 3)]
    inputs = {name: [paths[name] for paths, _ in done] for name in ("stats", "index")}
    stage = ExportManifest("export.manifest", ExportManifest.Config(**config))
    counts = stage.run(Unit("all", 0, (12, 3), {}), inputs, {"manifest": tmp_path / "manifest.json"})
    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert [part["shard"] for part in manifest["shards"]] == ["00003", "00012"]
    assert manifest["tokens"] == sum(each.extra["tokens"] for _, each in done) == counts.extra["tokens"]
    assert manifest["documents"] == counts.kept == 8
    assert manifest["files"]["tokens"] == 2 * manifest["tokens"] == sum(paths["tokens"].stat().st_size for paths, _ in done)
    assert manifest["dtype"] == "uint16"


def test_an_index_that_does_not_fit_its_statistics_stops_the_manifest(tmp_path: Path, sp_tokenizer: Path) -> None:
    paths, _ = export(make_shard(tmp_path), tmp_path / "out", tokenizer=str(sp_tokenizer))
    with IndexedWriter(tmp_path / "bin", paths["index"], 100) as writer:
        writer.add([[1]])
    stage = ExportManifest("export.manifest", ExportManifest.Config(tokenizer=str(sp_tokenizer)))
    with pytest.raises(ValueError, match=r"names 1 documents, its statistics say 4: rerun"):
        stage.run(Unit("all", 0, (3,), {}), {"stats": [paths["stats"]], "index": [paths["index"]]}, {"manifest": tmp_path / "m.json"})


def test_a_wrong_end_token_is_refused_with_the_choices(hf_tokenizer: Path, sp_tokenizer: Path) -> None:
    with pytest.raises(ValueError, match=r"eos None is not a token of .*'<\|endoftext\|>'"):
        open_tokenizer(str(hf_tokenizer), None)
    with pytest.raises(ValueError, match=r"eos '<eod>' is not a token of .*'</s>'"):
        open_tokenizer(str(sp_tokenizer), "<eod>")


def test_a_column_named_like_a_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="take them out"):
        ExportShards.Config(columns=["url", "text"])


@pytest.mark.parametrize(("numbers", "wanted"), [([], "a\n\nb"), ([1], "a\nb"), ([0, 2], ""), ([7], "a\n\nb")])
def test_only_the_named_lines_go(numbers: list[int], wanted: str) -> None:
    assert drop_lines("a\n\nb", numbers) == wanted
