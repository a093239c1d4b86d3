"""Pointers as fsspec paths: s3fs reads what was pinned, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest
from support.seaweed import ADMIN

import stepout

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.seaweed import Seaweed

    from stepout.artifacts.reading.artifact import Artifact

KEYS = {"key": ADMIN.access_key, "secret": ADMIN.secret_key}
TABLE = pa.table({"id": range(100)})


@pytest.fixture
def written(seaweed: Seaweed, bucket: str) -> Callable[[], Artifact]:
    """Write a table under a key that is always the same, and resolve it."""

    def write() -> Artifact:
        run = stepout.RunIdentity(state="S", run_id="run")
        manager = stepout.ArtifactManager(bucket, client=seaweed.client(), run=run, layout="fixed", mode="overwrite")
        pointer = manager.put_table("table", TABLE)
        return stepout.resolve_artifact(pointer, allow=[f"s3://{bucket}/"], client=seaweed.client())

    return write


def test_pandas_reads_a_pointer_through_s3fs(written: Callable[[], Artifact]) -> None:
    """The file system and the path go where fsspec is taken."""
    system, path = written().fsspec(**KEYS)
    assert pd.read_parquet(path, filesystem=system)["id"].tolist() == list(range(100))


def test_a_version_stays_readable(written: Callable[[], Artifact], seaweed_client: Any, bucket: str) -> None:
    """A path with a version reads that version, whatever came after it."""
    seaweed_client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    artifact = written()
    seaweed_client.put_object(Bucket=bucket, Key=artifact.pointer.key, Body=b"another")
    system, path = artifact.fsspec(**KEYS)
    assert f"versionId={artifact.pointer.version_id}" in path
    with system.open(path) as stream:
        assert stream.read() == artifact.read_bytes()


def test_another_object_is_refused(written: Callable[[], Artifact], seaweed_client: Any, bucket: str) -> None:
    """Without versions, an object that was replaced or deleted raises before a byte is read."""
    artifact = written()
    seaweed_client.put_object(Bucket=bucket, Key=artifact.pointer.key, Body=bytes(artifact.size))
    with pytest.raises(stepout.ArtifactChangedError, match="has changed"):
        artifact.fsspec(**KEYS)
    seaweed_client.delete_object(Bucket=bucket, Key=artifact.pointer.key)
    with pytest.raises(stepout.ArtifactNotFoundError):
        artifact.fsspec(**KEYS)


def test_an_object_of_another_size_is_refused(seaweed: Seaweed, seaweed_client: Any, bucket: str) -> None:
    """A pointer without an ETag is still held to its size."""
    seaweed_client.put_object(Bucket=bucket, Key="k", Body=b"four")
    pointer = stepout.Pointer(bucket=bucket, key="k", size=5, checksum={"sha256": "0" * 64})
    artifact = stepout.resolve_artifact(pointer, allow=[f"s3://{bucket}/"], client=seaweed.client())
    with pytest.raises(stepout.SizeMismatchError, match="5 bytes expected, 4 found"):
        artifact.fsspec(**KEYS)
