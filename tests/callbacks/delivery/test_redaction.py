"""``stepout.callbacks.delivery.redaction``: no spelling of a secret survives."""

from __future__ import annotations

import json
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from stepout.callbacks.delivery.redaction import MARK, Redactor

TOKEN = "AQCEAAAAKgAAAAMAAAAAAAAAAZ1+/x9=" * 20

SECRETS = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="[]redact"), min_size=6)


@given(SECRETS, st.text(), st.text())
def test_no_spelling_of_a_secret_survives(secret: str, before: str, after: str) -> None:
    """As it is, in JSON, in a URL and in a repr."""
    redactor = Redactor([secret])
    spellings = [secret, json.dumps(secret)[1:-1], quote(secret, safe=""), repr(secret)[1:-1]]
    for spelling in spellings:
        assert spelling not in redactor.text(f"{before}{spelling}{after}")


@given(st.text(alphabet="abcdef", min_size=6), st.text())
def test_redacting_twice_changes_nothing_more(secret: str, text: str) -> None:
    """Redaction is idempotent."""
    once = Redactor([f"x{secret}x"]).text(f"{text}x{secret}x{text}")
    assert Redactor([f"x{secret}x"]).text(once) == once


def test_a_token_that_was_cut_short_is_redacted_whole() -> None:
    """Others shorten what they print: the visible part goes, all of it."""
    assert Redactor([TOKEN]).text(f"token={TOKEN[:100]}… failed") == f"token={MARK}… failed"


def test_the_longest_of_overlapping_secrets_is_taken_out_whole() -> None:
    """One secret may begin another."""
    assert Redactor(["hunter", "hunter2-and-more"]).text("hunter2-and-more hunter") == f"{MARK} {MARK}"


def test_text_without_secrets_is_left_alone() -> None:
    """Nothing is taken out for nothing."""
    text = "rows=3 signature of the contract, token bucket, AKIA, s3://bucket/key?versionId=1"
    assert Redactor([TOKEN, ""]).text(text) == text


def test_credentials_and_presigned_urls_are_known_without_being_named() -> None:
    """Access keys, session tokens and signatures have shapes of their own."""
    url = f"https://b.s3.amazonaws.com/k?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F2026&X-Amz-Signature={'ab' * 32}&x=1"
    old = f"https://b.s3.amazonaws.com/k?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=abc%3D&Expires=1 ASIA{'B' * 16}"
    header = f"AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature={'0f' * 32}"
    config = "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    request = '{"taskToken": "AAAA-any-token-at-all", "error": "x"}'
    redacted = Redactor().text(f"{url}\n{old}\n{header}\n{config}\n{request}")
    for secret in ("AKIAIOSF", "abab", "abc%3D", "ASIAB", "0f0f", "wJalr", "any-token"):
        assert secret not in redacted
    for kept in ("&x=1", "Expires=1", "SignedHeaders=host", '"error": "x"'):
        assert kept in redacted


def test_json_is_redacted_in_names_and_values() -> None:
    """At any depth; other values are copied."""
    value = {TOKEN: [{"a": f"x{TOKEN}"}, 1, None, ("t", TOKEN)]}
    assert Redactor([TOKEN]).json(value) == {MARK: [{"a": f"x{MARK}"}, 1, None, ["t", MARK]]}


def test_found_names_the_places_of_secrets() -> None:
    """Locations, never values."""
    signed = "https://b/k?a=b&X-Amz-Signature=" + "ab" * 32
    value = {"a": [TOKEN, "ok"], "b": {TOKEN: 1}, "c": signed, "d": 2}
    assert Redactor([TOKEN]).found(value) == ["$.a[0]", f"$.b.{MARK}", "$.c"]


def test_what_merely_begins_like_a_secret_is_none() -> None:
    """A document that names the same host must not fail the task."""
    redactor = Redactor(["https://hooks.example.com/services/T000/B000/secret"])
    assert redactor.found({"docs": "https://hooks.example.com/docs"}) == []
    assert redactor.found({"hook": "see https://hooks.example.com/services/T000/B000/secret."}) == ["$.hook"]


def test_a_redactor_does_not_show_its_secrets() -> None:
    """Nor does the union of two forget any."""
    both = Redactor([TOKEN]) | Redactor(["second secret"])
    assert repr(both) == "Redactor(2 secrets)"
    assert both.text(f"{TOKEN} second secret") == f"{MARK} {MARK}"


def test_presigned_urls_are_found_and_taken_out_in_every_form() -> None:
    """The rule is the schemas' own; a form of a presigned POST loses its signature and keeps the rest."""
    url = "https%3A%2F%2Fb%2Fk%3FAWSACCESSKEYID%3DAKIA%26Signature%3Dabc%26Expires%3D1"
    form = {"key": "k", "policy": "e30=", "X-Amz-Signature": "abc"}
    value = {"a": url, "b": [form], "c": "X-Amz-Signature is a header", f"x {url}": 1}
    redactor = Redactor()
    assert redactor.found(value) == ["$.a", "$.b[0]", f"$.{MARK}"]
    redacted = redactor.json(value)
    assert redacted["b"] == [{**form, "X-Amz-Signature": MARK}]
    assert "abc" not in json.dumps(redacted)
    assert redactor.json(redacted) == redacted
