"""What the headers of an answer say of an object."""

from __future__ import annotations

import datetime as dt
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.artifacts.s3.answers import info_of_headers

SECONDS = st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2100, 1, 1)).map(  # noqa: DTZ001 - UTC below
    lambda moment: moment.replace(microsecond=0, tzinfo=dt.UTC)
)


def _modified(text: str) -> str | None:
    return info_of_headers({"last-modified": text}, 1).last_modified


@given(SECONDS)
def test_a_date_in_the_usual_form_is_read_to_the_second(moment: dt.datetime) -> None:
    """As the standard library writes it for HTTP."""
    assert _modified(format_datetime(moment, usegmt=True)) == moment.isoformat()


@pytest.mark.parametrize(
    "text", ["Sun, 01 Jun 2025 00:00:00 +0200", "1 Jun 2025 00:00:00 GMT", "Sun, 01 jun 2025 00:00:00 GMT"]
)
def test_a_date_in_another_form_is_read_by_the_standard_library(text: str) -> None:
    """Some servers write it so."""
    assert _modified(text) == parsedate_to_datetime(text).isoformat()


@pytest.mark.parametrize("text", ["Sun, 31 Feb 2025 00:00:00 GMT", "yesterday"])
def test_a_date_that_is_none_is_an_error(text: str) -> None:
    """The route that read it then leaves the request to the ordinary way."""
    with pytest.raises(ValueError, match=r".*"):
        _modified(text)
