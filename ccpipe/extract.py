"""Stage `extract`: the WARCs of one shard become text (WET) and one row of meta for each document.

In: `unit.detail["warcs"]`, the files in order. Out: `wet` (conversion records), `base` (`ccpipe.meta.BASE_SCHEMA`) and
`dropped` (`DROPPED_SCHEMA`: where each dropped page lies and why, so that nothing is lost without a trace).
A document is a `response` record, or a `conversion` record of a WET file, whose text is taken as it is: each is kept or dropped for one
named reason. Metadata of WAT files are documents without text. Records of other types (also `resource`) are counted in `extra` as
`records_<type>`, damage of the archive as `damage_<what>`. It does not judge quality and removes no duplicates; lines
that repeat only where `dedup_lines` asks for it (`ccpipe.line_filter`).

Reasons: record_cut, record_corrupt, url_blocked_<category>, url_banned_word, url_soft_banned_words, url_banned_subword,
no_http_header, http_status, too_large, expands_too_far, bad_content_encoding, not_html, not_plain_text, wat_has_no_text,
undecodable, too_deep, too_many_attributes, too_many_elements, too_slow, page_crashed, page_out_of_memory, no_text, too_short,
repeated_lines.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, field_validator

from ccpipe.counts import Counts
from ccpipe.html import Mode, NotExtracted, clean, extract, guards
from ccpipe.line_filter import LineFilter, Scope
from ccpipe.lines import Key, key_table
from ccpipe.meta import BASE_COLUMNS, BASE_SCHEMA, write_group
from ccpipe.rights import NO_RIGHTS, read_rights
from ccpipe.stage import Cursor, Inputs, ModelFile, Outputs, SlicedStage, StageConfig, Unit, tuning
from ccpipe.urls import Blocklist, check_blocklist, host_of
from ccpipe.warc import HEADER_BYTES, Place, Record, http, read_records
from ccpipe.watchdog import Desk, run_watched
from ccpipe.wet import text_digest
from ccpipe.wet_writer import WetWriter

SLICE_WET = "text.warc.wet.gz"
SLICE_ROWS = "rows.parquet"
SLICE_DROPPED = "dropped.parquet"

DROPPED_SCHEMA = pa.schema([("url", pa.string()), ("warc_path", pa.string()), ("warc_offset", pa.uint64()), ("reason", pa.string())])
"""One row for each document that is not kept, in the order of the archive."""

SKIP_RATIO = 4
"""Records read again for each new one, at most, in archives that can only be read from the beginning."""

WAT_STARTS = (b'{"Container"', b'{"Envelope"')
"""How the JSON of a WAT record begins, in files of Common Crawl and of the Internet Archive."""

_DATE = re.compile(r"\d{4}(?:-\d\d(?:-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?Z)?)?)?")
"""WARC-Date: W3C profile of ISO 8601, in UTC (WARC 1.1, section 5.4)."""


class Dropped(Exception):
    """A document that is not kept; `args[0]` is the reason."""


@dataclass
class Rows:
    """Rows of one slice: of documents kept (`BASE_SCHEMA`) and of pages dropped (`DROPPED_SCHEMA`)."""

    kept: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)


class Extract(SlicedStage):
    """WARC -> text. A slice ends after `slice_bytes` of input or at the end of a WARC; all that is remembered between records is lines."""

    version = 2

    class Config(StageConfig):
        blocklist: ModelFile | None = Field(None, description="compiled blocklist, plain list of domains, or folder like UT1's")
        max_html_bytes: int = Field(10 << 20, description="largest page, bytes after content decoding", ge=1 << 10, le=1 << 30)
        min_text_chars: int = Field(10, description="shortest main text, characters", ge=1, le=1_000_000)
        statuses: tuple[int, ...] = Field((200,), description="HTTP statuses kept", min_length=1)
        mode: Mode = Field("balanced", description="what to keep of what may be boilerplate: precision less, recall more")
        comments: bool = Field(False, description="keep readers' comments below the main text; posts of a forum always are main text")
        markdown: bool = Field(False, description="mark headings, code and tables as in Markdown")
        max_depth: int = Field(guards.MAX_DEPTH, description="open elements inside each other (parsing is quadratic)", ge=64, le=20_000)
        max_attributes: int = Field(guards.MAX_ATTRIBUTES, description="attributes of one tag (parsing is quadratic)", ge=64, le=20_000)
        max_elements: int = Field(guards.MAX_ELEMENTS, description="elements of one page, 600 bytes each", ge=1_000, le=10_000_000)
        dedup_lines: Scope = Field("off", description="drop lines seen before: in the same document, or in the shard so far")
        line_key: Key = Field("exact", description="when two lines are the same: see ccpipe.lines")
        min_line_letters: int = Field(4, description="letters and digits of the shortest line that may be dropped", ge=1, le=10_000)
        max_lines: int = Field(1 << 24, description="lines of a shard that are remembered, 16 bytes of memory each", ge=1, le=1 << 32)
        page_seconds: float = Field(
            10.0, description="CPU seconds that one page may take; 0: no limit, and no child process", ge=0, le=3600
        )
        page_memory_gb: float = Field(2.0, description="memory that one page may take, GB, beyond what the process holds", ge=0.1, le=1024)
        slice_bytes: int = tuning(32 << 20, "input per committed slice, bytes of the WARC file", ge=1 << 10)

        @field_validator("where")
        @classmethod
        def _no_where(cls, value: str | None) -> str | None:
            if value is not None:
                raise ValueError(f"where = {value!r}, but extract comes before all columns; remove it here and filter in a later stage")
            return value

    _blocklist: Blocklist | None = None
    _lines: LineFilter | None = None

    def columns(self) -> dict[str, pa.DataType]:
        return dict(BASE_COLUMNS)

    def check(self) -> None:
        if self.config.blocklist:
            check_blocklist(Path(self.config.blocklist))

    def load(self) -> None:
        if self.config.blocklist:
            self._blocklist = Blocklist.open(Path(self.config.blocklist))
        if self.config.dedup_lines != "off":
            key_table(self.config.line_key)
            self._lines = LineFilter(self.config.dedup_lines, self.config.line_key, self.config.min_line_letters, self.config.max_lines)

    def earlier_slices(self, unit: Unit, slices: Sequence[Path]) -> None:
        if self._lines:
            self._lines.go_on(slices)

    def slice(self, unit: Unit, inputs: Inputs, folder: Path, cursor: Cursor | None) -> tuple[Counts, Cursor | None]:
        """In a child process, so that a page that hangs or crashes native code costs itself alone (`ccpipe.watchdog`)."""
        _warm_up()
        memory = int(self.config.page_memory_gb * (1 << 30))
        counts, following = run_watched(lambda desk: self._slice(unit, folder, cursor, desk), self.config.page_seconds, memory)
        return Counts.from_dict(counts), following

    def _slice(self, unit: Unit, folder: Path, cursor: Cursor | None, desk: Desk) -> tuple[dict[str, Any], Cursor | None]:
        warcs = unit.detail["warcs"]
        number = cursor["warc"] if cursor else 0
        place = Place(**cursor["place"]) if cursor and cursor["place"] else None
        counts = Counts()
        rows = Rows()
        next_place = None
        done = cursor["slices"] if cursor else 0
        if self._lines:
            self._lines.start(done)
        with (folder / SLICE_WET).open("wb") as file:
            if warcs:
                next_place = self._read(_existing(warcs[number]), place, WetWriter(file), rows, counts, desk)
        write_group(folder / SLICE_ROWS, pa.Table.from_pylist(rows.kept, BASE_SCHEMA))
        write_group(folder / SLICE_DROPPED, pa.Table.from_pylist(rows.dropped, DROPPED_SCHEMA))
        if self._lines:
            self._lines.save(folder)
        if next_place:
            return counts.to_dict(), {"warc": number, "place": asdict(next_place), "slices": done + 1}
        return counts.to_dict(), ({"warc": number + 1, "place": None, "slices": done + 1} if number + 1 < len(warcs) else None)

    def join(self, unit: Unit, inputs: Inputs, slices: Sequence[Path], out: Outputs) -> None:
        tables = []
        with out["wet"].open("wb") as target:
            WetWriter(target).write_info(unit.id)
            for folder in slices:
                start = target.tell()
                with (folder / SLICE_WET).open("rb") as source:
                    shutil.copyfileobj(source, target, 1 << 20)
                tables.append(_shifted(pq.read_table(folder / SLICE_ROWS, schema=BASE_SCHEMA), start))
        write_group(out["base"], pa.concat_tables([BASE_SCHEMA.empty_table(), *tables]))
        dropped = [pq.read_table(folder / SLICE_DROPPED, schema=DROPPED_SCHEMA) for folder in slices]
        write_group(out["dropped"], pa.concat_tables([DROPPED_SCHEMA.empty_table(), *dropped]))

    def _read(self, path: str, place: Place | None, wet: WetWriter, rows: Rows, counts: Counts, desk: Desk) -> Place | None:
        """Documents of one WARC from `place` on, into `wet` and `rows`. Returns where the next slice begins, None at the end."""
        taken = 0
        skipped = place.skip if place else 0
        records = read_records(Path(path), place, self.config.max_html_bytes + HEADER_BYTES, counts.extra)
        for number, record in enumerate(records, 1):
            counts.extra[f"records_{record.kind}"] += 1
            against = desk.reason_against(number)
            if _is_document(record):
                try:
                    if against:
                        raise Dropped(against)
                    with desk.page(number):
                        rows.kept.append(self._write(record, path, wet, counts.extra))
                    counts.keep()
                except (Dropped, NotExtracted) as dropped:
                    reason = dropped.args[0]
                    counts.drop(reason)
                    rows.dropped.append({"url": _address(record), "warc_path": path, "warc_offset": record.offset, "reason": reason})
            taken += record.length or record.block_bytes
            # where records are skipped by count, a slice is as long as a part of what it skips: else the way to all slices is quadratic
            if against or (taken >= self.config.slice_bytes and number * SKIP_RATIO >= skipped):
                return record.next
        return None

    def _write(self, record: Record, path: str, wet: WetWriter, extra: Counter[str]) -> dict[str, Any]:
        """The row of one document, its text written. Raises `Dropped` or `NotExtracted` with the reason."""
        row = self._read_page(record)
        row["lines_dropped"] = 0
        if self._lines:
            self._drop_lines(row, self._lines, extra)
        text = row.pop("text").encode()
        source = row["warc_record_id"] or f"{Path(path).name}:{record.offset}:{record.next.skip}"
        offset, length, digest = wet.write_text(text, row["url"], row["warc_date"], source, row["warc_record_id"])
        row.update(warc_path=path, warc_offset=record.offset, warc_length=record.length, page_digest=text_digest(record.block))
        row.update(wet_offset=offset, wet_length=length, text_bytes=len(text), digest=digest)
        return row

    def _drop_lines(self, row: dict[str, Any], lines: LineFilter, extra: Counter[str]) -> None:
        """The row's text without repeated lines. Raises `Dropped` where too little is left."""
        kept = lines.drop(row["text"].encode(), extra)
        text = kept.text.decode()
        if len(text) < self.config.min_text_chars:
            lines.give_up(kept, extra)
            raise Dropped("repeated_lines")
        lines.keep(kept, extra)
        row.update(text=text, lines_dropped=kept.n_dropped)

    def _read_page(self, record: Record) -> dict[str, Any]:
        if record.damage:
            raise Dropped(f"record_{record.damage}")
        url = _address(record)
        blocked = self._blocklist.reason(url) if self._blocklist else None
        if blocked:
            raise Dropped(blocked)
        if record.kind != "response":
            return self._given_text(record, url)
        response, body = self._body(record)
        limits = guards.Cost(self.config.max_depth, self.config.max_attributes, self.config.max_elements)
        how = self.config
        page = extract(body, url, response.content_type, limits, mode=how.mode, comments=how.comments, markdown=how.markdown)
        if len(page.text) < self.config.min_text_chars:
            raise Dropped("too_short" if page.text else "no_text")
        return {
            "text": page.text,
            "url": url,
            "host": host_of(url),
            "title": page.title,
            "page_date": page.date,
            "page_lang": page.lang,
            "warc_record_id": _one_line(record.headers["warc-record-id"]),
            "warc_date": _date(record.headers["warc-date"]),
            "http_status": response.status,
            "content_type": http.media_type(_one_line(response.content_type)),
            "charset": page.charset,
            "charset_source": page.charset_source,
            "html_bytes": len(body),
            **asdict(read_rights(body, record.block[: len(record.block) - len(response.body)], url)),
        }

    def _given_text(self, record: Record, url: str) -> dict[str, Any]:
        """The row of a WET record, whose text somebody else has extracted. Raises `Dropped`."""
        if record.kind != "conversion":
            raise Dropped("wat_has_no_text")
        if http.media_type(record.headers["content-type"]) not in ("", "text/plain"):
            raise Dropped("not_plain_text")
        if record.block_bytes > self.config.max_html_bytes:
            raise Dropped("too_large")
        text = clean(record.block.decode("utf-8", "replace").replace("\r\n", "\n")).strip()
        if len(text) < self.config.min_text_chars:
            raise Dropped("too_short" if text else "no_text")
        return {
            "text": text,
            "url": url,
            "host": host_of(url),
            "title": "",
            "page_date": "",
            "page_lang": "",
            "warc_record_id": _one_line(record.headers["warc-record-id"]),
            "warc_date": _date(record.headers["warc-date"]),
            "http_status": None,
            "content_type": "text/plain",
            "charset": "utf-8",
            "charset_source": "conversion",
            "html_bytes": 0,
            **asdict(NO_RIGHTS),
        }

    def _body(self, record: Record) -> tuple[http.Response, bytes]:
        """The HTML of a record, decoded as HTTP says. Raises `Dropped`."""
        response = http.parse_response(record.block)
        if response is None:
            raise Dropped("no_http_header")
        if response.status not in self.config.statuses:
            raise Dropped("http_status")
        if http.media_type(response.content_type) not in ("", *http.HTML_TYPES):
            raise Dropped("not_html")
        if record.block_bytes > len(record.block):
            raise Dropped("too_large")
        try:
            body = http.decode_body(response, self.config.max_html_bytes)
        except http.ExpandsTooFar:
            raise Dropped("expands_too_far") from None
        except http.BadEncoding:
            raise Dropped("bad_content_encoding") from None
        if len(body) > self.config.max_html_bytes:
            raise Dropped("too_large")
        if not http.is_html(response, body):
            raise Dropped("not_html")
        return response, body


