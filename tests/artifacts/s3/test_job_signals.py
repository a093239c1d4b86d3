"""A signal's handler of the job's own that raises in the middle of a put."""

from __future__ import annotations

import functools
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

from stepout.artifacts import ArtifactManager
from stepout.artifacts.s3.clients import make_client
from stepout.artifacts.s3.connections.addresses import Address, AddressBook, Connecting
from stepout.artifacts.s3.connections.pools import lend
from stepout.artifacts.s3.internals import give_back, pool_for, take_connection
from stepout.artifacts.s3.job_signals import from_handler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


class AlarmError(TimeoutError):
    """What the handler raises; a kind that a client's own errors are of, too."""


def alarm(*_: object) -> None:
    """Raise."""
    raise AlarmError("the job's own")


class Alarm:
    """The same, as an object."""

    def __call__(self, *_: object) -> None:
        """Raise."""
        alarm()

    def ring(self, *_: object) -> None:
        """Raise."""
        alarm()


@pytest.fixture(params=[alarm, Alarm(), Alarm().ring, functools.partial(alarm, 1), lambda *_: alarm()])
def handler(request: pytest.FixtureRequest) -> Iterator[Callable[..., object]]:
    """A handler for SIGUSR1, in each of the forms that one has."""
    before = signal.signal(signal.SIGUSR1, request.param)
    yield request.param
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("event", ["before-call", "before-send", "after-call"])
def test_it_leaves_the_put_as_the_job_raised_it(handler: object, event: str, seaweed: Any, bucket: str) -> None:
    """It is no answer of the store; the same put again finds out what became of the first one."""
    assert handler
    client = seaweed.client()
    manager = ArtifactManager(bucket, client=client)
    rung: list[int] = []

    def ring(**_: Any) -> None:
        if not rung:
            rung.append(1)
            os.kill(os.getpid(), signal.SIGUSR1)

    client.meta.events.register_first(f"{event}.s3.PutObject", ring)
    with pytest.raises(AlarmError):
        manager.put_bytes("one", b"1")
    assert manager.pointers == {}
    pointer = manager.put_bytes("one", b"1")
    assert client.get_object(Bucket=bucket, Key=pointer.key)["Body"].read() == b"1"


def test_it_ends_a_wait_for_a_connection(handler: object, seaweed: Any) -> None:
    """Which lasts for a minute where there may be no more connections; other errors mean that there is none."""
    assert handler
    pool = pool_for(make_client(endpoint_url=seaweed.endpoint, region="us-east-1"), seaweed.endpoint)
    used = take_connection(pool)
    pool.shared.limit.opened(used)
    pool.shared.limit.refused()
    lend(pool, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    with pytest.raises(AlarmError):
        take_connection(pool)
    give_back(pool, used)
    pool.close()
    assert take_connection(pool) is None


def test_it_is_no_refusal_of_an_address(handler: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is learned from it, and no other address is tried."""
    assert handler
    book = AddressBook()
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: os.kill(os.getpid(), signal.SIGUSR1))
    with pytest.raises(AlarmError):
        Connecting(book, seconds=60.0).first([Address(socket.AF_INET, ("127.0.0.1", port)) for port in (1, 2)])
    assert not book._dead


def test_what_libraries_make_of_it_is_seen_through(handler: Callable[..., object]) -> None:
    """They wrap whatever passes through them; an exception of anybody else's is nobody's alarm."""

    def wrapping() -> None:
        try:
            handler()
        except TimeoutError as error:
            raise ConnectionError("wrapped") from error

    with pytest.raises(ConnectionError) as caught:
        wrapping()
    assert isinstance(from_handler(caught.value), AlarmError)
    assert from_handler(ConnectionError("another")) is None
