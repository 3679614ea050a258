"""Writing extracted text as WET: WARC/1.1 `conversion` records, one gzip member each (ISO 28500:2017, section 6.7).

In: a text and the source record's identity. Out: a member appended to a file whose bytes depend on those alone: record ids
are derived (UUID version 5), dates are the source's, gzip carries no time. Reading is in `ccpipe.wet`.
"""

from __future__ import annotations

import uuid
import zlib
from importlib.metadata import version
from typing import BinaryIO

from ccpipe.wet import text_digest

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://iipc.github.io/warc-specifications/#conversion")
NO_DATE = "1970-01-01T00:00:00Z"
"""WARC-Date where the source has none: a record without it is not valid, and the time of the run may not enter the bytes."""


GZIP = 31
"""zlib's window of 32 KiB, with a gzip header that carries neither time nor name."""

LEVEL = 4
"""Of deflate: files are 1.9 % larger than at 9 and take 0.6 of its time."""


def derived_id(source: str) -> str:
    """The WARC-Record-ID that stands for `source`: `<urn:uuid:...>`, always the same."""
    return f"<urn:uuid:{uuid.uuid5(NAMESPACE, source)}>"


class WetWriter:
    """Appends records to an open binary file at its present position."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write_info(self, name: str) -> None:
        """The warcinfo record that opens a file. `name`: something stable that names the file, such as its shard."""
        body = f"software: ccpipe/{version('ccpipe')}\r\nformat: WARC File Format 1.1\r\n".encode()
        headers = [
            ("WARC-Type", "warcinfo"),
            ("WARC-Record-ID", derived_id(f"warcinfo:{name}")),
            ("WARC-Filename", f"{name}.warc.wet.gz"),
            ("WARC-Date", NO_DATE),
            ("WARC-Block-Digest", text_digest(body)),
        ]
        self._write(headers, "application/warc-fields", body)

    def write_text(self, text: bytes, url: str, date: str, source: str, refers_to: str) -> tuple[int, int, str]:
        """One conversion record. `source` names the page for the record id, `refers_to` is its WARC-Record-ID or empty.

        Returns byte offset and length of its gzip member, and the text's digest.
        """
        offset = self._file.tell()
        digest = text_digest(text)
        headers = [
            ("WARC-Type", "conversion"),
            ("WARC-Target-URI", url),
            ("WARC-Date", date or NO_DATE),
            ("WARC-Record-ID", derived_id(source)),
        ]
        if refers_to:
            headers.append(("WARC-Refers-To", refers_to))
        headers.append(("WARC-Block-Digest", digest))
        self._write(headers, "text/plain", text)
        return offset, self._file.tell() - offset, digest

    def _write(self, headers: list[tuple[str, str]], content_type: str, body: bytes) -> None:
        fields = [*headers, ("Content-Type", content_type), ("Content-Length", str(len(body)))]
        head = "".join(f"{name}: {value}\r\n" for name, value in fields)
        self._file.write(zlib.compress(b"WARC/1.1\r\n%b\r\n%b\r\n\r\n" % (head.encode(), body), LEVEL, wbits=GZIP))
