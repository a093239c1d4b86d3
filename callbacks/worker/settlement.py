"""Settles a task once its process has ended: a table of decisions, and the report that a dead process did not send.

The worker holds the task token, so a process that died without a word is reported at once instead of when the
heartbeat runs out. Step Functions tells whether the process had reported: a closed token means that it had.
"""

from __future__ import annotations

import errno
from enum import Enum
from typing import TYPE_CHECKING, Any

from stepout.callbacks.delivery.failure import fit_cause
from stepout.callbacks.delivery.redaction import Redactor
from stepout.callbacks.process.exit_codes import code_of, describe
from stepout.callbacks.targets.context import TargetContext
from stepout.callbacks.targets.registry import parse_targets, target_urls
from stepout.callbacks.targets.sfn import StepFunctionsTarget
from stepout.schemas import describe_problems
from stepout.schemas.errors import (
    ConfigurationError,
    InvalidDocumentError,
    InvalidTokenError,
    OutcomeUndeliveredError,
    TaskClosedError,
    TaskInterrupted,
)
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_stepfunctions import SFNClient

    from stepout.callbacks.protocols import Target
    from stepout.callbacks.worker.job import Job
    from stepout.schemas.runtime.process import PerProcess

_log = logger("stepout.callbacks.worker")

# The names are those under which the ECS watcher reports the same of a container.
DIED = "Stepout.ContainerDied"
UNREPORTED = "Stepout.NothingReported"
UNDELIVERED = OutcomeUndeliveredError.error_name
NOT_STARTED = ConfigurationError.error_name
INVALID = InvalidDocumentError.error_name
INTERRUPTED = TaskInterrupted.error_name

_DONE, _UNDELIVERED, _CLOSED = 0, 3, 4
_HAS_NOT_REPORTED = frozenset({_UNDELIVERED, 126, 127, 134, 135, 136, 137, 139})
"""The exit codes of a process that certainly reported nothing: see above; not started; killed, as a shell shows it."""


class NextStep(Enum):
    """What the worker does about a process that has ended."""

    TRUST = "it has reported"
    ASK = "ask whether it has reported, and report a failure if not"
    REPORT = "report a failure, which is refused if it has reported"
    ASK_OR_RETURN = "ask whether it has reported, and give the task back if not"
    RETURN = "give the task back"


class TaskEnd(Enum):
    """What became of a task."""

    REPORTED = "reported"
    FAILED_HERE = "reported as failed by the worker"
    RETURNED = "given back"
    KEPT = "not settled: nobody could be told; it comes back by itself"
    POISON = "not settled: its token is not valid"


def after(code: int, *, stopping: bool, relayed: bool) -> NextStep:
    """Decide what follows from a process's exit code. Pure.

    Args:
        code: As ``subprocess`` has it: negative for a signal.
        stopping: Whether the worker is being stopped, so that the task may not have had its time.
        relayed: Whether tasks report through a relay, so that Step Functions need not know of a report yet.

    Example:
        >>> after(-9, stopping=False, relayed=False)
        <NextStep.REPORT: 'report a failure, which is refused if it has reported'>
        >>> after(-9, stopping=True, relayed=True)
        <NextStep.RETURN: 'give the task back'>
    """
    # Through a relay, a closed token would say nothing yet: the report may still be in its queue. So the code decides.
    if relayed:
        if code >= 0 and code not in _HAS_NOT_REPORTED:
            return NextStep.TRUST
        return NextStep.RETURN if stopping else NextStep.REPORT
    # Whatever its code: a task that was killed with its worker may have reported just before.
    if stopping:
        return NextStep.ASK_OR_RETURN
    return NextStep.ASK if code in (_DONE, _CLOSED) else NextStep.REPORT


def relayed(environ: Mapping[str, str]) -> bool:
    """Whether tasks with this environment report through a relay."""
    named = environ.get("STEPOUT_TARGETS", "").split()
    return bool(named) and any(url.lower().startswith("sqs:") for url in named)


