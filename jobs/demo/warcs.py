"""WARC files whose bytes depend on the pages alone: fixed dates, record ids out of the URL, one gzip member per record.

In: `Page` values. Out: one WARC as Common Crawl lays it out (warcinfo, then request, response and metadata of each page).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

CRAWL_DATE = "2024-03-04T05:06:07Z"
HTTP_DATE = "Mon, 04 Mar 2024 05:06:07 GMT"


@dataclass(frozen=True)
class Page:
    """One response. `kind` says what the page is there to show; `source` is the id of the bundled text in it, if any."""

    url: str
    kind: str
    lang: str
    body: bytes
    source: str = ""
    content_type: str = "text/html; charset=utf-8"
    status: str = "200 OK"
    headers: Mapping[str, str] = field(default_factory=dict)


def write_warc(path: Path, pages: Sequence[Page], cut_bytes: int = 0) -> None:
    """Write one `.warc.gz`; the last `cut_bytes` bytes are missing, as after a broken transfer."""
    out = BytesIO()
    writer = WARCWriter(out, gzip=True)
    info = f"software: ccpipe demo pages\r\nformat: WARC File Format 1.0\r\nisPartOf: {path.name}\r\n".encode()
    writer.write_record(_record(writer, "", "warcinfo", info, {"WARC-Filename": path.name}))
    for page in pages:
        writer.write_record(_record(writer, page.url, "request", b"", http=_request(page.url)))
        writer.write_record(_record(writer, page.url, "response", page.body, http=_response(page)))
        if page is not pages[-1] or not cut_bytes:
            writer.write_record(_record(writer, page.url, "metadata", b"fetchTimeMs: 42\r\n"))
    data = out.getvalue()
    path.write_bytes(data[: len(data) - cut_bytes])


def _record(
    writer: WARCWriter, url: str, kind: str, payload: bytes, headers: Mapping[str, str] | None = None, http: StatusAndHeaders | None = None
) -> object:
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"{kind} {url} {headers or ''}")
    named = {"WARC-Record-ID": f"<urn:uuid:{identity}>", "WARC-Date": CRAWL_DATE, **(headers or {})}
    return writer.create_warc_record(url, kind, payload=BytesIO(payload), length=len(payload), warc_headers_dict=named, http_headers=http)


def _request(url: str) -> StatusAndHeaders:
    parts = urlsplit(url)
    headers = [("Host", parts.netloc), ("User-Agent", "demo/1.0"), ("Accept", "text/html")]
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return StatusAndHeaders(f"GET {target} HTTP/1.1", headers, is_http_request=True)


def _response(page: Page) -> StatusAndHeaders:
    headers = [("Date", HTTP_DATE), ("Content-Type", page.content_type), ("Content-Length", str(len(page.body))), *page.headers.items()]
    return StatusAndHeaders(page.status, headers, protocol="HTTP/1.1")
