"""Metrics of a task, by ``STEPOUT_METRICS=emf``: one line when it ends, which CloudWatch makes metrics of.

The format is CloudWatch's embedded metric format:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas.runtime.process import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from stepout.schemas import RunIdentity
    from stepout.schemas.runtime.event import Event

NAMESPACE: Final = "Stepout"

_UNITS: Final = {
    "BytesWritten": "Bytes",
    "BytesRead": "Bytes",
    "Seconds": "Seconds",
    "Retries": "Count",
    "Heartbeats": "Count",
    "Artifacts": "Count",
    "Succeeded": "Count",
    "Failed": "Count",
}
_LONGEST: Final = 1024
"""Characters of a dimension's value, which also has to be ASCII."""


class TaskMetrics:
    """Counts what a task does, and prints one line when it has ended; a listener of its events.

    Args:
        stream: Returns where to print; ``None``: nowhere, the stream is closed.
    """

    def __init__(self, stream: Callable[[], TextIO | None]) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(_UNITS, 0.0)
        renew_after_fork(self)

    def renew(self) -> None:
        """In a forked child, make a new lock: a parent's thread may hold the old one."""
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        with self._lock:
            self._count(event)
        if event.kind == "task":
            line = json.dumps(metric_line(self._counts, event), ensure_ascii=True)
            stream = self._stream()
            with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it: the work is done all the same
                if stream is not None:
                    stream.write(line + "\n")
                    stream.flush()

    def _count(self, event: Event) -> None:
        counts, done = self._counts, event.outcome == "ok"
        if event.kind == "put":
            counts["BytesWritten"] += event.bytes or 0
            counts["Artifacts"] += done and event.artifact is not None
        elif event.kind == "read":
            counts["BytesRead"] += event.bytes or 0
        elif event.kind == "retry":
            counts["Retries"] += 1
        elif event.kind == "heartbeat":
            counts["Heartbeats"] += done
        elif event.kind == "task":
            counts["Seconds"] = round(event.seconds or 0.0, 6)
            counts["Succeeded"] = event.outcome == "success"
            counts["Failed"] = not counts["Succeeded"]


def metric_line(counts: dict[str, float], task: Event) -> dict[str, Any]:
    """Return the object that CloudWatch makes metrics of.

    Args:
        counts: The values by name; all that there are.
        task: The event of the task's end.
    """
    run = task.run
    dimensions = _dimensions(run)
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": name, "Unit": unit} for name, unit in _UNITS.items()],
    }
    ended = round((task.began + (task.seconds or 0.0)) * 1000)
    told = {} if run is None else run.to_dict()
    properties = {name: told.get(name) for name in ("execution", "attempt", "mapIndex", "redrive")}
    properties |= {"outcome": task.outcome, "error": task.error}
    values = {name: int(value) if name != "Seconds" else value for name, value in counts.items()}
    return {
        "_aws": {"Timestamp": ended, "CloudWatchMetrics": [directive]},
        **dimensions,
        **values,
        **{name: value for name, value in properties.items() if value is not None},
    }


def _dimensions(run: RunIdentity | None) -> dict[str, str]:
    """Return state machine and state, as far as they are known: no dimension may be empty."""
    if run is None:
        return {}
    machine = run.state_machine
    named = {"StateMachine": machine.rpartition(":")[2] if machine else None, "State": run.state}
    return {name: _ascii(value) for name, value in named.items() if value and value.strip()}


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()[:_LONGEST]


def standard_output() -> TextIO | None:
    """Return standard output, where CloudWatch Logs takes a container's lines from."""
    return sys.stdout


def standard_error() -> TextIO | None:
    """Return standard error: where standard output is the document's, and has to stay one document."""
    return sys.stderr
