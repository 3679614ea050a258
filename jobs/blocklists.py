"""The verbs `build-blocklist` and `blocklist-check`: lists into one file, and which entry blocks an address."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.table import Table

from ccpipe.urls import Blocklist, NotABlocklist, Source, Summary, WordLists, build_blocklist, clean_words
from hpc.verbs import CONSOLE
from jobs.errors import UsageError

WORD_FILES = (
    ("banned_words", "words of which one in an address is enough"),
    ("soft_banned_words", "words of which --soft-limit different ones are enough"),
    ("banned_subwords", "words that count inside other words too"),
)


def add_verbs(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Both verbs, onto the command line."""
    build = verb("build-blocklist", do_build_blocklist, "compile block lists into one memory-mapped file", config=False)
    build.add_argument("out", type=Path, help="the .blocklist file to write")
    build.add_argument(
        "sources",
        nargs="+",
        metavar="[CATEGORY=]PATH",
        help="plain lists, hosts files, UT1 folders (folder = category), also as .gz or .tar.gz; the first to list an entry has it",
    )
    build.add_argument("--suffix", action="append", default=[], metavar="NAME", help="block this public suffix whole where it is listed")
    for name, about in WORD_FILES:
        build.add_argument(f"--{name.replace('_', '-')}", type=Path, metavar="FILE", help=about)
    build.add_argument("--soft-limit", type=int, default=WordLists.soft_limit, help="different soft words that block (%(default)s)")
    build.add_argument("--json", action="store_true", help="for programs")
    check = verb("blocklist-check", do_blocklist_check, "verify a compiled block list, and say which entry blocks an address", config=False)
    check.add_argument("file", type=Path, help="from build-blocklist; or lists")
    check.add_argument("urls", nargs="*", metavar="URL", help="addresses to look up")
    check.add_argument("--json", action="store_true", help="for programs")


def do_build_blocklist(args: argparse.Namespace) -> int:
    sources = [_source(text) for text in args.sources]
    if not args.out.parent.is_dir():
        raise UsageError(f"no folder {args.out.parent}; expected one to write {args.out.name} into: make it first")
    try:
        hard, soft, parts = (_words(getattr(args, name)) for name, _ in WORD_FILES)
        words = WordLists(hard, soft, parts, args.soft_limit)
        blocklist, summary = build_blocklist(sources, args.out, words, args.suffix)
    except NotABlocklist as error:
        raise UsageError(str(error)) from error
    if args.json:
        print(json.dumps({"file": str(args.out), "bytes": args.out.stat().st_size, **summary.to_dict()}, ensure_ascii=False))
        return 0
    CONSOLE.print(f"{args.out}: {len(blocklist):,} entries, {args.out.stat().st_size / 1e6:,.1f} MB", soft_wrap=True)
    CONSOLE.print(_table(("category", "entries"), summary.categories.items()))
    CONSOLE.print(_lines_table(summary))
    if "public_suffix" in summary.skipped:
        CONSOLE.print("public suffixes are not blocked whole; to do it: --suffix NAME for each", soft_wrap=True)
    return 0


def do_blocklist_check(args: argparse.Namespace) -> int:
    try:
        blocklist = Blocklist.open(args.file)
    except (NotABlocklist, FileNotFoundError) as error:
        message = f"no file or folder {args.file}; expected a compiled block list or lists" if isinstance(error, OSError) else str(error)
        raise UsageError(message) from error
    found = {url: blocklist.explain(url) or ("", "") for url in args.urls}
    if args.json:
        answers = [{"url": url, "reason": reason or None, "entry": entry or None} for url, (reason, entry) in found.items()]
        print(json.dumps({"file": str(args.file), **blocklist.header, "urls": answers}, ensure_ascii=False))
        return 0
    CONSOLE.print(f"{args.file}: whole; {len(blocklist):,} entries", soft_wrap=True)
    if found:
        rows = ((url, reason or "not blocked", entry) for url, (reason, entry) in found.items())
        CONSOLE.print(_table(("address", "reason", "entry"), rows))
    else:
        CONSOLE.print(_table(("category", "entries"), blocklist.header["categories"].items()))
    return 0


def _source(text: str) -> Source:
    """A path, or `category=path`; a file that has such a name is a path."""
    category, equals, path = text.partition("=")
    source = Source(Path(path), category) if equals and not Path(text).exists() else Source(Path(text))
    if not Path(str(source.lists)).exists():
        raise UsageError(f"no file or folder {source.lists}; expected plain lists, hosts files or UT1 folders, or category=path")
    return source


def _words(path: Path | None) -> tuple[str, ...]:
    if path is None:
        return ()
    try:
        return clean_words(path.read_text(encoding="utf-8").splitlines())
    except FileNotFoundError as error:
        raise UsageError(f"no file {path}; expected a text file with one word a line") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text; expected one word a line") from error


def _lines_table(summary: Summary) -> Table:
    """What became of lines and of the names in them."""
    kept = [("lines read", summary.lines, ""), ("names in them", summary.names, ""), ("entries", summary.entries, "")]
    again = [("again in the same category", summary.duplicates, ""), ("in an earlier category", summary.listed_before, "")]
    skipped = [(f"skipped: {reason}", n, "  ".join(summary.examples[reason])[:100]) for reason, n in sorted(summary.skipped.items())]
    words = [(f"words: {kind}", n, "") for kind, n in summary.words.items() if n]
    return _table(("lists", "number", "such as"), [*kept, *again, *skipped, *words])


def _table(heads: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(head, justify="right" if head in ("entries", "number") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row))
    return table
