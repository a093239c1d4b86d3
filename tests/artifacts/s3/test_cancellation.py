"""Requests that another thread ends: at once, once, and nobody else's."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from support.fast_store import fast_store
from support.seaweed import ADMIN
from support.wire import Wire

from stepout.artifacts.checksums import sha256_of
from stepout.artifacts.s3.clients import make_client
from stepout.artifacts.s3.connections.cancellation import cancellable
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store import Cancels, RequestCancelledError
from stepout.artifacts.store_writes import StoreProfile, WriteOptions
from stepout.schemas.errors import StoreUnavailableError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from support.seaweed import Seaweed

    from stepout.artifacts.store import Cancellation, Store

LARGE = os.urandom(32 << 20)
"""More than the sockets of both sides hold."""
LARGE_SHA256 = sha256_of([memoryview(LARGE)])
PARTS = StoreProfile(name="compatible", multipart_checksum="parts")
KEYS: dict[str, Any] = {"aws_access_key_id": ADMIN.access_key, "aws_secret_access_key": ADMIN.secret_key}


@pytest.fixture(params=["http", "https"])
def wire(request: pytest.FixtureRequest, seaweed: Seaweed, seaweed_client: Any) -> Iterator[Wire]:  # noqa: ARG001
    """A proxy before a real server, with TLS and without."""
    tls = request.getfixturevalue("certificate")[1] if request.param == "https" else None
    with Wire(seaweed.endpoint, keep_alive=True, tls=tls) as found:
        yield found


@pytest.fixture(params=["S3Store", "FastS3Store"])
def store(request: pytest.FixtureRequest, wire: Wire, bucket: str) -> Store:
    """Both stores, over a client that tries three times unless it is told that a request was cancelled."""
    verify = {"verify": request.getfixturevalue("certificate")[0]} if wire.endpoint.startswith("https") else {}
    client = make_client(endpoint_url=wire.endpoint, region="us-east-1", profile=PARTS, **KEYS, **verify)
    if request.param == "S3Store":
        return S3Store(client, bucket, profile=PARTS)
    return fast_store(client, bucket, profile=PARTS)


class Blocked(threading.Thread):
    """A request that a thread makes inside a block that can be cancelled."""

    def __init__(self, store: Store, act: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._store, self._act = store, act
        self._entered = threading.Event()
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        """Make it."""
        assert isinstance(self._store, Cancels)
        with self._store.cancellable() as self.cancellation:
            self._entered.set()
            try:
                self._act()
            except Exception as error:  # noqa: BLE001 - for the test to look at
                self.error = error

    def cancel(self) -> None:
        """Cancel, and see that the thread ends although nobody lets the server go on."""
        assert self._entered.wait(60)
        self.cancellation.cancel()
        self.join(60)
        assert not self.is_alive()
        assert isinstance(self.error, RequestCancelledError), repr(self.error)
        assert not isinstance(self.error, StoreUnavailableError)


def _put(store: Store, key: str, data: bytes) -> None:
    checksum = {"sha256": sha256_of([memoryview(data)])}
    store.put(key, [memoryview(data)], checksum=checksum, options=WriteOptions(mode="overwrite"))


def _get(store: Store, key: str) -> bytes:
    with store.get(key) as body:
        return b"".join(bytes(block) for block in body.blocks())


def _send_part(store: Store, upload: str) -> Any:
    views = [memoryview(LARGE)[start : start + (1 << 20)] for start in range(0, len(LARGE), 1 << 20)]
    return store.put_part("parts", upload, 1, views, checksum=LARGE_SHA256)


def test_a_get_that_waits_for_its_head_ends_at_once(store: Store, wire: Wire) -> None:
    """Asked once, its connection carries nothing more, and a request of another thread is not harmed."""
    _put(store, "key", LARGE[: 1 << 20])
    other = wire.when("HeadObject", "stall")
    answers: list[int] = []
    beside = threading.Thread(target=lambda: answers.append(store.head("key").size), daemon=True)
    beside.start()
    assert other.struck.wait(60)
    fault = wire.when("GetObject", "stall")
    blocked = Blocked(store, lambda: _get(store, "key"))
    assert fault.struck.wait(60)
    blocked.cancel()
    assert wire.operations.count("GetObject") == 1
    other.release()
    beside.join(60)
    assert answers == [1 << 20]
    assert _get(store, "key") == LARGE[: 1 << 20]
    ended_by_gets = [lines for lines in wire.connections if lines[-1].startswith("GET ")]
    assert len(ended_by_gets) == 2


def test_a_get_that_waits_for_the_rest_of_its_body_ends_at_once(store: Store, wire: Wire) -> None:
    """Nor is it taken up again."""
    _put(store, "key", LARGE[: 4 << 20])
    fault = wire.when("GetObject", "half")
    arrived = threading.Event()

    def read() -> None:
        with store.get("key") as body:
            received = 0
            for block in body.blocks(1 << 16):
                received += len(block)
                if received == 2 << 20:
                    arrived.set()

    blocked = Blocked(store, read)
    assert fault.halfway.wait(60)
    assert arrived.wait(60)
    blocked.cancel()
    assert wire.operations.count("GetObject") == 1
    assert _get(store, "key") == LARGE[: 4 << 20]


@pytest.mark.parametrize("kind", ["deaf", "stall"])
def test_a_part_that_is_sent_or_waits_for_its_answer_ends_at_once(store: Store, wire: Wire, kind: Any) -> None:
    """A server that stops reading, and one that has read all and says nothing."""
    upload = store.start_upload("parts", options=WriteOptions(mode="overwrite"))
    fault = wire.when("UploadPart", kind)
    blocked = Blocked(store, lambda: _send_part(store, upload))
    assert fault.struck.wait(60)
    blocked.cancel()
    assert wire.operations.count("UploadPart") == 1
    assert _send_part(store, upload).size == len(LARGE)
    store.abort_upload("parts", upload)


def test_what_is_cancelled_before_it_begins_sends_nothing(store: Store, wire: Wire) -> None:
    """And what the thread asks for after the block is sent as ever."""
    assert isinstance(store, Cancels)
    _put(store, "key", b"content")
    before = len(wire.lines)
    with store.cancellable() as cancellation:
        assert not cancellation.cancelled
        cancellation.cancel()
        assert cancellation.cancelled
        with pytest.raises(RequestCancelledError, match="key: the request was cancelled"):
            store.head("key")
    assert len(wire.lines) == before
    assert store.head("key").size == 7


def test_a_cancellation_after_the_end_changes_nothing(store: Store, wire: Wire) -> None:
    """The connection went back when the answer was read: it carries the next requests, of whatever thread."""
    assert isinstance(store, Cancels)
    _put(store, "key", b"content")
    accepted = wire.accepted
    with store.cancellable() as within:
        assert _get(store, "key") == b"content"
        within.cancel()
    with store.cancellable() as after:
        assert _get(store, "key") == b"content"
    after.cancel()
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(_get(store, "key")))
    thread.start()
    thread.join(60)
    assert found == [b"content"]
    assert _get(store, "key") == b"content"
    assert wire.accepted == accepted


def test_a_connection_that_is_yet_to_be_opened_can_be_cancelled(certificate: tuple[str, ssl.SSLContext]) -> None:
    """A server that takes connections and never speaks TLS keeps nobody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        store = S3Store(make_client(endpoint_url=url, region="us-east-1", verify=certificate[0], **KEYS), "bucket")
        blocked = Blocked(store, lambda: store.head("key"))
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1)  # of the handshake, which never goes on
            blocked.cancel()


