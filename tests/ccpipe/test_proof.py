"""A row of the meta leads to its page in any archive, or says that the archive is another one."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest
import zstandard
from warc_pages import html, page, response

from ccpipe.proof import DamagedPage, prove_page
from ccpipe.warc import read_records
from ccpipe.wet import text_digest

PAGES = [page(n) for n in range(3)]
PACKED = {
    "members.warc.gz": b"".join(gzip.compress(one, mtime=0) for one in PAGES),
    "whole.warc.gz": gzip.compress(b"".join(PAGES), mtime=0),
    "plain.warc": b"".join(PAGES),
    "frames.warc.zst": b"".join(zstandard.compress(one) for one in PAGES),
}


@pytest.mark.parametrize("name", PACKED)
def test_the_page_of_a_row_is_found_in_any_packing(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(PACKED[name])
    records = list(read_records(path, None, 1 << 20, Counter()))
    block = PAGES[1].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n\r\n")
    row = {"warc_path": str(path), "warc_offset": records[1].offset, "warc_length": records[1].length, "url": "http://a.example/"}
    assert prove_page({**row, "page_digest": text_digest(block)}) == block
    with pytest.raises(DamagedPage, match=r"no record with digest sha1:\w{32}; expected the page of http://a.example/.*--take-inputs"):
        prove_page({**row, "page_digest": text_digest(response(html()))})
