"""Connections for the parts of an upload are opened while the server is asked to begin it."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.fast_store import fast_store
from support.seaweed import ADMIN
from support.settled import settled
from support.wire import Wire

from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.s3.clients import make_client
from stepout.artifacts.s3.connections.preconnect import Preconnections
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store_writes import WriteOptions
from stepout.artifacts.transfer.plan import MIB
from stepout.artifacts.transfer.upload import Upload
from stepout.schemas.errors import StoreError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from support.seaweed import Seaweed

    from stepout.artifacts.store import Store
    from stepout.artifacts.transfer.conditional_write import Uploaded

ROOT = Path(__file__).resolve().parents[3]
DATA = os.urandom(30 * MIB)
PARTS = 6


@pytest.fixture(autouse=True)
def _waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """However late the first request leaves on a busy machine, those who would connect wait for it."""
    monkeypatch.setattr("stepout.artifacts.s3.connections.preconnect._LONGEST_WAIT", 600.0)


@pytest.fixture
def wire(seaweed: Seaweed, seaweed_client: Any) -> Iterator[Wire]:  # noqa: ARG001 - it makes the account
    """A proxy before a real server."""
    with Wire(seaweed.endpoint, keep_alive=True) as found:
        yield found


@pytest.fixture
def secure(seaweed: Seaweed, seaweed_client: Any, certificate: tuple[str, ssl.SSLContext]) -> Iterator[Wire]:  # noqa: ARG001
    """The same with TLS 1.3, whose servers send tickets that nobody asked for."""
    with Wire(seaweed.endpoint, keep_alive=True, tls=certificate[1]) as found:
        yield found


def _client(endpoint: str, **options: Any) -> Any:
    keys: dict[str, Any] = {"aws_access_key_id": ADMIN.access_key, "aws_secret_access_key": ADMIN.secret_key}
    return make_client(endpoint_url=endpoint, region="us-east-1", **keys, **options)


class _Sending(threading.Thread):
    """An upload under way."""

    def __init__(self, store: Store) -> None:
        super().__init__(daemon=True)
        self.upload = Upload(store, "key", options=WriteOptions(mode="create"))
        self.done: Uploaded | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        """Send it."""
        try:
            self.done = self.upload.send_buffer(DATA)
        except StoreError as error:
            self.error = error


def _until(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_server_that_begins_late_finds_all_connections_open(wire: Wire, bucket: str) -> None:
    """One for each part that waits, none twice, and the parts go over these."""
    late = wire.when("CreateMultipartUpload", "stall")
    sending = _Sending(fast_store(settled(_client(wire.endpoint), bucket), bucket))
    sending.start()
    _until(lambda: wire.accepted == PARTS and bool(wire.operations))
    assert wire.operations == ["CreateMultipartUpload"]
    late.release()
    sending.join(60)
    assert sending.done is not None
    assert sending.done.checksum["sha256"] == hashlib.sha256(DATA).hexdigest()
    assert wire.operations.count("UploadPart") == PARTS
    assert wire.accepted == PARTS


def test_connections_with_tls_are_kept_as_well(
    secure: Wire, bucket: str, certificate: tuple[str, ssl.SSLContext]
) -> None:
    """What the server sends unasked is read, so that the pool does not take the connection for a closed one."""
    late = secure.when("CreateMultipartUpload", "stall")
    sending = _Sending(fast_store(settled(_client(secure.endpoint, verify=certificate[0]), bucket), bucket))
    sending.start()
    assert late.struck.wait(60)
    _until(lambda: secure.waiting == PARTS - 1)  # all others have shaken hands, and have been sent their tickets
    late.release()
    sending.join(60)
    assert sending.done is not None
    assert secure.operations.count("UploadPart") == PARTS
    assert secure.accepted == PARTS, secure.connections


class _Unreachable(MemoryStore):
    """A store that begins an upload when told to, and to which no further connection ever opens."""

    def __init__(self) -> None:
        super().__init__("bucket")
        self.begin, self.gate = threading.Event(), threading.Event()
        self.opening = self.opened = 0

    def start_upload(self, key: str, *, options: WriteOptions) -> str:
        """Begin it, late."""
        self.begin.wait(60)
        return super().start_upload(key, options=options)

    @contextmanager
    def open_connection(self) -> Iterator[None]:
        """Open none."""
        self.opening += 1
        self.gate.wait(60)
        self.opened += 1
        yield


def test_an_abort_does_not_wait_for_connections_that_do_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server has begun is removed when it returns, though all other threads hang."""
    monkeypatch.setattr("stepout.artifacts.transfer.upload._ABORT_SECONDS", 600.0)
    store = _Unreachable()
    sending = _Sending(store)
    sending.start()
    _until(lambda: store.opening >= PARTS // 2)
    threading.Timer(0.1, store.begin.set).start()
    sending.upload.abort()
    assert store.begin.is_set()
    assert store.open_uploads == []
    assert store.opened == 0
    sending.join(60)
    assert sending.error is not None
    store.gate.set()


def test_an_upload_that_is_never_asked_for_keeps_nobody_waiting(bucket: str) -> None:
    """Without credentials no request leaves; those who would connect are told so."""
    store = fast_store(make_client(endpoint_url="http://127.0.0.1:9", region="us-east-1"), bucket)
    store.ordinary().client._request_signer._credentials = None
    sending = _Sending(store)
    sending.start()
    sending.join(60)
    assert sending.error is not None
    assert store._connections()._settled.is_set()


def test_a_second_upload_uses_the_connections_of_the_first(wire: Wire, bucket: str) -> None:
    """What is open and idle is held for the parts, not opened again."""
    store = fast_store(settled(_client(wire.endpoint), bucket), bucket)
    late = wire.when("CreateMultipartUpload", "stall")
    first = _Sending(store)
    first.start()
    _until(lambda: wire.accepted == PARTS)
    late.release()
    first.join(60)
    again = Upload(store, "again", options=WriteOptions(mode="create"))
    assert again.send_buffer(DATA).size == len(DATA)
    assert wire.accepted == PARTS


def test_thirty_two_connections_are_held_at_once_and_kept(wire: Wire, bucket: str) -> None:
    """As many as one transfer has at most; the pool throws none away."""
    warm = Preconnections(_client(wire.endpoint), bucket, "Any")
    warm._see(SimpleNamespace(url=f"{wire.endpoint}/{bucket}/key"))
    for _ in range(2):
        with ExitStack() as held:
            for _ in range(32):
                held.enter_context(warm.connection())
        _until(lambda: wire.accepted == 32)


def test_where_few_connections_are_allowed_none_is_held(wire: Wire, bucket: str) -> None:
    """The request that begins the upload would wait for it."""
    warm = Preconnections(_client(wire.endpoint), bucket, "Any")
    warm._see(SimpleNamespace(url=f"{wire.endpoint}/{bucket}/key"))
    pool = warm._pool()
    pool.shared.limit.opened(connection := pool._get_conn())
    pool.shared.limit.refused()
    with warm.connection():
        assert wire.accepted == 0
    assert connection


def test_a_held_connection_is_given_to_whoever_waits_for_one(wire: Wire, bucket: str) -> None:
    """The limit may be learned while it is held, by the very request that begins the upload."""
    warm = Preconnections(_client(wire.endpoint), bucket, "Any")
    warm._see(SimpleNamespace(url=f"{wire.endpoint}/{bucket}/key"))
    with warm.connection():
        pool = warm._pool()
        pool.shared.limit.refused()
        taken = pool._get_conn()
        assert taken.sock is not None
        taken.close()
    _until(lambda: wire.accepted == 1)


def test_the_client_of_a_caller_opens_what_it_needs_when_it_needs_it(wire: Wire, bucket: str) -> None:
    """It is used as it is: nothing listens to it, nothing looks inside."""
    late = wire.when("CreateMultipartUpload", "stall")
    sending = _Sending(S3Store(settled(_client(wire.endpoint), bucket), bucket))
    sending.start()
    assert late.struck.wait(60)
    assert not late.released.wait(0.2)
    assert wire.accepted == 1
    late.release()
    sending.join(60)
    assert sending.done is not None


def test_an_abort_while_connections_are_held_leaves_nothing(wire: Wire, bucket: str, seaweed_client: Any) -> None:
    """The threads that hold them go, and the upload that the server began too late is removed."""
    late = wire.when("CreateMultipartUpload", "stall")
    before = threading.active_count()
    sending = _Sending(fast_store(settled(_client(wire.endpoint), bucket), bucket))
    sending.start()
    _until(lambda: wire.accepted == PARTS)
    threading.Timer(0.1, late.release).start()
    sending.upload.abort()
    sending.join(60)
    assert sending.error is not None
    _until(lambda: not seaweed_client.list_multipart_uploads(Bucket=bucket).get("Uploads"))
    _until(lambda: threading.active_count() <= before + wire.accepted)  # the wire has one for each connection


def _accept_and_close(listener: socket.socket) -> None:
    listener.accept()[0].close()


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:{port}", "https://127.0.0.1:{port}"])
def test_what_cannot_be_reached_is_left_to_the_request(endpoint: str) -> None:
    """Nobody listens, or no TLS is spoken: the block runs, and nothing is raised."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if endpoint.startswith("https"):
            threading.Thread(target=_accept_and_close, args=(listener,), daemon=True).start()
        else:
            listener.close()
        warm = Preconnections(_client(endpoint.format(port=port)), "bucket", "Any")
        warm._see(SimpleNamespace(url=endpoint.format(port=port) + "/bucket/key"))
        with warm.connection():
            pool = warm._pool()
        assert pool is not None
        assert pool._get_conn().sock is None  # given back, to be opened by the request that gets it


def test_another_botocore_without_the_members_that_are_needed_is_used_as_ever() -> None:
    """The block runs."""
    client = SimpleNamespace(meta=SimpleNamespace(events=SimpleNamespace(register=lambda *_: None)))
    warm = Preconnections(client, "bucket", "Any")
    warm._see(SimpleNamespace(url="http://127.0.0.1:9/bucket/key"))
    with warm.connection():
        reached = True
    assert reached


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("http://127.0.0.1:9/bucket/key?uploads", True),
        ("https://bucket.s3.eu-west-1.amazonaws.com/key?uploads", True),
        ("https://bucket-two.s3.eu-west-1.amazonaws.com/key?uploads", False),
        ("http://127.0.0.1:9/other/bucket/key?uploads", False),
    ],
)
def test_the_requests_of_other_buckets_say_nothing(url: str, ours: bool) -> None:
    """They may go to another host, by the same client."""
    warm = Preconnections(_client("http://127.0.0.1:9"), "bucket", "Any")
    warm._see(SimpleNamespace(url=url))
    assert warm._settled.is_set() is ours


def test_behind_a_proxy_nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's connections are its own."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.delenv("no_proxy", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        warm = Preconnections(_client(url), "bucket", "Any")
        warm._see(SimpleNamespace(url=url + "/bucket/key"))
        listener.settimeout(0.2)
        with warm.connection(), pytest.raises(TimeoutError):
            listener.accept()
