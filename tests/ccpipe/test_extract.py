"""The stage: every response accounted for, whatever the archive holds, and the same bytes wherever it was cut."""

from __future__ import annotations

import gzip
import resource
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from warc_pages import PROSE, bomb, frame, html, member, page, record, response, write_warc, zstd_archive
from warcio.archiveiterator import ArchiveIterator

from ccpipe.counts import Counts
from ccpipe.extract import Extract
from ccpipe.meta import BASE_SCHEMA
from ccpipe.stage import Unit
from ccpipe.urls import build_blocklist
from ccpipe.wet import read_texts, text_digest

CHINESE = "河水在夜里上涨，到了早晨，下游的田地都被水淹没了。村里没有人记得有过这样的春天；老人们说星期天就会退去，果然如此。"
JAPANESE = "川の水は夜のうちに増え、朝には低い畑がすべて水の下になっていた。村の人は誰もこんな春を覚えていなかった。カタカナも少し。"
RUSSIAN = "Река поднялась ночью, и к утру нижние поля были под водой. Никто в деревне не помнил такой весны, но к воскресенью вода ушла."


@dataclass
class Done:
    counts: Counts
    rows: pa.Table
    texts: list[str]
    wet: bytes
    base: bytes
    n_slices: int


def run(folder: Path, warcs: Sequence[Path], stage_class: type[Extract] = Extract, **config: object) -> Done:
    """The whole unit, slice by slice, as the worker drives it."""
    folder.mkdir(parents=True, exist_ok=True)
    stage = stage_class("extract", stage_class.Config(**config))  # type: ignore[arg-type]
    stage.load()
    unit = Unit("00007", 7, (7,), {"warcs": [{"path": str(path), "bytes": path.stat().st_size} for path in warcs]})
    slices, parts, cursor = [], [], None
    while not slices or cursor is not None:
        stage.earlier_slices(unit, slices)
        slices.append(folder / f"slice{len(slices)}")
        slices[-1].mkdir()
        counts, cursor = stage.slice(unit, {}, slices[-1], cursor)
        parts.append(counts)
    out = {"wet": folder / "out.warc.wet.gz", "base": folder / "out.parquet", "dropped": folder / "dropped.parquet"}
    stage.join(unit, {}, slices, out)
    counts = Counts.total(parts)
    rows = pq.read_table(out["base"])
    texts = read_texts(out["wet"], rows["wet_offset"].to_numpy(), rows["wet_length"].to_numpy().astype(np.int64)).to_pylist()
    assert counts.read == counts.kept + sum(counts.dropped.values())
    assert counts.read >= counts.extra["records_response"] + counts.extra["records_conversion"]
    assert counts.kept == rows.num_rows
    assert Counter(pq.read_table(out["dropped"])["reason"].to_pylist()) == counts.dropped
    return Done(counts, rows, texts, out["wet"].read_bytes(), out["base"].read_bytes(), len(slices))


def one(tmp_path: Path, *records: bytes, **config: object) -> Done:
    return run(tmp_path / "run", [write_warc(tmp_path / "in.warc.gz", *records)], **config)


def test_the_meta_is_complete_and_leads_back_to_page_and_text(tmp_path: Path) -> None:
    path = write_warc(tmp_path / "a.warc.gz", page(1), record(b"", 2, "request"), page(3))
    done = run(tmp_path / "run", [path])
    assert done.rows.schema.equals(BASE_SCHEMA)
    assert done.texts == [f"{PROSE}\nThis is the page with the number {n}." for n in (1, 3)]
    row = done.rows.to_pylist()[1]
    with path.open("rb") as file:
        file.seek(row["warc_offset"])
        assert gzip.decompress(file.read(row["warc_length"])) == page(3)
    assert {key: row[key] for key in ("url", "host", "title", "http_status", "content_type", "charset", "charset_source")} == {
        "url": "https://example.org/page/3",
        "host": "example.org",
        "title": "A page",
        "http_status": 200,
        "content_type": "text/html",
        "charset": "utf-8",
        "charset_source": "utf8",
    }
    assert row["warc_path"] == str(path)
    assert row["warc_record_id"] == "<urn:uuid:00000000-0000-4000-8000-000000000003>"
    assert row["warc_date"] == "2024-03-01T00:00:00Z"
    assert row["digest"] == text_digest(done.texts[1].encode())
    assert row["text_bytes"] == len(done.texts[1].encode())
    assert done.counts.extra["records_request"] == 1


