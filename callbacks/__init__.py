"""Everything that reports on a task: its success, its failure, and its heartbeats."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepout.callbacks.protocols import Artifacts, ShowsProgress, Target
    from stepout.callbacks.targets.dynamodb import DynamoDbTarget
    from stepout.callbacks.targets.local import FileTarget, StdoutTarget
    from stepout.callbacks.targets.notifications import EventBridgeTarget, SnsTarget
    from stepout.callbacks.targets.pull import PullTarget
    from stepout.callbacks.targets.recording import RecordingTarget
    from stepout.callbacks.targets.sfn import StepFunctionsTarget
    from stepout.callbacks.targets.sqs import SqsTarget
    from stepout.callbacks.task import Task
    from stepout.callbacks.worker.activity import ActivityWorker
    from stepout.callbacks.worker.sqs import SqsWorker

__all__ = [
    "ActivityWorker",
    "Artifacts",
    "DynamoDbTarget",
    "EventBridgeTarget",
    "FileTarget",
    "PullTarget",
    "RecordingTarget",
    "ShowsProgress",
    "SnsTarget",
    "SqsTarget",
    "SqsWorker",
    "StdoutTarget",
    "StepFunctionsTarget",
    "Target",
    "Task",
]

_HOMES = {
    "ActivityWorker": "worker.activity",
    "Artifacts": "protocols",
    "DynamoDbTarget": "targets.dynamodb",
    "EventBridgeTarget": "targets.notifications",
    "FileTarget": "targets.local",
    "PullTarget": "targets.pull",
    "RecordingTarget": "targets.recording",
    "ShowsProgress": "protocols",
    "SnsTarget": "targets.notifications",
    "SqsTarget": "targets.sqs",
    "SqsWorker": "worker.sqs",
    "StdoutTarget": "targets.local",
    "StepFunctionsTarget": "targets.sfn",
    "Target": "protocols",
    "Task": "task",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
