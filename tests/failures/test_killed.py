"""SIGKILL at the worst moments: nobody reports, nothing half-written is there, and a retry is not in its own way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from support.containers import multipart_uploads, objects, record_beside
from support.wire import Wire

import stepout

if TYPE_CHECKING:
    from support.seaweed import Seaweed
    from support.sfn_strict import StrictStepFunctions

WORK = """
import stepout
with stepout.open_task() as task:
    task.artifacts.put_bytes("mask", b"m" * 1000)
    task.result["rows"] = 3
"""
HEARTBEAT = 300


def _runs_out(sfn: StrictStepFunctions, token: str) -> None:
    """The state's heartbeat runs out; from then on it waits no more."""
    sfn.client().send_task_heartbeat(taskToken=token)
    sfn.advance(HEARTBEAT + 1)
    with pytest.raises(ClientError, match="TaskTimedOut"):
        sfn.client().send_task_heartbeat(taskToken=token)


def _retries(sfn: StrictStepFunctions, containers: Any, client: Any, token: str) -> str:
    """The state is tried again: another token, another container; return the key that the accepted output names.

    Of the same attempt number, as after a redrive: only the nonce tells the two apart.
    """
    again = sfn.retry(token)
    ended, printed = containers(WORK, again).finish()
    assert ended == 0, printed
    document = sfn.success(again)
    bucket = document["artifacts"]["mask"]["bucket"]
    output = stepout.resolve_output(document, allow=[f"s3://{bucket}/runs/"], client=client)
    assert output["mask"].read_bytes() == b"m" * 1000
    return output["mask"].pointer.key


def test_killed_before_start(
    sfn_strict: StrictStepFunctions, containers: Any, seaweed_client: Any, bucket: str
) -> None:
    """Out of memory while it imports, say: the state hears nothing, until its heartbeat runs out."""
    token = sfn_strict.issue(heartbeat=HEARTBEAT)
    assert containers(f"ready()\nwait(){WORK}", token).until().kill() == -9
    assert sfn_strict.calls == []
    assert (objects(seaweed_client, bucket), multipart_uploads(seaweed_client, bucket)) == ([], [])
    _runs_out(sfn_strict, token)
    _retries(sfn_strict, containers, seaweed_client, token)


STREAMING = """
import stepout
with stepout.open_task() as task:
    with task.artifacts.open("mask", "wb") as sink:
        for _ in range(12):
            sink.write(b"m" * (1 << 20))
"""


def test_killed_midway(
    sfn_strict: StrictStepFunctions, containers: Any, seaweed: Seaweed, seaweed_client: Any, bucket: str
) -> None:
    """In the middle of an upload: no object, one upload that only the bucket's lifecycle rule can end."""
    token = sfn_strict.issue(heartbeat=HEARTBEAT)
    with Wire(seaweed.endpoint) as wire:
        stalled = wire.when("UploadPart", "stall", times=100)
        container = containers(STREAMING, token, endpoint=wire.endpoint)
        assert stalled.struck.wait(60)
        assert container.kill() == -9
    assert objects(seaweed_client, bucket) == []
    uploads = seaweed_client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    # The trial of the server, beside the parts, may be under way as well.
    (orphan,) = [each for each in uploads if "stepout-trial-" not in each["Key"]]
    assert orphan["Key"].startswith("runs/Segment/one/Mask/0-")
    assert sfn_strict.accepted(token) == []
    _runs_out(sfn_strict, token)
    key = _retries(sfn_strict, containers, seaweed_client, token)
    assert sorted(objects(seaweed_client, bucket)) == sorted([key, record_beside(key)])
    # What AbortIncompleteMultipartUpload does once its days are over.
    for each in uploads:
        seaweed_client.abort_multipart_upload(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"])
    assert multipart_uploads(seaweed_client, bucket) == []
    assert sorted(objects(seaweed_client, bucket)) == sorted([key, record_beside(key)])


def test_killed_between_the_last_upload_and_the_report(
    sfn_strict: StrictStepFunctions, containers: Any, seaweed_client: Any, bucket: str
) -> None:
    """Whole objects that no output names; the retry writes beside them."""
    token = sfn_strict.issue(heartbeat=HEARTBEAT)
    assert containers(f"{WORK}    ready()\n    wait()\n", token).until().kill() == -9
    assert sfn_strict.count("SendTaskSuccess") == sfn_strict.count("SendTaskFailure") == 0
    (left,) = objects(seaweed_client, bucket)
    assert seaweed_client.get_object(Bucket=bucket, Key=left)["Body"].read() == b"m" * 1000
    _runs_out(sfn_strict, token)
    key = _retries(sfn_strict, containers, seaweed_client, token)
    assert key != left
    assert sorted(objects(seaweed_client, bucket)) == sorted([left, key, record_beside(key)])
