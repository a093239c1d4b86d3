"""The producer against a real S3 server: what was put is what is there, as HEAD and a reader see it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from stepout.artifacts import ArtifactManager, TransferSettings, resolve_artifact
from stepout.schemas import RunIdentity
from stepout.schemas.errors import AccessDeniedError, ArtifactExistsError, ArtifactNotFoundError

if TYPE_CHECKING:
    from pathlib import Path

SMALL = TransferSettings(memory=16 << 20)
RUN = RunIdentity(execution="arn:aws:states:eu-west-1:123456789012:execution:S:e", state="Mask", nonce="ab12")


def test_every_kind_of_artifact_can_be_read_back(seaweed_client: Any, bucket: str, tmp_path: Path) -> None:
    """Written to a server and resolved from it, verified: bytes, JSON, image, table, directory."""
    import numpy as np

    manager = ArtifactManager(bucket, "runs/é", client=seaweed_client, settings=SMALL)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").write_text("hello")
    large = os.urandom(21 << 20)
    table = pa.table({"n": range(1000)})
    pointers = {
        "large": manager.put("large", large),
        "json": manager.put("json", {"é": 1}),
        "image": manager.put("image", np.eye(9, dtype=np.uint8)),
        "table": manager.put("table", table),
        "folder": manager.put("folder", tmp_path),
    }
    found = {
        name: resolve_artifact(pointer.to_dict(), allow=[f"s3://{bucket}/runs/"], client=seaweed_client)
        for name, pointer in pointers.items()
    }
    assert found["large"].read_bytes() == large
    assert found["json"].read_json() == {"é": 1}
    assert np.array_equal(np.asarray(found["image"].read_image()), np.eye(9, dtype=np.uint8))
    assert found["table"].read_table().equals(table)
    found["folder"].download(tmp_path / "out")
    assert (tmp_path / "out" / "a" / "b.txt").read_text() == "hello"


def test_long_names_fit_a_server_of_files(seaweed_client: Any, bucket: str, tmp_path: Path) -> None:
    """A server that keeps objects as files takes no name over 255 bytes; names and paths are shortened to that."""
    manager = ArtifactManager(bucket, client=seaweed_client)
    deep = tmp_path / "/".join(["d" * 200] * 6)
    deep.mkdir(parents=True)
    (deep / "leaf").write_text("x")
    assert manager.put("n" * 300, "x").size == 1
    folder = resolve_artifact(manager.put("folder", tmp_path), allow=[f"s3://{bucket}/"], client=seaweed_client)
    folder.download(tmp_path / "out")
    assert (tmp_path / "out" / deep.relative_to(tmp_path) / "leaf").read_text() == "x"


@pytest.mark.parametrize("size", [10, 12 << 20])
def test_settings_reach_the_server(seaweed_client: Any, bucket: str, size: int) -> None:
    """Media type, metadata, tags and storage class are the object's, for one PutObject and for many parts."""
    manager = ArtifactManager(
        bucket,
        client=seaweed_client,
        metadata={"origin": "camera"},
        tags={"team": "vision", "cost": "a b&c"},
        storage_class="STANDARD_IA",
        settings=SMALL,
    )
    pointer = manager.put_bytes("a", bytes(size), media_type="application/x-test")
    head = seaweed_client.head_object(Bucket=bucket, Key=pointer.key)
    tags = seaweed_client.get_object_tagging(Bucket=bucket, Key=pointer.key)["TagSet"]
    assert (head["ContentLength"], head["ContentType"], head["ETag"]) == (size, "application/x-test", pointer.etag)
    assert (head["Metadata"], head["StorageClass"]) == ({"origin": "camera"}, "STANDARD_IA")
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "vision", "cost": "a b&c"}


