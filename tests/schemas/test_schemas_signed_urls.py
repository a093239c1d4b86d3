"""Presigned URLs are known in every form and spelling, and nothing else is taken for one."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.schemas.text.signed_urls import (
    holds_signed_url,
    is_signed_form,
    signed_url_problems,
    without_signed_urls,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = "[redacted]"
SECRET = "5ec3e7"
SIGNED = [
    f"https://b.s3.amazonaws.com/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=60&X-Amz-Signature={SECRET}",
    f"https://b.s3.amazonaws.com/k?X-Amz-Signature={SECRET}&x=1",
    f"https://b.s3.amazonaws.com/k?AWSAccessKeyId=AKIA&Signature={SECRET}%3D&Expires=1",
    f"https://b.s3.amazonaws.com/k?Expires=1&Signature={SECRET}",
    f"https://d1.cloudfront.net/k?Policy=eyJ_&Signature={SECRET}~&Key-Pair-Id=K1",
    f"https://d1.cloudfront.net/k?Expires=1&Signature={SECRET}&Key-Pair-Id=K1",
    f"X-Amz-Signature={SECRET}",
    f"x=1&x-amz-security-token={SECRET}",
    f"s3://bucket/key?X-Amz-Signature={SECRET}",
]
SPELLINGS: list[Callable[[str], str]] = [
    lambda text: text,
    str.upper,
    str.lower,
    lambda text: quote(text, safe=""),
    lambda text: quote(quote(text, safe=""), safe=""),
    lambda text: text.replace("-", "%2D").replace("=", "%3d"),
    html.escape,
    lambda text: text.replace("&", "&#38;").replace("?", "&#x3F;"),
    lambda text: text.replace("&", "\\u0026").replace("=", "\\u003D"),
    lambda text: json.dumps(text.replace("&", "\\u0026")),
    lambda text: f"see <{text}> now",
    lambda text: f"https://example.com/?next={quote(text, safe='')}",
    lambda text: f"('{text}', 3)",
]


@pytest.mark.parametrize("spell", SPELLINGS)
@pytest.mark.parametrize("url", SIGNED)
def test_a_presigned_url_is_known_in_every_spelling(url: str, spell: Callable[[str], str]) -> None:
    """In any case and encoding, alone or within a sentence; and no redaction leaves its signature."""
    text = spell(url)
    assert holds_signed_url(text)
    redacted = without_signed_urls(f"before {text} after", MARK)
    assert SECRET not in redacted.lower()
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")
    assert without_signed_urls(redacted, MARK) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://example.com/?signature=mine",
        "a signature and a policy",
        "https://b.s3.amazonaws.com/k?versionId=3&x=1",
        "X-Amz-Signature is a header",
        "X-Amz-Signature=",
        f"X-Amz-Signature={MARK}",
        "design=3&Expires=1",
        "Signature: 7 Expires: 8",
        "100 % sig",
        "def f(signature=None): pass",
    ],
)
def test_what_is_no_presigned_url_is_left_alone(text: str) -> None:
    """A signature that gives nothing away is no reason to refuse a document."""
    assert not holds_signed_url(text)
    assert without_signed_urls(text, MARK) == text


def test_forms_and_cookies_are_known_by_their_fields() -> None:
    """A presigned POST, its version 2, and CloudFront's cookies are objects, not URLs."""
    forms: list[dict[str, Any]] = [
        {"key": "k", "policy": "e30=", "x-amz-signature": "ab"},
        {"AWSAccessKeyId": "AKIA", "policy": "e30=", "signature": "ab"},
        {"CloudFront-Signature": "ab"},
        {"Signature": "ab", "Key-Pair-Id": "K1"},
    ]
    for form in forms:
        assert is_signed_form(form)
        (problem,) = signed_url_problems({"a": [{"fields": form}]})
        assert (problem.location, problem.kind) == ("$.a[0].fields", "secret")
    for other in ({"signature": "f(x)"}, {"policy": "p"}, {"signature": 3, "AWSAccessKeyId": "a"}, {}):
        assert not is_signed_form(other)


def test_places_are_named_and_never_quoted() -> None:
    """In values and in names, at any depth."""
    value = {"a": [SIGNED[0], "ok"], SIGNED[2]: 1}
    problems = list(signed_url_problems(value, "$.annotations"))
    assert [problem.location for problem in problems] == ["$.annotations.a[0]", "$.annotations[a name]"]
    assert SECRET not in "".join(map(str, problems))


@given(before=st.text(max_size=40), after=st.text(max_size=40), url=st.sampled_from(SIGNED))
def test_whatever_stands_around_it_a_presigned_url_is_taken_out(before: str, after: str, url: str) -> None:
    """Nothing around hides it, once white space sets it apart."""
    text = f"{before} {url} {after}"
    assert holds_signed_url(text)
    assert url not in without_signed_urls(text, MARK)


@pytest.mark.parametrize("run", ["\\", "%", "&#", "\\u00", "&amp;"])
def test_a_long_run_of_escapes_is_looked_at_once(run: str) -> None:
    """The work grows with the text, not with its square: that would take hours here."""
    text = "sig" + run * 300_000
    assert not holds_signed_url(text)
    assert without_signed_urls(text, MARK) == text
