"""What the demo deploys: bucket, topic and queue, task definition, Lambda, and the state machine that joins them."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepout.local import lambda_zip
from stepout.schemas.errors import StoreUnavailableError

if TYPE_CHECKING:
    from stepout.local import LocalAws

BUCKET = "stepout-demo"
PREFIX = "runs"
_ROLE = "arn:aws:iam::000000000000:role/demo"
_FUNCTION_SECONDS = 60
_ACTIVE_WITHIN_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Where everything is.

    Attributes:
        machine: The state machine's ARN.
        queue: The URL of the queue that receives what is published.
        zip_size: Of the Lambda's zip, in bytes.
    """

    machine: str
    queue: str
    zip_size: int


def definition(topic: str) -> dict[str, Any]:
    """Return the state machine; it is the one that a deployment to AWS would have, but for the network's settings.

    Args:
        topic: The ARN of the SNS topic.
    """
    return {
        "StartAt": "Compute",
        "States": {
            "Compute": _compute(),
            "LookAtFile": {
                "Type": "Task",
                "Resource": "arn:aws:states:::aws-sdk:s3:headObject",
                "Parameters": {"Bucket.$": "$.artifacts.flights.bucket", "Key.$": "$.artifacts.flights.key"},
                "ResultSelector": {"size.$": "$.ContentLength"},
                "ResultPath": "$.head",
                "Next": "ReadFiles",
            },
            "ReadFiles": {
                "Type": "Task",
                "Resource": "arn:aws:states:::lambda:invoke",
                "Parameters": {"FunctionName": "demo-figures", "Payload.$": "$"},
                "ResultSelector": {"figures.$": "$.Payload"},
                "ResultPath": "$.read",
                "Next": "Tell",
            },
            "Tell": {
                "Type": "Task",
                "Resource": "arn:aws:states:::sns:publish",
                "Parameters": {
                    "TopicArn": topic,
                    "Message.$": "States.Format('{} flights and a picture of {} by {} pixels are ready', "
                    "$.read.figures.rows, $.read.figures.image[0], $.read.figures.image[1])",
                },
                "ResultPath": None,
                "End": True,
            },
            "RetakePhotograph": {
                "Type": "Pass",
                "Parameters": {"error.$": "$.problem.Error", "cause.$": "States.StringToJson($.problem.Cause)"},
                "End": True,
            },
            "Unforeseen": {"Type": "Fail", "Error": "Demo.Unforeseen", "Cause": "another error than the expected one"},
        },
    }


def _compute() -> dict[str, Any]:
    variables = {
        "STEPOUT_TASK_TOKEN": "$$.Task.Token",
        "STEPOUT_EXECUTION": "$$.Execution.Id",
        "STEPOUT_STATE": "$$.State.Name",
        "STEPOUT_ATTEMPT": "States.Format('{}', $$.State.RetryCount)",
        "DEMO_PHOTOGRAPH": "$.photograph",
    }
    environment = [{"Name": name, "Value.$": path} for name, path in variables.items()]
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::ecs:runTask.waitForTaskToken",
        "HeartbeatSeconds": 60,
        "TimeoutSeconds": 300,
        "Parameters": {
            "LaunchType": "FARGATE",
            "Cluster": "default",
            "TaskDefinition": "demo",
            "Overrides": {"ContainerOverrides": [{"Name": "job", "Environment": environment}]},
        },
        "Catch": [
            {"ErrorEquals": ["Demo.NothingToSee"], "ResultPath": "$.problem", "Next": "RetakePhotograph"},
            {"ErrorEquals": ["States.ALL"], "ResultPath": "$.problem", "Next": "Unforeseen"},
        ],
        "Next": "LookAtFile",
    }


def deploy(aws: LocalAws) -> Deployment:
    """Create everything on a fresh local AWS.

    Args:
        aws: A running local AWS.

    Returns:
        Where it is.
    """
    aws.client("s3").create_bucket(Bucket=BUCKET)
    _register_job(aws)
    code = lambda_zip()
    _create_function(aws, code)
    topic, queue = _create_topic(aws)
    machine = aws.client("stepfunctions").create_state_machine(
        name="demo", roleArn=_ROLE, definition=json.dumps(definition(topic))
    )
    return Deployment(machine=machine["stateMachineArn"], queue=queue, zip_size=len(code))


def _register_job(aws: LocalAws) -> None:
    variables = {"STEPOUT_BUCKET": BUCKET, "STEPOUT_PREFIX": PREFIX, "STEPOUT_HEARTBEAT_SECONDS": "60"}
    container = {
        "name": "job",
        "image": "python",
        "command": [sys.executable, "-m", "stepout.demo.job"],
        "environment": [{"name": name, "value": value} for name, value in variables.items()],
        "stopTimeout": 30,
    }
    aws.client("ecs").register_task_definition(family="demo", containerDefinitions=[container])


def _create_function(aws: LocalAws, code: bytes) -> None:
    client = aws.client("lambda")
    client.create_function(
        FunctionName="demo-figures",
        Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
        Role=_ROLE,
        Handler="stepout.demo.consumer.handler",
        Code={"ZipFile": code},
        Layers=[aws.publish_layer("demo-tables-and-pictures", "pyarrow", "pillow")],
        Timeout=_FUNCTION_SECONDS,
        MemorySize=1024,
        Environment={"Variables": {"STEPOUT_ALLOW": f"s3://{BUCKET}/{PREFIX}/", "STEPOUT_S3_PROFILE": "compatible"}},
    )
    deadline = time.monotonic() + _ACTIVE_WITHIN_SECONDS
    while client.get_function(FunctionName="demo-figures")["Configuration"]["State"] != "Active":
        if time.monotonic() > deadline:
            raise StoreUnavailableError("the local AWS did not make the Lambda function active within 30 s")
        time.sleep(0.05)


def _create_topic(aws: LocalAws) -> tuple[str, str]:
    topic = aws.client("sns").create_topic(Name="demo-done")["TopicArn"]
    sqs = aws.client("sqs")
    queue = sqs.create_queue(QueueName="demo-done")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    aws.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=attributes["QueueArn"])
    return topic, queue