@pytest.mark.parametrize("packing", ["gzip_per_record", "whole_file_gzip", "uncompressed", "damaged", "zstd", "whole_file_zstd"])
def test_bytes_do_not_depend_on_where_slices_are_cut(tmp_path: Path, packing: str) -> None:
    """Slices of 1 KiB, 64 KiB and without end give the same files and the same counts."""
    padding = "".join(f"<!-- {i * 7919 % 99991} -->" for i in range(1000))
    pages = [record(response(html(f"<p>{PROSE} Page {n}.</p>{padding}")), n) for n in range(40)]
    path = tmp_path / "a.warc.gz"
    packed = {
        "gzip_per_record": b"".join(map(member, pages)),
        "whole_file_gzip": gzip.compress(b"".join(pages), mtime=0),
        "uncompressed": b"".join(pages),
        "zstd": zstd_archive(pages, packed=True),
        "whole_file_zstd": frame(b"".join(pages)),
        "damaged": b"".join(member(one)[:-30] if n % 5 == 3 else member(one) for n, one in enumerate(pages)),
    }
    path.write_bytes(packed[packing])
    warcs = [path, write_warc(tmp_path / "b.warc.gz", page(100)), write_warc(tmp_path / "none.warc.gz")]
    whole = run(tmp_path / "whole", warcs, slice_bytes=1 << 40)
    assert whole.n_slices == 3
    for slice_bytes in (1 << 10, 1 << 16):
        cut = run(tmp_path / str(slice_bytes), warcs, slice_bytes=slice_bytes)
        assert cut.n_slices > (3 if slice_bytes > 1 << 10 else 10 if packing.startswith("whole") else 40)
        assert (cut.wet, cut.base, cut.counts) == (whole.wet, whole.base, whole.counts)


@pytest.mark.parametrize("line_key", ["exact", "ccnet_paper"])
def test_lines_seen_in_the_shard_are_dropped_wherever_slices_are_cut(tmp_path: Path, line_key: str) -> None:
    """Every page says the same of the river and something of its own; the last one says nothing new."""
    names = ["north", "south", "east", "west", "upper", "lower", "outer", "inner", "first", "second", "third", "fourth"]
    bodies = [f"<p>{PROSE}</p><p>In the {name} of the valley nobody had seen it, and the bells of {name} rang.</p>" for name in names]
    bodies += [f"<p>{PROSE}</p>"]
    pages = [page(n, html(body)) for n, body in enumerate(bodies)]
    warcs = [write_warc(tmp_path / "a.warc.gz", *pages[:7]), write_warc(tmp_path / "b.warc.gz", *pages[7:])]
    whole = run(tmp_path / "whole", warcs, dedup_lines="shard", line_key=line_key)
    for slice_bytes in (1 << 10, 1500):
        cut = run(tmp_path / str(slice_bytes), warcs, dedup_lines="shard", line_key=line_key, slice_bytes=slice_bytes)
        assert cut.n_slices > 2
        assert (cut.wet, cut.base, cut.counts) == (whole.wet, whole.base, whole.counts)
    assert [PROSE in text for text in whole.texts] == [True] + [False] * 11
    assert [name in text for name, text in zip(names, whole.texts, strict=True)] == [True] * 12
    assert whole.rows["lines_dropped"].to_pylist() == [0] + [1] * 11
    assert dict(whole.counts.dropped) == {"repeated_lines": 1}
    extra = whole.counts.extra
    assert (extra["lines_read"], extra["lines_kept"], extra["lines_dropped_shard"]) == (25, 13, 12)
    assert extra["chars_dropped_with_lines"] == 12 * len(PROSE) + 11
    for row, text in zip(whole.rows.to_pylist(), whole.texts, strict=True):
        assert (row["text_bytes"], row["digest"]) == (len(text.encode()), text_digest(text.encode()))


def test_lines_are_left_alone_unless_asked_for(tmp_path: Path) -> None:
    path = write_warc(tmp_path / "in.warc.gz", page(1, html(f"<p>{PROSE}</p>")), page(2, html(f"<p>{PROSE}</p>")))
    texts = [run(tmp_path / scope, [path], dedup_lines=scope).texts for scope in ("off", "document", "shard")]
    assert texts == [[PROSE, PROSE], [PROSE, PROSE], [PROSE]]


