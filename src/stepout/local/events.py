"""The part of EventBridge that a stand-in cannot play for another: "ECS Task State Change" events, from ECS itself.

PutEvents refuses sources that begin with ``aws.``, on AWS and on the stand-in. So the rules of the local AWS's default
event bus are asked here, by the stand-in's own TestEventPattern, and the targets of those that match are served:
Lambda functions (asynchronous, so with Lambda's retries and dead-letter queue) and SQS queues.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stepout.schemas.text.foreign_text import logger
from stepout.schemas.text.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stepout.local.task import LocalContainer, LocalTask

_logger = logger("stepout.local")

_NOT_IN_EVENTS = ("healthStatus", "tags", "containerInstanceArn", "taskArn")
"""DescribeTasks has them, the event has not (developer guide), or they are set here."""


def task_state_change(task: LocalTask, described: Mapping[str, Any], *, account: str, region: str) -> dict[str, Any]:
    """Return the event that ECS would send, in the shape of the developer guide's example.

    Args:
        task: How it went: the truth about stop code, reason and exit codes.
        described: The same task in the stand-in's DescribeTasks: the rest, with RunTask's overrides.
        account: The account.
        region: The region.

    Returns:
        JSON.
    """
    now = rfc3339(datetime.now(UTC), to="milliseconds")
    detail = {name: _json(value) for name, value in described.items() if name not in _NOT_IN_EVENTS and value}
    detail |= {"taskArn": task.arn, "lastStatus": task.status, "desiredStatus": task.status, "updatedAt": now}
    ends = {container.name: container for container in task.containers}
    detail["containers"] = [
        _container(each, ends.get(each.get("name", "")), task.status) for each in described.get("containers", ())
    ]
    if task.status == "STOPPED":
        detail |= {"stopCode": task.stop_code, "stoppedReason": task.reason, "stoppedAt": now}
    else:
        detail = {name: value for name, value in detail.items() if name not in ("stopCode", "stoppedReason")}
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "ECS Task State Change",
        "source": "aws.ecs",
        "account": account,
        "time": now,
        "region": region,
        "resources": [task.arn],
        "detail": detail,
    }


def _container(described: Mapping[str, Any], end: LocalContainer | None, status: str) -> dict[str, Any]:
    kept = {name: _json(value) for name, value in described.items() if name not in ("exitCode", "reason") and value}
    kept["lastStatus"] = status
    if end is not None and end.exit_code is not None:
        kept["exitCode"] = end.exit_code
    if end is not None and end.reason is not None:
        kept["reason"] = end.reason
    return kept


class TaskEvents:
    """Delivers events to the rules of the default event bus, and to one function.

    Each event has a thread of its own: as on AWS, the task does not wait for it, and no order is promised.

    Args:
        client: Makes a boto3 client for a service.
        listener: Called with each event, besides the rules.
    """

    def __init__(self, client: Callable[[str], Any], listener: Callable[[dict[str, Any]], object] | None) -> None:
        self._make_client = client
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._listener = listener
        self._threads: list[threading.Thread] = []

    def deliver(self, event: dict[str, Any]) -> None:
        """Deliver an event, soon."""
        for receive in (self._to_rules, *([] if self._listener is None else [self._to_listener])):
            thread = threading.Thread(target=receive, args=(event,), name="stepout-local-event", daemon=True)
            with self._lock:  # tasks end in threads of their own; without it, one would drop another's from the list
                self._threads = [*(each for each in self._threads if each.is_alive()), thread]
                thread.start()  # within it: a thread that has not started yet counts as one that has ended

    def close(self, *, grace: float) -> None:
        """Give what is being delivered so many seconds to end."""
        deadline = time.monotonic() + grace
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _to_listener(self, event: dict[str, Any]) -> None:
        try:
            if self._listener is not None:
                self._listener(event)
        except Exception:
            # A listener that fails must not stop what runs the tasks.
            _logger.exception("on_task_state_change failed for %s", event["detail"]["taskArn"])

    def _to_rules(self, event: dict[str, Any]) -> None:
        try:
            for target in self._matching(event):
                self._send(target, json.dumps(event))
        except Exception as error:  # noqa: BLE001 - the stand-in may be gone by now
            _logger.warning("an event of %s was not delivered (%s)", event["detail"]["taskArn"], type(error).__name__)

    def _matching(self, event: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
        events = self._client("events")
        text = json.dumps(event)
        for page in events.get_paginator("list_rules").paginate():
            for rule in page["Rules"]:
                pattern = rule.get("EventPattern")
                if rule["State"] != "ENABLED" or not pattern:
                    continue
                if events.test_event_pattern(EventPattern=pattern, Event=text)["Result"]:
                    yield from events.list_targets_by_rule(Rule=rule["Name"])["Targets"]

    def _client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._make_client(service)
            return self._clients[service]

    def _send(self, target: Mapping[str, Any], text: str) -> None:
        arn = str(target["Arn"])
        service = arn.split(":")[2]
        if service == "lambda":
            self._client("lambda").invoke(FunctionName=arn, InvocationType="Event", Payload=text.encode())
        elif service == "sqs":
            queues = self._client("sqs")
            url = queues.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"]
            queues.send_message(QueueUrl=url, MessageBody=text)
        else:
            _logger.warning("a rule's target of the kind %s is not served by the local AWS", service)


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value, to="milliseconds")
    if isinstance(value, dict):
        return {name: _json(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_json(member) for member in value]
    return value
