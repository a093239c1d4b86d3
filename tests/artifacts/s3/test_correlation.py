"""An answer that cannot be that of its request: it is not believed, and what was asked is settled otherwise."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any

import pytest
from support.fast_store import fast_store
from support.seaweed import ADMIN
from support.wire import Wire

from stepout.artifacts.s3.clients import make_client
from stepout.artifacts.s3.correlation import (
    foreign_completion,
    foreign_download,
    foreign_part,
    foreign_put,
    foreign_start,
    other_etag,
)
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store_writes import WriteOptions
from stepout.artifacts.transfer.conditional_write import Content, settled
from stepout.artifacts.transfer.plan import TransferSettings
from stepout.artifacts.transfer.upload import Upload
from stepout.schemas.errors import StoreError
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.seaweed import Seaweed

    from stepout.artifacts.store import Store

DATA = b"what was sent"
OTHER = b"what another request sent"
LARGE = bytes(range(256)) * (40 << 10)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _base64(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _md5(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


SENT = {"sha256": _sha256(DATA)}
PLAIN = {"ETag": _md5(DATA)}

BELIEVED = [
    (foreign_put, {"ETag": '"any"'}, {"checksum": SENT}),
    (foreign_put, {"ETag": '"any"', "ChecksumSHA256": _base64(DATA)}, {"checksum": SENT}),
    (foreign_put, {"ETag": '"any"', "ChecksumCRC32": "AAAAAA=="}, {"checksum": SENT}),
    (foreign_part, {"ETag": '"any"', "ChecksumSHA256": _base64(DATA)}, {"checksum": SENT}),
    (foreign_completion, {"ETag": '"any-2"'}, {"key": "k", "checksum": {}}),
    (foreign_completion, {"ETag": '"any-2"', "Key": "a b/ä"}, {"key": "a b/ä", "checksum": {}}),
    (foreign_completion, {"ETag": '"any-2"', "Key": "a%20b"}, {"key": "a b", "checksum": {}}),
    (foreign_completion, {"ETag": '"a-2"', "ChecksumSHA256": "AA==-2"}, {"key": "k", "checksum": SENT}),
    (
        foreign_completion,
        {"ETag": '"a-2"', "ChecksumSHA256": "AA==", "ChecksumType": "COMPOSITE"},
        {"key": "k", "checksum": SENT},
    ),
    (foreign_start, {"UploadId": "u", "Key": "k"}, {"key": "k"}),
    (foreign_download, {"ETag": '"a"', "VersionId": "v"}, {"start": 0, "stop": None}),
    (foreign_download, {"ETag": 'W/"a"'}, {"start": 0, "stop": None, "if_match": "a"}),
    (foreign_download, {"ContentRange": "bytes 5-9/20", "ContentLength": 5}, {"start": 5, "stop": 10}),
    (foreign_download, {"ContentRange": "bytes 5-7/8", "ContentLength": 3}, {"start": 5, "stop": 10}),
    (foreign_download, {"ContentRange": "bytes 5-7/*"}, {"start": 5, "stop": None}),
]

DOUBTED = [
    (foreign_put, {}, {"checksum": SENT}),
    (foreign_put, {"ETag": ""}, {"checksum": SENT}),
    (foreign_put, {"ETag": '"any"', "ChecksumSHA256": _base64(OTHER)}, {"checksum": SENT}),
    (foreign_part, {}, {"checksum": SENT}),
    (foreign_part, {"ETag": '"any"', "ChecksumSHA256": _base64(OTHER)}, {"checksum": SENT}),
    (foreign_part, {"ETag": '"any"', "ChecksumCRC32": "AAAAAA=="}, {"checksum": {"crc32": "00000001"}}),
    (foreign_completion, {"Key": "k"}, {"key": "k", "checksum": {}}),
    (foreign_completion, {"ETag": '"any-2"', "Key": "other"}, {"key": "k", "checksum": {}}),
    (foreign_completion, {"ETag": '"a-2"', "ChecksumSHA256": _base64(OTHER)}, {"key": "k", "checksum": SENT}),
    (foreign_start, {"Key": "k"}, {"key": "k"}),
    (foreign_start, {"UploadId": "u", "Key": "other"}, {"key": "k"}),
    (foreign_download, {"ETag": '"b"'}, {"start": 0, "stop": None, "if_match": '"a"'}),
    (foreign_download, {"VersionId": "w"}, {"start": 0, "stop": None, "version_id": "v"}),
    (foreign_download, {}, {"start": 5, "stop": 10}),
    (foreign_download, {"ContentRange": "bytes 0-4/20"}, {"start": 5, "stop": 10}),
    (foreign_download, {"ContentRange": "bytes 5-10/20"}, {"start": 5, "stop": 10}),
    (foreign_download, {"ContentRange": "bytes 5-9/20", "ContentLength": 20}, {"start": 5, "stop": 10}),
]  # fmt: skip


@pytest.mark.parametrize(("look", "answer", "asked"), BELIEVED)
def test_an_answer_that_fits_is_believed(look: Callable[..., str | None], answer: Any, asked: Any) -> None:
    """What a server does not repeat, or repeats in other forms, is no reason to doubt it."""
    assert look(answer, **asked) is None


@pytest.mark.parametrize(("look", "answer", "asked"), DOUBTED)
def test_an_answer_that_does_not_fit_is_doubted(look: Callable[..., str | None], answer: Any, asked: Any) -> None:
    """A checksum, key, range, version or ETag that was not asked for, and what every such answer has."""
    assert look(answer, **asked)


@pytest.mark.parametrize(
    ("more", "bucket", "doubted"),
    [
        ({}, "results", True),
        ({"ServerSideEncryption": "AES256"}, "results", True),
        ({"ServerSideEncryption": "aws:kms"}, "results", False),
        ({"ServerSideEncryption": "aws:kms:dsse"}, "results", False),
        ({"SSECustomerAlgorithm": "AES256"}, "results", False),
        ({}, "results--euw1-az1--x-s3", False),
        ({}, "point--euw1-az1--xa-s3", False),
        ({"ChecksumSHA256": _base64(DATA)}, "results", False),
    ],
)
def test_an_etag_is_an_md5_only_where_encryption_permits_it(more: Any, bucket: str, doubted: bool) -> None:
    """Looked at where nothing better is repeated; not under SSE-KMS, with a customer's key, in directory buckets."""
    body = [memoryview(DATA[:4]), memoryview(DATA[4:])]
    found = other_etag({"ETag": _md5(OTHER), **more}, checksum=SENT, body=body, bucket=bucket)
    assert (found is not None) is doubted
    for etag in (_md5(DATA), _md5(DATA).upper(), '"9b2c-7"', '"no md5"'):
        assert other_etag({"ETag": etag, **more}, checksum=SENT, body=body, bucket=bucket) is None