def test_a_client_of_a_caller_is_only_marked(wire: Wire, bucket: str, request: pytest.FixtureRequest) -> None:
    """Its request ends by itself and counts; the next one of the block is refused."""
    verify = request.getfixturevalue("certificate")[0] if wire.endpoint.startswith("https") else None
    config = Config(s3={"addressing_style": "path"})
    client: Any = boto3.client(
        "s3", endpoint_url=wire.endpoint, region_name="us-east-1", config=config, verify=verify, **KEYS
    )
    store = S3Store(client, bucket, profile=PARTS)
    _put(store, "key", b"content")
    fault = wire.when("HeadObject", "stall")
    found: list[Any] = []

    def act(cancellation: Cancellation) -> None:
        assert fault.struck.wait(60)
        cancellation.cancel()
        fault.release()

    with store.cancellable() as cancellation:
        threading.Thread(target=act, args=(cancellation,)).start()
        found.append(store.head("key").size)
        with pytest.raises(RequestCancelledError):
            store.head("key")
    assert found == [7]


def test_a_block_inside_another_one_is_a_request_of_its_own() -> None:
    """Cancelling the inner one leaves the outer one as it was."""
    with cancellable() as outer:
        with cancellable() as inner:
            inner.cancel()
        assert not outer.cancelled
