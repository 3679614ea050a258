"""Speed of every annotator and of export, on one core: `python tests/bench/bench_annotators.py [--text FILE ...] [--only lid quality ...]`.

Documents of 2,000 characters cut out of the text files (of a folder: its *.txt), or made of random words where none is given. The clock
covers `annotate` on texts in memory (for export: the whole stage, reading and writing files), best of three; models are loaded and
kernels compiled before. Models are made on the spot: fastText (lid.176.ftz out of .cache/models where it lies there), an 8,000-piece
SentencePiece with a bigram model of the same text, and a six-layer BERT of MiniLM's shape with random weights: real speed, meaningless
scores.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import random
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from ccpipe.annotate import Annotator, Documents
from ccpipe.classify import FastTextClassifier, TransformerClassifier
from ccpipe.export import ExportShards
from ccpipe.lid import FastTextLid
from ccpipe.meta import write_group
from ccpipe.perplexity import KenLmPerplexity
from ccpipe.quality import CcCleanerRules
from ccpipe.stage import Unit
from ccpipe.wet import text_digest

REPO = Path(__file__).resolve().parents[2]
DOC_CHARS = 2_000


def read_documents(paths: list[Path], limit: int) -> list[str]:
    if paths:
        files = [file for path in paths for file in (sorted(path.glob("*.txt")) if path.is_dir() else [path])]
        text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    else:
        rng = random.Random(1)
        words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(20_000)]
        text = "\n".join(" ".join(rng.choices(words, k=60)) + "." for _ in range(limit * 6))
    documents = [text[i : i + DOC_CHARS] for i in range(0, len(text), DOC_CHARS)]
    random.Random(2).shuffle(documents)
    return documents[:limit]


def batch(documents: list[str]) -> Documents:
    meta = pa.table({"lid_label": ["x"] * len(documents)})
    return Documents(pa.array(documents, pa.large_string()), meta, np.arange(len(documents), dtype=np.uint64))


def best_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def report(name: str, documents: list[str], seconds: float, note: str = "") -> None:
    size = sum(len(text.encode()) for text in documents)
    print(f"{name:<26}{len(documents) / seconds:>10,.0f} docs/s{size / seconds / 1e6:>9.2f} MB/s   {note}", flush=True)


def time_annotator(name: str, stage: Annotator, documents: list[str], note: str = "") -> None:
    stage.load()
    stage.annotate(batch(documents[:2]))
    docs = batch(documents)
    report(name, documents, best_seconds(lambda: stage.annotate(docs)), note)


def bench_lid(documents: list[str], folder: Path) -> None:
    model = REPO / ".cache" / "models" / "lid.176.ftz"
    if not model.is_file():
        return print("lid: no .cache/models/lid.176.ftz, skipped")
    time_annotator("lid (lid.176.ftz)", FastTextLid("lid", FastTextLid.Config(model=str(model))), documents)


def bench_quality(documents: list[str], folder: Path) -> None:
    time_annotator("quality (cc_cleaner)", CcCleanerRules("quality", CcCleanerRules.Config()), documents)


def bench_perplexity(documents: list[str], folder: Path) -> None:
    pieces = train_pieces(documents, folder)
    files = {"sentencepiece": str(pieces), "kenlm": str(write_bigrams(documents, pieces, folder))}
    time_annotator("perplexity (bigram)", KenLmPerplexity("perplexity", KenLmPerplexity.Config(models={"x": files})), documents)


def train_pieces(documents: list[str], folder: Path) -> Path:
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in documents[:1_000] for line in text.split("\n") if line]),
        model_prefix=str(folder / "pieces"),
        vocab_size=8_000,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    return folder / "pieces.model"


def write_bigrams(documents: list[str], pieces: Path, folder: Path) -> Path:
    """A bigram model of relative frequencies: no smoothing worth the name, the right size."""
    import sentencepiece

    lines = sentencepiece.SentencePieceProcessor(model_file=str(pieces)).encode(documents[:1_000], out_type=str)
    ones = Counter(piece for line in lines for piece in line)
    twos = Counter(pair for line in lines for pair in itertools.pairwise(line))
    total = sum(ones.values())
    unigrams = [f"{math.log10(n / total):.5f}\t{piece}\t-0.3" for piece, n in ones.items() if piece != "<unk>"]
    bigrams = [f"{math.log10(0.5 * n / ones[a]):.5f}\t{a} {b}" for (a, b), n in twos.items() if "<unk>" not in (a, b)]
    head = [f"\\data\\\nngram 1={len(unigrams) + 3}\nngram 2={len(bigrams)}\n\n\\1-grams:\n-5\t<unk>\n-99\t<s>\t-0.3\n-1.5\t</s>"]
    path = folder / "bigrams.arpa"
    path.write_text("\n".join([*head, *unigrams, "\n\\2-grams:", *bigrams, "\n\\end\\\n"]), encoding="utf-8")
    return path


def bench_fasttext(documents: list[str], folder: Path) -> None:
    import fasttext

    lines = [f"__label__{i % 2} " + text.replace("\n", " ") + "\n" for i, text in enumerate(documents[:500])]
    (folder / "train.txt").write_text("".join(lines), encoding="utf-8")
    fasttext.train_supervised(str(folder / "train.txt"), wordNgrams=2, epoch=1, thread=12, verbose=0).save_model(str(folder / "m.bin"))
    config = FastTextClassifier.Config(model=str(folder / "m.bin"))
    time_annotator("classify (fastText)", FastTextClassifier("classify.ft", config), documents, "100 dimensions, bigrams")


def bench_transformer(documents: list[str], folder: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    words = sorted(Counter(word for text in documents for word in text.lower().split()))[:20_000]
    characters = sorted({char for text in documents for char in text.lower()})
    vocabulary = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters), *words])
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536, "num_labels": 1}
    BertForSequenceClassification(BertConfig(vocab_size=len(vocabulary), **shape)).save_pretrained(folder / "bert")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    stage = TransformerClassifier("classify.bert", TransformerClassifier.Config(model=str(folder / "bert")))
    time_annotator("classify (BERT 6 x 384)", stage, documents[:24], "512 tokens, CPU, one thread")


def bench_export(documents: list[str], folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    shard = write_shard(documents, folder)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=32_000, special_tokens=["<|endoftext|>"], show_progress=False)
    tokenizer.train_from_iterator(documents[:1_000], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    kinds = {
        "export (no tokens)": {},
        "export (tokenizer.json)": {"tokenizer": str(folder / "tokenizer.json"), "eos": "<|endoftext|>"},
        "export (SentencePiece)": {"tokenizer": str(train_pieces(documents, folder))},
    }
    for name, config in kinds.items():
        stage = ExportShards("export.shards", ExportShards.Config(**{"keep": None, **config}))
        stage.load()
        out = {key: folder / f"out.{key}" for key in ("jsonl", "tokens", "index", "stats")}
        seconds = best_seconds(lambda stage=stage, out=out: stage.run(Unit("0", 0, (0,), {}), shard, out))  # type: ignore[misc]
        jsonl, tokens = (out[key].stat().st_size / 1e6 for key in ("jsonl", "tokens"))
        report(name, documents, seconds, f"jsonl {jsonl:.1f} MB, tokens {tokens:.1f} MB")


def write_shard(documents: list[str], folder: Path) -> dict[str, list[Path]]:
    members = list(gzip_members(documents))
    lengths = np.array([len(member) for member in members], dtype=np.int64)
    (folder / "wet").write_bytes(b"".join(members))
    offsets = pa.array(np.cumsum(lengths) - lengths, pa.uint64())
    places = {
        "wet_offset": offsets,
        "wet_length": pa.array(lengths, pa.uint32()),
        "digest": [text_digest(text.encode()) for text in documents],
    }
    write_group(folder / "base", pa.table({"url": [""] * len(members), "title": [""] * len(members), **places}))
    return {"wet": [folder / "wet"], "base": [folder / "base"]}


def gzip_members(documents: list[str]) -> Iterator[bytes]:
    for text in documents:
        body = text.encode()
        coder = zlib.compressobj(wbits=31)
        yield coder.compress(f"WARC/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body + b"\r\n\r\n") + coder.flush()


BENCHES = {
    "lid": bench_lid,
    "quality": bench_quality,
    "perplexity": bench_perplexity,
    "fasttext": bench_fasttext,
    "transformer": bench_transformer,
    "export": bench_export,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="UTF-8 text files, or folders of *.txt")
    parser.add_argument("--docs", type=int, default=1_500, help="documents at most")
    parser.add_argument("--only", nargs="*", choices=sorted(BENCHES), default=list(BENCHES))
    args = parser.parse_args()
    documents = read_documents(args.text, args.docs)
    if not documents:
        parser.error(f"no text in {', '.join(map(str, args.text))}; name UTF-8 text files or folders of *.txt")
    size = sum(len(text.encode()) for text in documents)
    print(f"{len(documents):,} documents, {size / 1e6:.1f} MB, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            BENCHES[name](documents, Path(folder))


if __name__ == "__main__":
    main()
