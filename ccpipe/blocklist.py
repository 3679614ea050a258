"""Blocked addresses: hosts, domains and exact pages, each with a category, in one memory-mapped file.

In: plain lists, hosts files or folders like those of UT1 (folder name = category, files `domains` and `urls`).
Out: a file of sorted 64-bit hashes (MurmurHash3 x64) that all processes of a node share; looking up an address gives its
category or None. It holds no names: 4.6 million entries take 46 MB, and one wrong match is expected in 10^12 lookups.
It downloads nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import mmh3
import numpy as np

MAGIC = b"CCBLOCK1"
HEAD_BYTES = 16
"""Magic and the length of the JSON header, uint64 little-endian."""
DEFAULT_CATEGORY = "blocked"
LIST_FILES = ("domains", "urls")
HEAD_TEXT_BYTES = 8192
"""Looked at to tell a list from a binary file."""
EXPECTED = "expected a compiled blocklist, a text list of domains, or a folder like UT1's (adult/domains): name one of them in `blocklist`"

_HOSTS_LINE = re.compile(r"^(?:0\.0\.0\.0|127\.0\.0\.1|::1?)\s+(\S+)")
_SCHEME = re.compile(r"^[a-z][a-z0-9+.\-]*://", re.IGNORECASE)
_PORT = re.compile(r":\d*$")
_BAD_CATEGORY = re.compile(r"[^a-z0-9]+")

Sources = Mapping[str, "Iterable[str] | Path"]


class NotABlocklist(ValueError):
    """A file or folder that is neither a compiled blocklist nor lists."""


class Blocklist:
    """Look-ups by address. `hashes`: uint64, ascending, shape (n,); `kinds`: uint16, shape (n,), index into `categories`."""

    def __init__(self, hashes: np.ndarray, kinds: np.ndarray, categories: list[str]) -> None:
        self.hashes, self.kinds, self.categories = hashes, kinds, categories

    def __len__(self) -> int:
        return len(self.hashes)

    @classmethod
    def open(cls, path: Path) -> Blocklist:
        """A compiled file, memory-mapped; a folder or a text list is compiled in memory (category `blocked`).

        Raises `NotABlocklist`.
        """
        path = Path(path)
        if is_compiled(path):
            return cls._map(path)
        return compile_blocklist(folder_sources(path) if path.is_dir() else {DEFAULT_CATEGORY: path})

    @classmethod
    def _map(cls, path: Path) -> Blocklist:
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(HEAD_BYTES)[8:], "little")
            try:
                header = json.loads(file.read(header_bytes))
            except (ValueError, OverflowError, MemoryError):
                raise NotABlocklist(
                    f"{path} begins like a compiled blocklist, but its header is damaged: build it again from its lists"
                ) from None
        n, start = header["entries"], HEAD_BYTES + header_bytes
        expected = start + 10 * n
        if path.stat().st_size != expected:
            raise NotABlocklist(
                f"{path} has {path.stat().st_size} bytes, its header promises {expected}; it was cut or changed: "
                "build it again from its lists"
            )
        hashes = np.memmap(path, np.uint64, "r", start, (n,)) if n else np.zeros(0, np.uint64)
        kinds = np.memmap(path, np.uint16, "r", start + 8 * n, (n,)) if n else np.zeros(0, np.uint16)
        return cls(hashes, kinds, header["categories"])

    def match(self, url: str) -> str | None:
        """Category of the host, of the nearest parent domain or of the page itself; None when it is not listed."""
        host, page = split_address(url)
        found = (self._find(key) for key in (*parent_domains(host), page))
        return next((category for category in found if category is not None), None)

    def _find(self, key: str) -> str | None:
        wanted = _hash(key)
        at = int(self.hashes.searchsorted(wanted))
        if at < len(self.hashes) and self.hashes[at] == wanted:
            return self.categories[int(self.kinds[at])]
        return None

    def save(self, path: Path) -> None:
        """Write the file that `open` maps. The same lists give the same bytes."""
        header = json.dumps({"categories": self.categories, "entries": len(self)}, ensure_ascii=True).encode()
        header += b" " * (-(HEAD_BYTES + len(header)) % 64)  # the arrays begin on a cache line
        with path.open("wb") as file:
            file.write(MAGIC + len(header).to_bytes(8, "little") + header)
            file.write(self.hashes.tobytes())
            file.write(self.kinds.tobytes())


def is_compiled(path: Path) -> bool:
    """Does the file begin as `Blocklist.save` begins one?"""
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def check_blocklist(path: Path) -> None:
    """Raise `NotABlocklist` for what `Blocklist.open` would refuse. Looks at the beginnings of lists and compiles nothing."""
    if is_compiled(path):
        Blocklist.open(path)
        return
    for lists in folder_lists(path).values() if path.is_dir() else [[path]]:
        for file in lists:
            _check_text(file)


def build_blocklist(sources: Sources | Path, out: Path) -> Blocklist:
    """Compile lists into the file `out`. `sources`: category -> lines or a file of lines; or a folder like UT1's.

    Where two categories list the same entry the first wins.
    """
    blocklist = compile_blocklist(folder_sources(sources) if isinstance(sources, Path) else sources)
    blocklist.save(out)
    return blocklist


def compile_blocklist(sources: Sources) -> Blocklist:
    """The same in memory."""
    categories = list(dict.fromkeys(_clean_category(name) for name in sources))
    hashes, kinds = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint16)]
    for name, lines in sources.items():
        found = np.fromiter((_hash(key) for key in _keys(lines)), np.uint64)
        hashes.append(found)
        kinds.append(np.full(len(found), categories.index(_clean_category(name)), np.uint16))
    every = np.concatenate(hashes)
    unique, first = np.unique(every, return_index=True)
    return Blocklist(unique, np.concatenate(kinds)[first], categories)


def folder_sources(folder: Path) -> dict[str, Iterable[str] | Path]:
    """Category -> lines, of the lists of a folder (see `folder_lists`). Raises `NotABlocklist` where it has none."""
    return {name: (line for path in lists for line in _lines(path)) for name, lists in folder_lists(folder).items()}


def folder_lists(folder: Path) -> dict[str, list[Path]]:
    """Category -> files of a folder, in the order of their names: `adult/domains` and `adult/urls`, or plain files `adult.txt`.

    Beside lists in folders, binary files are passed over: UT1's archive holds its licence as PDF. Raises `NotABlocklist`
    where there is no list at all.
    """
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    inner = {entry: [entry / name for name in LIST_FILES if (entry / name).is_file()] for entry in entries if entry.is_dir()}
    found: dict[str, list[Path]] = {}
    for entry in entries:
        passed_over = entry not in inner and any(inner.values()) and _is_binary(entry)
        lists = inner.get(entry, [] if passed_over else [entry])
        if lists:
            found.setdefault(entry.name if entry in inner else entry.name.partition(".")[0], []).extend(lists)
    if not found:
        raise NotABlocklist(f"{folder} is a folder without lists; {EXPECTED}")
    return found


def _is_binary(path: Path) -> bool:
    """No list has bytes of zero; gzip files and WARCs that happen to have none are known by their beginning."""
    with path.open("rb") as file:
        head = file.read(HEAD_TEXT_BYTES)
    return b"\0" in head or head.startswith((b"\x1f\x8b", b"WARC/"))


def _check_text(path: Path) -> None:
    if _is_binary(path):
        raise NotABlocklist(f"{path} is a binary file; {EXPECTED}")


def _clean_category(name: str) -> str:
    """A name fit for a reason: `url_blocked_<category>`."""
    return _BAD_CATEGORY.sub("_", name.lower()).strip("_") or DEFAULT_CATEGORY


def _lines(path: Path) -> Iterator[str]:
    _check_text(path)
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from file


def _keys(lines: Iterable[str] | Path) -> Iterator[str]:
    for line in _lines(lines) if isinstance(lines, Path) else lines:
        key = entry_key(line)
        if key:
            yield key


def entry_key(line: str) -> str | None:
    """What one line of a list blocks: a domain with all below it, or a page. None for comments and bare top-level domains.

    >>> [entry_key(line) for line in ("0.0.0.0 ads.example.com # x", "*.Example.org", "http://www.a.com/b/", "com", "! note")]
    ['ads.example.com', 'example.org', 'a.com/b', None, None]
    """
    text = line.partition("#")[0].strip()
    if not text or text[0] in "!;[":
        return None
    hosts = _HOSTS_LINE.match(text)
    text = hosts[1] if hosts else text
    text = text.removeprefix("||").removesuffix("^").removeprefix("*.").removeprefix(".")
    host, page = split_address(text)
    if "." not in host and ":" not in host:
        return None
    return page if "/" in page else host


def split_address(url: str) -> tuple[str, str]:
    """Host and page in one spelling: lower case, punycode, without scheme, credentials, port, `www.` (page), fragment, last slash.

    >>> split_address("https://me:pw@WWW.Bücher.example.:8080/a/?q=1#top")
    ('www.xn--bcher-kva.example', 'xn--bcher-kva.example/a/?q=1')
    """
    rest = _SCHEME.sub("", url.strip(), count=1).replace("\\", "/").partition("#")[0]
    rest = rest.removeprefix("//")
    cut = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    host = clean_host(rest[:cut])
    path = rest[cut:].rstrip("/")
    page = host.removeprefix("www.") + (path if not path or path[0] == "/" else "/" + path)
    return host, page


def clean_host(authority: str) -> str:
    """Host out of `user:password@host:port`, lower case, punycode, no trailing dot."""
    host = authority.rpartition("@")[2].strip().lower()
    host = host.partition("]")[0].lstrip("[") if host.startswith("[") else _PORT.sub("", host)
    host = host.rstrip(".")
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return host


def host_of(url: str) -> str:
    """The host for the meta; empty for addresses without one (`dns:`, `urn:`)."""
    try:
        return clean_host(urlsplit(url).netloc)
    except ValueError:
        return ""


def parent_domains(host: str) -> Iterator[str]:
    """The host and the domains above it, down to two labels: `a.b.c`, `b.c`. An IP address has none above it."""
    yield host
    if ":" in host or host.replace(".", "").isdigit():
        return
    while host.count(".") > 1:
        host = host.partition(".")[2]
        yield host


def _hash(key: str) -> np.uint64:
    return np.uint64(mmh3.hash64(key.encode("utf-8", "replace"), signed=False)[0])
