"""The allow-list: which objects a document may make us read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.artifacts.allow import ANY_BUCKET, allowed_from, from_env
from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.resolve import resolve_artifact
from stepout.schemas import Pointer
from stepout.schemas.errors import ConfigurationError, NotAllowedError
from stepout.schemas.text.locations import key_fault, split_s3_url

POINT = "arn:aws:s3:eu-west-1:123456789012:accesspoint/results"
OUTPOST = "arn:aws:s3-outposts:eu-west-1:123456789012:outpost/op-1/accesspoint/results"

segments = st.lists(
    st.text(st.characters(exclude_characters="/", exclude_categories=("Cc", "Cs")), min_size=1, max_size=8).filter(
        lambda text: text not in {".", ".."}
    ),
    min_size=1,
    max_size=5,
)


@given(segments, segments)
def test_a_prefix_permits_exactly_what_lies_below_it_by_segment(prefix: list[str], key: list[str]) -> None:
    """`s3://b/p` permits a key if and only if its segments begin with those of `p`."""
    allowed = allowed_from([f"s3://bucket/{'/'.join(prefix)}"])
    assert allowed.permits("bucket", "/".join(key)) == (key[: len(prefix)] == prefix)
    assert allowed.permits("bucket", "/".join(prefix + key))
    assert not allowed.permits("other", "/".join(prefix + key))


@given(segments, st.text(min_size=1, max_size=5))
def test_a_longer_last_segment_is_another_one(prefix: list[str], more: str) -> None:
    """`s3://b/runs` does not permit `runs2/x`."""
    allowed = allowed_from([f"s3://bucket/{'/'.join(prefix)}"])
    if "/" not in more:
        assert not allowed.permits("bucket", "/".join([*prefix[:-1], prefix[-1] + more, "x"]))


@given(st.text(max_size=30))
def test_an_empty_list_permits_nothing(key: str) -> None:
    """`[]` refuses every key."""
    assert not allowed_from([]).permits("bucket", key)


@given(st.lists(st.sampled_from(["a", "", ".", "..", "b"]), min_size=1, max_size=6))
def test_keys_that_could_walk_are_refused_whatever_is_allowed(parts: list[str]) -> None:
    """Empty, `.` and `..` segments are refused even under ANY_BUCKET."""
    walks = any(part in {"", ".", ".."} for part in parts)
    assert allowed_from(ANY_BUCKET).permits("bucket", "/".join(parts)) == (not walks)


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("", "empty"),
        ("/a", "empty segment"),
        ("a/", "empty segment"),
        ("a\x00b", "control"),
        ("a\nb", "control"),
        ("é" * 513, "1026 bytes"),
        ("a\ud800", "Unicode"),
    ],
)
def test_keys_that_stepout_never_writes_have_a_fault(key: str, fault: str) -> None:
    """Empty, controlled, over-long (in bytes) and unencodable keys are named as such."""
    assert fault in (key_fault(key) or "")
    assert key_fault("é" * 512) is None


def test_a_trailing_slash_permits_what_is_below_and_nothing_else() -> None:
    """`runs/` means below; `runs` also the object of that name; a bucket alone means all of it."""
    assert not allowed_from(["s3://bucket/runs/"]).permits("bucket", "runs")
    assert allowed_from(["s3://bucket/runs"]).permits("bucket", "runs")
    assert allowed_from(["s3://bucket"]).permits("bucket", "anything/at/all")
    assert allowed_from(["s3://bucket/"]).permits("bucket", "anything")


@pytest.mark.parametrize("arn", [POINT, OUTPOST, POINT.replace("accesspoint/", "accesspoint:")])
def test_access_points_must_be_listed_themselves(arn: str) -> None:
    """An ARN is refused under ANY_BUCKET and other prefixes, and permitted where it is listed."""
    assert not allowed_from(ANY_BUCKET).permits(arn, "runs/x")
    assert not allowed_from(["s3://results/"]).permits(arn, "runs/x")
    assert allowed_from([f"s3://{arn}/runs/"]).permits(arn, "runs/x")
    assert not allowed_from([f"s3://{arn}/runs/"]).permits(arn, "runs2/x")
    assert allowed_from([ANY_BUCKET, f"s3://{arn}"]).permits(arn, "runs2/x")
    assert split_s3_url(f"s3://{arn}/a/b") == (arn, "a/b")


@pytest.mark.parametrize("bucket", ["", "..", "a/b", "a b", "bucket?x", "arn:aws:s3:::bucket", "-x"])
def test_what_is_no_bucket_is_refused_under_any_bucket(bucket: str) -> None:
    """ANY_BUCKET means buckets."""
    assert not allowed_from(ANY_BUCKET).permits(bucket, "x")


@pytest.mark.parametrize("entry", ["", "results/runs", "s3://", "s3:///x", "s3://b//x", "s3://b/../x", "http://b/x", 3])
def test_an_entry_that_is_no_prefix_is_a_configuration_error(entry: Any) -> None:
    """A list that means nothing is refused, not read as something."""
    with pytest.raises(ConfigurationError, match="allow"):
        allowed_from([entry])


def test_an_arn_that_goes_on_is_no_url() -> None:
    """What follows an access point's name must be a slash."""
    with pytest.raises(ValueError, match="s3://bucket/key"):
        split_s3_url(f"s3://{POINT}:x")


def test_the_environment_holds_several_separated_by_spaces_or_commas() -> None:
    """STEPOUT_ALLOW is split at white space and commas; unset is an error with a remedy; empty permits nothing."""
    allowed = from_env({"STEPOUT_ALLOW": "s3://aaa/x/, s3://bbb\n s3://ccc/y"})
    assert allowed.permits("aaa", "x/1")
    assert allowed.permits("bbb", "z")
    assert allowed.permits("ccc", "y/2")
    assert not from_env({"STEPOUT_ALLOW": " "}).permits("aaa", "x/1")
    with pytest.raises(ConfigurationError, match=r"allow=\["):
        from_env({})
    assert allowed_from(allowed) is allowed


def test_resolve_consults_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """allow=None reads STEPOUT_ALLOW, and its absence is an error."""
    pointer = Pointer(bucket="results", key="runs/x", size=0, checksum={"sha256": "0" * 64})
    monkeypatch.delenv("STEPOUT_ALLOW", raising=False)
    with pytest.raises(ConfigurationError, match="STEPOUT_ALLOW"):
        resolve_artifact(pointer, client=MemoryStore("results"))
    monkeypatch.setenv("STEPOUT_ALLOW", "s3://results/runs/")
    assert resolve_artifact(pointer, client=MemoryStore("results")).url == "s3://results/runs/x"


def test_a_refusal_says_what_and_why_on_one_line() -> None:
    """The message has the object, the list and the remedy, and no control characters of the document's."""
    with pytest.raises(NotAllowedError, match="outside the allow-list") as caught:
        allowed_from(["s3://results/runs/"]).check("other", "runs/x")
    assert "s3://other/runs/x" in str(caught.value)
    assert "[s3://results/runs/]" in str(caught.value)  # as it was given: the slash has a meaning
    with pytest.raises(NotAllowedError) as caught:
        allowed_from([]).check("b\n\ud800", "x" * 5000)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert repr(ANY_BUCKET) == "ANY_BUCKET"
