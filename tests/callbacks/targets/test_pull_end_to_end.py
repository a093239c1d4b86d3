"""Pull mode from end to end on the local AWS: ``ecs:runTask.sync``, real processes, Lambdas, errors caught by name.

The local engine's ``.sync`` waits for the task, but never fails: it returns the stopped task whatever its exit code
was, and it calls every exception of a Lambda ``Runtime.HandlerError``. On AWS a state fails with ``States.TaskFailed``,
and the Lambda's error has its class's name. The machine here works on both: ``Catch`` and ``Next`` lead to the same
state, which asks for failures as values, and a ``Fail`` state names the error inside a ``Parallel`` that catches it.
What the Lambda raises is tested in ``test_named_failure``.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from support.ministack import (
    ROLE,
    register_job,
    run_task,
    start_execution,
    unique,
    wait_execution,
    wait_until,
)
from support.outcomes import make_table

import stepout
from stepout.local import lambda_zip

if TYPE_CHECKING:
    from stepout.local import LocalAws

JOB = """
import os, signal, sys
import stepout

class NothingToSee(stepout.PermanentError):
    error_name = "Demo.NothingToSee"

with stepout.open_task() as task:
    task.artifacts.put_text("note", "written by " + os.environ.get("NAME", "nobody"))
    task.result["name"] = os.environ.get("NAME")
    how = os.environ.get("HOW") or (task.input or {}).get("how")
    if how == "fail":
        raise NothingToSee("too dark")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
"""

CONSUMER = """
import os
import stepout

def handler(event, context):
    root = os.environ["LAMBDA_TASK_ROOT"]
    assert stepout.__file__.startswith(root), stepout.__file__
    output = stepout.resolve_output(event["url"], execution=event["execution"], state="Mask")
    return {"note": output["note"].read_text(), "attempt": output.producer.attempt}
