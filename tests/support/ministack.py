"""The local AWS for tests: one per session, and what it takes to run a command behind a state machine."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from stepout.local import LocalAws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROLE = "arn:aws:iam::000000000000:role/test"
WAIT_SECONDS = 180.0
T = TypeVar("T")


@pytest.fixture(scope="session")
def local_aws() -> Iterator[LocalAws]:
    """A running local AWS; give your buckets and state machines names of their own (``unique``)."""
    with LocalAws(stop_grace=1.0) as aws:
        yield aws


def unique(stem: str) -> str:
    """Return a name that nothing else in this session has."""
    return f"{stem}-{secrets.token_hex(4)}"


def wait_until(probe: Callable[[], T], *, what: str) -> T:
    """Return the first true value of ``probe``; fail after three minutes."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (value := probe()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {WAIT_SECONDS:.0f} s in vain for {what}")
        time.sleep(0.02)
    return value


def register_job(aws: LocalAws, *containers: dict[str, Any]) -> str:
    """Register a task definition of these containers and return its family; names default to ``job``."""
    family = unique("job")
    definitions = [{"name": "job", "image": "ignored", **container} for container in containers]
    aws.client("ecs").register_task_definition(family=family, containerDefinitions=definitions)
    return family


def callback_state(family: str, **more: Any) -> dict[str, Any]:
    """Return the Task state that hands its token to container ``job`` of ``family``; ``more`` are its other members."""
    environment = [
        {"Name": "STEPOUT_TASK_TOKEN", "Value.$": "$$.Task.Token"},
        {"Name": "STEPOUT_EXECUTION", "Value.$": "$$.Execution.Id"},
        {"Name": "STEPOUT_STATE", "Value.$": "$$.State.Name"},
        {"Name": "STEPOUT_ATTEMPT", "Value.$": "States.Format('{}', $$.State.RetryCount)"},
    ]
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::ecs:runTask.waitForTaskToken",
        "TimeoutSeconds": 120,
        "Parameters": {
            "LaunchType": "FARGATE",
            "Cluster": "default",
            "TaskDefinition": family,
            "Overrides": {"ContainerOverrides": [{"Name": "job", "Environment": environment}]},
        },
        "End": True,
        **more,
    }


def start_execution(aws: LocalAws, states: dict[str, Any], *, start_at: str, document: object = None) -> str:
    """Create a state machine of ``states``, start it, and return the execution's ARN."""
    client = aws.client("stepfunctions")
    definition = json.dumps({"StartAt": start_at, "States": states})
    machine = client.create_state_machine(name=unique("machine"), definition=definition, roleArn=ROLE)
    started = client.start_execution(stateMachineArn=machine["stateMachineArn"], input=json.dumps(document or {}))
    return str(started["executionArn"])


def wait_execution(aws: LocalAws, execution: str) -> dict[str, Any]:
    """Return DescribeExecution once the execution has ended."""
    client = aws.client("stepfunctions")

    def ended() -> dict[str, Any] | None:
        described: dict[str, Any] = client.describe_execution(executionArn=execution)
        return described if described["status"] != "RUNNING" else None

    described = wait_until(ended, what=f"the end of {execution}")
    assert described is not None
    return described


def run_task(aws: LocalAws, family: str, *, overrides: Sequence[dict[str, Any]] = ()) -> str:
    """Run one ECS task outside any state machine and return its ARN."""
    answer = aws.client("ecs").run_task(
        cluster="default", taskDefinition=family, overrides={"containerOverrides": list(overrides)}
    )
    return str(answer["tasks"][0]["taskArn"])
