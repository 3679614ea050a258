"""Which charset a page is written in, and its text as UTF-8.

In: the body's bytes and the Content-Type header. Out: valid UTF-8, the charset's name, and how it was found.
Order: byte-order mark, strict UTF-8, HTTP header, meta declaration, detector (resiliparse). A declared charset is
overruled only by bytes that it cannot explain: labels follow the WHATWG Encoding standard (gb2312 is gb18030,
iso-8859-1 is windows-1252, ...). No HTML parsing here, and nothing is dropped: the caller looks at `errors`.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

META_BYTES = 4096
"""How far a declaration is looked for. The standard says 1024; real pages put scripts before it."""

MIN_WIDE = 8
"""Bytes of the shortest page that can be UTF-16 without a byte-order mark."""

MAX_BROKEN_UTF8 = 0.05
"""Share of broken sequences up to which text still counts as UTF-8: pages cut in a character, one foreign byte in a comment."""

MAX_ERRORS = 0.01
"""Share of undecodable characters above which a declared multi-byte charset is not believed."""

MIN_RUNS = 0.5
"""Share of non-ASCII bytes beside another one above which a page is not in a Latin alphabet: accented letters stand alone."""

MIN_RUNS_ELSEWHERE = 0.25
"""The same share below which a page is in no other alphabet and in no double-byte charset."""

MAX_HALFWIDTH = 0.3
"""Share of half-width katakana above which a page is not Shift_JIS: nearly any double byte decodes to them."""

_SCRIPTS = {"cp949": ("가", "힣", 0.5), "cp932": ("ぁ", "ヿ", 0.2), "euc_jp": ("ぁ", "ヿ", 0.2)}
"""Codec -> first and last character of the script it is for, and the share of them that makes a text surely such.
(The detector takes EUC-KR for broken UTF-8, so Hangul is looked for whenever it is at a loss.)"""

_META = re.compile(rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([\w.:\-]+)", re.IGNORECASE)
_XML = re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:\-]+)", re.IGNORECASE)
_HEADER = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:\-]+)", re.IGNORECASE)
_HIGH = re.compile(rb"[\x80-\xff]+")

_WIDER = {"gbk": "gb18030", "gb2312": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs", "iso8859-11": "cp874"}
"""Python codec -> the one that decodes what the WHATWG standard means by it."""

_NAMES = {"cp949": "euc-kr", "cp932": "shift_jis", "big5hkscs": "big5", "cp874": "windows-874", "euc_jp": "euc-jp"}
_MULTIBYTE = frozenset({"gb18030", "cp932", "cp949", "big5hkscs", "euc_jp", "iso2022_jp"})
_LATIN = frozenset({"cp1252", "cp1250", "cp1254", "cp1257", "cp1258", "mac-roman"}) | {
    f"iso8859-{n}" for n in (2, 3, 4, 10, 13, 14, 15, 16)
}
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass(frozen=True, slots=True)
class Decoded:
    """utf8: valid UTF-8; charset: lower-case WHATWG name; source: bom, utf8, header, meta or detected.

    errors: share of the non-ASCII characters that could not be decoded, 0..1.
    """

    utf8: bytes
    charset: str
    source: str
    errors: float = 0.0


def decode(raw: bytes, content_type: str = "") -> Decoded:
    """The page as UTF-8.

    >>> decode("Привет, мир".encode("windows-1251"), "text/html; charset=windows-1251").utf8.decode()
    'Привет, мир'
    """
    for bom, codec in _BOMS:
        if raw.startswith(bom):
            return _decoded(raw[len(bom) :], codec, "bom")
    wide = _wide(raw)
    if wide:
        return _decoded(raw, wide, "detected")
    if _is_utf8(raw) and not _shifts(raw):
        return Decoded(raw, "utf-8", "utf8")
    return _decode_legacy(raw, content_type)


def codec_of(label: str) -> str | None:
    """Python codec for a WHATWG label, None for one that the standard does not know.

    >>> codec_of("gb2312"), codec_of("latin1"), codec_of("klingon")
    ('gb18030', 'cp1252', None)
    """
    codec = map_encoding_to_html5(label.strip(), False)
    if not codec:
        return None
    codec = _WIDER.get(codec, codec)
    try:
        codecs.lookup(codec)
    except LookupError:
        return None
    return codec


def _is_utf8(raw: bytes) -> bool:
    if raw.isascii():
        return True
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _shifts(raw: bytes) -> bool:
    """Is there an escape of ISO-2022, which is ASCII to all others? One byte is looked for first: that is 30 times as fast."""
    return b"\x1b" in raw and b"\x1b$" in raw


def _decode_legacy(raw: bytes, content_type: str) -> Decoded:
    as_utf8 = _decoded(raw, "utf-8", "utf8")
    if as_utf8.errors <= MAX_BROKEN_UTF8 and not _shifts(raw):
        return as_utf8
    guess = _guess(raw)
    for label, source in _declarations(raw, content_type):
        codec = codec_of(label)
        if codec and codec not in ("utf-8", "utf-16-le", "utf-16-be") and _believable(raw, codec, guess):
            return _decoded(raw, codec, source)
    return _decoded(raw, guess, "detected")


def _declarations(raw: bytes, content_type: str) -> list[tuple[str, str]]:
    found = []
    header = _HEADER.search(content_type)
    if header:
        found.append((header[1], "header"))
    for pattern in (_META, _XML):
        meta = pattern.search(raw[:META_BYTES])
        if meta:
            found.append((meta[1].decode("ascii", "ignore"), "meta"))
    return found


def _guess(raw: bytes) -> str:
    """The detector's answer as a Python codec; windows-1252 when it has none."""
    codec = codec_of(detect_encoding(raw) or "")
    if codec is None or codec.startswith("utf"):
        return "cp949" if _in_runs(raw) > MIN_RUNS and _speaks(raw, "cp949") else "cp1252"
    return codec


