"""The bench of extractors: its metrics are the published ones, and it says what is wrong with a folder or a contender."""

from __future__ import annotations

import gzip
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parent / "bench"
sys.path.insert(0, str(BENCH))

from extract_peers import metrics, scoring, tables  # noqa: E402
from extract_peers.crew import Crew, Gap, Speed  # noqa: E402
from extract_peers.gold import NoGold, load_pages  # noqa: E402
from extract_peers.peers import CONTENDERS, PEERS  # noqa: E402
from extract_peers.venv import pinned  # noqa: E402

TOLERANCE = 1e-9


def test_a_token_is_a_word_or_a_character_of_a_script_without_spaces() -> None:
    assert metrics.tokens("Don't panic: 今日は Привет2") == ["don", "t", "panic", "今", "日", "は", "привет2"]
    assert metrics.plain_tokens("Ab 今日") == ["Ab", "今日"]


def test_shingles_by_hand() -> None:
    """abcde has abcd, bcde; abcdx has abcd, bcdx: one of two in common."""
    assert metrics.shingle_scores(list("abcde"), list("abcdx")) == (0.5, 0.5)
    # shorter than a shingle: one shingle, whole
    assert metrics.shingle_scores(list("ab"), list("ab")) == (1.0, 1.0)
    assert metrics.shingle_scores(list("ab"), list("abc")) == (0.0, 0.0)
    # what cannot be divided does not count in the mean
    assert metrics.shingle_scores(list("abcd"), []) == (None, 0.0)
    assert metrics.shingle_scores([], list("abcd")) == (0.0, None)
    # bags: a shingle that comes twice is found twice
    assert metrics.shingle_scores(list("aaaaa"), list("aaaa")) == (1.0, 0.5)


def test_words_and_snippets_by_hand() -> None:
    assert metrics.word_f1(["a", "a", "b"], ["a", "b", "c"]) == pytest.approx(2 / 3)
    assert metrics.word_f1([], []) == 1.0
    assert metrics.word_f1(["a"], []) == metrics.word_f1([], ["a"]) == 0.0
    found = metrics.count_segments("one  two\nthree", ["one two", "two three", "four"], ["three", "five"])
    assert found == (2, 1, 1, 1)
    assert metrics.segment_f1([found, metrics.Segments(1, 0, 0, 0)]) == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))


def test_code_and_formulas_by_hand() -> None:
    gold = "Text $a+b=c$ and $x$\n```py\nif x:\n    return 1\n}\n```\n$$\\int f$$"
    kept = metrics.structure("a + b = c\nif x:\nreturn 1", gold)
    # both lines are found, one with its indent; `}` is too short to count, as is `x`
    assert kept == (1.0, 0.5, 0.5)
    assert metrics.structure("anything", "no code") == (None, None, None)


def test_markdown_gold_is_compared_as_plain_text() -> None:
    assert metrics.without_markdown("![alt](a.png)[shown](http://x)\n```py\ncode\n```<b>").split() == ["shown", "code"]


def gold_line(**fields: Any) -> dict[str, Any]:
    return {"source": "a", "lang": "en", "page_type": "", "kind": "text", "text": "", "with": [], "without": [], **fields}


def test_the_headline_is_the_mean_over_sources() -> None:
    """A source of four pages counts as much as one of eight; three pages, and Markdown, count nothing."""
    wrong, right = ("x y z w", "p q r s"), ("p q r s", "p q r s")
    pages = [scoring.score_page(gold_line(source="small", text=gold), text) for gold, text in [right] * 4]
    pages += [scoring.score_page(gold_line(source="large", text=gold), text) for gold, text in [right] * 4 + [wrong] * 4]
    assert scoring.headline(pages) == pytest.approx((1 + 0.5) / 2)
    pages += [scoring.score_page(gold_line(source="few", text=wrong[0]), wrong[1])] * 3
    pages += [scoring.score_page(gold_line(source="structure", kind="markdown", text=wrong[0]), wrong[1])] * 9
    assert scoring.headline(pages) == pytest.approx((1 + 0.5) / 2)