@lru_cache(maxsize=1)
def _warm_up() -> None:
    """Load in this process what each child would load again: kernels, parser, model of the extractor."""
    extract(b"<title>T</title><p>Some words that are long enough to be looked at, and a <a href=x>link</a>.</p>", "http://example.org/")


def _is_document(record: Record) -> bool:
    """Whether a record is to be kept or dropped for a reason: pages, texts of WET files, and what a WAT file has in their place."""
    if record.kind == "metadata":
        return http.media_type(record.headers["content-type"]) == "application/json" and record.block.lstrip().startswith(WAT_STARTS)
    return record.kind in ("response", "conversion")


def _address(record: Record) -> str:
    """The page's URL on one line; "" where the record names none."""
    return "%20".join(clean(record.headers["warc-target-uri"].strip().strip("<>")).split())


def _existing(warc: Mapping[str, Any]) -> str:
    """The path of an input that is as the manifest froze it: half a copy would be committed for ever."""
    path = Path(warc["path"])
    seen = path.stat().st_size if path.is_file() else None
    if seen != warc["bytes"]:
        raise OSError(
            f"{path}: {'no such file' if seen is None else f'{seen} bytes'}; expected {warc['bytes']} bytes as when the manifest was "
            "frozen. Finish the copy or restore the file, then retry; or take in what is there now: ccpipe plan --take-inputs"
        )
    return str(path)


def _shifted(rows: pa.Table, start: int) -> pa.Table:
    """Rows of a slice with offsets in the joined file."""
    at = BASE_SCHEMA.get_field_index("wet_offset")
    return rows.set_column(at, BASE_SCHEMA.field(at), pc.add(rows.column("wet_offset"), pa.scalar(start, pa.uint64())))


def _one_line(value: str) -> str:
    return " ".join(clean(value).split())


def _date(value: str) -> str:
    """The date as given; empty when it is none."""
    return value.strip() if _DATE.fullmatch(value.strip()) else ""
