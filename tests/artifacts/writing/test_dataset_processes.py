"""Datasets of several processes on a real server: parts that one manifest names, and deaths that leave none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from support.containers import multipart_uploads, objects
from support.seaweed import ADMIN

from stepout.artifacts import ArtifactManager
from stepout.artifacts.resolve import resolve_artifact

if TYPE_CHECKING:
    from pathlib import Path

    from support.seaweed import Seaweed

VALUES = ["plain", "a/b=c%20 d", "\N{GRINNING FACE}é", "~.-_'!*()+&?#"]

PROGRAM = f"""
import json, os, sys
import pyarrow as pa
from stepout.artifacts import ArtifactManager
from stepout.artifacts.resolve import resolve_artifact
values = {VALUES!r}
role, bucket, *rest = sys.argv[1:]
manager = ArtifactManager(bucket, "runs")

def rows(first, count):
    return pa.table({{"id": range(first, first + count), "p": [values[n % 4] for n in range(count)]}})

def endless():
    sent = 0
    while True:
        data = pa.array([os.urandom(1 << 10) for _ in range(4000)])
        yield pa.table({{"data": data, "p": [str(n % 3) for n in range(4000)]}})
        sent += 1
        if role == "abort" and sent == 12:
            manager.abort()

if role == "write":
    pointer = manager.put_dataset("part", rows(int(rest[0]), 100), partition_by=["p"])
elif role == "merge":
    allow = [f"s3://{{bucket}}/runs/"]
    parts = [resolve_artifact(text, allow=allow) for text in rest]
    for part in parts:
        part.verify()  # every file, by the routes of a client that stepout builds
    pointer = manager.merge_datasets("all", parts)
else:
    pointer = manager.put_dataset("part", endless(), partition_by=["p"], row_group_bytes=4 << 20, compression="none",
                                  max_rows_per_file=8000)
print(pointer.to_json())
"""


def started(seaweed: Seaweed, *arguments: str) -> subprocess.Popen[str]:
    """Start the program as a process of its own."""
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": seaweed.endpoint,
        "AWS_ACCESS_KEY_ID": ADMIN.access_key,
        "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
        "AWS_REGION": "us-east-1",
    }
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")


def printed(process: subprocess.Popen[str]) -> str:
    """Wait for a process and return its last line."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.splitlines()[-1]


def clear(client: Any, bucket: str) -> None:
    """Delete everything, so that the bucket can go."""
    for key in objects(client, bucket):
        client.delete_object(Bucket=bucket, Key=key)


def test_two_processes_write_and_a_third_merges(
    seaweed: Seaweed, seaweed_client: Any, bucket: str, tmp_path: Path
) -> None:
    """Values that need escaping stay apart on a real server, and one manifest has the rows of both processes."""
    parts = [printed(process) for process in [started(seaweed, "write", bucket, first) for first in ("0", "100")]]
    before = objects(seaweed_client, bucket)
    pointer = json.loads(printed(started(seaweed, "merge", bucket, *parts)))
    assert len(objects(seaweed_client, bucket)) == len(before) + 1
    artifact = resolve_artifact(pointer, allow=[f"s3://{bucket}/runs/"], client=seaweed_client)
    manifest = artifact.manifest()
    assert (manifest.rows, len(manifest.files)) == (200, 8)
    artifact.verify()
    artifact.download(tmp_path / "all")
    schema = pa.schema([("p", pa.string())])
    found = ds.dataset(tmp_path / "all", partitioning=ds.partitioning(schema, flavor="hive")).to_table().sort_by("id")
    assert found["id"].to_pylist() == list(range(200))
    assert found["p"].to_pylist() == VALUES * 50
    clear(seaweed_client, bucket)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_process_that_is_killed_leaves_nothing_to_read(seaweed: Seaweed, seaweed_client: Any, bucket: str) -> None:
    """Files that were committed before are there, no manifest names them, and a part that lived is merged alone."""
    process = started(seaweed, "endless", bucket)
    deadline = time.monotonic() + 120
    while not any(key.endswith(".parquet") for key in objects(seaweed_client, bucket)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = objects(seaweed_client, bucket)
    assert any(key.endswith(".parquet") for key in left)
    assert not any(key.endswith(".json") for key in left)
    whole = resolve_artifact(
        printed(started(seaweed, "write", bucket, "0")), allow=[f"s3://{bucket}/"], client=seaweed_client
    )
    merged = ArtifactManager(bucket, "runs", client=seaweed_client).merge_datasets("all", [whole])
    named = resolve_artifact(merged, allow=[f"s3://{bucket}/"], client=seaweed_client).manifest().files
    assert not set(left) & {file.pointer.key for file in named}
    for upload in seaweed_client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):  # as a lifecycle rule does
        seaweed_client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    clear(seaweed_client, bucket)


def test_an_abort_leaves_no_upload_on_the_server(seaweed: Seaweed, seaweed_client: Any, bucket: str) -> None:
    """The manager's abort, as on SIGTERM, ends every file's multipart upload."""
    process = started(seaweed, "abort", bucket)
    out, err = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "abort" in err, out
    assert multipart_uploads(seaweed_client, bucket) == []
    assert not any(key.endswith(".json") for key in objects(seaweed_client, bucket))
    clear(seaweed_client, bucket)