# Against a server whose answers are changed on their way ------------------------------------------------------------


def _of_other(answer: bytes) -> bytes:
    """Make an answer another request's: its ETag, its checksums, its key."""
    answer = re.sub(rb'(?i)(etag: )"[^"]*"', rb"\1" + _md5(OTHER).encode(), answer)
    answer = re.sub(rb"(?i)(x-amz-checksum-[a-z0-9]+: )[^\r]*", rb"\1AAAAAAAAAAA=", answer)
    return re.sub(rb"<Key>k", rb"<Key>j", answer)


def _without_checksum(answer: bytes) -> bytes:
    return re.sub(rb"(?i)x-amz-checksum-[^\r]*\r\n", b"", answer)


def _of_other_and_without_checksum(answer: bytes) -> bytes:
    return _without_checksum(_of_other(answer))


@pytest.fixture
def wire(seaweed: Seaweed) -> Iterator[Wire]:
    """A wire to the server that can change what it answers."""
    with Wire(seaweed.endpoint, keep_alive=True) as wire:
        yield wire


@pytest.fixture(params=[S3Store, fast_store])
def store(request: pytest.FixtureRequest, wire: Wire, bucket: str) -> S3Store:
    """A store of each kind, over the wire."""
    client = PerProcess(
        lambda: make_client(
            endpoint_url=wire.endpoint,
            region="us-east-1",
            aws_access_key_id=ADMIN.access_key,
            aws_secret_access_key=ADMIN.secret_key,
        )
    )
    made: S3Store = request.param(client, bucket)
    return made


def _upload(store: Store, key: str, data: bytes, mode: Any = "create") -> Any:
    settings = TransferSettings(memory=48 << 20)
    return Upload(store, key, options=WriteOptions(mode=mode), settings=settings).send_buffer(data)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("mode", ["create", "overwrite"])
