"""`with_text_dedup.py FOLDER BANDS ROWS`, run by the peers' own Python: `python -m text_dedup.minhash` over FOLDER/docs.jsonl."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from datasets import load_from_disk


def main() -> None:
    folder, bands, rows = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    options = {
        "path": "json",
        "data_files": str(folder / "docs.jsonl"),
        "split": "train",
        "cache_dir": str(folder / "cache"),
        "output": str(folder / "out"),
        "column": "text",
        "ngram": 5,
        "num_perm": bands * rows,
        "b": bands,
        "r": rows,
        "hash_bits": 64,
        "num_proc": 1,
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    subprocess.run([sys.executable, "-m", "text_dedup.minhash", *words], check=True)
    kept = [int(number) for number in load_from_disk(str(folder / "out"))["id"]]
    (folder / "kept.json").write_text(json.dumps(sorted(kept)))


if __name__ == "__main__":
    main()
