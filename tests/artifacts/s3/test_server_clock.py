"""What time it is at a server, and requests signed by it; ``tests/failures/test_clock.py`` runs whole tasks."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import boto3
import botocore.auth
import pytest
from support.fast_store import fast_store
from support.plain_server import plain_answer, plain_server
from support.seaweed import ADMIN
from support.wire import Wire

from stepout.artifacts.checksums import sha256_of
from stepout.artifacts.s3.clients import make_client
from stepout.artifacts.s3.server_clock import ServerClock
from stepout.artifacts.s3.signing import server_clock_of
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store_writes import WriteOptions
from stepout.schemas.errors import StoreError

if TYPE_CHECKING:
    from support.seaweed import Seaweed

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
KEYS: dict[str, Any] = {"aws_access_key_id": ADMIN.access_key, "aws_secret_access_key": ADMIN.secret_key}


def _answer(code: str, date: str) -> dict[str, Any]:
    return {"Error": {"Code": code}, "ResponseMetadata": {"HTTPHeaders": {"date": date}}}


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "403"])
@pytest.mark.parametrize("hours", [-3, 3])
def test_a_refusal_for_the_time_sets_the_clock_once(code: str, hours: int) -> None:
    """By the Date of the answer; the same refusal once more is not worth another try."""
    clock, there = ServerClock(local=lambda: NOON), NOON + timedelta(hours=hours)
    assert clock.now() == NOON
    answer = _answer(code, format_datetime(there, usegmt=True))
    assert clock.corrected_by(answer, timedelta())
    assert clock.now() == there
    assert not clock.corrected_by(answer, clock.offset)


def test_requests_that_are_refused_together_are_all_worth_another_try() -> None:
    """Each is judged by the time that it was signed with, which another one's refusal may have changed since."""
    clock = ServerClock(local=lambda: NOON)
    answer = _answer("RequestTimeTooSkewed", "Sun, 29 Nov 2026 20:00:00 GMT")
    assert [clock.corrected_by(answer, timedelta()) for _ in range(3)] == [True] * 3


@pytest.mark.parametrize(
    ("code", "date"),
    [
        ("AccessDenied", "Sun, 29 Nov 2026 20:00:00 GMT"),
        ("RequestTimeTooSkewed", ""),
        ("RequestTimeTooSkewed", "yesterday"),
        ("RequestTimeTooSkewed", "Sun, 29 Nov 2026 12:03:00 GMT"),
        ("403", "Sun, 29 Nov 2026 11:57:00 GMT"),
        ("RequestTimeTooSkewed", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ("RequestTimeTooSkewed", "Sat, 01 Jan 0001 00:00:00 GMT"),
    ],
)
def test_other_refusals_leave_the_clock_alone(code: str, date: str) -> None:
    """Other codes, no date, what is within the tolerance, and a time that no server can have."""
    clock = ServerClock(local=lambda: NOON)
    assert not clock.corrected_by(_answer(code, date), timedelta())
    assert clock.now() == NOON


class _Late(datetime):
    """A clock that is two hours behind."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override] # no subclass is returned
        return datetime.now(tz) - timedelta(hours=2)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is two hours behind, for botocore and for us."""
    monkeypatch.setattr("stepout.artifacts.s3.server_clock.datetime", _Late)
    for module in (botocore.auth, sys.modules.get("botocore.crt.auth")):
        real: Any = getattr(module, "get_current_datetime", None)
        if real is not None:  # awscrt may not be installed
            late = lambda real=real, **options: real(**options) - timedelta(hours=2)  # noqa: E731 - as short as that
            monkeypatch.setattr(module, "get_current_datetime", late)


@pytest.mark.parametrize("signed", [True, False])
def test_every_route_signs_by_the_servers_time_once_it_is_known(
    late: None,  # noqa: ARG001 - a fixture
    seaweed: Seaweed,
    bucket: str,
    signed: bool,
) -> None:
    """One request is refused; all later ones have the right time from the start, small ones and bodies of views too."""
    with Wire(seaweed.endpoint, keep_alive=True) as wire:
        client = make_client(endpoint_url=wire.endpoint, region="us-east-1", sign_payload=signed, tries=1, **KEYS)
        store = fast_store(client, bucket, obstore=False)
        small, large = b"content", b"x" * (1 << 20)
        for number, data in enumerate([small, small, small, large]):
            checksum = {"sha256": sha256_of([memoryview(data)])}
            options = WriteOptions(mode="overwrite")
            store.put(f"key-{number}", [memoryview(data)], checksum=checksum, options=options)
        assert store.head("key-3").size == len(large)
        assert wire.operations == ["PutObject"] * 5 + ["HeadObject"]
        assert server_clock_of(client).offset > timedelta(hours=1)


def test_servers_that_disagree_on_the_time_are_not_asked_for_ever() -> None:
    """Each answer has another time, and each refuses: the request is signed anew once, then there is an error."""
    body = b"<Error><Code>RequestTimeTooSkewed</Code></Error>"

    def answer(_: str) -> bytes:
        there = datetime.now(UTC) + timedelta(hours=3 * (len(server.requests) % 2))
        date = f"Date: {format_datetime(there, usegmt=True)}\r\n"
        return plain_answer(body, status="403 Forbidden", headers=date)

    with plain_server(answer) as server:
        store = S3Store(make_client(endpoint_url=server.url, region="us-east-1", tries=1, **KEYS), "bucket")
        with pytest.raises(StoreError, match="RequestTimeTooSkewed"):
            store.get("key")
        assert len(server.requests) == 2


def test_a_look_that_is_refused_without_a_word_is_repeated_too(
    late: None,  # noqa: ARG001 - a fixture
    seaweed: Seaweed,
    seaweed_client: Any,
    bucket: str,
) -> None:
    """A HEAD's answer has no body that would say why."""
    seaweed_client.put_object(Bucket=bucket, Key="key", Body=b"content")
    client = make_client(endpoint_url=seaweed.endpoint, region="us-east-1", tries=1, **KEYS)
    assert S3Store(client, bucket).head("key").size == 7


def test_the_client_of_a_caller_fails_and_says_both_times(
    late: None,  # noqa: ARG001 - a fixture
    seaweed: Seaweed,
    bucket: str,
) -> None:
    """It signs as it does; the message has the two clocks."""
    client: Any = boto3.client("s3", endpoint_url=seaweed.endpoint, region_name="us-east-1", **KEYS)
    with pytest.raises(StoreError, match=r"RequestTimeTooSkewed.*\. Here it is .* GMT, at the server .* GMT"):
        S3Store(client, bucket).get("key")
