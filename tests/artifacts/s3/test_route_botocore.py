"""Small requests on botocore's connections: what goes wrong on the wire costs a request, and never an object."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.fast_store import fast_store
from support.seaweed import ADMIN
from support.settled import settled
from support.wire import Fault, Wire, operation

from stepout.artifacts.checksums import sha256_of
from stepout.artifacts.s3.clients import make_client
from stepout.artifacts.s3.routes.route_botocore import BotocoreRoute, TemplatedRequests
from stepout.artifacts.store import RequestCancelledError, SlowDownError
from stepout.artifacts.store_writes import StoreProfile, WriteOptions
from stepout.artifacts.transfer.conditional_write import Content, put_once
from stepout.schemas.errors import ArtifactExistsError, ArtifactNotFoundError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from support.seaweed import Seaweed

    from stepout.artifacts.store_writes import Written

PARTS = StoreProfile(name="compatible", multipart_checksum="parts")
KEYS: dict[str, Any] = {"aws_access_key_id": ADMIN.access_key, "aws_secret_access_key": ADMIN.secret_key}
BODY = os.urandom(10_240)


def _put(store: Any, key: str, data: bytes = BODY) -> Written:
    sent = Content(size=len(data), checksum={"sha256": sha256_of([memoryview(data)])})
    return put_once(store, key, [memoryview(data)], sent, WriteOptions())


def _get(store: Any, key: str, size: int = len(BODY)) -> bytes:
    with store.get_small(key, size=size) as body:
        return b"".join(map(bytes, body.blocks()))


@pytest.fixture
def wire(seaweed: Seaweed, seaweed_client: Any) -> Iterator[Wire]:  # noqa: ARG001 - it makes the account
    """A proxy before a real server, which keeps connections open."""
    with Wire(seaweed.endpoint, keep_alive=True) as found:
        yield found


def _learned(bucket: str, endpoint: str, **options: Any) -> Any:
    """Return a store that has learned from a put and a get, without obstore."""
    client = make_client(endpoint_url=endpoint, region="us-east-1", profile=PARTS, tries=1, **KEYS, **options)
    store = fast_store(settled(client, bucket), bucket, profile=PARTS, obstore=False)
    _put(store, "first")
    assert _get(store, "first") == BODY
    return store


@pytest.fixture
def store(wire: Wire, bucket: str) -> Any:
    """A store that has learned, behind the wire."""
    return _learned(bucket, wire.endpoint)


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that were made on the route."""
    seen: list[str] = []
    for verb in ("put", "get"):
        real = getattr(TemplatedRequests, verb)

        def counted(*args: Any, _real: Any = real, _verb: str = verb, **options: Any) -> Any:
            seen.append(_verb)
            return _real(*args, **options)

        monkeypatch.setattr(TemplatedRequests, verb, counted)
    return seen


def test_requests_follow_each_other_on_one_connection(store: Any, wire: Wire, light: list[str]) -> None:
    """The one that the ordinary requests have opened."""
    for number in range(5):
        _put(store, f"k{number}")
        assert _get(store, f"k{number}") == BODY
    assert light == ["put", "get"] * 5
    assert wire.accepted == 1


@pytest.mark.parametrize("fault", [("reset", 0), ("lost", 0), ("late_error", 0), ("status", 403), ("status", 500)])
def test_a_put_whose_answer_is_no_success_is_repeated_the_ordinary_way(
    store: Any, wire: Wire, light: list[str], fault: tuple[Any, int]
) -> None:
    """So it is done once, by whichever request has reached the server."""
    kind, status = fault
    wire.when("PutObject", kind, status=status, code="AccessDenied" if status == 403 else "InternalError")
    written = _put(store, "key")
    assert light == ["put"]
    assert wire.operations.count("PutObject") == 3
    if kind in {"reset", "lost"}:
        assert len(wire.connections[0]) == 3
    client = store.ordinary().client
    assert client.head_object(Bucket=store.bucket, Key="key")["ETag"] == written.etag
    assert _get(store, "key") == BODY


def test_a_server_that_asks_for_fewer_requests_is_understood(store: Any, wire: Wire, light: list[str]) -> None:
    """The answer's body says so, and whoever repeats writes is told; the connection goes on."""
    wire.when("PutObject", "status", status=503, code="SlowDown")
    with pytest.raises(SlowDownError):
        _put(store, "key")
    assert _put(store, "key").etag
    assert light == ["put", "put"]
    assert wire.accepted == 1


