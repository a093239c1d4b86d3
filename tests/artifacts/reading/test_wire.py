"""The consumer against a real S3 server, with faults on the wire in between."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from support.wire import Kind, Wire

from stepout.artifacts.allow import allowed_from
from stepout.artifacts.manager import ArtifactManager
from stepout.artifacts.reading.access import Access
from stepout.artifacts.reading.artifact import Artifact
from stepout.artifacts.reading.bucket_stores import BucketStores
from stepout.artifacts.resolve import resolve, resolve_artifact, resolve_output
from stepout.schemas import Pointer, RunIdentity, TaskOutput
from stepout.schemas.errors import (
    AccessDeniedError,
    ArtifactChangedError,
    ArtifactNotFoundError,
    ChecksumMismatchError,
    SizeMismatchError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.seaweed import Seaweed

DATA = bytes(range(256)) * (24 << 10)  # 6 MiB: several blocks, another thread


def _put(client: Any, bucket: str, data: bytes = DATA, key: str = "runs/a.bin") -> Pointer:
    answer = client.put_object(Bucket=bucket, Key=key, Body=data)
    checksum = {"sha256": hashlib.sha256(data).hexdigest()}
    return Pointer(bucket=bucket, key=key, size=len(data), checksum=checksum, etag=answer["ETag"])


def _artifact(pointer: Pointer, client: Any) -> Artifact:
    access = Access(
        allowed=allowed_from([f"s3://{pointer.bucket}/runs/"]), stores=BucketStores(client), sleep=lambda _: None
    )
    return Artifact(pointer, access)


def test_what_a_manager_wrote_is_read_in_every_way(seaweed_client: Any, bucket: str, tmp_path: Path) -> None:
    """Producer to consumer through a real server: bytes, text, JSON, table, columns, files, folders, ranges."""
    manager = ArtifactManager(bucket, "runs", client=seaweed_client, run=RunIdentity(state="Mask", attempt=0))
    table = pa.table({"id": list(range(400_000)), "score": [i / 7 for i in range(400_000)]})
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text("a")
    (folder / "b.txt").write_text("")
    artifacts = {
        "table": manager.put_table("table", table),
        "raw": manager.put_bytes("raw", DATA),
        "empty": manager.put_bytes("empty", b""),
        "note": manager.put_json("note", {"é": 1}),
        "folder": manager.put_directory("folder", folder),
    }
    document = TaskOutput(artifacts=artifacts, result={"rows": 400_000}).to_json()
    output = resolve_output(document, allow=[f"s3://{bucket}/runs/"], client=seaweed_client)
    assert output["raw"].read_bytes() == DATA
    assert output["empty"].read_bytes() == b""
    assert output["empty"].download(tmp_path / "empty").stat().st_size == 0
    assert output["note"].read_json() == {"é": 1}
    assert output["table"].read_table().equals(table)
    assert output["table"].read_table(columns=["score"]).equals(table.select(["score"]))
    assert output["table"].read_table(filters=[("id", "<", 5)]).num_rows == 5
    assert output["table"].dataset().head(3).num_rows == 3
    assert output["raw"].download(tmp_path / "raw").read_bytes() == DATA
    assert output["folder"].download(tmp_path / "copy") == tmp_path / "copy"
    assert (tmp_path / "copy" / "deep" / "a.txt").read_text() == "a"
    with output["raw"].open() as file:
        file.seek(-256, 2)
        assert file.read() == DATA[-256:]
        file.seek(0)
        assert file.read() == DATA
    for artifact in output.values():
        assert artifact.verify()


def test_a_truncated_body_is_taken_up(seaweed: Seaweed, seaweed_client: Any, bucket: str, tmp_path: Path) -> None:
    """The connection ends halfway: the rest comes by a ranged, pinned request, and the whole is verified."""
    pointer = _put(seaweed_client, bucket)
    with Wire(seaweed.endpoint) as wire:
        artifact = _artifact(pointer, seaweed.client(endpoint=wire.endpoint))
        path = tmp_path / "x"
        reads: list[Callable[[], bytes]] = [
            artifact.read_bytes,
            artifact.open().read,
            lambda: artifact.download(path).read_bytes(),
        ]
        for read in reads:
            wire.when("GetObject", "truncate", times=2)
            assert read() == DATA
        assert wire.operations.count("GetObject") == 9


def test_a_connection_that_always_ends_early_is_unreachable(
    seaweed: Seaweed, seaweed_client: Any, bucket: str, tmp_path: Path
) -> None:
    """Bounded: in the end it is an error, retryable, and no file is left."""
    pointer = _put(seaweed_client, bucket, b"x")  # half of it is nothing: no progress
    with Wire(seaweed.endpoint) as wire:
        wire.when("GetObject", "truncate", times=1000)
        artifact = _artifact(pointer, seaweed.client(endpoint=wire.endpoint))
        for read in (artifact.read_bytes, lambda: artifact.download(tmp_path / "x"), artifact.verify):
            with pytest.raises(StoreUnavailableError) as caught:
                read()
            assert caught.value.retryable
    assert list(tmp_path.iterdir()) == []


def test_a_bit_flipped_on_the_way_is_caught(seaweed: Seaweed, seaweed_client: Any, bucket: str, tmp_path: Path) -> None:
    """Whatever reads it, and nothing of it is kept."""
    pointer = _put(seaweed_client, bucket)
    with Wire(seaweed.endpoint) as wire:
        client = seaweed.client(endpoint=wire.endpoint)
        artifact = _artifact(pointer, client)
        for read in (
            artifact.read_bytes,
            artifact.read_text,
            artifact.verify,
            artifact.open().read,
            lambda: artifact.download(tmp_path / "x"),
        ):
            wire.when("GetObject", "flip_answer")
            with pytest.raises(ChecksumMismatchError):
                read()
        assert artifact.read_bytes() == DATA  # the object itself is sound
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_busy_for_a_moment_is_read(seaweed: Seaweed, seaweed_client: Any, bucket: str) -> None:
    """503 and a reset before the answer are the client's to retry."""
    pointer = _put(seaweed_client, bucket)
    with Wire(seaweed.endpoint) as wire:
        artifact = _artifact(pointer, seaweed.client(endpoint=wire.endpoint))
        kinds: tuple[Kind, ...] = ("status", "reset", "lost")
        for kind in kinds:
            wire.when("GetObject", kind)
            assert artifact.read_bytes() == DATA


