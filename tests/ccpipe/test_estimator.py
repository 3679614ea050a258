"""Signatures of real text: unbiased against exact Jaccard similarity, of any width and number, and never equal for want of words."""

from __future__ import annotations

import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ccpipe.bands import PRESETS, Banding
from ccpipe.dedup import DedupConfig
from ccpipe.dedup.files import Array2D, BadFile, open_signatures
from ccpipe.dedup.keys import band_keys
from ccpipe.dedup.mark import measure_similarity
from ccpipe.dedup.match import Match
from ccpipe.dedup.route import Route
from ccpipe.meta import write_group
from ccpipe.minhash import narrow, signatures
from ccpipe.stage import Unit

TEXTS = Path(__file__).parents[2] / "jobs" / "demo" / "texts"
SEEDS = 64
K = 128


def sign_texts(texts: list[str], **options: int) -> np.ndarray:
    parts = [text.encode() for text in texts]
    return signatures(np.frombuffer(b"".join(parts), np.uint8), np.cumsum([0, *map(len, parts)]), **options)


def real_documents(language: str) -> list[str]:
    lines = (TEXTS / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
    bodies = [json.loads(line)["body"] for line in lines]
    return ["\n".join(str(part[1]) for part in body if isinstance(part[1], str)) for body in bodies]


def exact_similarity(one: str, other: str) -> float:
    """Sets of 5-grams of words (Latin letters and digits) and single Han characters, found with a regular expression."""
    sets = []
    for text in (one, other):
        tokens = re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff_]+", re.sub("['\u2019]", "", text.lower()))
        sets.append({tuple(tokens[i : i + 5]) for i in range(max(1, len(tokens) - 4))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def edited_pairs(language: str) -> list[tuple[str, str]]:
    """Real documents and copies of them: with sentences taken out, with a stretch of another document added, with words replaced."""
    rng = random.Random(language)
    documents = real_documents(language)
    pairs = []
    for number, text in enumerate(documents):
        other = documents[(number + 1) % len(documents)]
        part = 3 + number % 9
        cut = rng.randrange(len(text) // 2)
        units, glue = (text.split(" "), " ") if language == "en" else (list(text), "")
        for place in rng.sample(range(len(units)), max(1, len(units) // (10 * part))):
            units[place] = "other" if language == "en" else "另"
        pairs += [
            (text, text[:cut] + text[cut + len(text) // part :]),
            (text, text + "\n" + other[: len(text) // part]),
            (text, glue.join(units)),
        ]
    return pairs


@pytest.mark.parametrize("language", ["en", "zh"])
def test_unbiased_on_real_text(language: str) -> None:
    """Over 64 seeds each pair's mean error is within 4.5 standard errors, and the variance is no more than MinHash's J (1 - J) / k."""
    pairs = edited_pairs(language)
    exact = np.array([exact_similarity(*pair) for pair in pairs])
    assert exact.min() < 0.75 and exact.max() > 0.85
    flat = list(itertools.chain.from_iterable(pairs))
    found = np.array([[(s[0::2] == s[1::2]).mean(axis=1)] for s in (sign_texts(flat, seed=seed) for seed in range(SEEDS))])[:, 0]
    variance = exact * (1 - exact) / K
    assert (np.abs(found.mean(axis=0) - exact) <= 4.5 * np.sqrt(variance / SEEDS)).all()
    assert abs((found - exact).mean()) <= 4.5 * np.sqrt(variance.mean() / SEEDS / len(pairs))
    spread = ((found - exact) ** 2).mean(axis=0)
    # of that many draws the mean of squares strays from its expectation by less than a tenth
    assert spread.mean() <= 1.1 * variance.mean()


def test_half_as_wide_is_as_exact() -> None:
    pairs = edited_pairs("en")
    exact = np.array([exact_similarity(*pair) for pair in pairs])
    wide = sign_texts(list(itertools.chain.from_iterable(pairs)))
    half = narrow(wide)
    assert half.dtype == np.uint32 and half.shape == wide.shape
    assert ((half[0::2] == half[1::2]) == (wide[0::2] == wide[1::2])).all()
    assert np.abs((half[0::2] == half[1::2]).mean(axis=1) - exact).mean() < 0.05
    # every bit is used: of 32 bits each is set in half of the positions
    bits = np.unpackbits(np.unique(half).view(np.uint8)).reshape(-1, 32).mean(axis=0)
    assert (np.abs(bits - 0.5) < 0.05).all()


WITHOUT_WORDS = ["!?.,;:-/()[]…—*#", "😀😃🎉👍🏽🇫🇷🔥💯", " \t\n\u00a0\u3000", "→★☆■□◆♪"]
FEW_WORDS = ["กขคงจฉชซ", "កខគឃងចឆជ", "中文字符的一是", "あいうえおかき", "abcdefgh", "абвгдежз", "אבגדהוזח", "ابتثجحخد", "가나다라마바사"]


def short_documents() -> list[str]:
    """Different texts without a single token, and texts of one to four tokens, of all scripts and mixed."""
    rng = random.Random(0)
    found = set()
    for alphabet in [*WITHOUT_WORDS, *FEW_WORDS, "a中ก!кអ😀"]:
        for _ in range(900):
            found.add("".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 12 if alphabet in WITHOUT_WORDS else 4))))
    return sorted(found)


def test_documents_without_shingles_are_not_lumped_together() -> None:
    """Documents of punctuation, emoji, or a few characters of a script: two share a position only if their words are equal."""
    texts = short_documents()
    assert len(texts) > 3000
    values = sign_texts(texts)
    pairs = band_keys(values, np.arange(len(texts), dtype=np.uint64), Banding(128, 1))
    by_key: dict[int, set[int]] = {}
    for key, doc in pairs.tolist():
        by_key.setdefault(key, set()).add(doc)
    for met in by_key.values():
        words = {tuple(re.findall(r"\w", texts[doc].lower())) for doc in met}
        assert len(words) == 1 and (len(met) == 1 or words != {()}), [texts[doc] for doc in met]


def run_match(folder: Path, sigs: list[np.ndarray], banding: Banding) -> np.ndarray:
    """Links that route and match find: uint64, shape (n, 2)."""
    config = DedupConfig(bands=banding.bands, rows=banding.rows, partitions=1)
    inputs: dict[str, list[Path]] = {"sig": [], "base": []}
    for shard, values in enumerate(sigs):
        for kind in inputs:
            inputs[kind].append(folder / f"{kind}{shard}.npy")
        np.save(inputs["sig"][shard], values)
        write_group(inputs["base"][shard], pa.table({"x": np.arange(len(values))}))
    shards = tuple(range(len(sigs)))
    Route("dedup.route", config).run(Unit("0", 0, shards, {}), inputs, {"route": folder / "route"})
    Match("dedup.match", config).run(Unit("0", 0, (), {}), {"route": [folder / "route"]}, {"links": folder / "links"})
    return Array2D(folder / "links", "dedup.match", 2).read_all()


def test_thousands_of_short_documents_are_not_merged_into_two(tmp_path: Path) -> None:
    """Through route and match only documents of equal words are linked, and two copies are."""
    texts = [text for text in short_documents() if re.search(r"\w", text)]
    numbered = [f"{text} {number}" for number, text in enumerate(texts)]
    links = run_match(tmp_path, [sign_texts([*numbered, numbered[7].upper()])], PRESETS["full"])
    assert links.tolist() == [[len(numbered), 7]]


def test_refinedweb_needs_9000_hashes_and_runs(tmp_path: Path) -> None:
    """450 bands of 20 on real text: pairs at 0.85 and above are linked, pairs below 0.6 are not."""
    documents = real_documents("en")
    texts, wanted = [], set()
    for number, text in enumerate(documents):
        copy = text + " " + documents[(number + 1) % len(documents)][: len(text) // 12] if number % 2 else text[: len(text) // 2]
        similarity = exact_similarity(text, copy)
        if similarity >= 0.85:
            wanted.add((len(texts) + 1, len(texts)))
        texts += [text, copy] if similarity >= 0.85 or similarity < 0.6 else []
    assert len(wanted) >= 5 and len(texts) > 2 * len(wanted)
    values = sign_texts(texts, n_hashes=9000)
    assert {tuple(link) for link in run_match(tmp_path, [values], PRESETS["refinedweb"]).tolist()} == wanted


def test_narrow_signatures_find_the_same_links(tmp_path: Path) -> None:
    texts = list(itertools.chain.from_iterable(edited_pairs("zh")))
    values = sign_texts(texts)
    links = []
    for name, sigs in (("wide", values), ("half", narrow(values))):
        (tmp_path / name).mkdir()
        links.append(run_match(tmp_path / name, [sigs], PRESETS["full"]).tolist())
    assert links[0] == links[1] and len(links[0]) > 20
    assert open_signatures(tmp_path / "half" / "sig0.npy").row_bytes == 512


def test_widths_do_not_mix(tmp_path: Path) -> None:
    """Nothing is compared across widths: route names the files, and so does mark."""
    values: Any = sign_texts(["one two three four five six", "seven"])
    with pytest.raises(BadFile, match=r"128 x 32 bits.*stage sig"):
        run_match(tmp_path, [values, narrow(values)], PRESETS["full"])
    sigs = [tmp_path / "sig0.npy", tmp_path / "sig1.npy"]
    with pytest.raises(BadFile, match="uint32 hashes"):
        measure_similarity({0: sigs}, 0, np.array([0]), np.array([1 << 32], np.uint64))
