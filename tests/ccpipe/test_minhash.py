"""Signatures estimate Jaccard similarity without bias, the same everywhere; the sig stage writes one for every document."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ccpipe import minhash
from ccpipe.minhash import estimate_similarity, sign, signatures
from ccpipe.sig import Sign
from ccpipe.stage import Unit

WORDS = [f"word{i}" for i in range(3000)]
HAN = [chr(0x4E00 + i) for i in range(3000)]
MASK = (1 << 64) - 1


def sign_texts(texts: list[str], **options: int) -> np.ndarray:
    parts = [text.encode() for text in texts]
    return signatures(np.frombuffer(b"".join(parts), np.uint8), np.cumsum([0, *map(len, parts)]), **options)


def shingles(tokens: list[str], n: int = 5) -> set[tuple[str, ...]]:
    return {tuple(tokens[i : i + n]) for i in range(max(1, len(tokens) - n + 1))}


def jaccard(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    return len(one & other) / len(one | other)


def edit(tokens: list[str], vocabulary: list[str], share: float, rng: random.Random) -> list[str]:
    return [rng.choice(vocabulary) if rng.random() < share else token for token in tokens]


@pytest.mark.parametrize("language", ["english", "chinese"])
@pytest.mark.parametrize("length", [12, 60, 400])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_estimate_is_unbiased(language: str, length: int, share: float) -> None:
    """The mean error over 300 pairs stays within 4.5 standard errors of zero, and single errors have MinHash's spread."""
    rng = random.Random(f"{language} {length} {share}")
    vocabulary, glue = (WORDS, " ") if language == "english" else (HAN, "")
    pairs = []
    for _ in range(300):
        tokens = [rng.choice(vocabulary) for _ in range(length)]
        pairs.append((tokens, edit(tokens, vocabulary, share, rng)))
    values = sign_texts([glue.join(tokens) for pair in pairs for tokens in pair])
    exact = np.array([jaccard(shingles(one), shingles(other)) for one, other in pairs])
    found = (values[0::2] == values[1::2]).mean(axis=1)
    spread = np.sqrt(exact * (1 - exact) / values.shape[1])
    assert abs((found - exact).sum()) <= 4.5 * np.sqrt((spread**2).sum())
    assert (np.abs(found - exact) <= 5 * spread + 1e-9).all()


def test_unequal_sizes_are_unbiased_too() -> None:
    """A document inside a ten times longer one: similarity one tenth, not more."""
    rng = random.Random(5)
    exact, found = [], []
    for _ in range(200):
        long = [rng.choice(WORDS) for _ in range(500)]
        short = long[100:150]
        one, other = sign_texts([" ".join(long), " ".join(short)])
        exact.append(jaccard(shingles(long), shingles(short)))
        found.append(estimate_similarity(one, other))
    assert abs(np.mean(found) - np.mean(exact)) < 4.5 * np.sqrt(0.093 * 0.907 / 128 / 200)


def test_different_documents_share_nothing() -> None:
    rng = random.Random(1)
    values = sign_texts([" ".join(rng.choice(WORDS) for _ in range(n)) for n in range(1, 300)])
    assert len(np.unique(values[5:])) == values[5:].size


def slow_signature(tokens: list[int], raw: bytes, k: int, n: int, seed: int) -> list[int]:
    """The definition in Python integers: every round in full, the first round that fills a position wins."""
    step, base = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95

    def mix(x: int) -> int:
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
        x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
        return x ^ x >> 31

    def polynomial(part: list[int]) -> int:
        return sum(token * pow(base, len(part) - 1 - i, 1 << 64) for i, token in enumerate(part)) & MASK

    if not tokens:
        value = base ^ len(raw)
        for byte in raw:
            value = mix(value ^ byte) * base & MASK
        items = {mix(value)}
    elif len(tokens) < n:
        items = {(polynomial(tokens) + (n - len(tokens)) * step) & MASK}
    else:
        items = {polynomial(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}
    row: dict[int, int] = {}
    for number in range(2 * k):
        salt = mix((seed + (number + 1) * step) & MASK)
        filled: dict[int, int] = {}
        for item in items:
            value = mix(item ^ salt)
            if number < k:
                position = (value >> 32) * k >> 32
                value = (value << 32 | value >> 32) & MASK
            else:
                position = number - k
            filled[position] = min(value, filled.get(position, MASK))
        row = filled | row
    return [row[i] for i in range(k)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(alphabet="ab 中!é", max_size=60), max_size=4), st.sampled_from([1, 7, 64]), st.integers(1, 6), st.integers(0, 9))
def test_kernel_equals_the_definition(texts: list[str], k: int, n: int, seed: int) -> None:
    from ccpipe.tokens import hash_tokens

    values = sign_texts(texts, n_hashes=k, shingle=n, seed=seed)
    for text, row in zip(texts, values, strict=True):
        raw = text.encode()
        tokens, _ = hash_tokens(np.frombuffer(raw, np.uint8), np.array([0, len(raw)]))
        assert row.tolist() == slow_signature(list(map(int, tokens)), raw, k, n, seed)


