"""What goes wrong on the web, done on purpose: edited mirrors, counter lines, bad nesting, mojibake, chunked bodies.

In: a `Text`, HTML or bytes. Out: the same, damaged; the same damage at every call.
"""

from __future__ import annotations

import random

from jobs.demo.texts import Text

COUNTERS = {
    "en": ("12 shares 5 comments 30 likes", "SHARE THIS ARTICLE WITH YOUR FRIENDS NOW", "2024", "Advertisement"),
    "zh": ("阅读 1024 评论 35 点赞 88", "12 次分享 5 条评论 30 个赞", "2024", "8"),
}


def edit_words(text: Text, n_edits: int = 2) -> Text:
    """Some words (characters, in Chinese and Japanese) replaced by others of the same paragraph."""
    rng = random.Random(f"edited/{text.id}")
    body = list(text.body)
    space = " " if text.lang in ("en", "de") else ""
    for _ in range(n_edits):
        at = rng.choice([i for i, (kind, content) in enumerate(body) if kind == "p" and len(content) > 60])
        words = body[at][1].split(space) if space else list(body[at][1])
        words[rng.randrange(len(words))] = rng.choice(words)
        body[at] = ("p", space.join(words))
    return Text(text.id, text.lang, text.title, tuple(body))


def add_counters(text: Text) -> Text:
    """Behind every block a line that a quality filter should take out: counters, capitals, bare numbers, single words."""
    lines = COUNTERS[text.lang]
    body = [part for number, block in enumerate(text.body) for part in (block, ("p", lines[number % len(lines)]))]
    return Text(text.id, text.lang, text.title, tuple(body))


def nest_badly(html: str) -> str:
    """Unclosed paragraphs, crossed inline elements, stray end tags."""
    crossed = html.replace("<p>", "<p><b><i>", 3).replace("</p>", "</b></i>", 3)
    return crossed.replace("</p>", "").replace("<article>", "</div><article></span>").replace("</main>", "")


def chunked(data: bytes) -> bytes:
    """HTTP/1.1 chunked transfer coding, two chunks."""
    half = len(data) // 2
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:half], data[half:])) + b"0\r\n\r\n"


def mojibake(text: str) -> str:
    """UTF-8 read as windows-1252.

    >>> mojibake("Tür")
    'TÃ¼r'
    """
    return "".join(_as_1252(byte) for byte in text.encode())


def _as_1252(byte: int) -> str:
    try:
        return bytes([byte]).decode("windows-1252")
    except UnicodeDecodeError:  # five bytes have no character there; browsers keep them as control characters
        return chr(byte)
