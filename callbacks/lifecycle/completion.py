"""How a task ends: which report follows from what left the block, and what is raised instead of it."""

from __future__ import annotations

import io
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from stepout.callbacks.delivery.exception_groups import interruption_in, leaves_of
from stepout.callbacks.delivery.failure import cause_of, error_of
from stepout.callbacks.lifecycle.abort import Aborter
from stepout.callbacks.lifecycle.document import DocumentRules, keep, make_document
from stepout.callbacks.lifecycle.signals import STOPS
from stepout.callbacks.lifecycle.task_state import Stop, TaskStateCell, TerminalReport
from stepout.schemas import RunIdentity
from stepout.schemas.errors import (
    ConfigurationError,
    InvalidDocumentError,
    InvalidTokenError,
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

    from stepout.callbacks.protocols import Artifacts
    from stepout.callbacks.targets.fan_out import FanOut

_log = logger("stepout.callbacks.task")

_SIGINT = 2


class Flag(threading.Event):
    """An event that is true when it is set."""

    def __reduce__(self) -> NoReturn:
        not_picklable("task's flag")

    def __bool__(self) -> bool:
        return self.is_set()

    def __repr__(self) -> str:
        return f"<{'set' if self.is_set() else 'not set'}>"


class Completion:
    """Knows a task's fate and makes its one terminal report.

    Args:
        reporter: The targets.
        rules: What the output document must obey.
        run: The run identity; the artifact manager's unless given.
        stop_timeout: Seconds from SIGTERM to SIGKILL.
        end_process: Ends the process at once.

    Attributes:
        fate: What may still become of the task.
        stopped: Set once the task should stop.
        interrupt_main: Makes the main thread leave the block.
        stop_timeout: See above.
        known_run: What the environment says of the run, until an artifact manager knows better.
    """

    def __init__(
        self,
        reporter: FanOut,
        rules: DocumentRules,
        *,
        run: RunIdentity | None,
        stop_timeout: float,
        end_process: Callable[[int], object],
    ) -> None:
        self.fate = TaskStateCell()
        self.stopped = Flag()
        self.interrupt_main: Callable[[], None] = lambda: None
        self.stop_timeout = stop_timeout
        self._reporter = reporter
        self._rules = rules
        self._run = run
        self._end_process = end_process
        self._aborter = Aborter()
        self._watcher_done = threading.Event()
        self.known_run = RunIdentity()

    @property
    def artifacts(self) -> Artifacts | None:
        """The artifact manager, once it is made."""
        return self._aborter.artifacts

    @artifacts.setter
    def artifacts(self, artifacts: Artifacts | None) -> None:
        self._aborter.artifacts = artifacts

    @property
    def run(self) -> RunIdentity:
        """The run identity."""
        if self._run is not None:
            return self._run
        return self.artifacts.run if self.artifacts is not None else self.known_run

    # From other threads ---------------------------------------------------------------------------------------------

    def nobody_waits(self, closed: TaskClosedError) -> None:
        """A heartbeat was answered "closed": stop the block and report nothing."""
        if self.fate.cancel():
            _log.error("the task is cancelled: %s", closed)
            self._stop()
            self.interrupt_main()

    def signal_heard(self, signum: int) -> None:
        """A signal arrived: abort uploads at once, and bound the retries of whatever report there is."""
        interrupted = self.fate.now.stop is Stop.INTERRUPTED
        if interrupted:
            self._stop()
        self._reporter.limit(self._patience())
        # Last: the main thread may hold the lock of a log handler.
        _log.warning(
            "signal %d arrived; %s", signum, "the block ends" if interrupted else "the report is finished first"
        )

    def _patience(self) -> float:
        """Seconds for further tries of a report: a success leaves time for its last try, and to keep the document."""
        if self.fate.now.report is TerminalReport.SUCCESS:
            return max(self.stop_timeout - 15.0, self.stop_timeout / 2)
        return self.stop_timeout * 0.9

    def overdue(self, signum: int) -> None:
        """The main thread did not leave the block in time: report the failure from here and end the process."""
        if not self.fate.begin(TerminalReport.FAILURE):
            return  # The main thread is reporting after all.
        why = f"the task was asked to stop by signal {signum}, and was in the middle of a call that could not be"
        interrupted = TaskInterrupted(f"{why} interrupted", signum=signum)
        interrupted.add_note(_where_main_is())
        try:
            self._report_failure(interrupted)
        finally:
            _say_and_flush(signum)
            self._end_process(128 + signum)
            self._watcher_done.set()

    def _stop(self) -> None:
        self.stopped.set()
        self._aborter.start()

    # From the task's own thread -------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise if the task should stop."""
        fate = self.fate.now
        if fate.stop is Stop.CANCELLED:
            raise _nobody_waits()
        if fate.stop is Stop.INTERRUPTED:
            raise TaskInterrupted(signum=fate.signum or 15)

    def must_stop(self, noted: int | None) -> bool:
        """Whether the task should stop, a signal that was merely noted included."""
        if noted is not None:
            self.fate.interrupt(noted)
        return self.fate.now.stop is not None

    def exit_for_late_signal(self, noted: int | None) -> SystemExit | None:
        """Return the exit that a signal asked for while a success was being reported, if one did."""
        signum = self.fate.now.signum or noted
        return None if signum is None else SystemExit(128 + signum)

    def instead_of_late(
        self, own: BaseException, exception: BaseException | None, instead: BaseException | None
    ) -> BaseException | None:
        """Return what is raised after the job's own handler, whose signal waited for the report, has raised."""
        if exception is None and instead is None:
            return own
        _log.warning("a signal's handler raised %s once the outcome was reported", type(own).__name__)
        return instead

    def first_beat(self) -> None:
        """Send the first heartbeat, before any work: the clock started when the state did."""
        try:
            self._reporter.heartbeat()
        except (TaskClosedError, InvalidTokenError):
            self.fate.cancel()
            raise
        except ConfigurationError:
            raise  # The outcome could not be told either, after hours of work.
        except Exception as error:  # noqa: BLE001 - the work may well be worth doing; the last report has more patience
            _log.error("the first heartbeat was not delivered; the task goes on without: %s", error)

    def conclude(
        self,
        exception: BaseException | None,
        result: Mapping[str, Any],
        *,
        noted: int | None,
        missed: bool = False,
        ran: bool = True,
    ) -> BaseException | None:
        """Make the terminal report that follows from what left the block.

        Args:
            exception: What left the block, if anything did.
            result: The inline result.
            noted: A signal that arrived while the block was being left.
            missed: Whether a signal may have come that only the job's own event loop heard.
            ran: Whether the block was entered.

        Returns:
            What is to be raised instead, if anything.
        """
        self.must_stop(noted or (_stop_behind(exception) if missed else None))
        interruption = interruption_in(exception)
        if self.fate.now.stop is not None or isinstance(interruption, TaskInterrupted):
            return self._stopped(interruption if isinstance(interruption, TaskInterrupted) else exception)
        if exception is None or (ran and _exits_cleanly(exception)):
            return self._succeed(exception, result)
        self._abort()
        if interruption is not None:
            reported = self._fail(TaskInterrupted("the task was interrupted from the keyboard", signum=_SIGINT))
        else:
            reported = self._fail(exception)
        return None if reported else self._stopped(exception)

    def _stopped(self, exception: BaseException | None) -> BaseException:
        """End a task that was asked to stop."""
        if isinstance(exception, TaskInterrupted):
            self.fate.interrupt(exception.signum)
        self.stopped.set()
        self._abort()
        fate = self.fate.now
        if fate.stop is Stop.CANCELLED:
            return exception if isinstance(exception, (TaskClosedError, InvalidTokenError)) else _nobody_waits()
        signum = fate.signum or 15
        if not self._fail(exception if isinstance(exception, TaskInterrupted) else _interrupted(signum, exception)):
            self._watcher_done.wait()  # The watcher is reporting, and ends the process.
        return SystemExit(128 + signum)

    def _abort(self) -> None:
        """Abort what is still being written, by a thread or by a writer that nobody closed."""
        self._aborter.finish(self.stop_timeout / 6)

    def _succeed(self, exception: BaseException | None, result: Mapping[str, Any]) -> BaseException | None:
        try:
            document = make_document(result, artifacts=self.artifacts, run=self.run, rules=self._rules)
        except Exception as error:  # noqa: BLE001 - returned, to be raised once it is reported
            self._abort()
            return error if self._fail(error) else self._stopped(exception)
        if not self.fate.begin(TerminalReport.SUCCESS):
            return self._stopped(exception)
        return self._deliver(document)

    def _deliver(self, document: dict[str, Any]) -> BaseException | None:
        try:
            self._reporter.success(document)
        except TaskClosedError as closed:
            return closed
        except (InvalidDocumentError, OutputTooLargeError) as refused:
            if self.fate.refuse():
                self._report_failure(refused)
            return refused
        except Exception as error:  # noqa: BLE001 - a target may raise anything; the work must not be lost
            return self._undelivered(document, error)
        return None

    def _undelivered(self, document: dict[str, Any], error: Exception) -> OutcomeUndeliveredError:
        where = keep(document, self.artifacts)
        told = self._rules.redactor.text(f"{type(error).__name__}: {error}")
        return OutcomeUndeliveredError(f"the work is done, but its outcome was not delivered; {where}. {told}")

    def _fail(self, exception: BaseException) -> bool:
        """Report a failure, unless a request to stop or the watcher came first; return whether it was reported here."""
        # A fate that was interrupted since the exception was raised decides what is reported.
        fate = self.fate.now
        if fate.stop is Stop.INTERRUPTED and not isinstance(exception, TaskInterrupted):
            return False
        if not self.fate.begin(TerminalReport.FAILURE):
            return False
        self._report_failure(exception)
        return True

    def _report_failure(self, exception: BaseException) -> None:
        redactor = self._rules.redactor
        error = redactor.text(error_of(exception))
        cause = cause_of(exception, run=self.run.to_dict(), redactor=redactor)
        try:
            self._reporter.failure(error, cause)
        except TaskClosedError as closed:
            _log.warning("the failure %s was not reported: %s", error, closed)
        except Exception as unreported:  # noqa: BLE001 - the job's own exception is what must be seen
            _log.error("the failure %s could not be reported: %s", error, unreported)


def _stop_behind(exception: BaseException | None) -> int | None:
    """The signal that what left the block speaks of: a cancelled event loop, or the exit code after a signal."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and isinstance(exception, asyncio.CancelledError):
        return signal.SIGTERM
    code = exception.code if isinstance(exception, SystemExit) else None
    return next((signum for signum in STOPS if code == 128 + signum), None)


def _exits_cleanly(exception: BaseException) -> bool:
    return all(isinstance(each, SystemExit) and each.code in (None, 0) for each in leaves_of(exception))


def _nobody_waits() -> TaskClosedError:
    return TaskClosedError(
        "nobody waits for this task any more: it timed out, was stopped, or has been reported already. The block was "
        "ended, open uploads were aborted, and nothing was reported"
    )


def _interrupted(signum: int, exception: BaseException | None) -> TaskInterrupted:
    interrupted = TaskInterrupted(f"the task was asked to stop by signal {signum}", signum=signum)
    interrupted.__cause__ = exception
    return interrupted


def _where_main_is() -> str:
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 - documented, despite its name
    return "main thread:\n" + "".join(traceback.format_stack(frame)) if frame is not None else ""


def _say_and_flush(signum: int) -> None:
    """Log why the process ends and flush what was printed, unless the main thread holds a lock that this needs."""

    def say() -> None:
        _log.error("signal %d: the main thread did not leave the block in time; the process ends now", signum)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOBase):
                stream.flush()

    thread = threading.Thread(target=say, name="stepout-flush", daemon=True)
    thread.start()
    thread.join(timeout=1)
