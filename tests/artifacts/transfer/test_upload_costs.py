"""What an upload costs, counted and not timed: requests, bytes read, bytes hashed, copies, connections."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from support.seaweed import ADMIN
from support.settled import settled
from support.wire import Wire, operation

from stepout.artifacts import checksums
from stepout.artifacts.checksums import Digest
from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.s3 import request_bodies as bodies
from stepout.artifacts.s3.clients import make_client
from stepout.artifacts.s3.request_bodies import ViewBody
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store_writes import PartReceipt, StoreProfile, WriteOptions, Written
from stepout.artifacts.transfer import part_requests
from stepout.artifacts.transfer.buffer_pool import BufferPool
from stepout.artifacts.transfer.plan import BLOCK_SIZE, MIB, TransferSettings
from stepout.artifacts.transfer.sources import FileSource
from stepout.artifacts.transfer.upload import Upload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from support.seaweed import Seaweed

ONE_PUT = os.urandom(5 * MIB)
LARGE = os.urandom(11 * MIB + 5)
SETTINGS = TransferSettings(memory=24 * MIB, part_size=5 * MIB)
MULTIPART = ["CompleteMultipartUpload", "CreateMultipartUpload", "UploadPart", "UploadPart", "UploadPart"]


class Costs:
    """Counts the bytes that go through each step."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.read = self.whole = self.signed = self.checked = self.copied = 0
        self._lock = threading.Lock()
        self._count(patch, FileSource, "readinto", lambda given, *_: {"read": given})
        self._count(patch, bodies, "sha256_of", lambda _, views: {"signed": sum(map(len, views))})
        self._count(patch, part_requests, "crc_of", lambda _, _name, views: {"checked": sum(map(len, views))})
        self._count(patch, ViewBody, "readinto", lambda given, *_: {"copied": given})
        patch.setattr("stepout.artifacts.transfer.running_digest.hashlib", SimpleNamespace(sha256=self._sha256))

    def _add(self, name: str, amount: int) -> None:
        with self._lock:
            setattr(self, name, getattr(self, name) + amount)

    def _count(self, patch: pytest.MonkeyPatch, place: Any, name: str, cost: Any) -> None:
        original = getattr(place, name)

        def counted(*arguments: Any) -> Any:
            given = original(*arguments)
            for kind, amount in cost(given, *arguments).items():
                self._add(kind, amount)
            return given

        patch.setattr(place, name, counted)

    def _sha256(self) -> Any:
        digest = hashlib.sha256()

        def update(view: memoryview) -> None:
            self._add("whole", len(view))
            digest.update(view)

        return SimpleNamespace(update=update, hexdigest=digest.hexdigest)


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Costs:
    """Counters, from here on."""
    return Costs(monkeypatch)


@pytest.fixture
def wire(seaweed: Seaweed) -> Iterator[Wire]:
    """A real server, which checks signatures and checksums, behind a wire that counts requests."""
    with Wire(seaweed.endpoint) as found:
        yield found


def _ours(wire: Wire, **options: Any) -> Any:
    keys: dict[str, Any] = {
        "aws_access_key_id": ADMIN.access_key,
        "aws_secret_access_key": ADMIN.secret_key,
        "region": "us-east-1",
    }
    return make_client(endpoint_url=wire.endpoint, **keys, **options)


