"""Three tiny classifiers: one fastText model and two Hugging Face regressors.

In: the labelled examples. Out: `quality.bin` (labels __label__1 good, __label__0 bad), and the folders `edu/` and `hq/`
(config.json, model.safetensors, tokenizer; one output of 0..5). A third of a million weights, ninety steps: they tell the
bundled texts from generated spam and show that such models load and run. On web text they mean nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.demo.fasttext_process import train_in_process
from jobs.demo.labelled import Example, training_examples

SEEDS = {"edu": 11, "hq": 23}
VOCABULARY = 4000
MAX_TOKENS = 128
HIDDEN, LAYERS, HEADS = 64, 2, 2
STEPS, BATCH, LEARNING_RATE = 90, 12, 2e-3
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train_fasttext(folder: Path) -> None:
    """Write `quality.bin`."""
    examples = training_examples()
    random.Random("fasttext").shuffle(examples)
    lines = [f"__label__{int(example.good)} {' '.join(example.text.split())}\n" for example in examples]
    corpus = folder / "quality.txt"
    corpus.write_text("".join(lines), encoding="utf-8")
    train_in_process(corpus, folder / "quality.bin")


def train_regressor(folder: Path, name: str) -> None:
    """Write the folder `name` (edu or hq) with a BERT of two layers and its tokenizer."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification
    from transformers.utils import logging

    examples = training_examples()
    tokenizer = _make_wordpiece([example.text for example in examples])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEEDS[name])
            config = BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=HIDDEN,
                num_hidden_layers=LAYERS,
                num_attention_heads=HEADS,
                intermediate_size=2 * HIDDEN,
                max_position_embeddings=MAX_TOKENS,
                num_labels=1,
                problem_type="regression",
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
            model = BertForSequenceClassification(config)
            _fit(model, tokenizer, examples, name)
    finally:
        torch.set_num_threads(threads)
    model.eval()
    logging.disable_progress_bar()
    model.save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / name)
    for path in (folder / name).iterdir():
        path.chmod(0o644)  # safetensors makes its file unreadable for the group


def _fit(model: Any, tokenizer: Any, examples: Sequence[Example], name: str) -> None:
    import torch

    rng = random.Random(f"batches/{name}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    model.train()
    for _ in range(STEPS):
        batch = rng.sample(list(examples), BATCH)
        encoded = tokenizer([example.text for example in batch], truncation=True, max_length=MAX_TOKENS, padding=True, return_tensors="pt")
        grades = torch.tensor([getattr(example, name) for example in batch])
        loss: Any = torch.nn.functional.mse_loss(model(**encoded).logits[:, 0], grades)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def _make_wordpiece(texts: Sequence[str]) -> Any:
    """A WordPiece tokenizer with one token per Chinese character, as BERT's.

    The vocabulary is every character and the commonest words: the trainer of `tokenizers` gives another one at each run.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    normalizer, splitter = BertNormalizer(lowercase=True), BertPreTokenizer()
    words = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    characters = sorted({character for word in words for character in word})
    inside = sorted({f"##{character}" for word in words for character in word[1:]})
    common = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))
    pieces = [*SPECIAL, *characters, *inside, *common][:VOCABULARY]
    inner = Tokenizer(WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    inner.normalizer = normalizer
    inner.pre_tokenizer = splitter
    ends = [(token, inner.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    inner.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=MAX_TOKENS,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