def test_rights_are_columns(tmp_path: Path) -> None:
    by = "https://creativecommons.org/licenses/by/4.0/"
    head = f'<title>t</title><meta name="robots" content="noai"><link rel="license" href="{by}"><meta name="tdm-reservation" content="0">'
    block = response(html(head=head), extra="X-Robots-Tag: gptbot: noindex\r\nX-Robots-Tag: noarchive\r\ntdm-reservation: 1\r\n")
    first, second = one(tmp_path, record(block), page(2)).rows.to_pylist()
    names = ("robots", "tdm_reservation", "tdm_policy", "licence", "licence_url", "licence_source")
    assert tuple(first[name] for name in names) == (["gptbot:noindex", "noai", "noarchive"], False, "", "cc-by-4.0", by, "link")
    assert tuple(second[name] for name in names) == ([], None, "", "", "", "")
    assert first["page_digest"] == text_digest(block)


def test_a_shard_without_warcs_gives_valid_empty_files(tmp_path: Path) -> None:
    done = run(tmp_path / "run", [])
    assert (done.rows.num_rows, done.counts.read) == (0, 0)
    assert gzip.decompress(done.wet).startswith(b"WARC/1.1\r\nWARC-Type: warcinfo")


@pytest.mark.parametrize("seen", [None, b"half of it"])
def test_a_warc_that_is_not_as_frozen_is_an_error_and_no_bad_input(tmp_path: Path, seen: bytes | None) -> None:
    """A file that is gone, or still being copied, must not be committed as a short one."""
    path = tmp_path / "a.warc.gz"
    if seen is not None:
        path.write_bytes(seen)
    stage = Extract("extract", Extract.Config())
    unit = Unit("0", 0, (0,), {"warcs": [{"path": str(path), "bytes": 1000}]})
    with pytest.raises(OSError, match=r"expected 1000 bytes as when the manifest was frozen"):
        stage.slice(unit, {}, tmp_path, None)


def wet_record(text: str, number: int, content_type: str = "text/plain") -> bytes:
    """A record as WET files of Common Crawl have them."""
    return record(text.encode(), number, "conversion").replace(b"application/http; msgtype=conversion", content_type.encode())


def test_a_wet_file_is_taken_as_it_is_without_extraction(tmp_path: Path) -> None:
    """CCNet and others begin with Common Crawl's WET files: one document for each record, its text unchanged, and the row says so."""
    texts = [f"Title {n}\n{PROSE}\n<b>not markup</b>\n{CHINESE}" for n in range(3)]
    records = [wet_record(text, n) for n, text in enumerate(texts)]
    image = wet_record("GIF89a of some bytes", 8, "image/gif")
    done = one(tmp_path, record(b"a: b", 7, "warcinfo"), *records, image, wet_record("Hi.", 9), page(5))
    assert done.texts[:3] == texts
    assert dict(done.counts.dropped) == {"not_plain_text": 1, "too_short": 1}
    rows = done.rows.to_pylist()
    assert [(row["content_type"], row["charset_source"], row["http_status"], row["html_bytes"]) for row in rows[:3]] == [
        ("text/plain", "conversion", None, 0)
    ] * 3
    assert (rows[3]["content_type"], rows[3]["http_status"]) == ("text/html", 200)
    assert rows[1]["url"] == "https://example.org/page/1"


def test_our_own_wet_can_be_read_again(tmp_path: Path) -> None:
    first = one(tmp_path, page(1), page(2))
    (tmp_path / "again.warc.wet.gz").write_bytes(first.wet)
    again = run(tmp_path / "again", [tmp_path / "again.warc.wet.gz"])
    assert (again.texts, again.rows["digest"]) == (first.texts, first.rows["digest"])


def test_a_wat_file_has_no_text_and_says_so(tmp_path: Path) -> None:
    """Somebody who gave the WAT list for the WET list sees every record dropped for one reason, not an empty corpus without one."""
    wat = [
        record(b'{"Container":{"Compressed":true},"Envelope":{}}', n, "metadata").replace(
            b"application/http; msgtype=metadata", b"application/json"
        )
        for n in range(4)
    ]
    fetched = record(b"fetchTimeMs: 12\r\n", 9, "metadata")
    done = one(tmp_path, *wat, fetched)
    assert dict(done.counts.dropped) == {"wat_has_no_text": 4}
    assert done.counts.extra["records_metadata"] == 5


