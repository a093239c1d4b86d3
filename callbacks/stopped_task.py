"""Reads the "ECS Task State Change" event of a task that stopped, and decides which failure to report. Pure.

Source of the shape: the ECS developer guide, "Task state change events"; the detail resembles DescribeTasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from stepout.callbacks.delivery.failure import clean
from stepout.schemas import Problem, invalid_document
from stepout.schemas.identity import run_told_by

TOKENS = ("STEPOUT_TASK_TOKEN", "TASK_TOKEN")
"""The variables that may hold the task token; ``Task.from_env`` reads the same ones."""

_MOST_TEXT = 512
"""The most characters of each reason: so ten containers' reasons always fit a cause of 32,768 bytes."""

_FROM_OUTSIDE = {
    "UserInitiated": False,
    "ServiceSchedulerInitiated": True,
    "SpotInterruption": True,
    "TerminationNotice": True,
}
"""The stop codes of a task that was stopped from outside, and whether trying again may help."""

_NEVER_STARTS = ("CannotStartContainerError", "CannotCreateContainerError")
_LONGEST_ARN = 2_048
_NO_CODE = 2**31
_UNDELIVERED = 3
_SIGNALLED = 128


class Urgency(Enum):
    """How soon a failure may be reported without overtaking a success that is still on its way."""

    AT_ONCE = "nothing can be on its way: the container never ran"
    SOON = "what was under way when the container ended must have arrived first"
    LATE = "the container ended as one does that handed its outcome over"


@dataclass(frozen=True, kw_only=True)
class ContainerEnd:
    """How one container ended; ``exit_code`` is ``None`` if it never ran, or was lost with its host."""

    name: str
    exit_code: int | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class StoppedTask:
    """An ECS task that stopped.

    Attributes:
        arn: The task's ARN.
        cluster: The cluster's ARN.
        definition: The task definition's ARN.
        stop_code: For example ``EssentialContainerExited``.
        reason: ECS's sentence for people.
        stopped_at: When, in seconds since 1970.
        containers: How each container ended.
        overrides: The environment that RunTask set, by container; it may hold the task token.
    """

    arn: str
    cluster: str | None = None
    definition: str | None = None
    stop_code: str | None = None
    reason: str | None = None
    stopped_at: float | None = None
    containers: tuple[ContainerEnd, ...] = ()
    overrides: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)

    @property
    def tokens(self) -> Mapping[str, str | None]:
        """The task tokens among the overrides, each with the container that has it and should have reported."""
        found: dict[str, str | None] = {}
        for container, environment in self.overrides.items():
            token = next((environment[name].strip() for name in TOKENS if environment.get(name, "").strip()), None)
            if token is not None:
                found.setdefault(token, container)
        return found

    def end_of(self, container: str | None) -> ContainerEnd | None:
        """Return how a container ended; without a name, the end of the only container, or the worst of several."""
        if container is not None:
            return next((each for each in self.containers if each.name == container), None)
        ranked = sorted(self.containers, key=lambda each: each.exit_code in (0, None))
        return ranked[0] if ranked else None


@dataclass(frozen=True)
class Verdict:
    """The failure to report for a task that stopped without a report.

    Attributes:
        error: The name that ``Retry`` and ``Catch`` match.
        message: A sentence for people.
        haste: How soon it may be reported.
        retryable: Whether trying again may help; ``None`` if unknown.
    """

    error: str
    message: str
    haste: Urgency
    retryable: bool | None = None


def stopped_task(event: Mapping[str, Any]) -> StoppedTask | None:
    """Read an event.

    Args:
        event: As EventBridge delivers it.

    Returns:
        The task; ``None`` unless the event says that an ECS task has stopped. Members of an unknown shape are left out.

    Raises:
        InvalidDocumentError: The event is not a JSON object, or names no task.

    Example:
        >>> detail = {"taskArn": "arn:task/1", "lastStatus": "STOPPED", "containers": [{"name": "job", "exitCode": 9}]}
        >>> task = stopped_task({"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": detail})
        >>> task.containers
        (ContainerEnd(name='job', exit_code=9, reason=None),)
    """
    if not isinstance(event, Mapping):
        raise invalid_document("the event", [Problem("$", "type", f"must be an object, not {type(event).__name__}")])
    detail = event.get("detail")
    if event.get("source") != "aws.ecs" or event.get("detail-type") != "ECS Task State Change":
        return None
    if not isinstance(detail, Mapping) or detail.get("lastStatus") != "STOPPED" or not detail.get("taskArn"):
        return None
    return task_from_detail(detail, when=event.get("time"))


