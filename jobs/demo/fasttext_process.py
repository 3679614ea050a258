"""fastText's training in a process of its own: the only way to the same bytes twice.

In: a file with one `__label__X text` per line. Out: a model file. With several threads fastText's updates race, so one is
used; but then it draws random starting weights for a tenth of the input matrix alone (DenseMatrix::uniformThread always
divides by ten) and leaves the rest as the allocator gave it. Fresh pages are zero; a used heap holds anything, and training
may end in NaN. So: a new process, and an allocator told to map large blocks afresh.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FRESH_PAGES = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_PERTURB_": "0"}
"""glibc: blocks above 64 KiB always come from mmap, and nothing is filled with a pattern."""


def train_in_process(corpus: Path, out: Path) -> None:
    """Train on `corpus`, write `out`. Raises `subprocess.CalledProcessError` where fastText fails."""
    subprocess.run([sys.executable, "-m", __name__, str(corpus), str(out)], env={**os.environ, **FRESH_PAGES}, check=True)


def _train(corpus: str, out: str) -> None:
    import fasttext

    # n-grams of characters: Chinese has no spaces, so that a whole sentence is one word to fastText
    model = fasttext.train_supervised(corpus, dim=16, bucket=20_000, minn=2, maxn=3, epoch=40, lr=0.5, thread=1, seed=7, verbose=0)
    model.save_model(out)


if __name__ == "__main__":
    _train(*sys.argv[1:])
