"""A completion that names a part's replaced ETag: what the server has is compared, and completed once more."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import pytest
from support.other_s3 import OtherS3, other_s3
from support.settled import settled

from stepout.artifacts.retries import Retries
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store import InvalidPartError
from stepout.artifacts.store_writes import PartReceipt, StoreProfile, WriteOptions
from stepout.artifacts.transfer.conditional_write import Content, completed
from stepout.artifacts.transfer.plan import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = os.urandom(5 * MIB + 3)
PARTS = [DATA[: 5 * MIB], DATA[5 * MIB :]]
OPTIONS = WriteOptions()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def server() -> Iterator[OtherS3]:
    """A server that gives each part an ETag of its own, as with SSE-KMS."""
    with other_s3(part_etags_are_new=True) as found:
        yield found


def _store(server: OtherS3) -> S3Store:
    profile = StoreProfile(name="compatible", multipart_checksum="parts")
    return S3Store(settled(server.client(), "bucket"), "bucket", profile=profile)


def _send(store: S3Store, upload: str, number: int, data: bytes) -> PartReceipt:
    return store.put_part("key", upload, number, [memoryview(data)], checksum=_sha256(data))


def _complete(store: S3Store, upload: str, receipts: list[PartReceipt]) -> Any:
    sent = Content(size=len(DATA), checksum={"sha256": _sha256(DATA)})
    retries = Retries(lambda _: None)
    return completed(store, "key", upload, receipts=receipts, sent=sent, options=OPTIONS, retries=retries)


def _operations(server: OtherS3) -> list[str]:
    return [each for each in server.operations("key") if not each.startswith("PUT")]


def test_a_part_that_arrived_twice_is_completed_with_the_etag_that_is_there(server: OtherS3) -> None:
    """The same bytes by their checksum, so the second completion makes the object that was sent."""
    store = _store(server)
    upload = store.start_upload("key", options=OPTIONS)
    receipts = [_send(store, upload, number, data) for number, data in enumerate(PARTS, 1)]
    _send(store, upload, 1, PARTS[0])  # the other request for it, late
    _complete(store, upload, receipts)
    assert server.objects["bucket/key"].data == DATA
    assert _operations(server) == ["POST uploads", "POST", "GET", "POST"]


def test_a_part_with_other_bytes_is_an_error(server: OtherS3) -> None:
    """Whoever sent it: nothing is completed."""
    store = _store(server)
    upload = store.start_upload("key", options=OPTIONS)
    receipts = [_send(store, upload, number, data) for number, data in enumerate(PARTS, 1)]
    _send(store, upload, 1, PARTS[0][::-1])
    with pytest.raises(InvalidPartError, match="another part"):
        _complete(store, upload, receipts)
    assert _operations(server) == ["POST uploads", "POST", "GET"]
    assert not server.objects


def test_a_part_whose_checksum_the_server_does_not_say_is_an_error(server: OtherS3) -> None:
    """There is nothing to compare."""
    server.faults.lists_no_checksums = True
    store = _store(server)
    upload = store.start_upload("key", options=OPTIONS)
    receipts = [_send(store, upload, number, data) for number, data in enumerate(PARTS, 1)]
    _send(store, upload, 2, PARTS[1])
    with pytest.raises(InvalidPartError):
        _complete(store, upload, receipts)
    assert not server.objects


def test_a_part_that_is_not_there_is_an_error(server: OtherS3) -> None:
    """Completing without it would make another object."""
    store = _store(server)
    upload = store.start_upload("key", options=OPTIONS)
    first = _send(store, upload, 1, PARTS[0])
    second = PartReceipt(number=2, etag='"none"', size=3, checksum=_sha256(PARTS[1]))
    with pytest.raises(InvalidPartError):
        _complete(store, upload, [first, second])
    assert not server.objects


def test_who_may_not_list_parts_is_told_what_to_grant(server: OtherS3) -> None:
    """Together with why it was asked."""
    store = _store(server)
    upload = store.start_upload("key", options=OPTIONS)
    receipts = [_send(store, upload, number, data) for number, data in enumerate(PARTS, 1)]
    _send(store, upload, 1, PARTS[0])
    server.faults.refuses_listing = True
    with pytest.raises(InvalidPartError, match=r"InvalidPart.*could not be compared.*s3:ListMultipartUploadParts"):
        _complete(store, upload, receipts)
    assert not server.objects
