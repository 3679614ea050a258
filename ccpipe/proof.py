"""Is the text, is the page, the one that the meta was written with? For later readers, with nothing but a row of `meta/base`.

In: a row, and the WET or the WARC file. Out: the bytes, or `DamagedWet` and `DamagedPage`. SHA-1 finds accidents and mistakes; it is
no protection from somebody who forges both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ccpipe.warc import read_records
from ccpipe.wet import read_texts, text_digest

MAX_BLOCK = 1 << 31


class DamagedPage(Exception):
    """A WARC file that does not hold the record that the meta says."""


def prove_text(wet: Path, row: Mapping[str, Any]) -> str:
    """The text of a document. Raises `DamagedWet`."""
    texts = read_texts(wet, np.array([row["wet_offset"]]), np.array([row["wet_length"]]), [row["digest"]])
    return str(texts[0].as_py())


def prove_page(row: Mapping[str, Any]) -> bytes:
    """The block of the record that a document was made from: of a response, HTTP headers and body as they are stored.

    A record with a byte range of its own is read alone, others (whole files in one gzip member) are looked for from the beginning.
    Raises `DamagedPage`, `FileNotFoundError`.
    """
    path, offset, length = Path(row["warc_path"]), int(row["warc_offset"]), int(row["warc_length"])
    with TemporaryDirectory() as folder:
        source = path
        # a frame of zstd may need the dictionary at the beginning of its file
        if length and path.suffix != ".zst":
            source = Path(folder, "record")
            with path.open("rb") as file:
                file.seek(offset)
                source.write_bytes(file.read(length))
        for record in read_records(source, None, MAX_BLOCK, Counter()):
            if text_digest(record.block) == row["page_digest"]:
                return record.block
    raise DamagedPage(
        f"{path} at byte {offset}: no record with digest {row['page_digest']}; expected the page of {row['url']}. "
        "The archive was damaged or replaced after extract had read it: put the right file back, or take in the new one: "
        "ccpipe plan --take-inputs"
    )
