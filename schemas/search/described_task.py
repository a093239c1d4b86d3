"""What ECS, Batch, Glue and Kubernetes say of a task: whether it failed, and which members are its input. Pure.

A ``.sync`` integration returns the description of a task that succeeded, and the ``Cause`` of one that failed is such a
description as text. Its outcome is never in there, but its input is: the environment, arguments and commands it got.

Shapes: ``Task`` of ECS's API reference, ``JobDetail`` of Batch's, ``JobRun`` of Glue's, and ``Job`` of Kubernetes' (its
``status.conditions``). Step Functions writes the members of AWS's with a capital; events and the services have none.
"""

from __future__ import annotations

from typing import Any, Final

ENDS: Final = frozenset(
    {"Containers", "containers", "StopCode", "stopCode", "Status", "status", "JobRunState", "jobRunState"}
)
"""Members that tell how a task ended; a description has one of them."""

REASONS: Final = frozenset(
    {"StoppedReason", "stoppedReason", "StatusReason", "statusReason", "ErrorMessage", "errorMessage"}
)
"""Members in which a service says why a task failed, which may be a task's own words."""

_BATCH: Final = frozenset({"StatusReason", "statusReason", "JobQueue", "jobQueue"})
_BATCH_INPUTS: Final = frozenset({"Parameters", "Container", "EcsProperties", "EksProperties", "NodeProperties"})
_ENVIRONMENTS: Final = frozenset({"Environment", "environment", "env"})
_EXITED: Final = "EssentialContainerExited"  # the one stop code of a task that may have succeeded
_GLUE_FAILED: Final = frozenset({"FAILED", "ERROR", "TIMEOUT", "STOPPED", "EXPIRED"})

INPUTS: Final = frozenset(
    {"Overrides", "overrides", *_ENVIRONMENTS, "JobQueue", "jobQueue", "JobRunState", "jobRunState", "apiVersion"}
)
"""Members without which an object has no ``input_members``."""


def described_failure(value: dict[Any, Any]) -> str | None:
    """Return why a task failed that an object describes, ``""`` if it does not say; ``None`` if it describes none.

    >>> described_failure({"StopCode": "TaskFailedToStart", "StoppedReason": "no image"})
    'no image'
    """
    if ENDS.isdisjoint(value) or not (_ecs(value) or _batch(value) or _glue(value) or _kubernetes(value)):
        return None
    return next((text for name in value if name in REASONS and isinstance(text := value[name], str)), "")


def input_members(value: dict[Any, Any]) -> set[str]:
    """Return the members of an object that hold what a task was given.

    >>> input_members({"JobRunState": "SUCCEEDED", "Arguments": {"--x": "1"}})
    {'Arguments'}
    """
    names = {name for name in ("Overrides", "overrides") if _overrides(value.get(name))}
    names |= {name for name in _ENVIRONMENTS if _pairs(value.get(name))}
    if "JobQueue" in value or "jobQueue" in value:
        names |= _BATCH_INPUTS | {name[0].lower() + name[1:] for name in _BATCH_INPUTS}
    if "JobRunState" in value or "jobRunState" in value:
        names |= {"Arguments", "arguments"} & value.keys()
    if value.get("kind") in ("Job", "Pod") and "apiVersion" in value:
        names |= {"spec", "metadata"}  # an annotation may hold the whole of it once more
    return names


def _ecs(value: dict[Any, Any]) -> bool:
    for stop_code, containers, exit_code in (
        ("StopCode", "Containers", "ExitCode"),
        ("stopCode", "containers", "exitCode"),
    ):
        if isinstance(code := value.get(stop_code), str) and code not in {"", _EXITED}:
            return True
        each = value.get(containers)
        if isinstance(each, list) and any(isinstance(one, dict) and _nonzero(one.get(exit_code)) for one in each):
            return True
    return False


def _nonzero(code: object) -> bool:
    return isinstance(code, int) and code != 0


def _batch(value: dict[Any, Any]) -> bool:
    return "FAILED" in (value.get("Status"), value.get("status")) and not _BATCH.isdisjoint(value)


def _glue(value: dict[Any, Any]) -> bool:
    states = (value.get("JobRunState"), value.get("jobRunState"))
    return any(isinstance(state, str) and state in _GLUE_FAILED for state in states)


def _kubernetes(value: dict[Any, Any]) -> bool:
    status = value.get("status")
    conditions = status.get("conditions") if isinstance(status, dict) else None
    return isinstance(conditions, list) and any(
        isinstance(each, dict) and each.get("type") == "Failed" and each.get("status") == "True" for each in conditions
    )


def _overrides(value: object) -> bool:
    return isinstance(value, dict) and ("ContainerOverrides" in value or "containerOverrides" in value)


def _pairs(value: object) -> bool:
    """Tell whether a value is an environment as these services have it: a list of names with their values."""
    return isinstance(value, list) and any(
        isinstance(each, dict) and ({"Name", "Value"} <= each.keys() or {"name", "value"} <= each.keys())
        for each in value
    )
