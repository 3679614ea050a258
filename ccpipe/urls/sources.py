"""Where lists come from: text files, hosts files, folders like those of UT1, the same as .gz or .tar.gz. Never from the network.

UT1 (https://dsi.ut-capitole.fr/blacklists/): a folder for each category, in it the files `domains` and `urls`.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

DEFAULT_CATEGORY = "blocked"
LIST_FILES = ("domains", "urls")
HEAD_BYTES = 8192
"""Looked at to tell a list from a binary file."""
EXPECTED = (
    "expected a compiled blocklist, a text list of domains, a folder like UT1's (adult/domains), or one of these as .gz or .tar.gz: "
    "name one of them"
)

_BAD_CATEGORY = re.compile(r"[^a-z0-9]+")
_GZIP = b"\x1f\x8b"


class NotABlocklist(ValueError):
    """A file or folder that is neither a compiled blocklist nor lists."""


class Piece(NamedTuple):
    """Whole lines of one list: `data` ends at a line end, or at the end of the list."""

    category: str
    name: str
    data: bytes


def clean_category(name: str) -> str:
    """A name fit for a reason: `url_blocked_<category>`.

    >>> clean_category("Adult & Co"), clean_category("…")
    ('adult_co', 'blocked')
    """
    return _BAD_CATEGORY.sub("_", name.lower()).strip("_") or DEFAULT_CATEGORY


def read_pieces(path: Path, category: str | None, piece_bytes: int) -> Iterator[Piece]:
    """Lines of a file, folder or archive, in the order of names (archive: of its members). Raises `NotABlocklist`.

    `category`: for all of it; else the name of the folder (`adult/domains`) or of the file (`adult.txt`).
    """
    if path.is_dir():
        for name, files in folder_lists(path).items():
            for file in files:
                with open_list(file) as stream:
                    yield from _pieces(stream, category or name, str(file), piece_bytes)
    elif is_archive(path):
        yield from _archive_pieces(path, category, piece_bytes)
    else:
        name = path.parent.name if _bare_name(path.name) in LIST_FILES else path.name.partition(".")[0]
        with open_list(path) as stream:
            yield from _pieces(stream, clean_category(category or name), str(path), piece_bytes)


def check_lists(path: Path) -> None:
    """Raise `NotABlocklist` for what cannot be read as lists. Looks at the beginnings of files alone."""
    if not path.is_dir() and is_archive(path):
        return
    for files in folder_lists(path).values() if path.is_dir() else [[path]]:
        for file in files:
            with open_list(file):
                pass


def folder_lists(folder: Path) -> dict[str, list[Path]]:
    """Category -> files of a folder, in the order of their names: `adult/domains` and `adult/urls`, or plain files `adult.txt`.

    Beside lists in folders, binary files are passed over: UT1's archive holds its licence as PDF. Raises `NotABlocklist`
    where there is no list at all.
    """
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    inner = {entry: [file for file in sorted(entry.iterdir()) if _is_list(file)] for entry in entries if entry.is_dir()}
    found: dict[str, list[Path]] = {}
    for entry in entries:
        passed_over = entry not in inner and any(inner.values()) and _is_binary(entry)
        lists = inner.get(entry, [] if passed_over else [entry])
        if lists:
            found.setdefault(_category_in(entry.name, entry in inner), []).extend(lists)
    if not found:
        raise NotABlocklist(f"{folder} is a folder without lists; {EXPECTED}")
    return found


def is_archive(path: Path) -> bool:
    """A tar file, compressed or not, by its first header (POSIX ustar: magic at byte 257)."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
        if head.startswith(_GZIP):
            with gzip.open(path) as inside:
                head = inside.read(512)
    except (OSError, EOFError, zlib.error):
        return False
    return head[257:262] == b"ustar"


@contextmanager
def open_list(path: Path) -> Iterator[IO[bytes]]:
    """A text list, or one in gzip. Raises `NotABlocklist` for what is binary, and for damaged gzip wherever it is read."""
    with path.open("rb") as file:
        is_gzip = file.read(2) == _GZIP
    with gzip.open(path) if is_gzip else path.open("rb") as stream:
        with _damage_named(path):
            head = stream.read(HEAD_BYTES)
            stream.seek(0)
        if _looks_binary(head):
            raise NotABlocklist(f"{path} is a binary file; {EXPECTED}")
        with _damage_named(path):
            yield cast("IO[bytes]", stream)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error, tarfile.ReadError) as error:
        raise NotABlocklist(f"{path} is damaged ({error}); expected a whole gzip or tar file: copy it again") from error


def _archive_pieces(path: Path, category: str | None, piece_bytes: int) -> Iterator[Piece]:
    """Of an archive, `*/CATEGORY/domains` and `*/CATEGORY/urls`; all files where it has none of these names."""
    some = False
    with _damage_named(path), tarfile.open(path, "r:*") as archive:
        for member in archive:
            inner = PurePosixPath(member.name)
            if member.isfile() and inner.name in LIST_FILES:
                some = True
                name = category or clean_category(inner.parent.name)
                yield from _pieces(cast("IO[bytes]", archive.extractfile(member)), name, f"{path}:{member.name}", piece_bytes)
    if not some:
        raise NotABlocklist(f"{path} holds no file named domains or urls; {EXPECTED}")


def _pieces(stream: IO[bytes], category: str, name: str, piece_bytes: int) -> Iterator[Piece]:
    rest = b""
    while block := stream.read(piece_bytes):
        cut = block.rfind(b"\n") + 1
        if cut or len(rest) > piece_bytes:  # no list has lines as long as that: let it be malformed, not memory
            yield Piece(category, name, rest + block[:cut])
            rest = block[cut:]
        else:
            rest += block
    if rest:
        yield Piece(category, name, rest)


def _is_list(path: Path) -> bool:
    return path.is_file() and _bare_name(path.name) in LIST_FILES


def _bare_name(name: str) -> str:
    return name.removesuffix(".gz")


def _category_in(name: str, is_folder: bool) -> str:
    if is_folder:
        return clean_category(name)
    bare = name.partition(".")[0]
    return DEFAULT_CATEGORY if bare in LIST_FILES else clean_category(bare)


def _is_binary(path: Path) -> bool:
    try:
        with open_list(path):
            return False
    except NotABlocklist:
        return True


def _looks_binary(head: bytes) -> bool:
    """No list has bytes of zero; gzip files in gzip and WARCs that happen to have none are known by their beginning."""
    return b"\0" in head or head.startswith((_GZIP, b"WARC/", b"%PDF"))
