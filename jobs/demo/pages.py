"""The demo's web: about 110 pages on reserved host names (.example, .test) in four WARC files, and a small block list.

In: the bundled texts. Out: `DIR/input/demo-0000{0..3}.warc.gz`, `DIR/blocklist/{adult,fraud}/domains` and `DIR/pages.jsonl`
with what each page is there for. The bytes are the same at every call.

    python -m jobs.demo.pages DIR
"""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.demo.damage import add_counters, chunked, edit_words, mojibake, nest_badly
from jobs.demo.spam import boilerplate, spam
from jobs.demo.templates import TEMPLATES, blocks_html, render
from jobs.demo.texts import LANGUAGES, Text, all_texts, load_texts
from jobs.demo.warcs import Page, write_warc

N_WARCS = 4
CUT_BYTES = 200
"""Missing at the end of the fourth file: its last response record ends in the middle of the compressed data."""

HOSTS = {
    "en": ("fieldnotes.example", "harbour-gazette.example", "ask-a-neighbour.test", "manuals.example", "oldpages.test"),
    "zh": ("biji.example", "chengdong-ribao.example", "wenda.test", "shouce.example", "laowangye.test"),
    "de": ("notizen.example", "stadtblatt.example", "frag-nebenan.test", "anleitungen.example", "altseiten.test"),
    "ja": ("nikki.example", "minato-shinbun.example", "shitsumon.test", "tebiki.example", "furui.test"),
}
"""Hosts by language; the position in the tuple is the position of its template in `TEMPLATES`."""

CHARSETS = {
    "zh-forum-battery": ("gbk", "text/html; charset=utf-8", ""),
    "zh-calligraphy-ink": ("gb18030", "text/html", '<meta http-equiv="Content-Type" content="text/html; charset=gb2312">'),
    "zh-trad-typhoon": ("big5", "text/html; charset=Big5", ""),
    "ja-cat-behavior": ("shift_jis", "text/html", ""),
    "ja-qa-router": ("euc-jp", "text/html", '<meta charset="euc-jp">'),
    "de-buchdruck": ("windows-1252", "text/html; charset=iso-8859-1", ""),
}
"""Text id -> (real encoding, Content-Type header, meta element)."""

MIRRORS = ("en-sourdough", "en-tides", "zh-tofu", "zh-canal", "de-brot", "ja-dashi")
"""Published a second time with two words exchanged and other surroundings."""
COPIES = ("en-coffee-grind", "en-silk-road-paper", "zh-tea-mountain", "ja-paper-crane")
"""Published a second time, byte for byte, on another host."""
PRINTED = ("en-git-bisect", "zh-math-birthday")
"""Published a second time as a print view."""

COUNTER_LINES = ("en-tomatoes", "zh-balcony-mint")
NESTED_BADLY = "en-first-snow"
COMPRESSED = "en-http-cache"
"""Sent with Content-Encoding: gzip in two chunks."""

BLOCKED = {
    "adult": ("red-curtain-videos.test", "www.red-curtain-videos.test", "grown-up-cams.example"),
    "fraud": ("secure-bank-login.example", "win-a-phone.test", "zhongjiang-tongzhi.example"),
}
N_BLOCKED_EXTRA = 300
"""Generated names added to each list."""

SPAM = (("en", "shop"), ("en", "casino"), ("zh", "casino"), ("zh", "shop"), ("de", "shop"))


@dataclass(frozen=True)
class Expectation:
    """What one page is there for. `source`: id of the bundled text; `warc`: name of its file."""

    url: str
    kind: str
    lang: str
    source: str
    warc: str


def all_pages() -> list[Page]:
    """Every page but the truncated one, by kind."""
    return [*_articles(), *_duplicates(), *_blocked(), *_spam(), *_mojibake(), *_thin(), *_not_documents()]


