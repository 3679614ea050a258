"""Mutated archives and pages, made from small real ones, the same for the same seed; and what must hold for each of them."""

from __future__ import annotations

import gzip
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ccpipe.html import NotExtracted, extract
from ccpipe.warc import http, read_records

MAX_BLOCK = 1 << 18
SPLICES = (
    *(b"", b"\0", b"\xff", b"\r\n\r\n", b"\n\n", b"WARC/1.0\r\n", b"\r\n\r\nWARC/1.1\r\nContent-Length: 99999999999\r\n\r\n"),
    *(b"Content-Length: -1\r\n", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x5d\x2a\x4d\x18\xff\xff\xff\x7f", b"0\r\n\r\n", b"ffffffff\r\n"),
    *(b"<div>", b"<!--", b"<p ", b"</", b"<script>", b"&#x", b"<table><td>", b"<svg><style>", b"\x1b$B", b"<meta charset=utf-16>"),
)


def mutate(data: bytes, dice: random.Random) -> bytes:
    """One to eight edits: flipped, cut, doubled, moved, spliced."""
    out = bytearray(data)
    for _ in range(dice.randint(1, 8)):
        at = dice.randrange(len(out) + 1)
        span = dice.choice((1, 2, 7, 64, 700))
        kind = dice.randrange(6)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            del out[at : at + span]
        elif kind == 2:
            out[at:at] = out[at : at + span] * dice.choice((1, 1, 2, 40))
        elif kind == 3:
            out[at:at] = dice.choice(SPLICES) * dice.choice((1, 1, 1, 30, 500))
        elif kind == 4:
            out[at:at] = dice.randbytes(span)
        elif dice.random() < 0.2:
            del out[at:]
    return bytes(out)


def check_archive(path: Path, data: bytes) -> int:
    """Reading ends, in order, in bounds, and from every place on it gives the rest. Returns the number of records."""
    path.write_bytes(data)
    damage: Counter[str] = Counter()
    records = list(read_records(path, None, MAX_BLOCK, damage))
    assert all(name.startswith("damage_") and n > 0 for name, n in damage.items())
    for one in records:
        assert len(one.block) <= min(MAX_BLOCK, max(one.block_bytes, 0)) or one.damage, one
        assert 0 <= one.offset <= len(data)
        assert one.length >= 0 and one.offset + one.length <= len(data), (one.offset, one.length, len(data))
    assert records or damage
    if records:
        middle = len(records) // 2
        rest: Counter[str] = Counter()
        assert list(read_records(path, records[middle].next, MAX_BLOCK, rest)) == records[middle + 1 :]
        assert all(n <= damage[name] for name, n in rest.items())
    for one in records:
        check_response(one.block)
    return len(records)


def check_response(block: bytes) -> None:
    response = http.parse_response(block)
    if response is None:
        return
    try:
        body = http.decode_body(response, MAX_BLOCK)
    except (http.ExpandsTooFar, http.BadEncoding):
        return
    assert len(body) <= max(MAX_BLOCK, len(block))


def check_page(html: bytes, content_type: str) -> None:
    """A page is extracted to valid UTF-8 without control characters, or refused for a reason."""
    try:
        page = extract(html, "https://example.org/", content_type)
    except NotExtracted as refused:
        assert refused.args[0].isidentifier()
        return
    for text in (page.text, page.title, page.lang):
        assert "\0" not in text
        text.encode()


def seeds(pages: Sequence[bytes]) -> dict[str, bytes]:
    """The same records packed in every way."""
    import zstandard

    pack = zstandard.ZstdCompressor(write_checksum=True).compress
    return {
        "gzip": b"".join(gzip.compress(one, mtime=0) for one in pages),
        "gzip_whole": gzip.compress(b"".join(pages), mtime=0),
        "zstd": b"".join(map(pack, pages)),
        "zstd_whole": pack(b"".join(pages)),
        "plain": b"".join(pages),
    }
