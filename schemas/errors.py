"""Every error that stepout raises, grouped by who can do something about it.

A message says what failed, for which object, what was expected and found, what was done about it and what to do.
It never holds a task token or a payload value. ``error_name`` is stable: it is the name that a state machine's
``Retry`` and ``Catch`` match.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stepout.schemas.problems import describe_problems
from stepout.schemas.text.foreign_text import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepout.schemas.problems import Problem


__all__ = [
    "AccessDeniedError",
    "ArrayIncompleteError",
    "ArtifactChangedError",
    "ArtifactExistsError",
    "ArtifactExpiredError",
    "ArtifactNotFoundError",
    "ArtifactTooLargeError",
    "ChecksumMismatchError",
    "CommandFailedError",
    "ConfigurationError",
    "IntegrityError",
    "InvalidDocumentError",
    "InvalidTokenError",
    "NotAllowedError",
    "OtherProcessError",
    "OutcomeUndeliveredError",
    "OutputMissingError",
    "OutputTooLargeError",
    "PermanentError",
    "ReadBudgetError",
    "RetryableError",
    "SizeMismatchError",
    "StepoutError",
    "StoreError",
    "StoreUnavailableError",
    "TaskClosedError",
    "TaskError",
    "TaskFailedError",
    "TaskInterrupted",
    "UndecodableError",
]


class StepoutError(Exception):
    """The base of every error here that is an ``Exception``."""

    error_name: ClassVar[str] = "Stepout.Error"
    retryable: ClassVar[bool] = False
    longest_message: ClassVar[int | None] = 4_000

    def __str__(self) -> str:
        """The message, as it may reach a terminal: what it quotes was written by others (``foreign_text``)."""
        return shown(super().__str__(), self.longest_message, lines=True)


# The caller's documents and settings -------------------------------------------------------------------------------


class InvalidDocumentError(StepoutError, ValueError):
    """A document does not follow its schema; ``problems`` lists everything that is wrong with it."""

    error_name = "Stepout.InvalidDocument"

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems: tuple[Problem, ...] = tuple(problems)


def invalid_document(subject: str, problems: Sequence[Problem], advice: str = "") -> InvalidDocumentError:
    """Build the error for a document with problems; the caller raises it.

    Args:
        subject: What the document is, for example ``"the task output"``.
        problems: At least one.
        advice: What was done about it and what to do.

    Returns:
        The error: its message shows the first problems, ``problems`` has them all.
    """
    message = f"{subject} is not valid: {describe_problems(problems)}"
    return InvalidDocumentError(f"{message}. {advice}" if advice else message, problems)


class ConfigurationError(StepoutError, ValueError):
    """A setting is missing or contradicts another one; nothing was done."""

    error_name = "Stepout.Configuration"


class OtherProcessError(StepoutError, RuntimeError):
    """Something belongs to another process: the one that this was forked off, or that it would be pickled in."""

    error_name = "Stepout.OtherProcess"


class NotAllowedError(StepoutError, PermissionError):
    """A document points outside the caller's allow-list; no request was sent."""

    error_name = "Stepout.NotAllowed"


# The store ---------------------------------------------------------------------------------------------------------


class StoreError(StepoutError):
    """The store refused or failed."""

    error_name = "Stepout.Store"


class ArtifactNotFoundError(StoreError, FileNotFoundError):
    """There is no such object, or no such bucket."""

    error_name = "Stepout.ArtifactNotFound"


class ArtifactExpiredError(ArtifactNotFoundError):
    """The object is gone, and the pointer said that it would be by now."""

    error_name = "Stepout.ArtifactExpired"


class ArtifactExistsError(StoreError, FileExistsError):
    """Something else is there already, and the write was not to replace it."""

    error_name = "Stepout.ArtifactExists"


class AccessDeniedError(StoreError, PermissionError):
    """The caller may not do this, or S3 does not say whether the object exists."""

    error_name = "Stepout.AccessDenied"


class ArtifactChangedError(StoreError):
    """The object is no longer the one that was written, or a source changed while it was read."""

    error_name = "Stepout.ArtifactChanged"


class ArtifactTooLargeError(StoreError, ValueError):
    """The object is larger than the caller's cap; nothing was downloaded."""

    error_name = "Stepout.ArtifactTooLarge"


class ReadBudgetError(ArtifactTooLargeError):
    """What a document leads to is more requests, entries or bytes than the caller's budget; no more was fetched."""

    error_name = "Stepout.ReadBudget"


