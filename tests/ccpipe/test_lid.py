"""Language identification with lid.176 and with a model of our own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ccpipe.annotate import Documents
from ccpipe.lid import FastTextLid

REPO = Path(__file__).resolve().parents[2]

SENTENCES = {
    "en": "The committee will publish its report on the state of the river next week, and the public may comment on it.",
    "zh": "今天天气很好，我们一起去公园散步，看到很多人在湖边钓鱼。",
    "de": "Der Ausschuss veröffentlicht seinen Bericht über den Zustand des Flusses in der nächsten Woche.",
    "ru": "Комитет опубликует свой доклад о состоянии реки на следующей неделе.",
}


def batch(texts: list[str]) -> Documents:
    return Documents(pa.array(texts, pa.large_string()), pa.table({}), np.arange(len(texts), dtype=np.uint64))


@pytest.fixture(scope="module")
def lid176() -> FastTextLid:
    path = REPO / ".cache" / "models" / "lid.176.ftz"
    if not path.is_file():
        pytest.skip("no lid.176.ftz in .cache/models: run `make models`")
    stage = FastTextLid("lid", FastTextLid.Config(model=str(path)))
    stage.load()
    return stage


@pytest.fixture(scope="module")
def script_lid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose labels name a script, as GlotLID's do."""
    import fasttext

    folder = tmp_path_factory.mktemp("lid")
    lines = [
        f"__label__zho_Hans {'的 一 是 不 了 人 我 在'[i % 8 :]} 有\n__label__eng_Latn the of and to in that {i}\n" for i in range(200)
    ]
    (folder / "train.txt").write_text("".join(lines), encoding="utf-8")
    # thread i fills the i-th tenth of the input matrix (fastText 0.9.2): below 11 threads some of it stays uninitialised, and NaN follows
    model = fasttext.train_supervised(str(folder / "train.txt"), dim=8, epoch=25, lr=0.5, bucket=1000, thread=12, verbose=0)
    model.save_model(str(folder / "model.bin"))
    return folder / "model.bin"


def test_known_languages_are_kept_with_their_label(lid176: FastTextLid) -> None:
    answer = lid176.annotate(batch(list(SENTENCES.values())))
    assert answer["label"] == list(SENTENCES)
    assert answer["reason"] == [None] * len(SENTENCES)
    assert all(0.5 <= score <= 1.0 for score in answer["score"])


def test_scores_fall_from_rank_to_rank(lid176: FastTextLid) -> None:
    answer = lid176.annotate(batch(list(SENTENCES.values())))
    for first, second, third in zip(answer["score"], answer["score2"], answer["score3"], strict=True):
        assert 1.0 >= first >= second >= third >= 0.0


def test_empty_text_has_no_language_and_no_label(lid176: FastTextLid) -> None:
    answer = lid176.annotate(batch(["", " \n\t "]))
    assert answer["label"] == [None, None]
    assert answer["score3"] == [None, None]
    assert answer["reason"] == ["no_language", "no_language"]


def test_gibberish_keeps_its_guess_and_names_the_rule(lid176: FastTextLid) -> None:
    answer = lid176.annotate(batch(["7 7 7 7 7"]))
    assert answer["reason"] == ["no_language"]
    assert answer["label"][0] is not None


def test_a_newline_separates_words(lid176: FastTextLid) -> None:
    """Deleting newlines glues the words of neighbouring lines together (a defect seen in CCNet)."""
    lines = SENTENCES["en"].replace(" ", "\n")
    assert lid176.annotate(batch([lines])) == lid176.annotate(batch([SENTENCES["en"]]))


def test_a_document_is_scored_alone(lid176: FastTextLid) -> None:
    texts = [*SENTENCES.values(), "", "a\x00b \U0001f389"]
    together = lid176.annotate(batch(texts))
    alone = [lid176.annotate(batch([text])) for text in texts]
    assert together == {key: [one[key][0] for one in alone] for key in together}


def test_labels_with_scripts_lose_only_the_prefix(script_lid: Path) -> None:
    stage = FastTextLid("glot", FastTextLid.Config(model=str(script_lid), k=2))
    stage.load()
    answer = stage.annotate(batch(["的 一 是 不", "the of and to in"]))
    assert answer["label"] == ["zho_Hans", "eng_Latn"]
    assert set(answer) == set(stage.new_columns()) == {"label", "score", "label2", "score2", "reason"}


def test_a_missing_or_wrong_model_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.bin.*set `model`"):
        FastTextLid("lid", FastTextLid.Config(model=str(tmp_path / "absent.bin"))).load()
    wrong = tmp_path / "wrong.bin"
    wrong.write_bytes(b"not a model at all, only a line of text")
    with pytest.raises(ValueError, match=r"wrong\.bin is not a fastText model"):
        FastTextLid("lid", FastTextLid.Config(model=str(wrong))).load()
