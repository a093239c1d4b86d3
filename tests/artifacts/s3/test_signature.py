"""Our signature is botocore's, header for header."""

from __future__ import annotations

import calendar
import datetime as dt
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from stepout.artifacts.s3.routes.signature import EMPTY_SHA256, UNSIGNED_PAYLOAD, RequestSigner

WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
NAMES = st.one_of(
    st.sampled_from(["content-type", "if-match", "range", "user-agent", "expect", "x-amz-meta-a", "x-amz-tagging"]),
    st.from_regex(r"x-amz-[a-z]{1,8}(-[a-z0-9]{1,8})?", fullmatch=True),
)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
MOMENTS = st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2100, 1, 1)).map(  # noqa: DTZ001 - UTC below
    lambda moment: moment.replace(microsecond=0, tzinfo=dt.UTC)
)
CREDENTIALS = st.builds(ReadOnlyCredentials, st.from_regex("[A-Z0-9]{1,20}", fullmatch=True), TEXTS, st.none() | WORDS)
SET_HERE = {"x-amz-date", "x-amz-content-sha256", "x-amz-security-token"}


def _botocore(request: Any, credentials: Any, region: str, moment: dt.datetime) -> dict[str, str]:
    with patch("botocore.auth.get_current_datetime", lambda: moment.replace(tzinfo=None)):
        S3SigV4Auth(credentials, "s3", region).add_auth(request)
    return {name.lower(): str(value) for name, value in request.headers.items()}


@given(
    credentials=CREDENTIALS,
    method=st.sampled_from(["GET", "PUT", "HEAD", "POST", "DELETE"]),
    key=TEXTS,
    query=st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=3),
    headers=st.dictionaries(NAMES.filter(lambda name: name not in SET_HERE), VALUES, max_size=5),
    payload=st.none() | st.binary(max_size=50),
    moment=MOMENTS,
    region=st.sampled_from(["us-east-1", "eu-west-1", "us-gov-west-1"]),
)
def test_a_signed_request_has_the_headers_that_botocore_gives_it(  # noqa: PLR0913, PLR0917 - drawn
    credentials: Any,
    method: str,
    key: str,
    query: dict[str, str],
    headers: dict[str, str],
    payload: bytes | None,
    moment: dt.datetime,
    region: str,
) -> None:
    """Keys, queries, headers, tokens, payloads that are signed or not, any time."""
    path = quote(f"/bucket/{key}", safe="/~")
    asked = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query.items())
    url = f"https://s3.example.com{path}" + (f"?{asked}" if asked else "")
    request = AWSRequest(method=method, url=url, headers=headers, data=payload or b"")
    config = SimpleNamespace(s3={"payload_signing_enabled": payload is not None})
    request.context["client_config"] = config
    expected = _botocore(request, credentials, region, moment)
    found = RequestSigner(region).sign(
        credentials,
        method=method,
        path=path,
        query=asked,
        headers={**headers, "host": "s3.example.com"},
        payload=UNSIGNED_PAYLOAD if payload is None else expected["x-amz-content-sha256"],
        moment=calendar.timegm(moment.timetuple()) + 0.9,
    )
    assert found == {**expected, "host": "s3.example.com"}


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([0.0, 86_399.0, 86_400.0])), min_size=1, max_size=12
    )
)
def test_a_kept_key_never_signs_for_another_secret_or_day(uses: list[tuple[str, float]]) -> None:
    """A signer that is used for several makes the signatures that a new one makes."""

    def signed(signer: RequestSigner, secret: str, moment: float) -> dict[str, str]:
        credentials: Any = ReadOnlyCredentials("A", secret, None)
        return signer.sign(
            credentials, method="GET", path="/", headers={"host": "h"}, payload=EMPTY_SHA256, moment=moment
        )

    kept = RequestSigner("us-east-1")
    assert all(signed(kept, *use) == signed(RequestSigner("us-east-1"), *use) for use in uses)


def test_a_signer_that_has_signed_does_not_show_a_secret() -> None:
    """Its repr names no credentials."""
    signer = RequestSigner("us-east-1")
    credentials: Any = ReadOnlyCredentials("A", "the-secret", "the-token")
    signer.sign(credentials, method="GET", path="/", headers={"host": "h"}, payload=EMPTY_SHA256, moment=0)
    assert "the-secret" not in repr(signer)