@pytest.mark.shared
def test_wet_and_wat_of_common_crawl(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "warc-odd" / "commoncrawl+whirlwind-python"
    wet = run(tmp_path / "wet", [folder / "whirlwind.warc.wet.gz"])
    (expected,) = [block for kind, block in _by_warcio(folder / "whirlwind.warc.wet") if kind == "conversion"]
    assert wet.texts == [expected.decode().strip()]
    assert dict(run(tmp_path / "wat", [folder / "whirlwind.warc.wat.gz"]).counts.dropped) == {"wat_has_no_text": 1}


def _by_warcio(path: Path) -> list[tuple[str, bytes]]:
    with path.open("rb") as file:
        return [(one.rec_type, one.raw_stream.read()) for one in ArchiveIterator(file, no_record_parse=True)]


DROPS = {
    "http_status": page(1, status="404 Not Found"),
    "not_html": page(1, b"%PDF-1.4", content_type="application/pdf"),
    "no_http_header": record(b"<html>no status line</html>"),
    "bad_content_encoding": record(response(b"\x1f\x8b\x08\0" + b"\xff" * 99, extra="Content-Encoding: gzip\r\n")),
    "expands_too_far": record(response(bomb(50), extra="Content-Encoding: gzip\r\n")),
    "too_large": page(1, b"<p>" + b"x" * (11 << 20)),
    "too_deep": page(1, b"<div>" * 100_000),
    "too_many_attributes": page(1, b"<p " + b" ".join(b"a%d" % i for i in range(50_000)) + b">x"),
    "too_many_elements": page(1, b"<p>a" * 600_000),
    "undecodable": page(1, b"\xff\xfe" + b"\x00\xd8" * 5000),
    "no_text": page(1, html("")),
    "too_short": page(1, html("<p>Hi.</p>")),
}


@pytest.mark.parametrize("reason", DROPS)
def test_each_bad_page_is_dropped_for_its_reason_and_stops_nothing(tmp_path: Path, reason: str) -> None:
    done = one(tmp_path, page(8), DROPS[reason], page(9))
    assert dict(done.counts.dropped) == {reason: 1}
    assert done.counts.kept == 2


def test_a_record_without_http_headers_or_type_is_judged_by_its_bytes(tmp_path: Path) -> None:
    bare = record(b"HTTP/1.1 200 OK\r\n\r\n" + html())
    assert one(tmp_path, bare, page(9, content_type="")).counts.kept == 2


def test_a_member_without_warc_headers_is_damage(tmp_path: Path) -> None:
    done = one(tmp_path, page(1), b"\r\n\r\n" + html(), page(2))
    assert done.counts.kept == 2
    assert done.counts.extra["damage_no_warc_header"] == 1


def test_damaged_archives_are_counted_by_name(tmp_path: Path) -> None:
    whole = member(page(2))
    cases = {
        "truncated_gzip": (member(page(1)) + whole[:-50], {"record_cut": 1}, {"damage_cut_member": 1}),
        "flipped_byte": (member(page(1)) + whole[:-6] + b"\0" + whole[-5:], {"record_corrupt": 1}, {"damage_corrupt_member": 1}),
        "junk_between": (member(page(1)) + b"junk" * 500 + whole, {}, {"damage_junk_between_members": 1}),
        "zero_bytes": (b"", {}, {"damage_empty_file": 1}),
        "not_a_warc": (b"PK\x03\x04" * 99, {}, {"damage_unreadable_rest": 1}),
    }
    for name, (data, dropped, damage) in cases.items():
        path = tmp_path / f"{name}.warc.gz"
        path.write_bytes(data)
        done = run(tmp_path / name, [path, write_warc(tmp_path / "good.warc.gz", page(5))])
        assert dict(done.counts.dropped) == dropped, name
        assert {key: n for key, n in done.counts.extra.items() if key.startswith("damage")} == damage, name
        assert "number 5" in done.texts[-1]


@pytest.mark.parametrize("declared", ["", "charset=utf-8", "charset=iso-8859-1"])
@pytest.mark.parametrize(("charset", "text"), [("gb18030", CHINESE), ("shift_jis", JAPANESE), ("windows-1251", RUSSIAN)])
def test_pages_in_old_charsets_are_right_with_wrong_or_no_declaration(tmp_path: Path, charset: str, text: str, declared: str) -> None:
    body = f"<html><head><title>{text[:9]}</title></head><body><p>{text}</p></body></html>".encode(charset)
    done = one(tmp_path, page(1, body, content_type=f"text/html; {declared}"))
    assert done.texts == [text]
    row = done.rows.to_pylist()[0]
    assert (row["title"], row["charset"], row["charset_source"]) == (text[:9], charset, "detected")


def test_nuls_are_taken_out(tmp_path: Path) -> None:
    done = one(tmp_path, page(1, html(f"<p>{PROSE[:50]}\0{PROSE[50:]}</p>", "<title>a\0b</title>")))
    assert done.texts == [PROSE]
    assert done.rows["title"].to_pylist() == ["ab"]


def test_a_page_of_200_mb_is_dropped_in_bounded_memory(tmp_path: Path) -> None:
    head = record(response(b"", extra=""), 1).partition(b"\r\n\r\n")[0]
    head = head.rpartition(b"\r\n")[0] + b"\r\nContent-Length: 200000100\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
    packer_input = (head, b"<p>" + b"x" * 999_997)
    path = tmp_path / "large.warc.gz"
    with gzip.GzipFile(path, "wb", compresslevel=1, mtime=0) as file:
        file.write(packer_input[0])
        for _ in range(200):
            file.write(packer_input[1])
    path.write_bytes(path.read_bytes() + member(page(2)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = run(tmp_path / "run", [path])
    assert dict(done.counts.dropped) == {"too_large": 1}
    assert done.counts.kept == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 << 10  # KiB


def test_blocked_addresses_are_dropped_by_category(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("example.org\n")
    build_blocklist({"adult": ["other.example"], "fraud": ["example.org"]}, tmp_path / "compiled")
    for name, reason in (("plain.txt", "url_blocked_blocked"), ("compiled", "url_blocked_fraud")):
        path = write_warc(tmp_path / "in.warc.gz", page(1), record(response(html()), 2, url="https://free.example/"))
        done = run(tmp_path / f"run-{name}", [path], blocklist=str(tmp_path / name))
        assert dict(done.counts.dropped) == {reason: 1}
        assert done.rows["host"].to_pylist() == ["free.example"]


def test_addresses_are_made_fit_for_headers(tmp_path: Path) -> None:
    urls = ["<http://a.example/x y>", "http://a.example/\x85ü", ""]
    done = one(tmp_path, *(record(response(html()), n, url=url) if url else page(n) for n, url in enumerate(urls)))
    assert done.rows["url"].to_pylist()[:2] == ["http://a.example/x%20y", "http://a.example/ü"]


def test_config_is_checked() -> None:
    for bad in ({"where": "lid_label = 'zh'"}, {"max_html_bytes": 0}, {"min_text_chars": 0}, {"statuses": ()}, {"unknown": 1}):
        with pytest.raises(ValidationError):
            Extract.Config(**bad)  # type: ignore[arg-type]


@pytest.mark.shared
def test_real_odd_archives_are_accounted_for(tmp_path: Path, shared_data: Path) -> None:
    """All odd and damaged archives of public projects as one shard; slices cut anywhere give the same bytes."""
    warcs = sorted(path for path in (shared_data / "warc-odd").rglob("*") if path.is_file() and path.suffix != ".md")
    whole = run(tmp_path / "whole", warcs)
    cut = run(tmp_path / "cut", warcs, slice_bytes=1 << 16)
    assert (cut.wet, cut.base, cut.counts) == (whole.wet, whole.base, whole.counts)
    assert whole.counts.kept > 100


@pytest.mark.shared
def test_real_pages_are_all_read(tmp_path: Path, shared_data: Path) -> None:
    path = shared_data / "extraction" / "dev" / "dev-extra-00000.warc.gz"
    with path.open("rb") as file:
        expected = sum(one.rec_type == "response" for one in ArchiveIterator(file))
    done = run(tmp_path / "run", [path])
    assert done.counts.read == expected
    assert done.counts.kept > 0.97 * expected
