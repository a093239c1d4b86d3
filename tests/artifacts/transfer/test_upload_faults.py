"""Faults on the wire, with a real server behind it: the object is whole or absent, and no upload is left behind."""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.httpsession import URLLib3Session
from support.seaweed import ADMIN
from support.settled import settled
from support.wire import Fault, Wire, operation

from stepout.artifacts.s3.clients import make_client
from stepout.artifacts.s3.store import S3Store
from stepout.artifacts.store_writes import WriteOptions
from stepout.artifacts.transfer.plan import MIB, TransferSettings
from stepout.artifacts.transfer.upload import Upload
from stepout.schemas.errors import (
    AccessDeniedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    ChecksumMismatchError,
    StepoutError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.seaweed import Seaweed

    from stepout.artifacts.transfer.conditional_write import Uploaded

SMALL = os.urandom(100_000)
LARGE = os.urandom(11 * MIB)
SETTINGS = TransferSettings(memory=24 * MIB, part_size=5 * MIB)


def _is_first_part(line: str) -> bool:
    return re.search(r"partNumber=1\b", line) is not None


class Bench:
    """A bucket on a real server, behind a wire that can be spoilt."""

    def __init__(self, wire: Wire, direct: Any, client: Any, bucket: str) -> None:
        self.wire, self.direct, self.bucket, self._client = wire, direct, bucket, client
        self.store = S3Store(settled(client, bucket), bucket)

    def upload(self, mode: str = "create") -> Upload:
        """Return an upload to ``key``."""
        options = WriteOptions(mode=mode)  # type: ignore[arg-type] # from a parametrisation
        return Upload(self.store, "key", options=options, settings=SETTINGS)

    def stall_first_part(self) -> None:
        """Stall the first request for the first part, which gives up after a second; all others wait for a minute."""
        self.wire.arm(Fault(_is_first_part, "stall", 1))
        hasty = iter([URLLib3Session(timeout=1)])

        def send(request: Any, **_: Any) -> Any:
            session = next(hasty, None) if _is_first_part(request.url) else None
            return None if session is None else session.send(request)

        self._client.meta.events.register("before-send.s3.UploadPart", send)

    def content(self) -> bytes | None:
        """Read the object past the wire; ``None`` if there is none."""
        found = self.direct.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return self.direct.get_object(Bucket=self.bucket, Key="key")["Body"].read() if found else None

    def orphans(self) -> int:
        """Count the multipart uploads that were left behind."""
        return len(self.direct.list_multipart_uploads(Bucket=self.bucket).get("Uploads", []))

    def holds(self, data: bytes, uploaded: Uploaded) -> None:
        """Assert that ``data`` is there, whole, and nothing else."""
        assert self.content() == data
        assert uploaded.checksum["sha256"] == hashlib.sha256(data).hexdigest()
        assert uploaded.etag
        assert self.orphans() == 0

    def is_clean(self) -> None:
        """Assert that nothing is there."""
        assert self.content() is None
        assert self.orphans() == 0


@pytest.fixture
def bench(
    seaweed: Seaweed,
    seaweed_client: Any,
    bucket: str,
    impatient: None,  # noqa: ARG001
) -> Iterator[Bench]:
    """A fresh bench. Its client tries once, so that the retries seen are ours."""
    config = Config(
        read_timeout=60,
        connect_timeout=60,
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    with Wire(seaweed.endpoint) as wire:
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=wire.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ADMIN.access_key,
            aws_secret_access_key=ADMIN.secret_key,
            config=config,
        )
        yield Bench(wire, seaweed_client, client, bucket)


PASSING = [
    ("PutObject", "reset", 1), ("PutObject", "status", 2), ("PutObject", "lost", 1), ("PutObject", "flip_request", 1),
    ("CreateMultipartUpload", "status", 2), ("CreateMultipartUpload", "reset", 1),
    ("UploadPart", "reset", 2), ("UploadPart", "status", 3), ("UploadPart", "lost", 1), ("UploadPart", "stall", 1),
    ("UploadPart", "flip_request", 1),
    ("CompleteMultipartUpload", "status", 2), ("CompleteMultipartUpload", "late_error", 1),
    ("CompleteMultipartUpload", "lost", 1), ("CompleteMultipartUpload", "reset", 1),
]  # fmt: skip


@pytest.mark.parametrize(("where", "kind", "times"), PASSING)
@pytest.mark.parametrize("mode", ["create", "overwrite"])
def test_a_passing_fault_is_survived(bench: Bench, where: str, kind: Any, times: int, mode: str) -> None:
    """What goes away by itself costs time, not the artifact; a lost answer is settled by a look."""
    if kind == "stall":
        bench.stall_first_part()
    else:
        bench.wire.when(where, kind, times=times)
    data = SMALL if where == "PutObject" else LARGE
    uploaded = bench.upload(mode).send_stream(io.BytesIO(data))
    bench.holds(data, uploaded)


@pytest.mark.parametrize("where", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject"])
def test_a_lasting_fault_is_an_error_and_leaves_nothing(bench: Bench, where: str) -> None:
    """A store that goes on failing raises a retryable error, and no parts stay behind."""
    bench.wire.when(where, "status", times=1000)
    data = SMALL if where == "PutObject" else LARGE
    with pytest.raises(StoreUnavailableError, match=r"503|key") as caught:
        bench.upload().send_buffer(data)
    assert caught.value.retryable
    bench.is_clean()


def test_a_part_that_arrives_damaged_twice_is_an_error(bench: Bench) -> None:
    """One flip is the wire's; if it goes on, the path is broken and the caller must know."""
    bench.wire.when("UploadPart", "flip_request", times=1000)
    with pytest.raises((ChecksumMismatchError, AccessDeniedError)):
        bench.upload().send_buffer(LARGE)
    bench.is_clean()


@pytest.mark.parametrize("where", ["PutObject", "CompleteMultipartUpload"])
def test_a_lost_answer_does_not_hide_a_strangers_object(bench: Bench, where: str) -> None:
    """If another writer's object is there when the answer was lost, it is not taken for ours."""
    data = SMALL if where == "PutObject" else LARGE

    def stranger() -> None:
        bench.direct.put_object(Bucket=bench.bucket, Key="key", Body=b"stranger")

    fault = Fault(lambda line: operation(line) == where, "reset", times=1, before=stranger)
    bench.wire.arm(fault)
    with pytest.raises(ArtifactExistsError, match="other content"):
        bench.upload().send_buffer(data)
    assert bench.content() == b"stranger"
    assert bench.orphans() == 0


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["put", "multipart"])
def test_a_conflict_is_sent_anew(bench: Bench, data: bytes) -> None:
    """A 409 means that nothing was stored; what can be sent again is, from the start."""
    where = "PutObject" if data is SMALL else "CompleteMultipartUpload"
    bench.wire.when(where, "status", status=409, code="ConditionalRequestConflict", times=2)
    bench.holds(data, bench.upload().send_buffer(data))
    assert bench.wire.operations.count(where) == 3


def test_a_conflict_ends_after_three_tries(bench: Bench) -> None:
    """The writer on the other side may never let go."""
    bench.wire.when("CompleteMultipartUpload", "status", status=409, code="ConditionalRequestConflict", times=1000)
    with pytest.raises(StoreUnavailableError, match="concurrent write"):
        bench.upload().send_buffer(LARGE)
    assert bench.wire.operations.count("CompleteMultipartUpload") == 3
    bench.is_clean()


def test_a_conflict_on_a_stream_is_retryable_by_the_caller(bench: Bench) -> None:
    """What was read from a stream cannot be read again, so the error says that a retry of the task may help."""
    bench.wire.when("CompleteMultipartUpload", "status", status=409, code="ConditionalRequestConflict", times=1)
    with pytest.raises(StoreUnavailableError) as caught:
        bench.upload().send_stream(io.BytesIO(LARGE))
    assert caught.value.retryable
    bench.is_clean()


def test_a_bucket_that_vanishes_midway_is_named(bench: Bench) -> None:
    """The bucket is there when the upload begins and gone when it completes."""

    def vanish() -> None:
        bench.direct.delete_bucket(Bucket=bench.bucket)

    bench.wire.arm(
        Fault(
            lambda line: operation(line) == "CompleteMultipartUpload", "status", 1, 404, "NoSuchBucket", before=vanish
        )
    )
    with pytest.raises(ArtifactNotFoundError, match=f"s3://{bench.bucket}/key: the bucket does not exist"):
        bench.upload().send_buffer(LARGE)


@pytest.mark.parametrize("where", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_abort_while_a_request_stalls_leaves_nothing(bench: Bench, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in flight when abort comes, its upload is removed; again, if need be, when the request returns."""
    monkeypatch.setattr("stepout.artifacts.transfer.upload._ABORT_SECONDS", 600.0)
    fault = bench.wire.when(where, "stall", times=1)
    upload, raised = bench.upload(), []

    def write() -> None:
        try:
            upload.send_stream(io.BytesIO(LARGE))
        except StepoutError as error:
            raised.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    assert fault.struck.wait(60)
    threading.Timer(0.2, fault.release).start()
    upload.abort()
    writer.join(60)
    assert not writer.is_alive()
    assert "aborted" in str(raised[0])
    assert bench.orphans() == 0
    assert bench.content() in (None, LARGE)


def test_an_abort_cancels_the_parts_on_their_way(
    seaweed: Seaweed, seaweed_client: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not wait for answers that may never come: nothing is in flight when it returns, and nothing is left."""
    monkeypatch.setattr("stepout.artifacts.transfer.upload._ABORT_SECONDS", 60.0)
    with Wire(seaweed.endpoint, keep_alive=True) as wire:
        fault = wire.when("UploadPart", "stall", times=100)
        keys: dict[str, Any] = {"aws_access_key_id": ADMIN.access_key, "aws_secret_access_key": ADMIN.secret_key}
        client = make_client(endpoint_url=wire.endpoint, region="us-east-1", tries=1, **keys)
        bench = Bench(wire, seaweed_client, client, bucket)
        upload, raised = bench.upload(), []

        def write() -> None:
            try:
                upload.send_stream(io.BytesIO(LARGE))
            except StepoutError as error:
                raised.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        assert fault.struck.wait(60)
        upload.abort()
        assert upload._multipart is not None
        assert upload._multipart._upload.quiet
        assert not fault.released.is_set()
        writer.join(60)
        assert "aborted" in str(raised[0])
        bench.is_clean()


@pytest.mark.parametrize("kind", ["reset", "truncate"])
def test_a_broken_download_is_an_error_not_a_short_value(bench: Bench, kind: Any) -> None:
    """A body that ends before its announced length raises."""
    bench.direct.put_object(Bucket=bench.bucket, Key="key", Body=SMALL)
    bench.wire.when("GetObject", kind, times=10)

    def read() -> None:
        with bench.store.get("key") as download:
            for _ in download.blocks():
                pass

    with pytest.raises(StoreUnavailableError, match=r"Trying again later may help"):
        read()


def test_no_server_is_unavailable(bench: Bench) -> None:
    """A refused connection is a retryable error that names object and operation."""
    bench.wire.__exit__()
    with pytest.raises(StoreUnavailableError, match=r"PutObject s3://.*/key: the connection failed"):
        bench.upload().send_buffer(b"data")


def test_a_reader_may_not_write(seaweed_reader: Any, seaweed_client: Any, bucket: str) -> None:
    """The server's own AccessDenied names the missing action, for both kinds of write."""
    for data in (SMALL, LARGE):
        upload = Upload(S3Store(seaweed_reader, bucket), "key", options=WriteOptions(), settings=SETTINGS)
        with pytest.raises(PermissionError, match=r"s3://.*/key: access denied. Grant s3:PutObject"):
            upload.send_buffer(data)
    assert not seaweed_client.list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_a_missing_bucket_is_named(seaweed_client: Any) -> None:
    """The first request says it, for both kinds of write."""
    for data in (SMALL, LARGE):
        upload = Upload(S3Store(seaweed_client, "no-such-bucket"), "key", options=WriteOptions(), settings=SETTINGS)
        with pytest.raises(ArtifactNotFoundError, match="the bucket does not exist"):
            upload.send_buffer(data)


def test_nothing_is_asked_twice(bench: Bench, tmp_path: Path) -> None:
    """Small: one PutObject. Large: begin, parts, complete. No HEAD, no abort on the happy path."""
    bench.upload().send_buffer(SMALL)
    assert bench.wire.operations == ["PutObject"]
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    bench.wire.lines.clear()
    bench.upload("overwrite").send_file(path)
    assert sorted(bench.wire.operations) == [
        "CompleteMultipartUpload", "CreateMultipartUpload", "UploadPart", "UploadPart", "UploadPart",
    ]  # fmt: skip
