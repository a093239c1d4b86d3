"""A target that remembers what it was told, for the tests of jobs."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from stepout.callbacks.targets.local import failure_document
from stepout.schemas.errors import TaskClosedError, TaskError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.schemas.progress import TaskProgress


class RecordingTarget:
    """Records every report, and takes one terminal report as Step Functions does: a later one finds it closed.

    Args:
        closed: Whether nobody waits from the beginning; ``close()`` does it later.
        unreachable: Whether no report gets through; may be changed at any time.

    Attributes:
        successes: The output documents that were accepted.
        failures: The failures that were accepted: ``{"error": …, "cause": {…}}``.
        heartbeats: How many heartbeats were accepted.
        progress: What ``task.progress`` was told, as far as it was passed on: the first, the last, and one in five
            seconds between them.
        unreachable: See above.

    Example:
        >>> from stepout.callbacks import Task
        >>> target = RecordingTarget()
        >>> with Task(target) as task:
        ...     task.result["rows"] = 3
        >>> target.successes[0]["result"]
        {'rows': 3}
    """

    def __init__(self, *, closed: bool = False, unreachable: bool = False) -> None:
        self.successes: list[dict[str, Any]] = []
        self.failures: list[dict[str, Any]] = []
        self.heartbeats = 0
        self.progress: list[TaskProgress] = []
        self.unreachable = unreachable
        self._closed = closed
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        outcomes = f"{len(self.successes)} successes, {len(self.failures)} failures"
        return f"RecordingTarget({outcomes}, {self.heartbeats} heartbeats)"

    def close(self) -> None:
        """From now on nobody waits: every report is answered with ``TaskClosedError``."""
        with self._lock:
            self._closed = True

    def success(self, document: Mapping[str, Any]) -> None:
        """Record the output document, as it looks after a journey through JSON."""
        with self._lock:
            self._answer()
            self.successes.append(json.loads(json.dumps(document, allow_nan=False)))
            self._closed = True

    def failure(self, error: str, cause: str) -> None:
        """Record the failure."""
        with self._lock:
            self._answer()
            self.failures.append(failure_document(error, cause))
            self._closed = True

    def heartbeat(self) -> None:
        """Count the heartbeat."""
        with self._lock:
            self._answer()
            self.heartbeats += 1

    def report_progress(self, progress: TaskProgress) -> None:
        """Record how far the task is, also when it has reported: the last progress may come beside the outcome."""
        with self._lock:
            self.progress.append(progress)

    def _answer(self) -> None:
        if self.unreachable:
            raise TaskError("this RecordingTarget was told to be unreachable")
        if self._closed:
            raise TaskClosedError("this RecordingTarget is closed: it was told so, or has had its terminal report")
