"""The end of a task: makes the one terminal report, then raises the error that belongs to the outcome.

Three threads call this module, none of them with a lock held: the task's thread calls ``conclude``, the heartbeat's
thread ``cancel``, and the watcher of signals ``interrupt`` and ``overdue``. They share ``state``, which lets exactly
one of them report.
"""

from __future__ import annotations

import contextlib
import io
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from stepout.callbacks.delivery.failure import cause_of, error_of
from stepout.callbacks.lifecycle.document import keep, keep_record, make_document, run_since
from stepout.callbacks.lifecycle.outcome import Outcome, nobody_waits, outcome_of
from stepout.callbacks.lifecycle.task_state import Stop, TaskStateCell, TerminalReport
from stepout.schemas.errors import (
    InvalidDocumentError,
    OutcomeUndeliveredError,
    OutputTooLargeError,
    TaskClosedError,
    TaskInterrupted,
)
from stepout.schemas.runtime.process import not_picklable
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from stepout.callbacks.lifecycle.session import TaskSession
    from stepout.callbacks.protocols import Artifacts
    from stepout.schemas import RunIdentity

_log = logger("stepout.callbacks.task")


class Flag(threading.Event):
    """An event that is true when it is set."""

    def __reduce__(self) -> NoReturn:
        not_picklable("task's flag")

    def __bool__(self) -> bool:
        return self.is_set()

    def __repr__(self) -> str:
        return f"<{'set' if self.is_set() else 'not set'}>"