@pytest.mark.parametrize("kind", ["reset", "lost", "truncate", "status"])
def test_a_get_whose_answer_is_no_success_is_repeated_the_ordinary_way(
    store: Any, wire: Wire, light: list[str], kind: Any
) -> None:
    """It returns what the server has; a connection whose answer did not come whole is used no more."""
    wire.when("GetObject", kind)
    assert _get(store, "first") == BODY
    assert light == ["get"]
    assert wire.operations[-2:] == ["GetObject"] * 2
    assert wire.accepted == (1 if kind == "status" else 2)


ODD: dict[str, Callable[[bytes], bytes]] = {
    "garbage": lambda _: b"\0\xff garbage\r\n\r\n",
    "no length": lambda answer: answer.replace(b"Content-Length", b"X-Length"),
    "chunks": lambda _: b'HTTP/1.1 200 OK\r\nETag: "e"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    "another answer first": lambda answer: b"HTTP/1.1 100 Continue\r\n\r\n" + answer,
    "more behind it": lambda answer: answer + b"HTTP/1.1 200 OK\r\n",
    "a longer head": lambda answer: answer.replace(b"\r\n", b"\r\nX: " + b"x" * 40_000 + b"\r\n", 1),
    "no ETag": lambda answer: answer.replace(b"ETag", b"X-Tag").replace(b"Etag", b"X-Tag"),
    "another's ETag": lambda _: b'HTTP/1.1 200 OK\r\nETag: "' + b"0" * 32 + b'"\r\nContent-Length: 0\r\n\r\n',
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_answer_to_a_put_is_not_believed(store: Any, wire: Wire, light: list[str], odd: str) -> None:
    """The ordinary way asks again, and finds its own object there."""
    wire.rewrite("PutObject", ODD[odd])
    written = _put(store, "key")
    assert light == ["put"]
    assert store.ordinary().client.head_object(Bucket=store.bucket, Key="key")["ETag"] == written.etag


@pytest.mark.parametrize("odd", ["garbage", "no length", "another answer first", "more behind it", "a longer head"])
def test_an_odd_answer_to_a_get_is_not_believed(store: Any, wire: Wire, light: list[str], odd: str) -> None:
    """The ordinary way asks again."""
    wire.rewrite("GetObject", ODD[odd])
    assert _get(store, "first") == BODY
    assert light == ["get"]
    assert wire.operations[-2:] == ["GetObject"] * 2


def test_an_answer_that_comes_slowly_is_waited_for(store: Any, wire: Wire, light: list[str]) -> None:
    """Half of it now and half later is one answer to one request."""
    fault = wire.when("GetObject", "half")

    def go_on() -> None:
        fault.halfway.wait(60)
        fault.release()

    threading.Thread(target=go_on, daemon=True).start()
    assert _get(store, "first") == BODY
    assert light == ["get"]
    assert wire.operations == ["PutObject", "GetObject", "GetObject"]


def test_connections_that_the_server_has_closed_meanwhile_are_opened_anew(
    store: Any, wire: Wire, light: list[str]
) -> None:
    """Before anything is sent: no request is made twice."""
    for verb, act in (("put", lambda: _put(store, "key")), ("get", lambda: _get(store, "key"))):
        light.clear()
        wire.hang_up()
        act()
        assert light == [verb]
    assert wire.operations == ["PutObject", "GetObject", "PutObject", "GetObject"]
    assert wire.accepted == 3


def test_errors_are_those_of_the_ordinary_way(store: Any, light: list[str]) -> None:
    """Another object at the key, and none, are asked for once more where errors are understood."""
    _put(store, "key")
    with pytest.raises(ArtifactExistsError, match="other content"):
        _put(store, "key", b"other")
    assert _put(store, "key").etag  # the same again
    with pytest.raises(ArtifactNotFoundError):
        _get(store, "missing")
    assert light == ["put"] * 3 + ["get"]


def test_many_threads_get_their_own_answers(store: Any, wire: Wire, light: list[str]) -> None:
    """Also while some connections are reset under them."""
    wire.when("PutObject", "lost", times=2)
    struck = set[str]()

    def first_time(line: str) -> bool:
        # A read that fails on the route is sent once more; if that one failed as well it would be an error.
        known = line in struck
        struck.add(line)
        return operation(line) == "GetObject" and not known

    wire.arm(Fault(first_time, "reset", 2))

    def there_and_back(number: int) -> bool:
        data = b"%d:" % number * 500
        _put(store, f"k{number}", data)
        return _get(store, f"k{number}", len(data)) == data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(there_and_back, range(80)))
    assert light.count("put") > 40


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_handler_that_raises_ends_the_wait_for_an_answer(store: Any, wire: Wire, light: list[str]) -> None:
    """The exception is the handler's own, and the connection, whose answer is still to come, is used no more."""

    class AlarmError(Exception):
        pass

    def alarm(*_: object) -> None:
        raise AlarmError

    before = signal.signal(signal.SIGUSR1, alarm)
    fault = wire.when("GetObject", "stall")
    fault.before = lambda: os.kill(os.getpid(), signal.SIGUSR1)
    try:
        with pytest.raises(AlarmError):
            _get(store, "first")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert light == ["get"]
    fault.release()
    assert _get(store, "first") == BODY
    assert wire.accepted == 2