def test_versions_are_pinned(seaweed_client: Any, bucket: str) -> None:
    """In a versioned bucket the pointer names the version that this very write made; so does an adopted one."""
    seaweed_client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    one, two = (
        ArtifactManager(bucket, client=seaweed_client, run=RUN, layout="fixed", mode="overwrite") for _ in range(2)
    )
    old, new = one.put("a", b"old"), two.put("a", b"new")
    assert old.key == new.key
    assert old.version_id != new.version_id
    read = seaweed_client.get_object(Bucket=bucket, Key=old.key, VersionId=old.version_id)["Body"].read()
    assert read == b"old"
    adopted = one.adopt("b", old.url, version_id=old.version_id)
    assert (adopted.version_id, adopted.checksum["sha256"]) == (old.version_id, old.checksum["sha256"])


def test_an_object_of_others_is_adopted(seaweed_client: Any, bucket: str) -> None:
    """What another program wrote is hashed in one read."""
    seaweed_client.put_object(Bucket=bucket, Key="spark/part-0.csv", Body=b"a,b\n")
    manager = ArtifactManager(bucket, client=seaweed_client)
    pointer = manager.adopt("out", f"s3://{bucket}/spark/part-0.csv", verify="read")
    artifact = resolve_artifact(pointer.to_dict(), allow=[f"s3://{bucket}/spark/"], client=seaweed_client)
    assert artifact.read_bytes() == b"a,b\n"
    with pytest.raises(ArtifactNotFoundError):
        manager.adopt("missing", f"s3://{bucket}/spark/missing")


def test_an_exception_leaves_no_object_and_no_upload(seaweed_client: Any, bucket: str) -> None:
    """The multipart upload on the server is gone."""
    manager = ArtifactManager(bucket, client=seaweed_client, settings=SMALL)

    def job() -> None:
        with manager.open("a") as writer:
            for _ in range(30):
                writer.write(bytes(1 << 20))
            raise LookupError

    with pytest.raises(LookupError):
        job()
    assert "Contents" not in seaweed_client.list_objects_v2(Bucket=bucket)
    assert not seaweed_client.list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_write_once_holds_between_processes(seaweed_client: Any, bucket: str) -> None:
    """A second process with a fixed layout cannot replace the first one's artifact."""
    ArtifactManager(bucket, client=seaweed_client, run=RUN, layout="fixed").put("a", b"first")
    with pytest.raises(ArtifactExistsError):
        ArtifactManager(bucket, client=seaweed_client, run=RUN, layout="fixed").put("a", b"other")


def test_missing_buckets_and_missing_rights_are_told_apart(
    seaweed_client: Any, seaweed_reader: Any, bucket: str
) -> None:
    """Each fault has the error that says what to do."""
    with pytest.raises(ArtifactNotFoundError, match="no-such-bucket"):
        ArtifactManager("no-such-bucket-here", client=seaweed_client).put("a", b"x")
    with pytest.raises(AccessDeniedError):
        ArtifactManager(bucket, client=seaweed_reader).put("a", b"x")


def test_the_environment_is_all_that_a_container_needs(seaweed: Any, seaweed_client: Any, bucket: str) -> None:
    """A process that knows nothing but its environment writes where it should."""
    from support.seaweed import ADMIN

    environ = {
        **os.environ,
        "STEPOUT_BUCKET": f"s3://{bucket}/jobs",
        "STEPOUT_EXECUTION": "arn:aws:states:eu-west-1:123456789012:execution:S:e",
        "STEPOUT_STATE": "Mask",
        "STEPOUT_S3_PROFILE": "compatible",
        "AWS_ENDPOINT_URL_S3": seaweed.endpoint,
        "AWS_ACCESS_KEY_ID": ADMIN.access_key,
        "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    script = (
        "from stepout.artifacts import ArtifactManager\n"
        "with ArtifactManager.from_env() as manager:\n"
        "    print(manager.put('answer', {'value': 42}).key)\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], check=True, capture_output=True, text=True, env=environ
    )
    assert run.stdout.startswith("jobs/S/e/Mask/0-")
    assert seaweed_client.get_object(Bucket=bucket, Key=run.stdout.strip())["Body"].read() == b'{"value":42}'
    assert run.stderr == ""
