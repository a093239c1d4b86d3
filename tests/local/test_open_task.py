"""``open_task`` in a real container command, behind a real state machine: success, StopTask, and nobody waiting."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.ministack import callback_state, register_job, start_execution, unique, wait_execution, wait_until

import stepout

if TYPE_CHECKING:
    from stepout.local import LocalAws
    from stepout.local.task import LocalTask

WRITER = """
import stepout
with stepout.open_task() as task:
    task.artifacts.put_text("notes", "some notes")
    task.result["rows"] = 3
"""

SLEEPER = """
import time
import stepout
with stepout.open_task() as task:
    stream = task.artifacts.open("half", "wb")
    stream.write(b"x" * 20_000_000)
    print("working", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def bucket(local_aws: LocalAws) -> str:
    """A bucket for this module."""
    name = unique("tasks")
    local_aws.client("s3").create_bucket(Bucket=name)
    return name


def job(aws: LocalAws, bucket: str, script: str) -> str:
    """Register a task definition that runs ``script`` with artifacts going to ``bucket``."""
    variables = {"STEPOUT_BUCKET": bucket, "STEPOUT_PREFIX": "runs", "STEPOUT_HEARTBEAT_SECONDS": "3"}
    environment = [{"name": name, "value": value} for name, value in variables.items()]
    return register_job(aws, {"command": ["python", "-c", script], "environment": environment})


def task_of(aws: LocalAws, family: str, *, line: str | None = None) -> LocalTask:
    """Wait for the family's task to print ``line``, or to end."""

    def there() -> LocalTask | None:
        for task in aws.tasks:
            printed = [text for container in list(task.containers) for text in list(container.output)]
            if f"/{family}:" in task.definition and (line in printed if line else task.status == "STOPPED"):
                return task
        return None

    task = wait_until(there, what=f"the task of {family}")
    assert task is not None
    return task


def left_behind(aws: LocalAws, bucket: str) -> list[Any]:
    """Return what an interrupted write may not leave: objects called ``half`` and open uploads."""
    client = aws.client("s3")
    objects = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return [
        *(found["Key"] for found in objects if "/half" in found["Key"]),
        *client.list_multipart_uploads(Bucket=bucket).get("Uploads", []),
    ]


def test_output_document_reaches_the_next_state(local_aws: LocalAws, bucket: str) -> None:
    """What a task writes and reports is what the execution's output leads to."""
    family = job(local_aws, bucket, WRITER)
    execution = start_execution(local_aws, {"Work": callback_state(family)}, start_at="Work")
    ended = wait_execution(local_aws, execution)
    assert ended["status"] == "SUCCEEDED"
    output = stepout.resolve_output(ended["output"], allow=[f"s3://{bucket}/runs/"], client=local_aws.client("s3"))
    assert output["notes"].read_text() == "some notes"
    assert output.result == {"rows": 3}
    assert json.loads(ended["output"])["producer"]["execution"] == execution
    assert task_of(local_aws, family).exit_code == 0


def test_stopped_task_reports_that_it_was_interrupted(local_aws: LocalAws, bucket: str) -> None:
    """StopTask is SIGTERM: uploads are aborted, the state machine catches Stepout.Interrupted, the exit code is 143."""
    family = job(local_aws, bucket, SLEEPER)
    caught = {"Type": "Pass", "Parameters": {"caught.$": "$.Error"}, "End": True}
    catch = [{"ErrorEquals": ["Stepout.Interrupted"], "Next": "Caught"}]
    states = {"Work": callback_state(family, Catch=catch), "Caught": caught}
    execution = start_execution(local_aws, states, start_at="Work")
    task = task_of(local_aws, family, line="working")
    local_aws.client("ecs").stop_task(cluster="default", task=task.arn)
    ended = wait_execution(local_aws, execution)
    assert (ended["status"], json.loads(ended["output"])) == ("SUCCEEDED", {"caught": "Stepout.Interrupted"})
    task = task_of(local_aws, family)
    assert (task.exit_code, task.reported) == (143, True)
    assert left_behind(local_aws, bucket) == []


def test_task_that_nobody_waits_for_ends_itself(local_aws: LocalAws, bucket: str) -> None:
    """When the state has timed out, the next heartbeat tells the container, which gives up with exit code 4."""
    family = job(local_aws, bucket, SLEEPER)
    execution = start_execution(local_aws, {"Work": callback_state(family, TimeoutSeconds=4)}, start_at="Work")
    assert wait_execution(local_aws, execution)["status"] in {"FAILED", "TIMED_OUT"}
    assert task_of(local_aws, family).exit_code == 4
    assert left_behind(local_aws, bucket) == []
