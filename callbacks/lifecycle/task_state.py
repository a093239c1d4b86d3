"""The state of a task, and the rules that allow it only one terminal report. Pure, except for one lock.

1. A task runs until it is asked to stop or a report begins.
2. It is asked to stop by a signal (*interrupted*) or because nobody waits any more (*cancelled*). The first one counts.
3. Success is reported only by a task that was never asked to stop.
4. Failure is reported by a running or an interrupted task, never by a cancelled one.
5. Only one report begins. From then on a request to stop changes nothing; a signal is remembered for afterwards.
6. A success that was refused as a document (so that the task is still open) may become a failure, once.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from enum import Enum


class Stop(Enum):
    """Why a task was asked to stop."""

    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"


class TerminalReport(Enum):
    """The two terminal reports."""

    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True)
class TaskState:
    """A task's state, as a value.

    Attributes:
        stop: Why it was asked to stop, if it was.
        signum: The first signal that arrived, also while a report was under way.
        report: The report that has begun, if one has.
        refused: Whether ``report`` is the failure that followed a refused success.
    """

    stop: Stop | None = None
    signum: int | None = None
    report: TerminalReport | None = None
    refused: bool = False

    def interrupt(self, signum: int) -> TaskState:
        """Return the state after a signal."""
        signum = signum if self.signum is None else self.signum
        if self.stop is None and self.report is None:
            return replace(self, stop=Stop.INTERRUPTED, signum=signum)
        return replace(self, signum=signum)

    def cancel(self) -> TaskState:
        """Return the state once Step Functions has said that nobody waits any more."""
        if self.stop is None and self.report is None:
            return replace(self, stop=Stop.CANCELLED)
        return self

    def begin(self, report: TerminalReport) -> TaskState:
        """Return the state in which this report has begun; the same state if the rules do not allow the report."""
        forbidden = (Stop.CANCELLED,) if report is TerminalReport.FAILURE else (Stop.CANCELLED, Stop.INTERRUPTED)
        if self.report is not None or self.stop in forbidden:
            return self
        return replace(self, report=report)

    def refuse(self) -> TaskState:
        """Return the state in which a failure replaces the success, whose document was refused."""
        if self.report is not TerminalReport.SUCCESS:
            return self
        return replace(self, report=TerminalReport.FAILURE, refused=True)


class TaskStateCell:
    """Holds one ``TaskState`` for several threads.

    A signal handler must not call the methods while its own thread may be inside one of them: the lock is not
    reentrant.

    Attributes:
        now: The current value. Reading takes no lock; only the methods write it.
    """

    def __init__(self) -> None:
        self.now = TaskState()
        self._lock = threading.Lock()

    def interrupt(self, signum: int) -> bool:
        """Return whether the task is interrupted, by this signal or an earlier one."""
        with self._lock:
            self.now = self.now.interrupt(signum)
            return self.now.stop is Stop.INTERRUPTED

    def cancel(self) -> bool:
        """Return whether the task is cancelled, now or earlier."""
        with self._lock:
            self.now = self.now.cancel()
            return self.now.stop is Stop.CANCELLED

    def begin(self, report: TerminalReport) -> bool:
        """Return whether the caller is to make this report; true for one caller only."""
        with self._lock:
            before, self.now = self.now, self.now.begin(report)
            return self.now is not before

    def refuse(self) -> bool:
        """Return whether the caller is to report a failure in place of the refused success."""
        with self._lock:
            before, self.now = self.now, self.now.refuse()
            return self.now is not before
