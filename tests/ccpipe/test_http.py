"""HTTP responses: head, chunks, content encodings with a limit."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from warc_pages import bomb

from ccpipe.warc.http import BadEncoding, ExpandsTooFar, Response, decode_body, is_html, join_chunks, media_type, parse_response

LIMIT = 1_000_000
BODY = b"<html>" + b"words and more words " * 2000


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def encoded(name: str, body: bytes) -> Response:
    return Response(200, {"content-encoding": name}, body)


@pytest.mark.parametrize("name", ENCODERS)
def test_encodings_are_undone(name: str) -> None:
    assert decode_body(encoded(name, ENCODERS[name](BODY)), LIMIT) == BODY


@pytest.mark.parametrize("name", ENCODERS)
def test_a_body_that_the_crawler_decoded_already_is_taken_as_it_is(name: str) -> None:
    assert decode_body(encoded(name, BODY), LIMIT) == BODY


@pytest.mark.parametrize("name", ENCODERS)
def test_expanding_beyond_the_limit_raises(name: str) -> None:
    with pytest.raises(ExpandsTooFar):
        decode_body(encoded(name, ENCODERS[name](b"a" * (LIMIT + 1))), LIMIT)
    assert len(decode_body(encoded(name, ENCODERS[name](b"a" * LIMIT)), LIMIT)) == LIMIT


def test_a_gzip_bomb_is_stopped_early() -> None:
    with pytest.raises(ExpandsTooFar):
        decode_body(encoded("gzip", bomb(200)), LIMIT)


def test_encodings_in_a_row_and_raw_deflate() -> None:
    assert decode_body(encoded("deflate, gzip", gzip.compress(zlib.compress(BODY))), LIMIT) == BODY
    assert decode_body(encoded("deflate", raw_deflate(BODY)), LIMIT) == BODY


@pytest.mark.parametrize("label", ["", "br", "deflate", "identity", "utf-8", "gzip"])
@pytest.mark.parametrize("real", ["gzip", "zstd"])
def test_a_wrong_label_is_overruled_by_the_bytes(label: str, real: str) -> None:
    assert decode_body(encoded(label, ENCODERS[real](BODY)), LIMIT) == BODY


def test_a_body_that_is_compressed_twice_is_undone_twice_within_the_limit() -> None:
    twice = gzip.compress(gzip.compress(BODY))
    assert decode_body(encoded("gzip", twice), LIMIT) == BODY
    with pytest.raises(ExpandsTooFar):
        decode_body(encoded("gzip", gzip.compress(bomb(200))), LIMIT)


@pytest.mark.parametrize("name", ENCODERS)
def test_chunked_and_encoded(name: str) -> None:
    data = ENCODERS[name](BODY)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (data[i : i + 100] for i in range(0, len(data), 100))) + b"0\r\n\r\n"
    headers = {"transfer-encoding": "chunked", "content-encoding": name}
    assert decode_body(Response(200, headers, chunks), LIMIT) == BODY


def test_a_cut_body_gives_what_is_there_and_a_broken_one_raises() -> None:
    part = decode_body(encoded("gzip", gzip.compress(BODY)[:-40]), LIMIT)
    assert BODY.startswith(part)
    assert part
    with pytest.raises(BadEncoding):
        decode_body(encoded("gzip", b"\x1f\x8b\x08\x00" + b"\xff" * 50), LIMIT)
    with pytest.raises(BadEncoding):
        decode_body(encoded("br", b"\xff\xfe" * 50), LIMIT)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6))
def test_chunks_are_joined(parts: list[bytes]) -> None:
    stream = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\nTrailer: x\r\n\r\n"
    assert join_chunks(stream) == b"".join(parts)


def test_a_body_without_chunks_stays_and_a_cut_chunk_is_kept() -> None:
    assert join_chunks(b"<html>not chunked") == b"<html>not chunked"
    assert join_chunks(b"5\r\nabcde\r\nff\r\nabc") == b"abcdeabc"


def test_responses_are_parsed_leniently() -> None:
    found = parse_response(b"HTTP/1.1 404 Not Found\nContent-Type: Text/HTML; charset=x\nBroken\nX-\xe9: 1\n\nbody")
    assert found
    assert (found.status, media_type(found.content_type), found.body) == (404, "text/html", b"body")
    assert parse_response(b"<html>no head</html>") is None
    assert parse_response(b"") is None
    only_head = parse_response(b"HTTP/1.0 200")
    assert only_head is not None and only_head.body == b""


def test_html_is_told_by_type_or_by_its_first_bytes() -> None:
    assert is_html(Response(200, {"content-type": "application/xhtml+xml"}, b""), b"")
    assert not is_html(Response(200, {"content-type": "image/png"}, b""), b"<html>")
    assert is_html(Response(200, {}, b""), b"\n <!DOCTYPE html>")
    assert not is_html(Response(200, {}, b""), b"%PDF-1.4")