def test_a_request_on_the_route_can_be_cancelled(store: Any, wire: Wire, light: list[str]) -> None:
    """It ends at once, and is not repeated."""
    fault = wire.when("GetObject", "stall")
    with store.cancellable() as cancellation:

        def cancel() -> None:
            fault.struck.wait(60)
            cancellation.cancel()

        threading.Thread(target=cancel, daemon=True).start()
        with pytest.raises(RequestCancelledError):
            _get(store, "first")
    assert light == ["get"]
    assert wire.operations == ["PutObject", "GetObject", "GetObject"]


def test_connections_that_a_client_has_dropped_are_not_used(store: Any, wire: Wire, light: list[str]) -> None:
    """The client's next connection is."""
    _put(store, "one")
    store.ordinary().client.close()
    _put(store, "two")
    assert light == ["put"] * 2
    assert wire.accepted == 2


@contextmanager
def _tunnels() -> Iterator[tuple[str, list[str]]]:
    """Run a proxy that makes tunnels; yield its URL, and what it is told to connect to."""
    lines: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def carry(source: socket.socket, target: socket.socket) -> None:
            try:
                while data := source.recv(1 << 16):
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        def serve(client: socket.socket) -> None:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(1000)
            lines.append(head.split(b"\r\n")[0].decode())
            host, port = lines[-1].split(" ")[1].rsplit(":", 1)
            with client, socket.create_connection((host, int(port))) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=carry, args=(server, client), daemon=True)
                back.start()
                carry(client, server)
                back.join()

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", lines


@pytest.mark.parametrize("proxied", [False, True])
def test_tls_and_tunnels_are_the_clients(  # noqa: PLR0913 - fixtures
    seaweed: Seaweed,
    bucket: str,
    certificate: tuple[str, ssl.SSLContext],
    light: list[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    proxied: bool,
) -> None:
    """Over TLS, directly or through a proxy's tunnel, requests take the route, on connections that it may have made."""
    with Wire(seaweed.endpoint, keep_alive=True, tls=certificate[1]) as wire, _tunnels() as (proxy, lines):
        if proxied:
            monkeypatch.setenv("HTTPS_PROXY", proxy)
            monkeypatch.setenv("NO_PROXY", "")
            monkeypatch.delenv("no_proxy", raising=False)
        store = _learned(bucket, wire.endpoint, verify=certificate[0])
        for _ in range(2):
            wire.hang_up()
            _put(store, f"key{len(light)}")
            assert _get(store, "first") == BODY
        assert light == ["put", "get"] * 2
        assert wire.operations == ["PutObject", "GetObject"] * 3
        assert len(lines) == (wire.accepted if proxied else 0)


def test_a_proxy_that_is_asked_in_another_form_has_no_route(
    store: Any, light: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over plain HTTP a proxy makes no tunnel; the ordinary way speaks its language."""
    known = store.learned.find("GetObject", None)
    with monkeypatch.context() as patch:
        patch.setattr("botocore.httpsession.ProxyConfiguration.proxy_url_for", lambda *_: "http://127.0.0.1:9")
        assert BotocoreRoute().get(known, "first", version_id=None, if_match=None) is None
    assert light == []
