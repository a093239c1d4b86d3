"""Connections for the parts of an upload are opened while the server is asked to begin it."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.seaweed import ADMIN
from support.wire import Wire

from stepout.artifacts.clients import make_client
from stepout.artifacts.plan import MIB
from stepout.artifacts.quick import QuickStore
from stepout.artifacts.s3 import S3Store
from stepout.artifacts.store import WriteOptions
from stepout.artifacts.upload import Upload, Uploaded
from stepout.artifacts.warm import Warm
from stepout.schemas.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.seaweed import Seaweed

DATA = os.urandom(30 * MIB)
PARTS = 6


@pytest.fixture
def wire(seaweed: Seaweed, seaweed_client: Any) -> Iterator[Wire]:  # noqa: ARG001 - it makes the account
    """A proxy before a real server."""
    with Wire(seaweed.endpoint, keep_alive=True) as found:
        yield found


def _client(endpoint: str) -> Any:
    keys: dict[str, Any] = {"aws_access_key_id": ADMIN.access_key, "aws_secret_access_key": ADMIN.secret_key}
    return make_client(endpoint_url=endpoint, region="us-east-1", **keys)


class _Sending(threading.Thread):
    """An upload under way."""

    def __init__(self, store: S3Store) -> None:
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


def _until(condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_server_that_begins_late_finds_all_connections_open(wire: Wire, bucket: str) -> None:
    """One for each part that waits, none twice, and the parts go over these."""
    late = wire.when("CreateMultipartUpload", "stall")
    sending = _Sending(QuickStore(_client(wire.endpoint), bucket))
    sending.start()
    _until(lambda: wire.accepted == PARTS)
    assert wire.operations == ["CreateMultipartUpload"]
    late.release()
    sending.join(60)
    assert sending.done is not None
    assert sending.done.checksum["sha256"] == hashlib.sha256(DATA).hexdigest()
    assert wire.operations.count("UploadPart") == PARTS
    assert wire.accepted == PARTS


def test_a_second_upload_uses_the_connections_of_the_first(wire: Wire, bucket: str) -> None:
    """What is open and idle is held for the parts, not opened again."""
    store = QuickStore(_client(wire.endpoint), bucket)
    late = wire.when("CreateMultipartUpload", "stall")
    first = _Sending(store)
    first.start()
    _until(lambda: wire.accepted == PARTS)
    late.release()
    first.join(60)
    again = Upload(store, "again", options=WriteOptions(mode="create"))
    assert again.send_buffer(DATA).size == len(DATA)
    assert wire.accepted == PARTS


def test_the_client_of_a_caller_opens_what_it_needs_when_it_needs_it(wire: Wire, bucket: str) -> None:
    """It is used as it is: nothing listens to it, nothing looks inside."""
    late = wire.when("CreateMultipartUpload", "stall")
    sending = _Sending(S3Store(_client(wire.endpoint), bucket))
    sending.start()
    assert late.struck.wait(30)
    assert not late.released.wait(0.2)
    assert wire.accepted == 1
    late.release()
    sending.join(60)
    assert sending.done is not None


def test_an_abort_while_connections_are_held_leaves_nothing(wire: Wire, bucket: str, seaweed_client: Any) -> None:
    """The threads that hold them go, and the upload that the server began too late is removed."""
    late = wire.when("CreateMultipartUpload", "stall")
    before = threading.active_count()
    sending = _Sending(QuickStore(_client(wire.endpoint), bucket))
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
        warm = Warm(_client(endpoint.format(port=port)), "Any")
        warm._see(SimpleNamespace(url=endpoint.format(port=port) + "/bucket/key"))
        with warm.connection():
            reached = True
    assert reached


def test_another_botocore_without_the_members_that_are_needed_is_used_as_ever() -> None:
    """The block runs."""
    client = SimpleNamespace(meta=SimpleNamespace(events=SimpleNamespace(register=lambda *_: None)))
    warm = Warm(client, "Any")
    warm._see(SimpleNamespace(url="http://127.0.0.1:9/bucket/key"))
    with warm.connection():
        reached = True
    assert reached


def test_behind_a_proxy_nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's connections are its own."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.delenv("no_proxy", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        warm = Warm(_client(url), "Any")
        warm._see(SimpleNamespace(url=url + "/bucket/key"))
        listener.settimeout(0.2)
        with warm.connection(), pytest.raises(TimeoutError):
            listener.accept()
