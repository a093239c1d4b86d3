"""A part whose request hangs is sent again, past a wire that holds the first request; nothing waits for that one."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.other_s3 import other_s3
from support.settled import settled
from support.wire import Fault, Wire, operation

from stepout.artifacts.process.servers import ServerState
from stepout.artifacts.s3.clients import make_client
from stepout.artifacts.s3.request_bodies import Views
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store_writes import PartReceipt, StoreProfile, WriteOptions
from stepout.artifacts.transfer.buffer_pool import BufferPool
from stepout.artifacts.transfer.part_requests import PartRequests, PendingPart
from stepout.artifacts.transfer.plan import BLOCK_SIZE, MIB, TransferSettings
from stepout.artifacts.transfer.upload import Upload
from stepout.schemas.errors import AccessDeniedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.seaweed import Seaweed

PARTS = 6
DATA = os.urandom(PARTS * 5 * MIB - 3)
SETTINGS = TransferSettings(memory=64 * MIB, part_size=5 * MIB, connections=PARTS)

pytestmark = pytest.mark.usefixtures("impatient")


class Clock:
    """Nearly stands still until some parts have arrived; then whatever has not is late.

    So no part is late because the machine is busy.
    """

    def __init__(self, arrived: int) -> None:
        self._bytes = arrived * 5 * MIB - 3
        self._ticks = itertools.count()
        self._jump = 0.0

    def monotonic(self) -> float:
        """Return the time: no two are the same."""
        return next(self._ticks) * 1e-6 + self._jump

    def progress(self, sent: int, _: int | None) -> None:
        """Jump far ahead, once so much was sent."""
        if sent >= self._bytes:
            self._jump = 100_000.0


class Bench:
    """A bucket on a real server behind a wire, and uploads to it."""

    def __init__(self, wire: Wire, server: Seaweed, direct: Any, bucket: str) -> None:
        self.wire, self.direct, self.bucket = wire, direct, bucket
        self.store = S3Store(settled(server.client(endpoint=wire.endpoint, tries=1), bucket), bucket)

    def upload(self, patch: pytest.MonkeyPatch, *, hanging: int = 1, pool: BufferPool | None = None) -> Upload:
        """Return an upload to ``key``, of which so many parts will be late."""
        return _upload(self.store, patch, hanging, pool)

    def orphans(self) -> int:
        """Count the multipart uploads that were left behind."""
        return len(self.direct.list_multipart_uploads(Bucket=self.bucket).get("Uploads", []))

    def holds_all(self) -> bool:
        """Say whether the object is there, whole."""
        found: bytes = self.direct.get_object(Bucket=self.bucket, Key="key")["Body"].read()
        return found == DATA


@pytest.fixture
def bench(seaweed: Seaweed, seaweed_client: Any, bucket: str) -> Iterator[Bench]:
    """A fresh bench."""
    with Wire(seaweed.endpoint) as wire:
        yield Bench(wire, seaweed, seaweed_client, bucket)


def _upload(store: S3Store, patch: pytest.MonkeyPatch, hanging: int, pool: BufferPool | None = None) -> Upload:
    clock = Clock(PARTS - hanging)
    patch.setattr(
        "stepout.artifacts.transfer.multipart.time",
        SimpleNamespace(monotonic=clock.monotonic, perf_counter=time.perf_counter, thread_time=time.thread_time),
    )
    return Upload(
        store, "key", options=WriteOptions(mode="overwrite"), settings=SETTINGS, pool=pool, progress=clock.progress
    )


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _senders() -> int:
    return sum(thread.name == "stepout-send" for thread in threading.enumerate())


@pytest.mark.parametrize("kind", ["stall", "deaf"])
def test_an_upload_does_not_wait_for_a_part_that_hangs(
    bench: Bench, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the answer does not come or the body is not read: it is done before the wire lets the request go on."""
    hanging = bench.wire.when("UploadPart", kind)
    uploaded = bench.upload(monkeypatch).send_buffer(DATA)
    assert not hanging.released.is_set()
    assert uploaded.checksum["sha256"] == hashlib.sha256(DATA).hexdigest()
    assert sorted(set(bench.wire.operations)) == ["CompleteMultipartUpload", "CreateMultipartUpload", "UploadPart"]
    assert bench.wire.operations.count("UploadPart") == PARTS + 1
    assert bench.wire.operations.count("CreateMultipartUpload") == 1
    assert bench.wire.operations.count("CompleteMultipartUpload") == 1
    _until(lambda: not _senders())  # the one that hung as well: its request was cancelled
    hanging.release()
    assert bench.holds_all()
    assert bench.orphans() == 0


