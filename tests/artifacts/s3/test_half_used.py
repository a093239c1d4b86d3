"""Answers that come before a request was sent: the connection never carries another request."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from support.fast_store import fast_store

from stepout.artifacts.s3 import clients
from stepout.artifacts.s3.internals import pool_for
from stepout.artifacts.s3.request_bodies import SMALL
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store_writes import WriteOptions
from stepout.schemas.errors import AccessDeniedError
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from stepout.artifacts.store import Store

LARGE = bytes(range(256)) * (SMALL // 128)
PIECE = 256 * 1024
OPTIONS = WriteOptions(mode="overwrite")
DENIAL = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
KEYS: Any = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}


class EarlyServer:
    """Denies keys that begin with ``denied``, before it has read their bodies, and goes on reading those.

    Where a client never sends such a body, the server takes the head of the connection's next request for it, and
    answers nonsense to what is left: what RFC 9110 allows, and what a foreign server does.

    Args:
        reads: How much of a body it reads before it denies.
        forgets: Whether it takes the rest of a body that it has denied for the next request.
    """

    def __init__(self, *, reads: int = 0, forgets: bool = False) -> None:
        self._reads, self._forgets = reads, forgets
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.answers: list[tuple[int, int]] = []  # the connection's number, and the status
        self.bodies: list[bytes] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                threading.Thread(target=self._serve, args=(client, len(self._sockets)), daemon=True).start()

    def _serve(self, client: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError, ValueError), client.makefile("rb") as reader:
            while line := reader.readline():
                status, more, content = self._read(client, reader, line)
                self.answers.append((number, status))
                head = f"HTTP/1.1 {status} Said\r\n{more}Content-Length: {len(content)}\r\n\r\n"
                client.sendall(head.encode() + content)
                if status == 403 and self._late:
                    reader.read(self._late)

    def _read(self, client: socket.socket, reader: Any, line: bytes) -> tuple[int, str, bytes]:
        self._late = 0
        if not line.startswith((b"PUT ", b"HEAD ")) or not line.endswith(b"HTTP/1.1\r\n"):
            return 400, "", b"<Error><Code>InvalidRequest</Code><Message>invalid HTTP request</Message></Error>"
        names = {}
        while (each := reader.readline()) != b"\r\n":
            name, _, value = each.decode().partition(":")
            names[name.lower()] = value.strip()
        length = int(names.get("content-length", 0))
        if b"/denied" in line:
            if self._reads:
                if "expect" in names:
                    client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                length -= len(reader.read(self._reads))
            self._late = 0 if self._forgets else length
            return 403, "", DENIAL
        if "expect" in names:
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = reader.read(length)
        self.bodies.append(body)
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        return 200, f'ETag: "{hashlib.md5(body).hexdigest()}"\r\nx-amz-checksum-sha256: {checksum}\r\n', b""


def _own(url: str) -> PerProcess[Any]:
    return PerProcess(lambda: clients.make_client(endpoint_url=url, region="us-east-1", **KEYS))


def _passed_in(url: str) -> Any:
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    return boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=config, **KEYS)


MAKERS: dict[str, Callable[[str], Store]] = {
    "own": lambda url: S3Store(_own(url), "results"),
    "quick": lambda url: fast_store(_own(url), "results", obstore=False),
    "passed in": lambda url: S3Store(_passed_in(url), "results"),
}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Any:
    """What makes a store of each kind over a server."""
    return MAKERS[request.param]


@pytest.fixture
def early() -> Iterator[EarlyServer]:
    """A server that denies before it reads."""
    with EarlyServer() as server:
        yield server


def _put(store: Store, key: str, data: bytes) -> None:
    views = [memoryview(data)[start : start + PIECE] for start in range(0, len(data), PIECE)]
    store.put(key, views, checksum={"sha256": hashlib.sha256(data).hexdigest()}, options=OPTIONS)


@pytest.mark.parametrize("then", [b"small", LARGE])
def test_a_connection_whose_body_was_never_sent_is_closed(early: EarlyServer, make: Any, then: bytes) -> None:
    """After a denial in place of 100 Continue, the next requests arrive whole, on other connections."""
    store = make(early.url)
    for _ in range(3):
        _put(store, "good", b"before")
        with pytest.raises(AccessDeniedError):
            _put(store, "denied", LARGE)
        _put(store, "good", then)
    assert early.bodies == [b"before", then] * 3
    assert {status for _, status in early.answers} == {200, 403}
    denied = [number for number, status in early.answers if status == 403]
    for number in denied:
        assert early.answers[-1][0] != number
        at = early.answers.index((number, 403))
        assert number not in [other for other, _ in early.answers[at + 1 :]]


@pytest.mark.parametrize("kind", ["own", "quick"])
def test_a_connection_that_was_answered_in_the_middle_of_a_body_is_closed(kind: str) -> None:
    """A server that denies while the body is on its way, and takes its rest for a request, spoils no other one."""
    pieces = [memoryview(b"x" * PIECE)] * 128  # more than sockets hold: the denial comes before the last one is sent
    with EarlyServer(reads=1 << 16, forgets=True) as server:
        store = MAKERS[kind](server.url)
        _put(store, "good", b"before")
        with pytest.raises(AccessDeniedError):
            store.put_part("denied", "upload", 1, pieces, checksum="0" * 16)
        _put(store, "good", b"after")
        assert server.bodies == [b"before", b"after"]


def test_a_connection_that_was_answered_early_counts_as_closed(early: EarlyServer) -> None:
    """Where it went there is one less, and the next one that takes its place has proved nothing."""
    store = S3Store(_own(early.url), "results")
    for _ in range(3):
        with pytest.raises(AccessDeniedError):
            _put(store, "denied", LARGE)
    shared = pool_for(store.client, early.url).shared
    assert shared.book._open == {}
    assert len(shared.limit._open) == len(shared.limit._proved) == 0


def test_a_denial_that_leaves_the_connection_whole_costs_no_other_one() -> None:
    """A part that was sent whole, without a wait for 100 Continue, is followed by the next request where it went."""
    with EarlyServer() as server:
        store = MAKERS["own"](server.url)
        for _ in range(3):
            with pytest.raises(AccessDeniedError):
                store.put_part("denied", "upload", 1, [memoryview(b"small")], checksum="0" * 16)
            _put(store, "good", b"after")
        assert {number for number, _ in server.answers} == {1}


def test_a_quick_put_after_a_denied_one_arrives_whole() -> None:
    """The quick route shares its client's connections, and what it repeats the ordinary way is denied as well."""
    with EarlyServer() as server:
        store = MAKERS["quick"](server.url)
        _put(store, "good", b"taught")
        for number in range(3):
            with pytest.raises(AccessDeniedError):
                _put(store, "denied", b"small")
            _put(store, "good", b"%d" % number)
        assert server.bodies == [b"taught", b"0", b"1", b"2"]
        assert 400 not in {status for _, status in server.answers}
