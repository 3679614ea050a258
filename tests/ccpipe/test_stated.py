"""What pages state about themselves: titles, languages, dates."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccpipe.html import Extracted, extract
from ccpipe.html.dates import iso_date

PROSE = "The river rose in the night, and by the morning the lower fields were under water."


def page(head: str, body: str = "", root: str = "<html>") -> Extracted:
    return extract(f"{root}<head>{head}</head><body>{body}<p>{PROSE}</p></body></html>".encode())


DATES = {
    "2024-05-13": "2024-05-13",
    "2024/5/3": "2024-05-03",
    "2024-05-13T08:30:00+02:00": "2024-05-13T08:30:00+02:00",
    "2024-05-13T08:30:00.000Z": "2024-05-13T08:30:00+00:00",
    "2024-05-13 08:30": "2024-05-13T08:30:00",
    "2024年5月13日": "2024-05-13",
    "20240513": "2024-05-13",
    "Mon, 13 May 2024 08:00:00 GMT": "2024-05-13T08:00:00+00:00",
    "2024-02-30": "",
    "1066-10-14": "",
    "05/06/2024": "",
    "yesterday": "",
    "": "",
}


@pytest.mark.parametrize("text", DATES)
def test_dates_are_iso_or_empty(text: str) -> None:
    assert iso_date(text) == DATES[text]


@given(st.text(alphabet="0123456789-/T:+Z .MonJa,GMT", max_size=40))
def test_what_is_given_as_date_is_one(text: str) -> None:
    found = iso_date(text)
    assert not found or 1990 <= datetime.fromisoformat(found).year <= 2099


SAID = {
    "meta": '<meta property="article:published_time" content="2024-05-13T08:30:00+02:00">',
    "name": '<meta name="DC.date.issued" content="2024-05-13">',
    "linked data": '<script type="application/ld+json">{"@graph": [{"datePublished": "2024-05-13"}]}</script>',
    "updates": '<meta property="article:modified_time" content="2025-01-01"><meta name="date" content="2024-05-13">',
}


@pytest.mark.parametrize("head", SAID.values(), ids=list(SAID))
def test_the_date_of_publication_is_found(head: str) -> None:
    assert page(head).date[:10] == "2024-05-13"


def test_dates_in_the_text_count_only_as_time() -> None:
    assert page("", '<article><time datetime="2024-05-13">last Monday</time></article>').date == "2024-05-13"
    assert page("", '<span itemprop="datePublished" content="2024-05-13">last Monday</span>').date == "2024-05-13"
    assert page("", "<p>On 2024-05-13 the dam broke.</p>").date == ""


def test_titles_lose_the_name_of_the_site_only_where_that_is_sure() -> None:
    title = "<title>The flood of May | Example News</title>"
    assert page(title).title == "The flood of May | Example News"
    assert page(title, "<h1>The flood of May</h1>").title == "The flood of May"
    assert page(title + '<meta property="og:title" content="The flood of May">').title == "The flood of May"
    assert page(title + '<meta property="og:site_name" content="Example News">').title == "The flood of May"
    assert page(title, "<h1>Example</h1>").title == "The flood of May | Example News"
    assert page("", "<h1>The flood</h1>").title == "The flood"
    assert page('<meta property="og:title" content="The flood">').title == "The flood"


def test_languages_are_as_stated() -> None:
    assert page("", root='<html xml:lang="pt-BR">').lang == "pt-BR"
    assert page('<meta http-equiv="Content-Language" content="fr">').lang == "fr"
    assert page('<meta property="og:locale" content="de_DE">').lang == "de_DE"
    assert page('<meta property="og:locale" content="de_DE">', root='<html lang="en">').lang == "en"
    assert page("").lang == ""
