"""Processes killed at random points inside the block: whole objects or none, and one report at most.

``STEPOUT_TEST_KILLS`` says how many are killed (a dozen by default; three hundred before a release).
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.containers import Container, environment_for, multipart_uploads, objects

import stepout

if TYPE_CHECKING:
    from pathlib import Path

    from support.seaweed import Seaweed
    from support.sfn_strict import StrictStepFunctions

KILLS = int(os.environ.get("STEPOUT_TEST_KILLS", "12"))
FILE, STREAM, TABLE = bytes(range(251)) * 80_000, b"stream" * 2_000_000, 400_000
JOBS = {
    "file": 'task.artifacts.put_file("file", sys.argv[1])',
    "stream": """
with task.artifacts.open("stream", "wb") as sink:
    for _ in range(20):
        sink.write(b"stream" * 100_000)""",
    "table": 'task.artifacts.put_table("table", pyarrow.table({"n": numpy.arange(400_000)}))',
    "many": 'task.artifacts.put_many({f"small_{n}": str(n).encode() for n in range(40)})',
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def _script(kind: str) -> str:
    imports = "import numpy, pyarrow, pyarrow.parquet\n" if kind == "table" else ""
    body = JOBS[kind].strip().replace("\n", "\n    ")
    return f"{imports}import stepout\nwith stepout.open_task() as task:\n    ready()\n    {body}\n"


def _expected(name: str) -> bytes | None:
    """What an object of this name holds; ``None`` for the table, which is read as one."""
    if name.startswith("small_"):
        return name.removeprefix("small_").encode()
    return {"file": FILE, "stream": STREAM}.get(name)


@pytest.mark.slow
@pytest.mark.timeout(120 + 10 * KILLS)
def test_killed_at_random_points(
    sfn_strict: StrictStepFunctions, seaweed: Seaweed, seaweed_client: Any, bucket: str, tmp_path: Path
) -> None:
    """Whatever signal comes whenever: each object is whole, a clean end leaves no upload, and there is one report."""
    (tmp_path / "file").write_bytes(FILE)
    environment = environment_for(sfn_strict, seaweed)
    takes: dict[str, float] = {}
    for number in range(KILLS + len(JOBS)):
        kind = list(JOBS)[number % len(JOBS)]
        prefix = f"runs/{number}"
        token = sfn_strict.issue()
        place = {"STEPOUT_BUCKET": bucket, "STEPOUT_PREFIX": prefix}
        container = Container(_script(kind), token, environment | place, str(tmp_path / "file")).until()
        began = time.monotonic()
        if kind not in takes:  # the first of a kind is left alone, to know how long one takes
            code, printed = container.finish()
            takes[kind] = time.monotonic() - began
            assert code == 0, printed
            stopped_by = None
        else:
            time.sleep(random.uniform(0, takes[kind]))
            stopped_by = SIGNALS[number // len(JOBS) % len(SIGNALS)]
            container.process.send_signal(stopped_by)
            code, printed = container.finish()
        _check_end(sfn_strict, token, code, stopped_by, printed)
        _check_objects(seaweed_client, bucket, prefix, stopped_by)


def _check_end(
    sfn: StrictStepFunctions, token: str, code: int, stopped_by: signal.Signals | None, printed: str
) -> None:
    accepted = sfn.accepted(token)  # asserts that there is one at most
    if code == 0:
        assert [action for action, _ in accepted] == ["SendTaskSuccess"], printed
    elif stopped_by is signal.SIGKILL:
        assert code == -signal.SIGKILL, printed
    else:
        assert stopped_by is not None, printed
        assert len(accepted) == 1, printed
        if accepted[0][0] == "SendTaskFailure":
            assert sfn.failure(token)[0] == "Stepout.Interrupted", printed
            assert code == 128 + stopped_by, printed
        else:  # it was on its way when the signal came, or the signal came after the block
            assert code in (128 + stopped_by, -stopped_by), printed
    if accepted and accepted[0][0] == "SendTaskSuccess":
        document = sfn.success(token)
        assert document["artifacts"]


def _check_objects(client: Any, bucket: str, prefix: str, stopped_by: signal.Signals | None) -> None:
    keys = [key for key in objects(client, bucket) if key.startswith(f"{prefix}/")]
    for record in [key for key in keys if key.endswith("/_output.json")]:  # What it names is whole.
        document = json.load(client.get_object(Bucket=bucket, Key=record)["Body"])
        for artifact in stepout.resolve_output(document, allow=[f"s3://{bucket}/"], client=client).values():
            artifact.verify()
    for key in keys:
        name = key.rpartition("/")[2].partition(".")[0]
        whole = _expected(name)
        if whole is not None:
            assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == whole, key
        elif name == "table":
            pointer = stepout.ArtifactManager(bucket, "adopted", client=client).adopt("table", f"s3://{bucket}/{key}")
            read = stepout.resolve_artifact(pointer.to_dict(), allow=[f"s3://{bucket}/"], client=client)
            assert read.read_table().num_rows == TABLE
        client.delete_object(Bucket=bucket, Key=key)
    uploads = [key for key in multipart_uploads(client, bucket) if key.startswith(f"{prefix}/")]
    if stopped_by is not signal.SIGKILL:
        assert uploads == []
    for found in client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        client.abort_multipart_upload(Bucket=bucket, Key=found["Key"], UploadId=found["UploadId"])
