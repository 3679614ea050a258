"""Dates as pages write them for machines, as ISO 8601.

In: a string. Out: `2024-05-13`, or `2024-05-13T08:30:00+02:00` with the time and the zone as far as given; "" for what is no date, or lies
before the web (1990) or in the next century. No guessing: a date in words or of numbers in an unknown order is none.

>>> iso_date("Mon, 13 May 2024 08:00:00 GMT"), iso_date("20240513"), iso_date("05/06/2024")
('2024-05-13T08:00:00+00:00', '2024-05-13', '')
"""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime

FIRST_YEAR, LAST_YEAR = 1990, 2099

_ISO = re.compile(
    r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?"
    r"(?:[T\s]+(\d{1,2}):(\d\d)(?::(\d\d))?(?:[.,]\d+)?\s*(Z|UTC|GMT|[+-]\d\d:?(?:\d\d)?)?(?!\d).{0,20})?"
)
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T?(\d\d)(\d\d)(\d\d)?(Z|[+-]\d\d:?\d\d)?)?")
_RFC = re.compile(r"(?:[A-Z][a-z]{2,8},? )?\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d(?::\d\d)?(?: (?:[A-Z]{1,5}|[+-]\d{4}))?")


def iso_date(text: str) -> str:
    text = text.strip()[:60]
    found = _ISO.fullmatch(text) or _COMPACT.fullmatch(text)
    if found:
        return _valid(*found.groups())
    if _RFC.fullmatch(text):
        try:
            when = parsedate_to_datetime(text)
        except ValueError:
            return ""
        return when.isoformat() if FIRST_YEAR <= when.year <= LAST_YEAR else ""
    return ""


def _valid(year: str, month: str, day: str, hour: str | None, minute: str | None, second: str | None, zone: str | None) -> str:
    try:
        when = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0))
    except ValueError:
        return ""
    if not FIRST_YEAR <= when.year <= LAST_YEAR:
        return ""
    if hour is None:
        return when.date().isoformat()
    return when.isoformat() + _offset(zone or "")


def _offset(zone: str) -> str:
    if zone in ("Z", "UTC", "GMT"):
        return "+00:00"
    digits = zone[1:].replace(":", "")
    return f"{zone[0]}{digits[:2]}:{digits[2:] or '00'}" if zone else ""
