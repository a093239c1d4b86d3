"""``stepout doctor --probe``: which profile a server needs, seen on objects that are removed again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.other_s3 import OtherS3, other_s3

from stepout.cli import main

if TYPE_CHECKING:
    from support.seaweed import Seaweed

    from stepout.local import LocalAws

REFUSES = (501, "NotImplemented", "A header you provided implies functionality that is not implemented")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


def _probe(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str = "s3://bucket/runs/"
) -> tuple[int, dict[str, Any]]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    code = main(["doctor", "--probe", url, "--json"])
    return code, json.loads(capsys.readouterr().out)


def _profile(found: dict[str, Any]) -> str:
    return str(next(each for each in found["findings"] if each["rule"] == "SO514")["example"]["STEPOUT_S3_PROFILE"])


@pytest.mark.parametrize(
    ("faults", "profile", "rules"),
    [
        ({"ignores_put_condition": True}, "unconditional", {"SO509"}),
        ({"ignores_completion_condition": True}, "unconditional", {"SO509"}),
        ({"refuses_checksums": REFUSES}, "no-checksums", {"SO510"}),
        (
            {"refuses_checksums": REFUSES, "ignores_put_condition": True},
            "unconditional no-checksums",
            {"SO509", "SO510"},
        ),
        ({"completes_with_another_etag": True}, "compatible", {"SO512"}),
        ({"puts_with_another_etag": True}, "aws", set()),  # noticed at each put, and looked up
        ({"verifies_nothing": True}, "aws", {"SO513"}),
        ({}, "aws", set()),
    ],
)
def test_the_profile_that_a_server_needs_is_named(
    faults: dict[str, Any],
    profile: str,
    rules: set[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each fault by its rule, the profile as a value to copy; nothing stays, and nothing was written elsewhere."""
    with other_s3(**faults) as server:
        code, found = _probe(server.endpoint, monkeypatch, capsys)
        assert {each["rule"] for each in found["findings"]} == {*rules, "SO514"}
        assert _profile(found) == profile
        assert code == (1 if rules & {"SO509", "SO510", "SO513"} else 0)
        _is_clean(server)
        assert found["checked"] == [{"source": "s3://bucket/runs/", "kind": "bucket"}]


def _is_clean(server: OtherS3) -> None:
    assert (server.objects, server.uploads) == ({}, {})
    assert all(target.startswith("/bucket/runs/stepout-trial-") for _, target, _ in server.requests)


def test_real_servers_are_told_apart(
    seaweed: Seaweed,
    bucket: str,
    local_aws: LocalAws,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SeaweedFS has full-object checksums, the local AWS has none; both honour conditions, and both are clean after."""
    from support.ministack import unique
    from support.seaweed import ADMIN

    name, client = unique("probe"), local_aws.client("s3")
    client.create_bucket(Bucket=name)
    _, found = _probe(local_aws.endpoint, monkeypatch, capsys, f"s3://{name}")
    assert _profile(found) == "compatible"
    assert {each["rule"] for each in found["findings"]} == {"SO511", "SO514"}
    assert "Contents" not in client.list_objects_v2(Bucket=name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ADMIN.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ADMIN.secret_key)
    _, found = _probe(seaweed.endpoint, monkeypatch, capsys, f"s3://{bucket}/runs")
    assert _profile(found) == "aws"
    assert "Contents" not in seaweed.client().list_objects_v2(Bucket=bucket)
    assert "Uploads" not in seaweed.client().list_multipart_uploads(Bucket=bucket)


def test_what_cannot_be_tried_is_an_error_and_a_wrong_url_a_usage_error(
    seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The finding says which request was refused; nothing is guessed."""
    code, found = _probe(seaweed.endpoint, monkeypatch, capsys, "s3://no-such-bucket/runs")
    assert (code, [each["rule"] for each in found["findings"]]) == (1, ["SO900"])
    assert "PutObject" in found["findings"][0]["what"]
    assert main(["doctor", "--probe", "no-url"]) == 2
    assert "s3://bucket/prefix. Nothing was written" in capsys.readouterr().err