@pytest.mark.parametrize(
    "spoiled",
    [
        ("PutObject", _of_other),
        ("PutObject", _of_other_and_without_checksum),
        ("CreateMultipartUpload", _of_other),
        ("UploadPart", _of_other),
        ("CompleteMultipartUpload", _of_other),
    ],
)
def test_a_write_never_takes_another_requests_answer(
    wire: Wire, store: S3Store, seaweed_client: Any, spoiled: Any, mode: str
) -> None:
    """The pointer has the object's own ETag, whichever answer was another request's."""
    operation, change = spoiled
    data = DATA if operation == "PutObject" else LARGE
    _upload(store, "first", DATA)  # the quick store's second put is the quick one
    fault = wire.rewrite(operation, change)
    done = _upload(store, "k", data, mode)
    found = seaweed_client.head_object(Bucket=store.bucket, Key="k")
    assert fault.hits == 1
    assert (found["ETag"], found["ContentLength"]) == (done.etag, len(data))
    assert seaweed_client.list_multipart_uploads(Bucket=store.bucket).get("Uploads", []) == []
    assert _upload(store, "next", DATA).etag == _md5(DATA)


def test_a_put_that_never_arrived_is_sent_again(wire: Wire, bucket: str, seaweed: Seaweed) -> None:
    """Another request's 200 does not make an object: the look finds none, and says so, retryable."""
    store = S3Store(seaweed.client(endpoint=wire.endpoint), bucket)
    sent = Content(size=len(DATA), checksum=SENT)

    def put() -> Any:
        wire.rewrite("PutObject", lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: " + _md5(OTHER).encode() +
                     b"\r\nx-amz-checksum-sha256: " + _base64(OTHER).encode() + b"\r\n\r\n")  # fmt: skip
        written = store.put("k", [memoryview(DATA)], checksum=SENT, options=WriteOptions())
        raise AssertionError(f"believed: {written}")

    with pytest.raises(StoreError, match="cannot be that of this request") as caught:
        put()
    assert caught.value.retryable
    done = settled(store, "k", sent, WriteOptions(), caught.value)
    assert done.etag == _md5(DATA)


def test_a_server_whose_etags_are_no_md5_is_looked_at_once(wire: Wire, bucket: str, seaweed: Seaweed) -> None:
    """What PUT and HEAD agree on is the server's way; one look settles it for the store."""
    store = S3Store(seaweed.client(endpoint=wire.endpoint), bucket)
    _upload(store, "first", DATA)  # a process's first conditional put at an endpoint is sent twice
    for operation in ("PutObject", "HeadObject"):
        wire.rewrite(operation, _of_other_and_without_checksum, times=100)
    for number in range(3):
        assert _upload(store, f"k{number}", DATA).etag == _md5(OTHER)
    assert wire.operations == ["PutObject"] * 2 + ["PutObject", "HeadObject", "PutObject", "PutObject"]


def test_a_read_asks_again_where_another_object_came(wire: Wire, store: S3Store) -> None:
    """Once: an ETag or a range that was not asked for is a foreign answer; twice: it is what the server says."""
    etag = _upload(store, "k", LARGE).etag
    with store.get("k", if_match=etag) as whole:
        assert b"".join(map(bytes, whole.blocks())) == LARGE
    wire.rewrite("GetObject", _of_other)
    with store.get("k", if_match=etag) as whole:
        assert whole.info.etag == etag
    wire.rewrite("GetObject", lambda answer: answer.replace(b"bytes 5-9", b"bytes 0-4"))
    with store.get("k", start=5, stop=10) as part:
        assert b"".join(map(bytes, part.blocks())) == LARGE[5:10]
    wire.rewrite("GetObject", _of_other, times=2)
    with store.get("k", if_match=etag) as whole:
        assert whole.info.etag == _md5(OTHER)
    wire.rewrite("GetObject", lambda answer: answer.replace(b"bytes 5-9", b"bytes 0-4"), times=2)
    with pytest.raises(StoreError, match="answered with others"):
        store.get("k", start=5, stop=10)


def test_a_quick_read_is_not_taken_from_another_object(wire: Wire, bucket: str, seaweed: Seaweed) -> None:
    """A small whole read by the quick route is repeated the ordinary way."""
    store = fast_store(seaweed.client(endpoint=wire.endpoint), bucket, obstore=False)
    etag = _upload(store, "k", DATA).etag
    for hits in (0, 0, 1):
        fault = wire.rewrite("GetObject", _of_other, times=hits)
        found = store.get_small("k", size=len(DATA), if_match=etag)
        assert (found.info.etag, b"".join(map(bytes, found.blocks())), fault.hits) == (etag, DATA, hits)