def _wide(raw: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of the markup is zero."""
    head = raw[:META_BYTES]
    if b"\0" not in head or len(head) < MIN_WIDE:
        return None
    for first, codec in ((1, "utf-16-le"), (0, "utf-16-be")):
        if 4 * head[first::2].count(0) > 3 * len(head[first::2]) and head[1 - first :: 2].count(0) == 0:
            return codec
    return None


def _speaks(raw: bytes, guess: str) -> bool:
    """Is the guess sure because its script shows? GB18030 and Big5 decode nearly any double bytes, to rare characters."""
    if guess not in _SCRIPTS:
        return False
    first, last, enough = _SCRIPTS[guess]
    found = _decoded(raw, guess, "")
    return found.errors <= MAX_ERRORS and _share(found.utf8.decode(), first, last) > enough


def _believable(raw: bytes, codec: str, guess: str) -> bool:
    """Can the bytes be what the page says they are, given what the detector says?"""
    if codec == guess:
        return True
    runs = _in_runs(raw)
    if codec not in _LATIN and guess in _LATIN and runs < MIN_RUNS_ELSEWHERE:
        return False
    declared = _decoded(raw, codec, "")
    if codec in _MULTIBYTE:
        if _speaks(raw, guess):
            return False
        odd = codec == "cp932" and _share(declared.utf8.decode(), "｡", "ﾟ") > MAX_HALFWIDTH
        return declared.errors <= MAX_ERRORS and not odd
    if guess in _MULTIBYTE:
        return _decoded(raw, guess, "").errors > 0 or (codec in _LATIN and runs < MIN_RUNS)
    return codec not in _LATIN or guess in _LATIN or runs < MIN_RUNS


def _decoded(raw: bytes, codec: str, source: str) -> Decoded:
    text = raw.decode(codec, "replace")
    bad = text.count("\ufffd")
    utf8 = text.encode("utf-8", "replace")
    foreign = len(text) - sum(map(len, re.findall(r"[\x00-\x7f]+", text))) if bad else 0
    name = _NAMES.get(codec, codec.replace("cp125", "windows-125").replace("iso8859", "iso-8859"))
    return Decoded(utf8, name, source, bad / foreign if bad else 0.0)


def _in_runs(raw: bytes) -> float:
    """Share of the non-ASCII bytes that stand beside another one."""
    runs = [len(run) for run in _HIGH.findall(raw)]
    return sum(n for n in runs if n > 1) / max(sum(runs), 1)


def _share(text: str, first: str, last: str) -> float:
    """Share of the non-ASCII characters that lie between `first` and `last`."""
    foreign = [char for char in text if char > "\x7f"]
    return sum(first <= char <= last for char in foreign) / max(len(foreign), 1)