def test_a_language_below_the_reference_is_shown() -> None:
    ours = [scoring.score_page(gold_line(lang="ja", text="a b"), text) for text in ["a b"] * 9 + ["c"]]
    theirs = [scoring.score_page(gold_line(lang="ja", text="a b"), "a b") for _ in range(10)]
    few = [scoring.score_page(gold_line(lang="fr", text="a b"), "c") for _ in range(9)]
    (row,) = tables.language_check(scoring.report(ours + few), scoring.report(theirs + few))
    assert (row["lang"], row["pages"], row["good"]) == ("ja", 10, False) and row["difference"] == pytest.approx(-0.1)
    assert "Japanese (ja)" in tables.language_table([row]) and "BELOW" in tables.language_table([row])


def test_the_median_of_rounds_in_turns() -> None:
    figures = Speed([[0.1, 0.3], [0.2, 0.2], [1.0, 3.0]]).figures(html_mb=1.0)
    assert figures["pages_s"] == pytest.approx(2 / 0.4) and figures["pages_s_low"] == pytest.approx(2 / 4)
    assert figures["mb_s"] == pytest.approx(1 / 0.4) and figures["max_ms"] == pytest.approx(300)


def test_every_peer_has_a_pinned_version() -> None:
    assert {peer.package for peer in PEERS} <= set(pinned())


# --- the folder -------------------------------------------------------------------------------------------------------


def write_set(folder: Path, pages: list[tuple[bytes, dict[str, Any]]]) -> Path:
    """`NAME.warc.gz` and `NAME.gold.jsonl`, made with nothing of the project."""
    lines = []
    with (folder / "set.warc.gz").open("wb") as warc:
        for number, (html, gold) in enumerate(pages):
            name = f"<urn:uuid:00000000-0000-0000-0000-{number:012d}>"
            block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + html
            head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: {name}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
            head += f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
            warc.write(gzip.compress(head.encode() + block + b"\r\n\r\n"))
            lines.append(json.dumps({"record_id": name, "kind": "text", **gold}))
    (folder / "set.gold.jsonl").write_text("\n".join(lines))
    return folder


def test_pages_come_with_their_true_charset(tmp_path: Path) -> None:
    html = "<meta charset=iso-8859-1><p>中文".encode("gb18030")
    (page,) = load_pages(write_set(tmp_path, [(html, {"charset": "gb18030", "text": "中文"})]))
    assert page.raw == html and page.as_utf8() == "<meta charset=utf-8><p>中文".encode()
    (bare,) = load_pages(write_set(tmp_path, [(b"<head><p>x", {})]))
    assert bare.as_str() == '<head><meta charset="utf-8"><p>x'