class Settler:
    """Settles tasks whose processes have ended.

    Args:
        environ: The worker's; ``STEPOUT_TARGETS`` says how outcomes reach Step Functions.
        client: Of Step Functions, for all tasks.
        patience: Seconds for which a report is tried again.
    """

    def __init__(self, environ: Mapping[str, str], client: PerProcess[SFNClient], *, patience: float) -> None:
        self._environ = environ
        self._client = client
        self._patience = patience
        self.relayed = relayed(environ)

    def ended(self, job: Job, code: int, *, stopping: bool, returnable: bool) -> TaskEnd:
        """Settle a task whose process has ended.

        Args:
            job: The task's job.
            code: The exit code.
            stopping: Whether the worker is being stopped.
            returnable: Whether the task can be given back to another worker.
        """
        step = after(code, stopping=stopping, relayed=self.relayed)
        if step is NextStep.TRUST:
            return TaskEnd.REPORTED
        if step in (NextStep.ASK, NextStep.ASK_OR_RETURN):
            known = self._has_reported(job)
            if known is True or (known is None and step is NextStep.ASK):
                return TaskEnd.REPORTED
        if step in (NextStep.ASK_OR_RETURN, NextStep.RETURN):
            return TaskEnd.RETURNED if returnable else self.interrupted(job)
        error, message, members = _verdict(code)
        return self._fail(job, error, message, **members)

    def not_started(self, job: Job, error: OSError) -> TaskEnd:
        """Settle a task whose process could not be started."""
        reason = error.strerror or type(error).__name__
        if error.errno == errno.E2BIG:
            reason += ". Its variables and the worker's own are too large together: pass a pointer as its input"
        return self._fail(job, NOT_STARTED, f"the worker could not start the command of this task: {reason}")

    def invalid(self, job: Job) -> TaskEnd:
        """Settle a task that cannot be run."""
        return self._fail(job, INVALID, f"the message of this task is not valid: {describe_problems(job.problems)}")

    def interrupted(self, job: Job) -> TaskEnd:
        """Settle a task that the worker has no time for and cannot give back."""
        return self._fail(job, INTERRUPTED, "the worker was stopped before this task was done", retryable=True)

    def _has_reported(self, job: Job) -> bool | None:
        """Whether the token is closed, so that the task has reported; ``None`` if this is not known."""
        try:
            StepFunctionsTarget(job.token, self._client.get(), patience=self._patience).heartbeat()
        except TaskClosedError:
            return True
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller decides without the answer
            _log.warning("whether the task has reported could not be found out: %s", error)
            return None
        return False

    def _fail(self, job: Job, error: str, message: str, **more: Any) -> TaskEnd:
        cause = {"message": message, "run": job.run.to_dict(), **more}
        text = fit_cause(Redactor([job.token]).json(cause))
        try:
            self._target(job).failure(error, text)
        except TaskClosedError:
            return TaskEnd.REPORTED
        except InvalidTokenError as unknown:
            _log.error("%s", unknown)
            return TaskEnd.POISON
        except Exception as undelivered:  # noqa: BLE001 - the worker goes on; the message comes back
            _log.error("the failure %s could not be reported: %s", error, undelivered)
            return TaskEnd.KEPT
        _log.warning("reported for the task: %s: %s", error, message)
        return TaskEnd.FAILED_HERE

    def _target(self, job: Job) -> Target:
        if not self.relayed:
            return StepFunctionsTarget(job.token, self._client.get(), patience=self._patience)
        urls = target_urls(self._environ["STEPOUT_TARGETS"].split(), pulled=None, token=True)
        context = TargetContext(token=job.token, run=job.run, environ=self._environ)
        carriers = [url for url in urls if url.lower().startswith("sqs:")]
        return parse_targets(carriers[0], context)[0]


def _verdict(code: int) -> tuple[str, str, dict[str, Any]]:
    """Return error, message and further members of the cause for a process that had reported nothing."""
    how, members = f"the task's process {describe(code)}", {"exitCode": code_of(code)}
    if code == _UNDELIVERED:
        return UNDELIVERED, f"{how}: its work is done, and its outcome could not be delivered", members
    if code == _DONE:
        advice = "a command that does not report by itself is run by 'stepout run'"
        return UNREPORTED, f"{how} and had reported nothing; {advice}", members
    killed = {"retryable": True} if code < 0 else {}
    return DIED, f"{how} and had reported nothing", {**members, **killed}
