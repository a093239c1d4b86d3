"""Events, a clock and a local AWS with the watcher in it, for the tests of the watcher."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from stepout.local import lambda_zip
from support.ministack import ROLE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.local import LocalAws

__all__ = ["HALTED", "KEYS", "TASK", "Clock", "WatchedAws", "deploy_watcher", "serving", "stopped_event"]

HALTED = 1_795_000_000.0
KEYS: dict[str, Any] = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
TASK = "arn:aws:ecs:eu-west-1:123456789012:task/default/7f3c"


class Clock:
    """Seconds since 1970, which pass by sleeping."""

    def __init__(self, now: float = HALTED) -> None:
        self.now = now
        self.slept = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let the seconds pass."""
        self.now += seconds
        self.slept += seconds


def stopped_event(
    token: str | None, code: int | None, *, stop: str = "EssentialContainerExited", **environment: str
) -> dict[str, Any]:
    """Return the event of a task whose container ended at ``HALTED``."""
    pairs = {**environment, **({} if token is None else {"STEPOUT_TASK_TOKEN": token})}
    variables = [{"name": name, "value": value} for name, value in pairs.items()]
    container: dict[str, Any] = {"name": "job", "lastStatus": "STOPPED"}
    return {
        "version": "0",
        "id": "3317b2af-7005-947d-b652-f55e762e571a",
        "source": "aws.ecs",
        "detail-type": "ECS Task State Change",
        "account": "123456789012",
        "region": "eu-west-1",
        "time": datetime.fromtimestamp(HALTED, UTC).isoformat(),
        "resources": [TASK],
        "detail": {
            "taskArn": TASK,
            "clusterArn": "arn:aws:ecs:eu-west-1:123456789012:cluster/default",
            "lastStatus": "STOPPED",
            "desiredStatus": "STOPPED",
            "stopCode": stop,
            "stoppedReason": "Essential container in task exited",
            "stoppedAt": datetime.fromtimestamp(HALTED, UTC).isoformat().replace("+00:00", "Z"),
            "containers": [container if code is None else {**container, "exitCode": code}],
            "overrides": {"containerOverrides": [{"name": "job", "environment": variables}]},
        },
    }


PATTERN = {"source": ["aws.ecs"], "detail-type": ["ECS Task State Change"], "detail": {"lastStatus": ["STOPPED"]}}


@dataclass
class WatchedAws:
    """The local AWS, and every event that it announced."""

    aws: LocalAws
    events: list[dict[str, Any]] = field(default_factory=list)

    def stopped(self, family: str) -> dict[str, Any]:
        """Return the event that says that the task of a family has stopped."""

        def seen() -> dict[str, Any] | None:
            return next((event for event in list(self.events) if self._is_end_of(event["detail"], family)), None)

        event = wait_until(seen, what=f"the event of {family}")
        assert event is not None
        return event

    @staticmethod
    def _is_end_of(detail: dict[str, Any], family: str) -> bool:
        return f"/{family}:" in detail["taskDefinitionArn"] and detail["lastStatus"] == "STOPPED"


def deploy_watcher(aws: LocalAws, name: str, **environment: str) -> None:
    """Create the function, and the rule that calls it."""
    client, events = aws.client("lambda"), aws.client("events")
    function = client.create_function(
        FunctionName=name,
        Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
        Role=ROLE,
        Handler="stepout.callbacks.ecs_watch.handler",
        Code={"ZipFile": lambda_zip()},
        Timeout=90,
        Environment={"Variables": environment},
    )
    wait_until(lambda: client.get_function(FunctionName=name)["Configuration"]["State"] == "Active", what=name)
    events.put_rule(Name=name, EventPattern=json.dumps(PATTERN))
    events.put_targets(Rule=name, Targets=[{"Id": name, "Arn": function["FunctionArn"]}])


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a loopback port; yield the endpoint."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