def write_demo(out: Path) -> list[Expectation]:
    """Write WARCs, block list and pages.jsonl below `out`; returns one entry per page, in file order."""
    (out / "input").mkdir(parents=True, exist_ok=True)
    pages = all_pages()
    random.Random("order of pages").shuffle(pages)
    expected = []
    for number in range(N_WARCS):
        path = out / "input" / f"demo-{number:05}.warc.gz"
        last = number == N_WARCS - 1
        mine = pages[number::N_WARCS] + ([_truncated()] if last else [])
        write_warc(path, mine, CUT_BYTES if last else 0)
        expected += [Expectation(page.url, page.kind, page.lang, page.source, path.name) for page in mine]
    _write_blocklist(out / "blocklist")
    lines = [json.dumps(vars(entry), ensure_ascii=False) + "\n" for entry in expected]
    (out / "pages.jsonl").write_text("".join(lines), encoding="utf-8")
    return expected


def _address(text: Text, number: int, shift: int = 0) -> tuple[str, str]:
    """URL and template of the `number`-th text of its language; another host and template for another `shift`."""
    position = (number + shift) % len(HOSTS[text.lang])
    return f"https://{HOSTS[text.lang][position]}/{2010 + number % 14}/{text.id}.html", list(TEMPLATES)[position]


def _articles() -> Iterator[Page]:
    for lang in LANGUAGES:
        for number, text in enumerate(load_texts(lang)):
            yield _article(text, *_address(text, number))


def _article(text: Text, url: str, template: str) -> Page:
    if text.id in CHARSETS:
        encoding, content_type, head = CHARSETS[text.id]
        body = render(text, template, url, head).encode(encoding, "xmlcharrefreplace")
        return Page(url, "charset", text.lang, body, text.id, content_type)
    if text.id in COUNTER_LINES:
        return Page(url, "counter_lines", text.lang, render(add_counters(text), template, url).encode(), text.id)
    html = render(text, template, url)
    if text.id == NESTED_BADLY:
        return Page(url, "broken_nesting", text.lang, nest_badly(html).encode(), text.id)
    if text.id == COMPRESSED:
        headers = {"Content-Encoding": "gzip", "Transfer-Encoding": "chunked"}
        return Page(url, "compressed", text.lang, chunked(gzip.compress(html.encode(), mtime=0)), text.id, headers=headers)
    return Page(url, "article", text.lang, html.encode(), text.id)


def _duplicates() -> Iterator[Page]:
    by_id = {text.id: (number, text) for lang in LANGUAGES for number, text in enumerate(load_texts(lang))}
    for name in MIRRORS:
        number, text = by_id[name]
        url, template = _address(text, number, shift=1)
        yield Page(url + "?mirror=1", "mirror", text.lang, render(edit_words(text), template, url).encode(), name)
    for name in COPIES:
        number, text = by_id[name]
        original, template = _address(text, number)
        url, _ = _address(text, number, shift=2)
        yield Page(url, "copy", text.lang, render(text, template, original).encode(), name)
    for name in PRINTED:
        number, text = by_id[name]
        url, _ = _address(text, number)
        yield Page(url + "?view=print", "printed", text.lang, render(text, "print", url).encode(), name)


def _blocked() -> Iterator[Page]:
    for category, hosts in BLOCKED.items():
        for number, host in enumerate(hosts):
            text = Text(f"blocked-{host}", "en", "A page on a blocked host", tuple(("p", line) for line in boilerplate("en", host)))
            yield Page(f"http://{host}/page{number}.html", f"blocked_{category}", "en", render(text, "blog", host).encode())


def _spam() -> Iterator[Page]:
    for lang, flavour in SPAM:
        for number in range(2):
            seed = f"page {number}"
            text = Text(f"spam-{lang}-{flavour}-{number}", lang, f"{flavour} {number}", tuple(("p", p) for p in spam(lang, flavour, seed)))
            yield Page(f"http://{flavour}-{lang}{number}.example/", "spam", lang, render(text, "news", seed).encode())