def test_the_buffers_of_a_part_that_was_sent_twice_come_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once both requests have ended, and each of them once."""
    pool = BufferPool(PARTS * 5 * MIB + 2 * BLOCK_SIZE)
    bench.wire.when("UploadPart", "deaf")
    upload = bench.upload(monkeypatch, pool=pool)
    upload.write(DATA)
    upload.commit()
    _until(lambda: len(pool._free) == PARTS * 5 + 2)
    assert len({id(each) for each in pool._free}) == PARTS * 5 + 2
    assert bench.holds_all()


def test_no_more_than_two_parts_of_a_short_object_are_sent_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third one that hangs is waited for."""
    hanging = bench.wire.when("UploadPart", "stall", times=3)
    thread = threading.Thread(target=bench.upload(monkeypatch, hanging=3).send_buffer, args=(DATA,))
    thread.start()
    _until(lambda: bench.wire.operations.count("UploadPart") == PARTS + 2)
    assert thread.is_alive()
    hanging.release()
    thread.join(60)
    assert bench.wire.operations.count("UploadPart") == PARTS + 2
    assert bench.holds_all()


def test_a_second_request_that_fails_is_not_missed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one is still on its way, and has its own tries."""
    hanging = bench.wire.when("UploadPart", "stall")
    refused = Fault(lambda line: bench.wire.lines.count(line) == 2, "status", 1, 403, "AccessDenied")
    bench.wire.arm(refused)
    thread = threading.Thread(target=bench.upload(monkeypatch).send_buffer, args=(DATA,))
    thread.start()
    assert refused.struck.wait(60)
    hanging.release()
    thread.join(60)
    assert not thread.is_alive()
    assert bench.holds_all()


def test_an_upload_that_fails_after_a_part_was_sent_twice_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the cancelled request reaches the server after all, behind the abort."""
    hanging = bench.wire.when("UploadPart", "stall")
    bench.wire.when("CompleteMultipartUpload", "status", status=403, code="AccessDenied", times=1000)
    with pytest.raises(AccessDeniedError):
        bench.upload(monkeypatch).send_buffer(DATA)
    assert "AbortMultipartUpload" in bench.wire.operations
    hanging.release()
    assert bench.orphans() == 0
    assert not bench.direct.list_objects_v2(Bucket=bench.bucket).get("Contents")


def test_a_request_that_arrives_late_and_changes_the_etag_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes are compared by their checksum, and the upload is completed with what the server has."""
    with other_s3(part_etags_are_new=True) as server, Wire(server.endpoint) as wire:
        store = S3Store(
            settled(_through(wire), "bucket"),
            "bucket",
            profile=StoreProfile(name="compatible", multipart_checksum="parts"),
        )
        hanging = wire.when("UploadPart", "stall")

        def arrives() -> None:
            hanging.release()
            _until(lambda: server.operations("key").count("PUT partNumber") == PARTS + 1)

        late = Fault(lambda line: operation(line) == "CompleteMultipartUpload", "rewrite", 1, before=arrives)
        wire.arm(late)
        uploaded = _upload(store, monkeypatch, 1).send_buffer(DATA)
        assert uploaded.checksum["sha256"] == hashlib.sha256(DATA).hexdigest()
        assert server.objects["bucket/key"].data == DATA
        posts = [each for each in server.operations("key") if not each.startswith("PUT")]
        assert posts[:4] == ["POST uploads", "POST", "GET", "POST"]


def _through(wire: Wire) -> Any:
    keys: dict[str, Any] = {"aws_access_key_id": "anyone", "aws_secret_access_key": "secret"}
    return make_client(endpoint_url=wire.endpoint, region="us-east-1", tries=1, **keys)


def test_nothing_is_sent_twice_to_a_server_that_asked_for_less() -> None:
    """For half a minute after a SlowDown, however late a part is."""
    server = ServerState()
    requests = PartRequests(server, 4 * MIB)
    parts = [PendingPart(number, Views([memoryview(bytes(MIB))])) for number in (1, 2, 3)]
    _, *others = [requests.begin(part, None, 0.0) for part in parts]
    for each in others:
        assert each is not None
        receipt = PartReceipt(number=each.part.number, etag="e", size=MIB, checksum="c")
        requests.answered(each, receipt, 1.0)
    late = requests.late(1e6, last=True)
    assert late is not None
    assert late.part is parts[0]
    server.pace.refused()
    assert requests.late(1e6, last=True) is None
