"""How many requests a store that is always busy gets, counted at a server."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from support.settled import settled
from support.wire import operation

from stepout.artifacts.retries import READS, WRITES
from stepout.artifacts.s3.clients import make_client, store_for
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store_writes import WriteOptions
from stepout.artifacts.transfer.plan import MIB, TransferSettings
from stepout.artifacts.transfer.upload import Upload
from stepout.schemas.errors import StoreUnavailableError
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.artifacts.store import Store

pytestmark = pytest.mark.usefixtures("impatient")

BEGUN = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
BUSY = b"<Error><Code>InternalError</Code><Message>We encountered an internal error</Message></Error>"


@contextmanager
def _busy() -> Iterator[tuple[str, Counter[str]]]:
    """A server that begins uploads and removes them, and answers everything else with 500."""
    seen: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            name = operation(self.requestline)
            seen[name] += 1
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            works = {"CreateMultipartUpload": (200, BEGUN), "AbortMultipartUpload": (204, b"")}
            status, text = works.get(name, (500, BUSY))
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(b"" if name == "HeadObject" else text)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 - http.server's names

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()


def _client(endpoint: str, **options: Any) -> Any:
    keys: dict[str, Any] = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region": "us-east-1"}
    return settled(make_client(endpoint_url=endpoint, **keys, **options), "bucket")


def _own(endpoint: str) -> Store:
    """The store of a client that is built as ``own_client`` builds it."""
    return store_for(PerProcess(lambda: _client(endpoint, tries=1)), "bucket", own=True)


def _upload(store: Store, size: int) -> None:
    settings = TransferSettings(memory=24 * MIB, part_size=5 * MIB)
    with pytest.raises(StoreUnavailableError):
        Upload(store, "key", options=WriteOptions(), settings=settings).send_buffer(bytes(size))


def test_one_policy_bounds_the_requests_of_a_part() -> None:
    """A part that a client of ours cannot send is sent as often as the policy says, and not once more."""
    with _busy() as (endpoint, seen):
        store = _own(endpoint)
        upload = store.start_upload("key", options=WriteOptions())
        assert upload == "u"
        seen.clear()
        _upload(store, 5 * MIB + 1)
    # The first part to fail for good ends the upload, wherever the second one is with its tries by then.
    assert WRITES.tries <= seen["UploadPart"] <= 2 * WRITES.tries
    assert seen["CreateMultipartUpload"] == 1
    assert seen["AbortMultipartUpload"] >= 1


def test_one_policy_bounds_the_requests_of_a_small_object() -> None:
    """After each try a look tells whether it was done all the same; looks have a policy of their own."""
    with _busy() as (endpoint, seen):
        _upload(_own(endpoint), 1000)
    assert seen == {"PutObject": WRITES.tries, "HeadObject": WRITES.tries * READS.tries}


@pytest.mark.parametrize("act", ["head", "get", "listing"])
def test_what_nobody_above_repeats_is_repeated_by_the_store(act: str) -> None:
    """Three requests, as botocore would send."""
    with _busy() as (endpoint, seen), pytest.raises(StoreUnavailableError):
        getattr(_own(endpoint), act)("key")
    assert sum(seen.values()) == READS.tries


def test_the_client_of_a_caller_multiplies_what_it_tries() -> None:
    """It is used as it is: each of our tries of a part is as many requests as it sends; its reads are its own."""
    with _busy() as (endpoint, seen):
        store = S3Store(_client(endpoint, tries=2), "bucket")
        part, checksum = [memoryview(b"x")], "00000000"
        with pytest.raises(StoreUnavailableError):
            store.put_part(
                "key", "u", 1, part, checksum=checksum * (2 if store.profile.multipart_checksum == "crc64nvme" else 1)
            )
        with pytest.raises(StoreUnavailableError):
            store.head("key")
    assert seen == {"UploadPart": 2, "HeadObject": 2}
