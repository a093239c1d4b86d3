"""Histories as Step Functions records them, and a client that answers with them; for what no local engine records.

Each event says which one it follows from: in a branch or an iteration, the one before it in there; for the end of a Map
or a Parallel, the last one inside of it. See the API reference of GetExecutionHistory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGAN = datetime(2026, 11, 22, 12, tzinfo=UTC)
ARN = "arn:aws:states:eu-west-1:123456789012:execution:Segment:7f3c"
TOKEN = "AQCEAAAAKgAAAAMAAAAAAAAAAe" + "x" * 300


@dataclass
class RecordedHistory:
    """A history that is written event by event.

    Attributes:
        events: What was written.
        at: Where the next event follows from; set it to go on elsewhere, in another branch.
        seconds: The time of the next event.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    at: int = 0
    seconds: float = 0.0

    def add(self, kind: str, details: str = "", *, step: float = 1.0, **members: Any) -> int:
        """Write an event, and return its number."""
        number = len(self.events) + 1
        event: dict[str, Any] = {
            "id": number,
            "previousEventId": self.at,
            "type": kind,
            "timestamp": BEGAN + timedelta(seconds=self.seconds),
        }
        if members or details:
            event[f"{details or kind[:1].lower() + kind[1:]}EventDetails"] = members
        self.events.append(event)
        self.at = number
        self.seconds += step
        return number

    def enter(self, name: str, kind: str = "Task", given: object = None) -> int:
        """Enter a state."""
        return self.add(f"{kind}StateEntered", "stateEntered", name=name, input=json.dumps(given or {}))

    def leave(self, name: str, kind: str = "Task", output: object = None) -> int:
        """Leave a state."""
        return self.add(f"{kind}StateExited", "stateExited", name=name, output=json.dumps(output or {}))

    def run(self, resource: str = "ecs:runTask.waitForTaskToken", parameters: object = None) -> None:
        """Schedule, start and submit a task."""
        kind, _, call = resource.partition(":")
        told: dict[str, Any] = {"resourceType": kind, "resource": call}
        given = json.dumps({"Token": TOKEN, "Parameters": parameters})
        self.add("TaskScheduled", region="eu-west-1", parameters=given, **told)
        self.add("TaskStarted", **told)
        if call.endswith((".sync", ".waitForTaskToken")):
            self.add("TaskSubmitted", output=json.dumps({"Tasks": [{"CreatedAt": 1}]}), **told)

    def succeed(self, output: object, resource: str = "ecs:runTask.waitForTaskToken") -> int:
        """Let a task succeed."""
        kind, _, call = resource.partition(":")
        return self.add("TaskSucceeded", resourceType=kind, resource=call, output=json.dumps(output))

    def fail(self, error: str, cause: str, resource: str = "ecs:runTask.waitForTaskToken") -> int:
        """Let a task fail."""
        kind, _, call = resource.partition(":")
        return self.add("TaskFailed", resourceType=kind, resource=call, error=error, cause=cause)

    def task(self, name: str, output: object, given: object = None) -> None:
        """Visit a state whose task succeeds with the first try, and whose output is the task's."""
        self.enter(name, given=given)
        self.run()
        self.succeed(output)
        self.leave(name, output=output)


def described(status: str = "SUCCEEDED", **members: Any) -> dict[str, Any]:
    """Return an answer of DescribeExecution."""
    machine = ARN.rpartition(":")[0].replace(":execution:", ":stateMachine:")
    found = {"executionArn": ARN, "stateMachineArn": machine, "name": "7f3c", "status": status, "startDate": BEGAN}
    return {**found, **members}


def refusal(code: str, operation: str = "GetExecutionHistory") -> ClientError:
    """Return what botocore raises when a service answers with a code."""
    return ClientError({"Error": {"Code": code, "Message": f"{code}, it said"}}, operation)


@dataclass
class RecordedStepFunctions:
    """Answers as Step Functions does, from a recorded history, and counts what it is asked.

    Attributes:
        events: The history.
        description: The answer of DescribeExecution.
        refuses: What it answers instead, by operation, for requests that ask for data; for all, if it is no matter of
            the key that encrypts it.
        bytes_per_page: What each page claims to have.
        asked: The operations that it was asked for, with their arguments.
    """

    events: Sequence[dict[str, Any]] = ()
    description: dict[str, Any] = field(default_factory=described)
    refuses: dict[str, str] = field(default_factory=dict)
    children: Sequence[dict[str, Any]] = ()
    bytes_per_page: int = 0
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def describe_execution(self, **arguments: Any) -> dict[str, Any]:
        """Answer DescribeExecution."""
        self._check("describe_execution", arguments, data="includedData" not in arguments)
        return {**self.description, "ResponseMetadata": {}}

    def get_execution_history(self, **arguments: Any) -> dict[str, Any]:
        """Answer GetExecutionHistory, a page at a time."""
        data = arguments.get("includeExecutionData", True)
        self._check("get_execution_history", arguments, data=data)
        start, most = int(arguments.get("nextToken", 0)), arguments.get("maxResults", 100)
        page = [each if data else _without_data(each) for each in self.events[start : start + most]]
        more = {"nextToken": str(start + most)} if start + most < len(self.events) else {}
        return {"events": page, **more, "ResponseMetadata": {"HTTPHeaders": {"content-length": str(self._size(data))}}}

    def list_executions(self, **arguments: Any) -> dict[str, Any]:
        """Answer ListExecutions of a Map Run."""
        self._check("list_executions", arguments, data=False)
        start, most = int(arguments.get("nextToken", 0)), arguments["maxResults"]
        more = {"nextToken": str(start + most)} if start + most < len(self.children) else {}
        return {"executions": list(self.children[start : start + most]), **more}

    def _size(self, data: bool) -> int:
        return self.bytes_per_page if data else 0

    def _check(self, operation: str, arguments: dict[str, Any], *, data: bool) -> None:
        self.asked.append((operation, arguments))
        code = self.refuses.get(operation)
        if code is not None and (data or not code.startswith("Kms")):
            raise refusal(code, operation)


def _without_data(event: dict[str, Any]) -> dict[str, Any]:
    hidden = {"input", "output", "parameters"}
    return {
        name: {key: each for key, each in value.items() if key not in hidden} if isinstance(value, dict) else value
        for name, value in event.items()
    }