class Completion:
    """Makes a task's one terminal report.

    Args:
        session: The task's checked settings.
        end_process: Ends the process at once, with an exit code.

    Attributes:
        state: The task's state, which decides the reports that are still allowed.
        stopped: Set once the task should stop.
        artifacts: The artifact manager; ``None`` until it is made.
    """

    def __init__(self, session: TaskSession, *, end_process: Callable[[int], object]) -> None:
        self.state = TaskStateCell()
        self.stopped = Flag()
        self.artifacts: Artifacts | None = None
        self._session = session
        self._end_process = end_process
        self._aborting = threading.Lock()
        self._aborter: threading.Thread | None = None
        self._watcher_done = threading.Event()

    @property
    def run(self) -> RunIdentity:
        """The run identity: the caller's, else the artifact manager's, else the environment's."""
        if self._session.run is not None:
            return self._session.run
        return self.artifacts.run if self.artifacts is not None else self._session.environment_run

    # From the heartbeat's thread ------------------------------------------------------------------------------------

    def cancel(self, closed: TaskClosedError) -> None:
        """A heartbeat was answered "closed": stop the block and report nothing.

        The watcher of signals sees the state and has the main thread leave the block; in other threads the job asks
        ``stopped``.
        """
        if self.state.cancel():
            _log.error("the task is cancelled: %s", closed)
            self._stop()

    # From the watcher of signals ------------------------------------------------------------------------------------

    def interrupt(self, signum: int) -> None:
        """Handle a signal: abort uploads at once, and limit the time for retries of any report."""
        self.state.interrupt(signum)
        interrupted = self.state.now.stop is Stop.INTERRUPTED
        if interrupted:
            self._stop()
        # This also limits a report that has begun: its retries must not outlast the stop timeout.
        self._session.targets.limit(self._patience())
        # Last: the main thread may hold the lock of a log handler.
        _log.warning(
            "signal %d arrived; %s", signum, "the block ends" if interrupted else "the report is finished first"
        )

    def _patience(self) -> float:
        """Seconds for further tries of a report.

        They end early enough for the last try of a success, and for keeping the document after it.
        """
        stop_timeout = self._session.stop_timeout
        if self.state.now.report is TerminalReport.SUCCESS:
            return max(stop_timeout - 15.0, stop_timeout / 2)
        return stop_timeout * 0.9

    def overdue(self, signum: int) -> None:
        """Report the failure from this thread and end the process: the main thread did not leave the block in time."""
        if not self.state.begin(TerminalReport.FAILURE):
            return  # The main thread is reporting after all.
        why = f"the task was asked to stop by signal {signum}, and was in the middle of a call that could not be"
        interrupted = TaskInterrupted(f"{why} interrupted", signum=signum)
        interrupted.add_note(_where_main_is())
        try:
            self._report_failure(interrupted)
        finally:
            _say_and_flush(signum)
            self._end_process(128 + signum)
            self._watcher_done.set()  # Only where a test's ``end_process`` returns.

    # From the task's own thread -------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise if the task should stop."""
        state = self.state.now
        if state.stop is Stop.CANCELLED:
            raise nobody_waits()
        if state.stop is Stop.INTERRUPTED:
            raise TaskInterrupted(signum=state.signum or 15)

    def conclude(
        self, exception: BaseException | None, result: Mapping[str, Any], *, ran: bool = True
    ) -> BaseException | None:
        """Make the terminal report.

        Args:
            exception: The exception that left the block, if any.
            result: The inline result.
            ran: Whether the block was entered.

        Returns:
            The exception to raise instead, if any.
        """
        outcome, raised = outcome_of(exception, self.state.now, ran=ran), None
        if outcome.stop is None and outcome.error is None:
            try:
                document = make_document(result, artifacts=self.artifacts, run=self.run, session=self._session)
                if self.state.now.stop is None:  # Asked as late as can be: no record of a task that was stopped.
                    keep_record(document, self.artifacts)
            except Exception as error:  # noqa: BLE001 - returned, to be raised once it is reported
                outcome, raised = Outcome(error=error), error
            else:
                if self.state.begin(TerminalReport.SUCCESS):
                    return self._report_success(document)
                outcome = outcome_of(exception, self.state.now, ran=ran)
        if outcome.stop is None and outcome.error is not None:
            self._abort()  # Before the report: after a failure, the state may start the next attempt at once.
            # Aborting and making the document take time. If the task was asked to stop meanwhile, it reports that.
            if self.state.now.stop is None and self.state.begin(TerminalReport.FAILURE):
                self._report_failure(outcome.error)
                return raised
            outcome = outcome_of(exception, self.state.now, ran=ran)
        return self._stopped(outcome)

    def _stopped(self, outcome: Outcome) -> BaseException | None:
        """End a task that was asked to stop."""
        if isinstance(outcome.error, TaskInterrupted):  # Also one that the job raised, without any signal.
            self.state.interrupt(outcome.error.signum)
        self.stopped.set()
        self._abort()
        if self.state.now.stop is Stop.CANCELLED or outcome.error is None:
            return outcome.error if outcome.stop is Stop.CANCELLED else nobody_waits()
        if self.state.begin(TerminalReport.FAILURE):
            self._report_failure(outcome.error)
        else:
            self._watcher_done.wait()  # The watcher is reporting, and ends the process.
        return SystemExit(128 + (self.state.now.signum or 15))

    # The report -----------------------------------------------------------------------------------------------------

    def _report_success(self, document: dict[str, Any]) -> BaseException | None:
        try:
            self._session.targets.success(document)
        except TaskClosedError as closed:
            return closed
        except (InvalidDocumentError, OutputTooLargeError) as refused:
            if self.state.refuse():
                self._report_failure(refused)
            return refused
        except Exception as error:  # noqa: BLE001 - a target may raise anything; the work must not be lost
            where = keep(document, self.artifacts)
            told = self._session.redactor.text(f"{type(error).__name__}: {error}")
            return OutcomeUndeliveredError(f"the work is done, but its outcome was not delivered; {where}. {told}")
        return None

    def _report_failure(self, exception: BaseException) -> None:
        redactor = self._session.redactor
        error = redactor.text(error_of(exception))
        cause = cause_of(exception, run=run_since(self.run, self._session).to_dict(), redactor=redactor)
        try:
            self._session.targets.failure(error, cause)
        except TaskClosedError as closed:
            _log.warning("the failure %s was not reported: %s", error, closed)
        except Exception as unreported:  # noqa: BLE001 - the job's own exception is what must be seen
            _log.error("the failure %s could not be reported: %s", error, unreported)

    # Open uploads ---------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        self.stopped.set()
        self._start_abort()

    def _abort(self) -> None:
        """Abort uploads that a thread still makes or whose writer was not closed; wait a short time for the abort."""
        self._start_abort()
        if self._aborter is not None:
            self._aborter.join(timeout=self._session.stop_timeout / 6)

    def _start_abort(self) -> None:
        """Start the abort once, in a thread of its own: the server may not answer."""
        with self._aborting:
            if self._aborter is None and self.artifacts is not None:
                thread = threading.Thread(target=self._abort_uploads, name="stepout-abort", daemon=True)
                with contextlib.suppress(RuntimeError):  # No thread can be started: the next call tries again.
                    thread.start()
                    self._aborter = thread

    def _abort_uploads(self) -> None:
        try:
            if self.artifacts is not None:
                self.artifacts.abort()
        except Exception as error:  # noqa: BLE001 - the outcome must be reported all the same
            _log.warning("open uploads could not be aborted: %s", error)


def _where_main_is() -> str:
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 - documented, despite its name
    return "main thread:\n" + "".join(traceback.format_stack(frame)) if frame is not None else ""


def _say_and_flush(signum: int) -> None:
    """Log why the process ends and flush the output; give up if the main thread holds a lock that this needs."""

    def say() -> None:
        _log.error("signal %d: the main thread did not leave the block in time; the process ends now", signum)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOBase):
                stream.flush()

    thread = threading.Thread(target=say, name="stepout-flush", daemon=True)
    thread.start()
    thread.join(timeout=1)
