"""The model file, the choice of blocks, and the labels that the model learns from."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from selectolax.lexbor import LexborHTMLParser

from ccpipe.html import blocks as b
from ccpipe.html import extract_text
from ccpipe.html.cut import cut
from ccpipe.html.features import FEATURES, SMOOTH
from ccpipe.html.forest import log_odds, read_forest
from ccpipe.html.maintext import MODES, load_model, main_blocks, parse_model
from ccpipe.html.words import Scores, make_words
from ccpipe.warc import http, read_records

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
from align_gold import align, align_segments, tokens

MODEL_SHA256 = "0d573b4f4b87a027d5952ce4885408381dbe9cc5028ea067f2b56749575e8754"


def test_the_model_is_the_one_that_was_measured() -> None:
    """Texts depend on it: with a new model raise `Extract.version`, measure again and write the figures to docs/extraction.md."""
    data = resources.files("ccpipe.html").joinpath("maintext.json").read_bytes()
    assert hashlib.sha256(data).hexdigest() == MODEL_SHA256


def test_the_model_asks_for_features_that_exist() -> None:
    model = load_model()
    assert model.first.features.max() < len(FEATURES)
    assert model.second.features.max() < len(FEATURES) + len(SMOOTH)


def test_a_model_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match=r"format 'x', expected .* fit it again"):
        parse_model('{"format": "x"}')


def test_a_forest_is_the_sum_of_its_trees() -> None:
    trees = [
        {"nodes": [[0, 1.5, -1, 1], [1, 0, -2, -3]], "leaves": [1, 2, 4]},
        {"nodes": [], "leaves": [8]},
        {"nodes": [[1, -1, -2, -1]], "leaves": [16, 32]},
    ]
    rows = np.array([[1, 0], [2, 0], [2, 1], [2, -1]], dtype=np.float32)
    assert log_odds(read_forest(trees), rows).tolist() == [1 + 8 + 16, 2 + 8 + 16, 4 + 8 + 16, 2 + 8 + 32]


def page_of(body: str) -> b.Page:
    return cut((LexborHTMLParser(body).body.html or "").encode())  # type: ignore[union-attr]


def texts_of(page: b.Page) -> list[str]:
    return [page.text[start:stop].tobytes().decode() for start, stop in page.blocks[:, :2].tolist()]


CUTS = {
    "<p>a&amp;b <b>c</b>\n d<br>e</p>f": ["a&b c d\ne", "f"],
    "<p>one<br><br>two": ["one", "two"],
    "<div>a<p>b</p>c</div>": ["a", "b", "c"],
    "<pre>\n  x\n\ty </pre>": ["  x\n\ty"],
    "<script>'<p>'</script><style>p{}</style><!-- <p>no --><p>yes": ["yes"],
    '<a "">a</a><p title="x>y">b</p>': ["a", "b"],
    "<p>soft\u00adhyphen\u200b and\u00a0space\u3000wide": ["softhyphen and space wide"],
    "<svg><title>no</title></svg><select><option>no</select>yes": ["yes"],
}


@pytest.mark.parametrize("body", CUTS)
def test_blocks_are_cut_where_a_browser_breaks_lines(body: str) -> None:
    assert texts_of(page_of(body)) == CUTS[body]


def test_words_are_scored_in_names_and_short_texts() -> None:
    scores = Scores(make_words({"post-body": 0.5, "post": 0.25}), make_words({"words": -0.5, "洪水": 0.75}))
    page = cut(b'<body><div class="postBody x">some Words</div><p>' + "大洪水".encode() + b"</p></body>", scores)
    assert page.names[1].tolist() == [0.75, 0.0, 0.5]
    assert page.wording[:, :3].tolist() == [[-0.5, -0.5, 0.0], [0.75, 0.0, 0.75]]


@pytest.mark.parametrize("mode", MODES)
def test_no_page_with_text_comes_out_empty(mode: str) -> None:
    page = page_of("<p>first</p><p>second</p>")
    assert main_blocks(page, np.array([0.01, 0.02]), mode).size
    assert not main_blocks(page_of(""), np.zeros(0), mode).size


def test_labels_follow_the_place_in_the_gold() -> None:
    gold = tokens("The great flood came. Nobody in the village could remember one like it. News travelled fast to the town below the dam.")
    lines = ("News", "The great flood came.", "Nobody in the village could remember one like it.", "elsewhere")
    blocks = [tokens(line) for line in (*lines, "News travelled fast to the town below the dam", "Nobody in the village could remember it")]
    assert align(blocks, gold).round(2).tolist() == [0, 1, 1, 0, 1, 0]
    assert align_segments(["a wanted one", "nothing", "an unwanted two"], ["wanted one"], ["unwanted two"]).tolist() == [1, -1, 0]


DATA_SHA256 = "fa08b0f4a233f6388801cb8651be60ece413100464107e9f7b1bfedf1328b5a2"
FLOOR = 0.91
"""Mean word F1 over the 139 pages of collections that the model never learnt from. Lowering it needs a reason."""


@pytest.mark.shared
def test_quality_does_not_fall_on_pages_never_learnt_from(shared_data: Path) -> None:
    gold = shared_data / "extraction" / "dev" / "dev-extra-00000.gold.jsonl"
    assert hashlib.sha256(gold.read_bytes()).hexdigest() == DATA_SHA256
    wanted = {one["record_id"]: one for one in map(json.loads, gold.open(encoding="utf-8")) if one["kind"] == "text"}
    scores = []
    for record in read_records(gold.with_name("dev-extra-00000.warc.gz"), None, 12 << 20, Counter()):
        one = wanted.get(record.headers["warc-record-id"]) if record.kind == "response" else None
        response = http.parse_response(record.block) if one else None
        if one and response:
            text = extract_text(http.decode_body(response, 12 << 20), one["uri"], response.content_type)
            pair = [Counter(tokens(x)) for x in (one["text"], text)]
            scores.append(2 * (pair[0] & pair[1]).total() / max(1, pair[0].total() + pair[1].total()))
    assert len(scores) == len(wanted) == 139
    assert sum(scores) / len(scores) > FLOOR
