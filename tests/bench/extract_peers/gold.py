"""Pages with a known main text: a folder of `NAME.warc.gz`, each beside its `NAME.gold.jsonl`.

A line of gold is JSON with: record_id (of the `response` record), kind (`text`, `segments` or `markdown`), text (the main
text, or Markdown), with and without (snippets), and where known id, uri, source, lang, page_type, charset (the true one).
Read with FastWARC alone, so that the peers' environment needs nothing of the project.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = ("text", "segments", "markdown")
HEAD_CHARS = 8192
"""A charset is declared in the first KiB by the standard (HTML 13.2.3.2); real pages are later by some."""

EXPECTED = """expected a folder with NAME.warc.gz and NAME.gold.jsonl in pairs; a line of gold is JSON such as
  {"record_id": "<urn:uuid:...>", "kind": "text", "text": "the main text", "source": "mine", "lang": "en", "charset": "utf-8"}
where kind is text, segments (then "with": [...] and "without": [...] hold snippets) or markdown.
Type: make bench-extract data=FOLDER"""

_DECLARED = re.compile(r"""(<meta[^>]+?charset\s*=\s*["']?\s*)[\w.:-]+""", re.IGNORECASE)
_HEAD = re.compile(r"<head[^>]*>", re.IGNORECASE)
_XML = re.compile(r"^\s*<\?xml[^>]*\?>", re.IGNORECASE)


class NoGold(Exception):
    """The folder is not laid out as expected; the message says what was seen, what is expected and what to type."""


@dataclass(frozen=True, slots=True)
class Page:
    """raw: body as crawled; content_type: the HTTP header's; gold: the line of gold, with every field filled."""

    gold: dict[str, Any]
    raw: bytes
    content_type: str

    @property
    def id(self) -> str:
        return str(self.gold["id"])

    def as_str(self) -> str:
        """The page as text that declares UTF-8, decoded with its true charset: finding that is no part of a peer's score."""
        text = self.raw.decode(self.gold["charset"], "replace").removeprefix("\ufeff")
        head, rest = text[:HEAD_CHARS], text[HEAD_CHARS:]
        head, changed = _DECLARED.subn(r"\g<1>utf-8", head)
        if not changed:
            at = found.end() if (found := _HEAD.search(head)) else 0
            head = f'{head[:at]}<meta charset="utf-8">{head[at:]}'
        return head + rest

    def as_utf8(self) -> bytes:
        return self.as_str().encode("utf-8", "replace")

    def as_plain_str(self) -> str:
        """Without the XML declaration, at which lxml refuses a str."""
        return _XML.sub("", self.as_str())


def load_pages(folder: Path) -> list[Page]:
    """All pages that have gold, in the order of the archives. Raises `NoGold`."""
    if not folder.is_dir():
        raise NoGold(f"{folder}: no such folder; {EXPECTED}")
    golds = sorted(folder.glob("*.gold.jsonl"))
    if not golds:
        raise NoGold(f"{folder}: no *.gold.jsonl in it; {EXPECTED}")
    return [page for gold in golds for page in _read_pair(gold)]


def gold_digest(pages: list[Page]) -> str:
    """Fingerprint of pages and gold, 12 hex digits: figures are of the same data where it is the same."""
    digest = hashlib.sha256()
    for page in pages:
        digest.update(json.dumps(page.gold, sort_keys=True).encode())
        digest.update(hashlib.sha256(page.raw).digest())
    return digest.hexdigest()[:12]


def _read_pair(gold: Path) -> list[Page]:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    warc = gold.with_name(gold.name.replace(".gold.jsonl", ".warc.gz"))
    if not warc.is_file():
        raise NoGold(f"{gold}: {warc.name} is missing beside it; {EXPECTED}")
    lines = _read_gold(gold)
    pages = []
    with warc.open("rb") as file:
        for record in ArchiveIterator(file, record_types=WarcRecordType.response, parse_http=True):
            line = lines.pop(record.headers.get("WARC-Record-ID", ""), None)
            if line is not None:
                pages.append(Page(line, record.reader.read(), record.http_headers.get("Content-Type", "")))
    if lines:
        raise NoGold(f"{gold}: {len(lines)} lines name no response of {warc.name}, the first is {next(iter(lines))}; {EXPECTED}")
    return pages


def _read_gold(path: Path) -> dict[str, dict[str, Any]]:
    """record_id -> line, with what may be left out filled in."""
    lines = {}
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = json.loads(text)
        if "record_id" not in line or line.get("kind") not in KINDS:
            raise NoGold(f"{path}:{number}: record_id {line.get('record_id')!r}, kind {line.get('kind')!r}; {EXPECTED}")
        defaults = {"id": line["record_id"], "uri": "", "source": "gold", "lang": "", "page_type": "", "charset": "utf-8", "text": ""}
        lines[line["record_id"]] = {**defaults, "with": [], "without": [], **{k: v for k, v in line.items() if v is not None}}
    return lines