"""

URL = "States.Format('s3://{}/outputs/{{}}/Mask.json', $$.Execution.Name)"
ITEM = "States.Format('{}/Mask', $$.Execution.Id)"


@pytest.fixture(scope="module")
def bucket(local_aws: LocalAws) -> str:
    """Artifacts and outcomes go here."""
    name = unique("pull")
    local_aws.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="module")
def family(local_aws: LocalAws, bucket: str) -> str:
    """The task definition of the job."""
    environment = [{"name": "STEPOUT_BUCKET", "value": bucket}, {"name": "STEPOUT_PREFIX", "value": "runs"}]
    return register_job(local_aws, {"command": [sys.executable, "-c", JOB], "environment": environment})


def _function(aws: LocalAws, handler: str, allow: str) -> str:
    """Create a Lambda of this very stepout, and wait until it can be called."""
    buffer = io.BytesIO(lambda_zip())
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("consumer.py", CONSUMER)
    name, client = unique("function"), aws.client("lambda")
    client.create_function(
        FunctionName=name,
        Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
        Role=ROLE,
        Handler=handler,
        Code={"ZipFile": buffer.getvalue()},
        Timeout=30,
        Environment={"Variables": {"STEPOUT_ALLOW": allow, "STEPOUT_S3_PROFILE": "compatible"}},
    )
    wait_until(lambda: client.get_function(FunctionName=name)["Configuration"]["State"] == "Active", what=name)
    return name


@pytest.fixture(scope="module")
def functions(local_aws: LocalAws, bucket: str) -> tuple[str, str]:
    """The shipped handler, and a consumer that resolves the URL."""
    allow = f"s3://{bucket}/"
    return (
        _function(local_aws, "stepout.callbacks.named_failure.handler", allow),
        _function(local_aws, "consumer.handler", allow),
    )


def _task(family: str, output: str, **more: Any) -> dict[str, Any]:
    """The state that runs the job and waits for its end, whatever that is."""
    variables = {
        "STEPOUT_OUTPUT": output,
        "STEPOUT_EXECUTION": "$$.Execution.Id",
        "STEPOUT_STATE": "$$.State.Name",
        "STEPOUT_ATTEMPT": "States.Format('{}', $$.State.RetryCount)",
        "STEPOUT_INPUT": "States.JsonToString($)",
    }
    environment = [{"Name": name, "Value.$": path} for name, path in variables.items()]
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::ecs:runTask.sync",
        "TimeoutSeconds": 120,
        "Parameters": {
            "LaunchType": "FARGATE",
            "Cluster": "default",
            "TaskDefinition": family,
            "Overrides": {"ContainerOverrides": [{"Name": "job", "Environment": environment}]},
        },
        "ResultPath": None,
        "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.caught", "Next": "MaskOutcome"}],
        "Next": "MaskOutcome",
        **more,
    }


def _named(inner: dict[str, Any]) -> dict[str, Any]:
    """A Parallel of one branch: its Retry and Catch see the names of the failures within."""
    return {
        "Type": "Parallel",
        "Branches": [{"StartAt": "Mask", "States": inner}],
        "ResultPath": "$.masked",
        "Catch": [{"ErrorEquals": ["Demo.NothingToSee"], "ResultPath": "$.problem", "Next": "Retake"}],
        "Next": "Read",
    }


RETAKE = {
    "Type": "Pass",
    "Parameters": {"error.$": "$.problem.Error", "cause.$": "States.StringToJson($.problem.Cause)"},
    "End": True,
}


def _s3_machine(family: str, bucket: str, functions: tuple[str, str]) -> dict[str, Any]:
    url, (outcome, consumer) = URL.format(bucket), functions
    asked = {"url.$": url, "execution.$": "$$.Execution.Id", "state": "Mask", "input.$": "$", "raise": False}
    inner = {
        "Mask": _task(family, url),
        "MaskOutcome": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {"FunctionName": outcome, "Payload": asked},
            "OutputPath": "$.Payload",
            "Next": "MaskEnded",
        },
        "MaskEnded": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.failure", "IsPresent": True, "Next": "MaskFailed"}],
            "Default": "MaskDone",
        },
        "MaskFailed": {"Type": "Fail", "ErrorPath": "$.failure.error", "CausePath": "$.failure.cause"},
        "MaskDone": {"Type": "Pass", "End": True},
    }
    read = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": consumer, "Payload": {"url.$": url, "execution.$": "$$.Execution.Id"}},
        "ResultSelector": {"read.$": "$.Payload"},
        "ResultPath": "$.consumed",
        "End": True,
    }
    return {"Masking": _named(inner), "Read": read, "Retake": RETAKE}


Ended = dict[str, dict[str, Any]]
"""How the executions ended that asked the job to do ``well``, to ``fail`` and to ``die``, their output opened."""


def _run_all(aws: LocalAws, machine: dict[str, Any]) -> Ended:
    """Run the machine three times at once."""
    ways = ("well", "fail", "die")
    started = {how: start_execution(aws, machine, start_at="Masking", document={"how": how}) for how in ways}
    ended = {how: wait_execution(aws, execution) for how, execution in started.items()}
    return {how: {**each, "output": json.loads(each.get("output") or "{}")} for how, each in ended.items()}


@pytest.fixture(scope="module")
def in_s3(local_aws: LocalAws, family: str, bucket: str, functions: tuple[str, str]) -> Ended:
    """With the outcome in S3."""
    return _run_all(local_aws, _s3_machine(family, bucket, functions))


def test_a_sync_task_succeeds_and_a_lambda_resolves_its_output(local_aws: LocalAws, bucket: str, in_s3: Ended) -> None:
    """The document comes back through the state, and the URL is enough for a consumer that checks whose it is."""
    ended = in_s3["well"]
    assert ended["status"] == "SUCCEEDED", ended
    assert ended["output"]["consumed"]["read"] == {"note": "written by nobody", "attempt": 0}
    document = ended["output"]["masked"][0]
    assert document["producer"]["execution"] == ended["executionArn"]
    client = local_aws.client("s3")
    output = stepout.resolve_output(document, allow=[f"s3://{bucket}/runs/"], client=client)
    assert output["note"].read_text() == "written by nobody"


def test_a_failure_is_caught_by_its_name(in_s3: Ended) -> None:
    """A real process raises, and the state machine catches that very error."""
    ended = in_s3["fail"]
    assert ended["status"] == "SUCCEEDED", ended
    assert ended["output"]["error"] == "Demo.NothingToSee"
    assert ended["output"]["cause"]["message"] == "too dark"
    assert ended["output"]["cause"]["run"]["state"] == "Mask"


def test_a_killed_task_leaves_nothing_and_is_named(local_aws: LocalAws, bucket: str, in_s3: Ended) -> None:
    """SIGKILL after the artifacts and before the report: nothing at the URL, nothing beside it, and an error."""
    ended = in_s3["die"]
    assert (ended["status"], ended["error"]) == ("FAILED", "Stepout.NothingReported"), ended
    name = ended["name"]
    left = local_aws.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"outputs/{name}/")
    assert left.get("Contents", []) == []
    url = f"s3://{bucket}/outputs/{name}/Mask.json"
    with pytest.raises(stepout.ArtifactNotFoundError, match="has not reported yet, or died"):
        stepout.resolve_output(url, allow=[f"s3://{bucket}/"], client=local_aws.client("s3"))


def test_of_two_attempts_at_once_the_first_counts(local_aws: LocalAws, family: str, bucket: str) -> None:
    """Two real processes with one URL: one ends well, the other is told that it came too late."""
    url = f"s3://{bucket}/outputs/{unique('race')}/Mask.json"
    shared = {"STEPOUT_OUTPUT": url, "STEPOUT_EXECUTION": "arn:race", "STEPOUT_STATE": "Mask"}

    def start(number: int) -> str:
        variables = {**shared, "STEPOUT_ATTEMPT": str(number), "NAME": f"attempt {number}"}
        environment = [{"name": name, "value": value} for name, value in variables.items()]
        return run_task(local_aws, family, overrides=[{"name": "job", "environment": environment}])

    arns = [start(0), start(1)]

    def both() -> list[Any]:
        tasks = [task for task in local_aws.tasks if task.arn in arns and task.status == "STOPPED"]
        return tasks if len(tasks) == 2 else []

    tasks = wait_until(both, what="both attempts")
    assert sorted(task.exit_code for task in tasks) == [0, 4]
    loser = next(task for task in tasks if task.exit_code == 4)
    assert any("the first success counts" in line for line in loser.containers[0].output)
    winner = arns.index(next(task.arn for task in tasks if task.exit_code == 0))
    found = stepout.resolve_output(
        url, allow=[f"s3://{bucket}/"], client=local_aws.client("s3"), execution="arn:race", state="Mask"
    )
    assert (found.result, found["note"].read_text()) == ({"name": f"attempt {winner}"}, f"written by attempt {winner}")


def _table_machine(family: str, table: str) -> dict[str, Any]:
    """Without any Lambda: GetItem, Choice, and a Fail state that names the error."""
    inner = {
        "Mask": _task(family, f"States.Format('dynamodb://{table}/{{}}/Mask', $$.Execution.Id)"),
        "MaskOutcome": {
            "Type": "Task",
            "Resource": "arn:aws:states:::dynamodb:getItem",
            "Parameters": {
                "TableName": table,
                "Key": {"id": {"S.$": ITEM}},
                "ConsistentRead": True,
            },
            "Next": "MaskEnded",
        },
        "MaskEnded": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.Item.document.S", "IsPresent": True, "Next": "MaskDone"},
                {"Variable": "$.Item.error.S", "IsPresent": True, "Next": "MaskFailed"},
            ],
            "Default": "MaskSilent",
        },
        "MaskDone": {
            "Type": "Pass",
            "Parameters": {"output.$": "States.StringToJson($.Item.document.S)"},
            "OutputPath": "$.output",
            "End": True,
        },
        "MaskFailed": {"Type": "Fail", "ErrorPath": "$.Item.error.S", "CausePath": "$.Item.cause.S"},
        "MaskSilent": {"Type": "Fail", "Error": "Stepout.NothingReported"},
    }
    read = {"Type": "Pass", "OutputPath": "$.masked[0]", "End": True}
    return {"Masking": _named(inner), "Read": read, "Retake": RETAKE}


def test_without_a_lambda_an_items_failure_is_caught_by_its_name(
    local_aws: LocalAws, family: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DynamoDB: a success is the state's output, a failure its error, and a silent death an error of its own."""
    for name, value in local_aws.environ.items():
        monkeypatch.setenv(name, value)
    table = unique("outcomes")
    make_table(local_aws.client("dynamodb"), table, "id")
    all_ended = _run_all(local_aws, _table_machine(family, table))
    urls = {how: f"dynamodb://{table}/{each['executionArn']}/Mask" for how, each in all_ended.items()}
    allow = [f"dynamodb://{table}/", f"s3://{bucket}/runs/"]

    ended = all_ended["well"]
    assert ended["status"] == "SUCCEEDED", ended
    found = stepout.resolve_output(urls["well"], allow=allow, execution=ended["executionArn"], state="Mask")
    assert found.document.to_dict() == ended["output"]
    assert found["note"].read_text() == "written by nobody"

    ended = all_ended["fail"]
    assert (ended["status"], ended["output"]["error"]) == ("SUCCEEDED", "Demo.NothingToSee"), ended
    with pytest.raises(stepout.TaskFailedError, match=r"Demo.NothingToSee: too dark"):
        stepout.resolve_output(urls["fail"], allow=allow)

    ended = all_ended["die"]
    assert (ended["status"], ended["error"]) == ("FAILED", "Stepout.NothingReported"), ended
    with pytest.raises(stepout.ArtifactNotFoundError):
        stepout.resolve_output(urls["die"], allow=allow)