def task_from_detail(detail: Mapping[str, Any], *, when: Any = None) -> StoppedTask:
    """Read the event's detail, or a task from DescribeTasks, which has a similar shape.

    Raises:
        InvalidDocumentError: It names no task.
    """
    arn = _text(detail.get("taskArn"), _LONGEST_ARN)
    if arn is None:
        raise invalid_document("the task", [Problem("$.taskArn", "missing", "must be the task's ARN")])
    return StoppedTask(
        arn=arn,
        cluster=_text(detail.get("clusterArn")),
        definition=_text(detail.get("taskDefinitionArn")),
        stop_code=_text(detail.get("stopCode")),
        reason=_text(detail.get("stoppedReason")),
        stopped_at=_seconds(detail.get("stoppedAt") or when),
        containers=tuple(_container(each) for each in _objects(detail, "containers")),
        overrides=_overrides(detail.get("overrides")),
    )


def _container(each: Mapping[str, Any]) -> ContainerEnd:
    code = each.get("exitCode")
    return ContainerEnd(
        name=_text(each.get("name")) or "",
        exit_code=code if isinstance(code, int) and not isinstance(code, bool) and abs(code) < _NO_CODE else None,
        reason=_text(each.get("reason")),
    )


def _overrides(overrides: Any) -> dict[str, dict[str, str]]:
    return {
        _text(each.get("name")) or "": {
            clean(pair["name"]): clean(pair["value"])
            for pair in _objects(each, "environment")
            if isinstance(pair.get("name"), str) and isinstance(pair.get("value"), str)
        }
        for each in _objects(overrides, "containerOverrides")
    }


def _objects(value: Any, name: str) -> list[Mapping[str, Any]]:
    """Return the objects in a member that is a list; elements of another type are left out."""
    found = value.get(name) if isinstance(value, Mapping) else None
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list | tuple) else []


def _text(value: Any, most: int = _MOST_TEXT) -> str | None:
    return clean(value[:most]) if isinstance(value, str) and value else None


def _seconds(value: Any) -> float | None:
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(value) if _text(value) else None
        return found.timestamp() if found is not None else None
    except (ValueError, OverflowError, OSError):  # Not a time, or one out of range.
        return None


def judge(task: StoppedTask, container: ContainerEnd | None) -> Verdict:
    """Return the failure to report for a task that stopped, if its token is still open.

    Args:
        task: The task.
        container: The container that should have reported.

    Returns:
        The verdict.

    Example:
        >>> killed = ContainerEnd(name="job", exit_code=137, reason="OutOfMemoryError: Container killed")
        >>> judge(StoppedTask(arn="arn", stop_code="EssentialContainerExited", containers=(killed,)), killed).error
        'Stepout.OutOfMemory'
    """
    code = container.exit_code if container is not None else None
    started = code is not None or task.stop_code != "TaskFailedToStart"
    late = code in (0, _UNDELIVERED)
    haste = Urgency.LATE if late else Urgency.SOON if started else Urgency.AT_ONCE
    error, what, retryable = _named(task, container, code)
    ended = "never started" if not started else "ended" if code is None else f"ended with exit code {code}"
    why = f" ECS says: {task.reason}" if task.reason else ""
    return Verdict(error, f"the container {ended} and reported nothing: {what}.{why}", haste, retryable)


def _named(task: StoppedTask, container: ContainerEnd | None, code: int | None) -> tuple[str, str, bool | None]:
    """Return the error, what happened, and whether trying again may help; the first case that fits decides."""
    reasons = " ".join(each.reason or "" for each in task.containers)
    if task.stop_code == "TaskFailedToStart":
        broken = any(name in f"{task.reason} {reasons}" for name in _NEVER_STARTS)
        return "Stepout.TaskFailedToStart", "the task could not be started", not broken
    if "OutOfMemory" in (container.reason or "" if container is not None else reasons):
        return "Stepout.OutOfMemory", "it had not enough memory", False
    if code == _UNDELIVERED:
        what = "stepout's sign for work that is done and an outcome that was not delivered (its log says where it is)"
        return "Stepout.OutcomeUndelivered", what, False
    if task.stop_code in _FROM_OUTSIDE:
        what = f"the task was stopped from outside ({task.stop_code}) and killed before it could report"
        return "Stepout.Interrupted", what, _FROM_OUTSIDE[task.stop_code]
    if code == 0:
        return "Stepout.NothingReported", "it ended well without using its task token", False
    itself = code is not None and code < _SIGNALLED
    what = "it ended by itself" if itself else "it was killed, crashed, or was lost with its host"
    return "Stepout.ContainerDied", what, None if itself else True


def cause_document(task: StoppedTask, container: str | None, verdict: Verdict) -> dict[str, Any]:
    """Return the cause: stop code, reasons, exit codes, ARNs and run identity; no other part of the overrides."""
    environment = task.overrides.get(container or "", {})
    document: dict[str, Any] = {
        "message": verdict.message,
        "stopCode": task.stop_code,
        "stoppedReason": task.reason,
        "containers": [_present(name=c.name, exitCode=c.exit_code, reason=c.reason) for c in task.containers],
        "container": container,
        "taskArn": task.arn,
        "clusterArn": task.cluster,
        "taskDefinitionArn": task.definition,
        "run": run_told_by(environment).to_dict(),
        "retryable": verdict.retryable,
    }
    return _present(**document)


def _present(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
