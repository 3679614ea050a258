"""Blocked addresses: look-ups, one at a time or in batches, in a table that all processes of a node share.

In: a file made by `build_blocklist` (or lists, compiled in memory). Out: for each URL the category that blocks it, or None.
The table holds 64-bit hashes and no names: 4.6 million entries take 45 MB, and a look-up of five keys meets a wrong one with a
probability of 10^-12. It downloads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ccpipe.urls.address import address_keys, authority_start, clean_host, is_ip, parse_address, split_authority, tidy
from ccpipe.urls.build import Source, Summary, compile_lists
from ccpipe.urls.format import Arrays, is_compiled, read_file, write_file
from ccpipe.urls.kernels import NEEDS_PYTHON, Table, look_up, match_prepared, match_rows
from ccpipe.urls.keys import as_array, as_bytes, key_of
from ccpipe.urls.sources import DEFAULT_CATEGORY, check_lists, is_archive
from ccpipe.urls.words import REASONS, WordLists

Sources = Mapping[str, "Iterable[str] | Path"]


class Blocklist:
    """`names`: what codes 1, 2, ... stand for: categories, then kinds of words. `slow`: look-ups so far that Python had to do."""

    def __init__(self, header: dict[str, Any], arrays: Arrays) -> None:
        self.header = header
        self.categories = list(header["categories"])
        self.names = [*self.categories, *REASONS]
        self.reasons = [f"url_blocked_{name}" for name in self.categories] + [f"url_{name}" for name in REASONS]
        self.slow = 0
        for array in arrays.values():
            array.setflags(write=False)  # else another type, for which all would be compiled again
        figures = {name: int(header[name]) for name in ("shift", "kind_bytes", "n_classes", "soft_limit")}
        has_words = any(header["words"].values())
        values: dict[str, Any] = {**arrays, **figures, "n_categories": len(self.categories), "has_words": has_words}
        self.table = Table(**values)

    def __len__(self) -> int:
        return int(self.header["entries"])

    @classmethod
    def open(cls, path: Path) -> Blocklist:
        """A compiled file, memory-mapped; a folder, an archive or a text list (category `blocked`) is compiled in memory.

        Raises `NotABlocklist`.
        """
        path = Path(path)
        if is_compiled(path):
            return cls(*read_file(path))
        is_list = not path.is_dir() and not is_archive(path)
        return compile_blocklist([Source(path, DEFAULT_CATEGORY if is_list else None)])

    def match(self, url: str) -> str | None:
        """Category of the most specific entry that blocks the page: the page itself, pages above it, its host, domains above that;
        else the kind of word in it; None when nothing blocks it.
        """
        code = self._code(as_bytes(url))
        return self.names[code - 1] if code else None

    def reason(self, url: str) -> str | None:
        """The same as a reason to drop a page: `url_blocked_adult`, `url_banned_word`."""
        code = self._code(as_bytes(url))
        return self.reasons[code - 1] if code else None

    def match_batch(self, urls: Sequence[str] | pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Codes, uint16, shape (n,): 0 for what nothing blocks (and for null), else 1 + the index into `names` and `reasons`."""
        if isinstance(urls, pa.ChunkedArray):
            return np.concatenate([np.zeros(0, np.uint16), *map(self.match_batch, urls.chunks)])
        if not isinstance(urls, pa.Array):
            urls = pa.array(urls, pa.large_string())
        array = urls.cast(pa.large_string()).fill_null("")
        offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1].copy()
        data = np.frombuffer(array.buffers()[2] or b"\0", np.uint8)
        codes: np.ndarray = match_rows(data, offsets, self.table)
        for row in np.flatnonzero(codes == NEEDS_PYTHON):
            codes[row] = self._slow_code(data[offsets[row] : offsets[row + 1]].tobytes())
        return codes

    def explain(self, url: str) -> tuple[str, str] | None:
        """Reason and entry, spelled as the table has it; of words the reason alone. A second way through the table."""
        table = self.table
        for host, tail in address_keys(parse_address(url)):
            number = look_up(np.uint64(key_of(host, tail)), table.starts, table.hashes, table.kinds, table.shift, table.kind_bytes) >> 1
            if number:
                return self.reasons[number - 1], host + tail.decode("utf-8", "backslashreplace")
        reason = self.reason(url)
        return (reason, "") if reason else None

    def save(self, path: Path) -> None:
        """Write the file that `open` maps. The same lists give the same bytes."""
        write_file(path, self.header, {name: array for name, array in self.table._asdict().items() if isinstance(array, np.ndarray)})

    def _code(self, url: bytes) -> int:
        if not url:
            return 0
        code = int(match_rows(np.frombuffer(url, np.uint8), np.array([0, len(url)]), self.table)[0])
        return self._slow_code(url) if code == NEEDS_PYTHON else code

    def _slow_code(self, url: bytes) -> int:
        """For addresses that the kernel leaves: other scripts, odd IP addresses, tabs."""
        self.slow += 1
        text = tidy(url.decode("utf-8", "surrogatepass"))
        authority, rest = split_authority(text)
        host = clean_host(authority)
        data = as_bytes(text[max(authority_start(text), 0) :])
        return int(match_prepared(as_array(as_bytes(host)), is_ip(host), as_array(data), len(data) - len(as_bytes(rest)), self.table))


def check_blocklist(path: Path) -> None:
    """Raise `NotABlocklist` for what `Blocklist.open` would refuse. Looks at the beginnings of lists and compiles nothing."""
    if is_compiled(path):
        read_file(path)
    else:
        check_lists(path)


def compile_blocklist(sources: Sources | Iterable[Source], words: WordLists | None = None, suffixes: Iterable[str] = ()) -> Blocklist:
    """Compile in memory. `sources`: category -> lines or a file of lines; or `Source`s. The first category to list an entry has it."""
    return _compile(sources, words, suffixes)[0]


def build_blocklist(
    sources: Sources | Iterable[Source], out: Path, words: WordLists | None = None, suffixes: Iterable[str] = ()
) -> tuple[Blocklist, Summary]:
    """The same into the file `out`, with what became of every line."""
    blocklist, summary = _compile(sources, words, suffixes)
    blocklist.save(out)
    return blocklist, summary


def _compile(sources: Sources | Iterable[Source], words: WordLists | None, suffixes: Iterable[str]) -> tuple[Blocklist, Summary]:
    if isinstance(sources, Mapping):
        sources = [Source(lists, name) for name, lists in sources.items()]
    header, arrays, summary = compile_lists(sources, words or WordLists(), suffixes)
    return Blocklist(header, arrays), summary