def _send(client: Any, bucket: str, path: Path, profile: StoreProfile | None = None) -> str:
    store = S3Store(settled(client, bucket), bucket, profile=profile)
    return Upload(store, "key", options=WriteOptions(), settings=SETTINGS).send_file(path).checksum["sha256"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of three parts."""
    found = tmp_path / "large"
    found.write_bytes(LARGE)
    return found


def test_a_signed_upload_of_parts_reads_once_and_hashes_once_for_each_purpose(
    wire: Wire, bucket: str, path: Path, costs: Costs
) -> None:
    """Over plain HTTP: for the pointer, for the server, for the signature; nobody copies the body to read it."""
    assert _send(_ours(wire), bucket, path) == hashlib.sha256(LARGE).hexdigest()
    assert sorted(wire.operations) == MULTIPART
    assert (costs.read, costs.whole, costs.checked, costs.signed) == (len(LARGE),) * 4
    assert costs.copied == 0


def test_an_unsigned_upload_of_parts_hashes_nothing_for_a_signature(
    wire: Wire, bucket: str, path: Path, costs: Costs
) -> None:
    """What the caller chose, or TLS made needless, costs nothing."""
    _send(_ours(wire, sign_payload=False), bucket, path)
    assert (costs.read, costs.whole, costs.checked, costs.signed, costs.copied) == (len(LARGE),) * 3 + (0, 0)


def test_a_part_checksum_is_the_signatures_too(wire: Wire, bucket: str, path: Path, costs: Costs) -> None:
    """Where parts carry SHA-256 anyway, signing them is free."""
    _send(_ours(wire), bucket, path, StoreProfile(name="compatible", multipart_checksum="parts"))
    assert (costs.read, costs.whole, costs.checked, costs.signed, costs.copied) == (len(LARGE),) * 2 + (
        0,
        len(LARGE),
        0,
    )


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["reset", "status", "flip_request"])
def test_a_part_that_is_sent_again_is_hashed_once(wire: Wire, bucket: str, path: Path, costs: Costs, kind: Any) -> None:
    """Whoever tries again, botocore or we, and whatever went wrong; the object is right."""
    wire.when("UploadPart", kind, times=2 if kind == "status" else 1)
    assert _send(_ours(wire), bucket, path) == hashlib.sha256(LARGE).hexdigest()
    assert wire.operations.count("UploadPart") > MULTIPART.count("UploadPart")
    assert (costs.read, costs.whole, costs.checked, costs.signed, costs.copied) == (len(LARGE),) * 4 + (0,)
    assert _ours(wire).get_object(Bucket=bucket, Key="key")["Body"].read() == LARGE


def test_below_the_threshold_one_request_and_one_hash(
    wire: Wire, bucket: str, tmp_path: Path, costs: Costs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SHA-256 for the pointer is the server's checksum and the signature's."""
    hashed: list[int] = []

    class Counted(Digest):
        def update(self, view: Any) -> None:
            hashed.append(len(view))
            super().update(view)

    monkeypatch.setattr(checksums, "Digest", Counted)
    path = tmp_path / "one"
    path.write_bytes(ONE_PUT)
    assert _send(_ours(wire), bucket, path) == hashlib.sha256(ONE_PUT).hexdigest()
    assert wire.operations == ["PutObject"]
    assert (costs.read, sum(hashed), costs.signed, costs.copied) == (len(ONE_PUT), len(ONE_PUT), 0, 0)


def test_a_callers_client_is_not_changed(wire: Wire, bucket: str, path: Path) -> None:
    """It signs, waits and answers its own handlers as before, whatever is sent through it."""
    client: Any = boto3.session.Session().client(
        "s3", endpoint_url=wire.endpoint, region_name="us-east-1", aws_access_key_id=ADMIN.access_key,
        aws_secret_access_key=ADMIN.secret_key,
    )  # fmt: skip
    waits = _waits(client)
    assert _send(client, bucket, path) == hashlib.sha256(LARGE).hexdigest()
    assert "get_auth_instance" not in vars(client._request_signer)
    assert waits == {"CreateMultipartUpload": False, "UploadPart": True, "CompleteMultipartUpload": False}


def test_parts_leave_at_once_and_single_puts_wait(wire: Wire, bucket: str, path: Path, tmp_path: Path) -> None:
    """A part's upload has been allowed already; a body that may be refused is not sent in vain."""
    client, one = _ours(wire), tmp_path / "one"
    waits = _waits(client)
    one.write_bytes(ONE_PUT)
    _send(client, bucket, path)
    S3Store(client, bucket).put("other", [memoryview(ONE_PUT)], checksum=_checksum(), options=WriteOptions())
    assert waits.pop("PutObject")
    assert not any(waits.values())


def _checksum() -> dict[str, str]:
    return {"sha256": hashlib.sha256(ONE_PUT).hexdigest()}


def _waits(client: Any) -> dict[str, bool]:
    """Say of each operation whether its request waits for 100 Continue."""
    found: dict[str, bool] = {}

    def note(request: Any, **_: Any) -> None:
        found[operation(f"{request.method} {request.url} HTTP/1.1")] = "Expect" in request.headers

    client.meta.events.register("before-send.s3", note)
    return found


# Copies and connections ---------------------------------------------------------------------------------------------


class Sink(MemoryStore):
    """Keeps nothing but the sizes and the owners of what parts are made of."""

    def __init__(self, profile: StoreProfile | None = None, at_once: int = 1) -> None:
        super().__init__("sink", profile=profile)
        self.sizes: dict[int, int] = {}
        self.owners: set[int] = set()
        self.longest = 0
        self._gate = threading.Barrier(at_once)

    def put_part(self, *names: Any, checksum: str) -> PartReceipt:
        """Take a part once enough of them have come together."""
        number: int = names[2]
        body: Sequence[memoryview] = names[3]
        if number <= self._gate.parties:
            self._gate.wait(60)
        self.owners |= {id(view.obj) for view in body}
        self.longest = max(self.longest, *map(len, body))
        self.sizes[number] = sum(map(len, body))
        return PartReceipt(number=number, etag="e", size=self.sizes[number], checksum=checksum)

    def complete_upload(self, *_: Any, **__: Any) -> Written:
        """Take everything."""
        return Written(etag="e", version_id=None)


def test_a_buffer_is_sent_as_it_is() -> None:
    """In views of a block each, of the caller's own memory."""
    store = Sink()
    Upload(store, "key", options=WriteOptions(), settings=SETTINGS).send_buffer(LARGE)
    assert store.owners == {id(LARGE)}
    assert store.longest == BLOCK_SIZE


def test_a_stream_is_copied_into_the_pool_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent is the pool's own memory, in views of a block each; the upload lets go of it in the end."""
    store, pools = Sink(), []

    def noted(memory: int) -> BufferPool:
        pools.append(BufferPool(memory))
        return pools[-1]

    monkeypatch.setattr("stepout.artifacts.transfer.upload.BufferPool", noted)
    one = Upload(store, "key", options=WriteOptions(), settings=SETTINGS)
    one.send_stream(io.BytesIO(LARGE))
    (pool,) = pools
    assert len(pool._regions) == 2  # the second was granted once one part was not enough
    assert store.owners <= {id(region) for region in pool._regions}
    assert store.longest == BLOCK_SIZE
    assert one._pool is None


@pytest.mark.parametrize("mebibytes", [64, 330])
def test_a_file_begins_with_as_many_connections_as_its_memory_holds(mebibytes: int, tmp_path: Path) -> None:
    """Nothing is known of the server: the memory alone says how many parts are on their way."""
    settings, path = TransferSettings(memory=128 * MIB), tmp_path / "sparse"
    path.touch()
    os.truncate(path, mebibytes * MIB)
    store = Sink(at_once=13)
    done = Upload(store, "key", options=WriteOptions(), settings=settings).send_file(path)
    sizes = [store.sizes[number] for number in sorted(store.sizes)]
    assert done.size == sum(sizes) == mebibytes * MIB


def test_servers_with_checksums_of_parts_get_parts_of_one_size(tmp_path: Path) -> None:
    """Some of them take nothing else."""
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 330 * MIB + 1)
    store = Sink(StoreProfile(multipart_checksum="parts"))
    Upload(store, "key", options=WriteOptions(), settings=TransferSettings(memory=40 * MIB)).send_file(path)
    assert {size for number, size in store.sizes.items() if number < max(store.sizes)} == {10 * MIB}
