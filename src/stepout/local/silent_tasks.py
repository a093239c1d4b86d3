"""Containers that ended and reported nothing, while an execution on the local AWS is followed: what its state does now.

A program with a syntax error ends before stepout is imported, so nobody reports. Its state then waits as long as its
``HeartbeatSeconds`` say: on AWS for good reasons, here for nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LONGEST_WAIT = 60
"""Seconds that an execution is let wait for what cannot come any more."""

_SURE_AFTER_SECONDS = 0.5
"""A report and the end of its container may be seen in either order."""

_YEAR = 365 * 24 * 3600.0
"""Seconds that an execution may last on AWS, and so the longest wait of a state."""


@dataclass(frozen=True, kw_only=True)
class SilentTask:
    """A container that ended and reported nothing.

    Attributes:
        state: The name of the state that waits for it, or of its task definition.
        told: What to tell people, one line.
        hopeless: Whether the wait is long, and nothing can end it sooner.
    """

    state: str
    told: str
    hopeless: bool


class SilentTasks:
    """Finds them, each once.

    Args:
        client: Makes a boto3 client of the local AWS for a service.
        states: The Task states of the definition, by their names.
    """

    def __init__(self, client: Callable[[str], Any], states: Mapping[str, Mapping[str, Any]]) -> None:
        self._ecs, self._machine, self._events = client("ecs"), client("stepfunctions"), client("events")
        self._states = states
        self._seen = set(self._stopped())
        self._ended: dict[str, float] = {}

    def look(self, execution: str) -> Iterator[SilentTask]:
        """Yield those that are new since the last look.

        Args:
            execution: The ARN of the execution that is followed; tasks of others are left alone.
        """
        now = time.monotonic()
        for arn, cluster in self._stopped().items():
            if arn in self._seen or now - self._ended.setdefault(arn, now) < _SURE_AFTER_SECONDS:
                continue
            self._seen.add(arn)
            found = self._ecs.describe_tasks(cluster=cluster, tasks=[arn])["tasks"]
            variables = _variables(found[0]) if found else {}
            tokens = [value for name, value in variables.items() if value and name.upper().endswith("TOKEN")]
            whose = variables.get("STEPOUT_EXECUTION", execution)
            if _belongs(whose, execution) and any(waits_for(self._machine, token) for token in tokens):
                yield self._silent(variables.get("STEPOUT_STATE"), found[0])

    def _stopped(self) -> dict[str, str]:
        """Every task that has stopped, with its cluster."""
        return {
            task: cluster
            for cluster in self._ecs.list_clusters()["clusterArns"]
            for page in self._ecs.get_paginator("list_tasks").paginate(cluster=cluster, desiredStatus="STOPPED")
            for task in page["taskArns"]
        }

    def _silent(self, name: str | None, task: Mapping[str, Any]) -> SilentTask:
        seconds, wait = _wait(self._states.get(name or ""))
        who = name or str(task.get("taskDefinitionArn", "")).rpartition("/")[2].partition(":")[0]
        told = f"  the container of {who} has ended and reported nothing."
        if seconds is not None and seconds > LONGEST_WAIT and not self._ruled():
            told += f" On AWS its state would wait now, for up to {wait}; here the execution is stopped"
            return SilentTask(state=who, told=told, hopeless=True)
        told += (
            f" Its state waits now, for up to {wait}. You need not wait: press Ctrl-C, mend the program, execute again"
        )
        return SilentTask(state=who, told=told, hopeless=False)

    def _ruled(self) -> bool:
        """Whether somebody has a rule: its function may fail the state of a task that ended."""
        return any(page["Rules"] for page in self._events.get_paginator("list_rules").paginate())


def waits_for(states: Any, token: str) -> bool:
    """Tell whether a state waits for a task token: a report that is no JSON asks that, without a beat or an end.

    Args:
        states: A boto3 Step Functions client.
        token: The task token.
    """
    refused = states.exceptions
    try:
        states.send_task_success(taskToken=token, output="")
    except refused.InvalidOutput:
        return True
    except (refused.TaskDoesNotExist, refused.TaskTimedOut, refused.InvalidToken):
        pass
    return False


def _wait(state: Mapping[str, Any] | None) -> tuple[float | None, str]:
    """How long a state may wait: in seconds, and for people."""
    clocks = {name: (state or {}).get(name) for name in ("HeartbeatSeconds", "TimeoutSeconds")}
    known = {name: float(value) for name, value in clocks.items() if isinstance(value, int | float)}
    if known:
        name = min(known, key=known.__getitem__)
        return known[name], f"{known[name]:,g} seconds (its {name})"
    if state is None or any(value or f"{name}Path" in state for name, value in clocks.items()):
        return None, "its HeartbeatSeconds"
    return _YEAR, "a year (it has no HeartbeatSeconds)"


def _variables(task: Mapping[str, Any]) -> dict[str, str]:
    """The variables that RunTask's overrides gave to a task."""
    containers = (task.get("overrides") or {}).get("containerOverrides") or ()
    return {pair["name"]: pair.get("value", "") for each in containers for pair in each.get("environment") or ()}


def _belongs(whose: str, execution: str) -> bool:
    """Whether an execution is the one that is followed, or a child that a Distributed Map of its machine started."""
    machine = execution.rpartition(":")[0]
    return whose == execution or whose.startswith(f"{machine}/")