def _mojibake() -> Iterator[Page]:
    """UTF-8 that somebody read as windows-1252 and saved as UTF-8 again."""
    for text in (load_texts("de")[2], load_texts("zh")[4]):
        url, template = _address(text, 0, shift=4)
        yield Page(url, "mojibake", text.lang, mojibake(render(text, template, url)).encode(), text.id)


def _thin() -> Iterator[Page]:
    """Pages with hardly any running text: lists of links, log-ins, and texts that break one quality rule each."""
    for lang in LANGUAGES:
        texts = load_texts(lang)
        items = "".join(f'<li><a href="/{text.id}">{text.title}</a></li>' for text in texts)
        yield _simple(f"https://{HOSTS[lang][0]}/archive", "listing", lang, f"<h1>{len(texts)}</h1><ul>{items}</ul>")
    for lang in ("en", "zh"):
        yield _simple(f"https://{HOSTS[lang][1]}/login", "short", lang, f"<p>{boilerplate(lang, 'login')[0]}</p>")
    sentences = [sentence for text in load_texts("en")[:6] for paragraph in text.prose() for sentence in paragraph.split(". ")]
    yield _simple("https://oldpages.test/bullets", "bullets", "en", "".join(f"<p>• {sentence}</p>" for sentence in sentences[:24]))
    yield _simple("https://oldpages.test/teasers", "ellipsis", "en", "".join(f"<p>{sentence[:60]}...</p>" for sentence in sentences[24:48]))
    tagged = [f"{sentence.rstrip('.')}. #{' #'.join(sentence.lower().rstrip('.').split()[:6])}" for sentence in sentences[48:60]]
    yield _simple("https://ask-a-neighbour.test/tags", "hashtags", "en", "".join(f"<p>{line}</p>" for line in tagged))


def _not_documents() -> Iterator[Page]:
    yield Page("https://fieldnotes.example/empty", "empty", "", b"")
    yield Page("https://fieldnotes.example/gone", "not_found", "", b"<html><body><p>Not found</p></body></html>", status="404 Not Found")
    yield Page("https://manuals.example/guide.pdf", "pdf", "", b"%PDF-1.4\n%%EOF\n", content_type="application/pdf")
    location = {"Location": "https://fieldnotes.example/"}
    yield Page("http://fieldnotes.example/", "redirect", "", b"", status="301 Moved Permanently", headers=location)


def _truncated() -> Page:
    text = load_texts("en")[0]
    rng = random.Random("truncated")
    noise = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz ", k=4000))
    body = f"<html><body>{blocks_html(text.body)}<p>{noise}</p></body></html>".encode()
    return Page("https://fieldnotes.example/cut-off", "truncated", "en", body)


def _simple(url: str, kind: str, lang: str, inner: str) -> Page:
    html = f'<!DOCTYPE html><html lang="{lang}"><head><meta charset="utf-8"><title>{kind}</title></head><body>{inner}</body></html>'
    return Page(url, kind, lang, html.encode())


def _write_blocklist(folder: Path) -> None:
    """UT1's layout: one folder per category with a file `domains`, one name per line."""
    for category, hosts in BLOCKED.items():
        rng = random.Random(f"blocklist/{category}")
        syllables = ("ka", "lo", "mi", "ra", "tu", "ve", "no", "si", "dex", "pol")
        extra = {f"{''.join(rng.choices(syllables, k=4))}-{rng.randrange(1000)}.test" for _ in range(N_BLOCKED_EXTRA)}
        names = {host.removeprefix("www.") for host in hosts} | extra
        (folder / category).mkdir(parents=True, exist_ok=True)
        (folder / category / "domains").write_text("".join(f"{name}\n" for name in sorted(names)), encoding="ascii")


def main(argv: list[str]) -> None:
    if len(argv) != 1:
        raise SystemExit("usage: python -m jobs.demo.pages DIR")
    expected = write_demo(Path(argv[0]))
    print(f"{len(expected)} pages of {len(all_texts())} texts in {N_WARCS} WARC files below {argv[0]}/input")


if __name__ == "__main__":
    main(sys.argv[1:])
