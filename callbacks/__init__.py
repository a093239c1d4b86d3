"""Report success, failure, heartbeat: everything that touches a task's fate."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepout.callbacks.activity_worker import ActivityWorker
    from stepout.callbacks.dynamodb import DynamoDbTarget
    from stepout.callbacks.notify import EventBridgeTarget, SnsTarget
    from stepout.callbacks.places import FileTarget, StdoutTarget
    from stepout.callbacks.ports import Artifacts, Target
    from stepout.callbacks.pull import PullTarget
    from stepout.callbacks.recording import RecordingTarget
    from stepout.callbacks.sfn import StepFunctionsTarget
    from stepout.callbacks.sqs import SqsTarget
    from stepout.callbacks.sqs_worker import SqsWorker
    from stepout.callbacks.task import Task

__all__ = [
    "ActivityWorker",
    "Artifacts",
    "DynamoDbTarget",
    "EventBridgeTarget",
    "FileTarget",
    "PullTarget",
    "RecordingTarget",
    "SnsTarget",
    "SqsTarget",
    "SqsWorker",
    "StdoutTarget",
    "StepFunctionsTarget",
    "Target",
    "Task",
]

_HOMES = {
    "ActivityWorker": "activity_worker",
    "Artifacts": "ports",
    "DynamoDbTarget": "dynamodb",
    "EventBridgeTarget": "notify",
    "FileTarget": "places",
    "PullTarget": "pull",
    "RecordingTarget": "recording",
    "SnsTarget": "notify",
    "SqsTarget": "sqs",
    "SqsWorker": "sqs_worker",
    "StdoutTarget": "places",
    "StepFunctionsTarget": "sfn",
    "Target": "ports",
    "Task": "task",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