class StoreUnavailableError(StoreError):
    """The store could not be reached, or went on failing after every retry; trying again later may help."""

    error_name = "Stepout.StoreUnavailable"
    retryable = True


class IntegrityError(StepoutError):
    """The bytes are not the bytes that were written."""

    error_name = "Stepout.Integrity"


class SizeMismatchError(IntegrityError):
    """The object has another size than its pointer says."""

    error_name = "Stepout.SizeMismatch"


class ChecksumMismatchError(IntegrityError):
    """The bytes have another checksum than the pointer says."""

    error_name = "Stepout.ChecksumMismatch"


class UndecodableError(StepoutError, ValueError):
    """The bytes are those that were written, but they cannot be decoded; trying again cannot help.

    One class for every format: Parquet, images, JSON, text.
    """

    error_name = "Stepout.Undecodable"


# The task ----------------------------------------------------------------------------------------------------------


class TaskError(StepoutError):
    """The task's outcome could not be reported as asked."""

    error_name = "Stepout.Task"


class TaskClosedError(TaskError):
    """Nobody waits for this task any more: it timed out, was stopped, or has been reported already."""

    error_name = "Stepout.TaskClosed"


class InvalidTokenError(TaskError):
    """Step Functions does not know this task token."""

    error_name = "Stepout.InvalidToken"


class OutputTooLargeError(TaskError, ValueError):
    """The output document is over its budget and was not to be spilled."""

    error_name = "Stepout.OutputTooLarge"


class OutcomeUndeliveredError(TaskError):
    """The work is done, but no target took the outcome; the message says where the document was kept."""

    error_name = "Stepout.OutcomeUndelivered"


class CommandFailedError(StepoutError):
    """The command of ``stepout run`` failed.

    Attributes:
        code: Its exit code, 128 and the signal's number where a signal killed it.
        cause_members: What the failure's cause holds beside the message: the exit code, the end of standard error.
    """

    error_name = "Stepout.CommandFailed"

    def __init__(self, message: str, *, code: int = 1, members: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.cause_members: Mapping[str, object] = dict(members or {})


class OutputMissingError(StepoutError):
    """The command of ``stepout run`` succeeded without leaving every output that was declared; all are named.

    Attributes:
        cause_members: What the failure's cause holds beside the message.
    """

    error_name = "Stepout.OutputMissing"

    def __init__(self, message: str, *, members: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.cause_members: Mapping[str, object] = dict(members or {})


class TaskFailedError(TaskError):
    """In pull mode: the task whose output was asked for has failed, and said why.

    Attributes:
        error: The name of the failure, as ``Retry`` and ``Catch`` would see it.
        cause: What the task said of it, JSON text.
    """

    error_name = "Stepout.TaskFailed"

    def __init__(self, message: str, *, error: str = "", cause: str = "") -> None:
        super().__init__(message)
        self.error = error
        self.cause = cause


class ArrayIncompleteError(TaskError):
    """In pull mode: not every child of an array job has an output that can be read.

    Attributes:
        count: How many children there are to be.
        missing: The indices of those that have reported nothing.
        failures: What happened to the others, by index: ``TaskFailedError`` where the child failed,
            ``InvalidDocumentError`` where what lies there is no output of this run.
        resolved: What was found of those that succeeded, as ``resolve_all`` would return it.
    """

    error_name = "Stepout.ArrayIncomplete"

    def __init__(
        self,
        message: str,
        *,
        count: int = 0,
        missing: Sequence[int] = (),
        failures: Mapping[int, Exception] | None = None,
        resolved: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.count = count
        self.missing: tuple[int, ...] = tuple(missing)
        self.failures: Mapping[int, Exception] = dict(failures or {})
        self.resolved: Mapping[str, object] = {} if resolved is None else resolved


class PermanentError(StepoutError):
    """For jobs to raise: trying this task again cannot help."""

    error_name = "Stepout.Permanent"
    longest_message = None


class RetryableError(StepoutError):
    """For jobs to raise: trying this task again may help."""

    error_name = "Stepout.Retryable"
    retryable = True
    longest_message = None


class TaskInterrupted(BaseException):
    """A signal asked the task to stop.

    A ``BaseException``, like ``KeyboardInterrupt``: jobs are full of ``except Exception``.
    """

    error_name: ClassVar[str] = "Stepout.Interrupted"

    def __init__(self, message: str = "the task was asked to stop", *, signum: int = 15) -> None:
        super().__init__(message)
        self.signum = signum
