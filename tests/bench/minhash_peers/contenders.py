"""Signatures of the same documents by each contender, one process each: `contenders.py NAME FOLDER TIMES`.

FOLDER/docs.json: a list of texts. Out: FOLDER/NAME.npy, uint64, shape (n_docs, 128), and on stdout JSON with CPU seconds, one for
each time. The clock runs from a list of Python strings to signatures of 128 positions over 5-grams, whatever is needed in between.
The peers of tokens get 5-grams of the cheapest split that gives words: `re.findall` on lower-cased text.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Sign = Callable[[list[str]], Any]
Read = Callable[[Any], np.ndarray]
"""What `Sign` gave, as a matrix; outside the clock."""

WORD = re.compile(r"[\u3041-\u30ff\u3400-\u9fff]|[^\W_\u3041-\u30ff\u3400-\u9fff]+")


def grams(text: str) -> list[str]:
    words = WORD.findall(text.lower())
    return [" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))]


def ccpipe() -> tuple[Sign, Read]:
    import pyarrow as pa

    from ccpipe.annotate import text_buffers
    from ccpipe.minhash import signatures

    return lambda docs: signatures(*text_buffers(pa.array(docs, pa.large_string()))), lambda found: found


def rensa() -> tuple[Sign, Read]:
    from rensa import RMinHash

    return lambda docs: RMinHash.digest_matrix_from_token_sets(map(grams, docs), 128, 42), _rows


def rensa_rho() -> tuple[Sign, Read]:
    from rensa import RMinHash

    return lambda docs: RMinHash.digest_matrix_from_token_sets_rho([grams(text) for text in docs], 128, 42), _rows


def rensa_update() -> tuple[Sign, Read]:
    from rensa import RMinHash

    def sign(docs: list[str]) -> list[Any]:
        found = []
        for text in docs:
            sketch = RMinHash(num_perm=128, seed=42)
            sketch.update(grams(text))
            found.append(sketch.digest())
        return found

    return sign, lambda found: np.array(found, dtype=np.uint64)


def _rows(found: Any) -> np.ndarray:
    return np.array(found.to_rows(), dtype=np.uint64)


def datasketch() -> tuple[Sign, Read]:
    from datasketch import MinHash

    def sign(docs: list[str]) -> list[Any]:
        return MinHash.bulk([[gram.encode() for gram in grams(text)] for text in docs], num_perm=128)

    return sign, lambda found: np.array([sketch.hashvalues for sketch in found], dtype=np.uint64)


def datatrove(language: str) -> tuple[Sign, Read]:
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(n_grams=5, num_buckets=16, hashes_per_bucket=8, hash_config=HashConfig(precision=64))
    step = MinhashDedupSignature("unused", config, language=language)

    def sign(docs: list[str]) -> list[Any]:
        return [step.get_signature(step.get_shingles(text)) for text in docs]

    return sign, lambda found: np.array(found, dtype=np.uint64).reshape(len(found), -1)


CONTENDERS: dict[str, Callable[[], tuple[Sign, Read]]] = {
    "ccpipe": ccpipe,
    "rensa": rensa,
    "rensa, update": rensa_update,
    "rensa, rho": rensa_rho,
    "datasketch": datasketch,
    "datatrove, en": lambda: datatrove("en"),
    "datatrove, zh": lambda: datatrove("zh"),
}


def main() -> None:
    name, folder, times = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    docs = json.loads((folder / "docs.json").read_text(encoding="utf-8"))
    sign, read = CONTENDERS[name]()
    sign(docs[:2])
    seconds, found = [], None
    for _ in range(times):
        start = time.process_time()
        found = sign(docs)
        seconds.append(time.process_time() - start)
    np.save(folder / f"{name}.npy", read(found))
    print(json.dumps({"seconds": seconds, "docs": len(docs), "bytes": sum(len(text.encode()) for text in docs)}))


if __name__ == "__main__":
    # rensa is parallel by default; read when it is first imported
    os.environ["RAYON_NUM_THREADS"] = "1"
    main()
