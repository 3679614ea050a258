"""The bundled documents: `texts/{en,zh,de,ja}.jsonl`, written for this project and under its licence.

In: one JSON object per line, `{"id", "lang", "title", "body": [[kind, text], ...]}`. Out: `Text` values in file order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

LANGUAGES = ("en", "zh", "de", "ja")
KINDS = ("p", "h2", "li", "pre")


@dataclass(frozen=True)
class Text:
    """One document. `body` holds (kind, text) blocks, kind one of p, h2, li, pre (code, keeps its line breaks)."""

    id: str
    lang: str
    title: str
    body: tuple[tuple[str, str], ...]

    @property
    def is_traditional(self) -> bool:
        """Chinese in traditional characters."""
        return self.id.startswith("zh-trad-")

    def plain(self) -> str:
        """Title and blocks, one line each (code keeps its own lines)."""
        return "\n".join([self.title, *(text for _, text in self.body)])

    def prose(self) -> list[str]:
        """The paragraphs alone."""
        return [text for kind, text in self.body if kind == "p"]


@cache
def load_texts(lang: str) -> tuple[Text, ...]:
    """All documents of one language, in file order."""
    lines = files("jobs.demo").joinpath("texts", f"{lang}.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(_parse(json.loads(line)) for line in lines)


def all_texts(langs: Sequence[str] = LANGUAGES) -> list[Text]:
    """Documents of these languages, one language after the other."""
    return [text for lang in langs for text in load_texts(lang)]


def _parse(row: dict[str, object]) -> Text:
    body = row["body"]
    assert isinstance(body, list)
    return Text(str(row["id"]), str(row["lang"]), str(row["title"]), tuple((str(kind), str(text)) for kind, text in body))