def test_a_folder_without_gold_is_told_what_is_expected(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(NoGold, match=r"(?s)no .*expected a folder .*make bench-extract data=FOLDER"):
            load_pages(folder)
    write_set(tmp_path, [(b"<p>x", {})])
    (tmp_path / "set.gold.jsonl").write_text('{"record_id": "<urn:uuid:1>", "kind": "text"}')
    with pytest.raises(NoGold, match="1 lines name no response"):
        load_pages(tmp_path)
    (tmp_path / "set.gold.jsonl").write_text('{"record_id": "x", "kind": "prose"}')
    with pytest.raises(NoGold, match=r"set\.gold\.jsonl:1: .*'prose'"):
        load_pages(tmp_path)


def test_a_contender_that_cannot_be_imported_is_a_gap(tmp_path: Path) -> None:
    """Python without the peers: the reason is named, and the process goes on."""
    write_set(tmp_path, [(b"<p>x", {})])
    crew = Crew(tmp_path, tmp_path / "cache", Path(sys.executable), {})
    try:
        with pytest.raises(Gap, match="No module named 'turbohtml'"):
            crew.seconds(CONTENDERS["turbohtml article"], 1)
        assert len(crew.seconds(CONTENDERS["selectolax, parse alone"], 1)) == 1
        texts, errors = crew.texts(CONTENDERS["selectolax, parse and all text"], "digest")
        assert list(texts.values()) == ["x"] and errors == []
    finally:
        crew.close()


def test_the_bench_prints_the_table_for_any_folder(tmp_path: Path) -> None:
    """Ours alone, so that nothing is installed: quality, speed, stage, and texts out of fold."""
    words = "A sentence with some words in it, and then a few more. " * 5
    write_set(tmp_path, [(f"<nav>menu</nav><article><p>{words}</p></article>".encode(), {"id": f"p{n}", "text": words}) for n in range(4)])
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"id": f"p{n}", "text": words if n else ""}) for n in range(3)))
    command = [sys.executable, str(BENCH / "bench_extract.py"), str(tmp_path), "--contenders", "ccpipe", "--repeats", "1", "--sample", "1"]
    command += ["--texts", str(tmp_path / "texts.jsonl"), "--out", str(tmp_path / "found"), "--cache", str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no text of 1 of 4 pages, the first p3" in done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["rows"]["ccpipe"]["quality"]["headline"] == pytest.approx(1.0)
    # two of four pages have their text, the others none: precision 1 (of those with a text), recall 1/2
    assert found["rows"]["ccpipe, out of fold"]["quality"]["headline"] == pytest.approx(2 / 3)
    assert found["rows"]["ccpipe"]["speed"]["pages_s"] > 0 and found["stage"]["ratio"] > 0
    assert (tmp_path / "found.md").read_text() == done.stdout
    missed = subprocess.run([*command, "--only", "quality", "--check"], capture_output=True, text=True)
    assert missed.returncode == 1 and "| headline | >= 0.91 | 0.6667 | MISSED |" in missed.stdout


def test_the_bench_says_what_to_type(tmp_path: Path) -> None:
    for arguments, said in (
        ([], "make bench-extract data=FOLDER"),
        ([str(tmp_path)], "no *.gold.jsonl"),
        (["x", "--contenders", "y"], "y; choose"),
    ):
        done = subprocess.run([sys.executable, str(BENCH / "bench_extract.py"), *arguments], capture_output=True, text=True)
        assert done.returncode == 2 and said in done.stderr


# --- the shared evaluation --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared_eval(shared_data: Path) -> Any:
    """The evaluation that the bars were set with; nothing of it is copied."""
    folder = shared_data / "extraction" / "eval"
    if not folder.is_dir():
        pytest.skip("no evaluation tool beside the real pages (../shared/data/extraction/eval)")
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("eval_extractors")
    finally:
        sys.path.remove(str(folder))


def worsened(number: int, gold: dict[str, Any]) -> str:
    """A text that is somewhat like the gold: every fifth line lost, some unwanted snippets in it, some pages empty."""
    lines = (gold["text"] or "\n".join(gold["with"])).split("\n")
    kept = [line for at, line in enumerate(lines) if (at * 7 + number) % 5]
    return "" if number % 20 == 0 else "\n".join(kept + gold["without"][: number % 3])


@pytest.mark.shared
def test_figures_equal_those_of_the_shared_evaluation(shared_eval: Any, shared_data: Path) -> None:
    """Headline, sources, page types, structure and single pages, to 1e-9, on every fourth page of the public set."""
    pages = load_pages(shared_data / "extraction" / "dev")[::4]
    texts = {page.id: worsened(number, page.gold) for number, page in enumerate(pages)}
    scored = scoring.score_pages(pages, texts)
    ours = scoring.report(scored)
    golds = [{"payload_bytes": 0, **page.gold} for page in pages]
    per_page = shared_eval.score(golds, [(texts[page.id], 0.0, None) for page in pages])
    theirs = shared_eval.report(per_page)
    assert ours["headline"] == pytest.approx(theirs["headline"], abs=TOLERANCE)
    assert ours["article_f1"] == pytest.approx(theirs["source"]["aeb"]["aeb_f1"], abs=TOLERANCE)
    for name, figures in theirs["source"].items():
        assert ours["source"][name]["f1"] == pytest.approx(figures["seg_f1" if name == "traf" else "shingle_f1"], abs=TOLERANCE)
    for name, figures in theirs["type"].items():
        assert ours["page_type"][name]["words"] == pytest.approx(figures["word_f1"], abs=TOLERANCE)
    structure = theirs["source"]["llmwebkit"]
    for our_name, name in (("code_lines", "code_line"), ("code_indents", "code_indent"), ("formulas", "formula")):
        assert ours[f"{our_name}_recall"] == pytest.approx(structure[f"{name}_recall"], abs=TOLERANCE)
    words = [page["wf"] for page in per_page if "wf" in page]
    assert [page.words for page in scored if page.kind != "segments"] == pytest.approx(words, abs=TOLERANCE)