def test_missing_changed_and_truncated_objects_are_told_apart(seaweed_client: Any, bucket: str) -> None:
    """Each is its own error, before a byte of the body is used."""
    pointer = _put(seaweed_client, bucket)
    seaweed_client.put_object(Bucket=bucket, Key=pointer.key, Body=DATA[:-1])
    with pytest.raises(ArtifactChangedError):
        _artifact(pointer, seaweed_client).read_bytes()
    unpinned = Pointer(bucket=bucket, key=pointer.key, size=pointer.size, checksum=pointer.checksum)
    with pytest.raises(SizeMismatchError, match="its body was not read"):
        _artifact(unpinned, seaweed_client).read_bytes()
    seaweed_client.delete_object(Bucket=bucket, Key=pointer.key)
    for read in (_artifact(pointer, seaweed_client).read_bytes, _artifact(pointer, seaweed_client).open().read):
        with pytest.raises(ArtifactNotFoundError):
            read()
    with pytest.raises(ArtifactNotFoundError, match="no task output"):
        resolve(f"s3://{bucket}/runs/output.json", allow=[f"s3://{bucket}"], client=seaweed_client)


def test_versions_are_pinned(seaweed_client: Any, bucket: str) -> None:
    """In a bucket that keeps versions, the one that was written is read."""
    seaweed_client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    manager = ArtifactManager(bucket, "runs", client=seaweed_client, run=RunIdentity(state="Mask", attempt=0))
    pointer = manager.put_bytes("raw", b"first")
    assert pointer.version_id
    seaweed_client.put_object(Bucket=bucket, Key=pointer.key, Body=b"second, longer")
    assert _artifact(pointer, seaweed_client).read_bytes() == b"first"


def test_denied_is_an_error_of_its_own(seaweed: Seaweed, seaweed_client: Any, bucket: str) -> None:
    """Keys that the server does not know: not missing, not corrupt."""
    from support.seaweed import Identity

    pointer = _put(seaweed_client, bucket)
    stranger = seaweed.client(Identity("nobody", "stepout-nobody", "wrong", ()))
    with pytest.raises(AccessDeniedError):
        resolve_artifact(pointer, allow=[f"s3://{bucket}"], client=stranger).read_bytes()


def test_a_presigned_url_gives_the_object(seaweed_client: Any, bucket: str) -> None:
    """Anyone can fetch it while it lasts; the server checks the signature."""
    from urllib.error import HTTPError
    from urllib.request import urlopen

    url = _artifact(_put(seaweed_client, bucket), seaweed_client).presign(60)
    with urlopen(url) as answer:
        assert answer.read() == DATA
    with pytest.raises(HTTPError):
        urlopen(url.replace("a.bin", "b.bin"))


def test_a_foreign_reference_is_described_by_the_server(seaweed_client: Any, bucket: str) -> None:
    """What S3 knows of the object (here the CRC that boto3 sent) is what it is held to."""
    seaweed_client.put_object(Bucket=bucket, Key="runs/p.json", Body=b'{"a": 1}', ChecksumAlgorithm="CRC32")
    reference = {"@middy-store": f"s3://{bucket}/runs/p.json"}
    artifact = resolve_artifact(reference, allow=[f"s3://{bucket}/runs/"], client=seaweed_client)
    assert artifact.read_json() == {"a": 1}
    assert artifact.verify() == {"crc32": artifact.pointer.checksum["crc32"]}