def test_repetition_without_end_changes_nothing_and_costs_little() -> None:
    """A document of one word repeated a million times has the signature of the word repeated five times. Its shingles cost a
    few times what different ones cost; every round in full would cost two hundred times as much."""
    once, often = sign_texts(["again " * 5, "again " * 1_000_000])
    assert (once == often).all()
    minhash.sketch(np.arange(9, dtype=np.uint64), np.uint64(1), once)  # compiled outside the clock
    seconds = []
    for shingle_hashes in (np.arange(1_000_000, dtype=np.uint64), np.full(1_000_000, 7, np.uint64)):
        start = time.process_time()
        minhash.sketch(shingle_hashes, np.uint64(1), once)
        seconds.append(time.process_time() - start)
    assert seconds[1] < 40 * seconds[0]


def test_short_documents_are_never_lumped_together() -> None:
    texts = ["", " ", "!", "?", "。", "one", "two", "one two", "one two three four", "one two three four five", "中", "中文", "۞"]
    values = sign_texts(texts)
    for i in range(len(texts)):
        for j in range(i):
            assert not (values[i] == values[j]).any(), (texts[i], texts[j])
    same = sign_texts(["", "", "!", "!", "One two", "one, TWO"])
    assert (same[0::2] == same[1::2]).all()


@given(st.lists(st.text(max_size=40), max_size=10), st.integers(1, 60))
def test_signature_does_not_depend_on_the_batch(texts: list[str], chunk: int) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    whole = sign_texts(texts)
    before, minhash.CHUNK_BYTES = minhash.CHUNK_BYTES, chunk
    try:
        assert (sign_texts(texts) == whole).all()
    finally:
        minhash.CHUNK_BYTES = before
    for text, row in zip(texts, whole, strict=True):
        assert (sign_texts([text])[0] == row).all()


def test_signatures_on_disk_stay_comparable() -> None:
    """These values may only change together with Sign.version."""
    values = sign_texts(["The quick brown fox jumps over the lazy dog.", "我爱北京天安门", ""])
    found = [hex(int(x)) for x in np.bitwise_xor.reduce(values, axis=1)]
    assert found == [
        "0x67cc2f4399c9dc1b",
        "0xd39b3c73a183bad7",
        "0x10721bd70e415d5",
    ]


def test_counts_of_tokens() -> None:
    text = "one two 中文!".encode()
    assert sign(np.frombuffer(text, np.uint8), np.array([0, len(text), len(text)])).n_tokens.tolist() == [4, 0]


def write_shard(folder: Path, texts: list[str]) -> dict[str, list[Path]]:
    """A WET of bare records and the base columns that the sig stage reads."""
    import zlib

    offsets, lengths, at = [], [], 0
    with (folder / "wet").open("wb") as file:
        for text in texts:
            body = text.encode()
            record = b"WARC/1.0\r\nContent-Length: %d\r\n\r\n%s\r\n\r\n" % (len(body), body)
            packer = zlib.compressobj(wbits=31)
            member = packer.compress(record) + packer.flush()
            file.write(member)
            offsets.append(at)
            lengths.append(len(member))
            at += len(member)
    from ccpipe.meta import write_group
    from ccpipe.wet import text_digest

    places = {"wet_offset": pa.array(offsets, pa.uint64()), "wet_length": pa.array(lengths, pa.uint32())}
    write_group(folder / "base", pa.table({**places, "digest": [text_digest(text.encode()) for text in texts]}))
    return {"wet": [folder / "wet"], "base": [folder / "base"]}


@pytest.mark.parametrize("batch_bytes", [1, 100, 8 << 20])
def test_sig_stage_writes_a_row_for_every_document_whatever_the_batch(tmp_path: Path, batch_bytes: int) -> None:
    texts = ["", "one two three", *(f"some words and number {i} to tell them apart" for i in range(30)), "中文" * 20]
    inputs = write_shard(tmp_path, texts)
    stage = Sign("sig", Sign.Config(batch_bytes=batch_bytes))
    counts = stage.run(Unit("00000", 0, (0,), {}), inputs, {"sig": tmp_path / "out.npy"})
    assert (np.load(tmp_path / "out.npy", mmap_mode="r") == sign_texts(texts)).all()
    assert (counts.read, counts.kept, counts.dropped) == (33, 33, {})
    assert (counts.extra["without_tokens"], counts.extra["shorter_than_shingle"]) == (1, 2)


def test_sig_stage_of_an_empty_shard(tmp_path: Path) -> None:
    inputs = write_shard(tmp_path, [])
    Sign("sig", Sign.Config()).run(Unit("00000", 0, (0,), {}), inputs, {"sig": tmp_path / "out.npy"})
    assert np.load(tmp_path / "out.npy", mmap_mode="r").shape == (0, 128)


def test_sig_stage_writes_half_the_bytes_on_request(tmp_path: Path) -> None:
    texts = ["one two three four five six seven", "中文", ""]
    inputs = write_shard(tmp_path, texts)
    Sign("sig", Sign.Config(hash_bits=32)).run(Unit("00000", 0, (0,), {}), inputs, {"sig": tmp_path / "out.npy"})
    found = np.load(tmp_path / "out.npy")
    assert found.dtype == np.uint32
    assert found.tolist() == minhash.narrow(sign_texts(texts)).tolist()


def test_sig_refuses_where() -> None:
    with pytest.raises(ValidationError, match="dedup table"):
        Sign.Config(where="lid_label = 'en'")
