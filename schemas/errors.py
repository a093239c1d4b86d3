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
    """The base of every error here that is an ``Exception``.

    - Raised by: Nothing itself. ``except StepoutError`` catches every error here but ``TaskInterrupted``.
    - What to do: Catch the class of the one failure that you can mend, and let the others fail the task.

    Attributes:
        error_name: The name that Step Functions sees. It never changes its meaning.
        retryable: Whether trying again may help, without a change of code, settings or permissions.
        longest_message: How many characters of the message ``str`` shows; ``None`` for all.
    """

    error_name: ClassVar[str] = "Stepout.Error"
    retryable: ClassVar[bool] = False
    longest_message: ClassVar[int | None] = 4_000

    def __str__(self) -> str:
        """The message, as it may reach a terminal: what it quotes was written by others (``foreign_text``)."""
        return shown(super().__str__(), self.longest_message, lines=True)


# The caller's documents and settings -------------------------------------------------------------------------------


class InvalidDocumentError(StepoutError, ValueError):
    """A document, or JSON or text that was read, is not what it must be.

    - Raised by: ``resolve_output`` and its relatives; ``read_json`` and ``read_text``; a put with an invalid name or
      with a value that is not JSON; the report of a task whose output breaks its ``Contract``.
    - What to do: Read ``problems``: it lists everything that is wrong, each with its place. Mend the program that wrote
      the document, or the path in the state machine that passes it on.

    Attributes:
        problems: Everything that was found; empty where the message says it all.
    """

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
    """An argument, a setting or a variable is missing, is invalid, or contradicts another one; nothing was done.

    - Raised by: Any function or command, before it does its work. Also for a library that is not installed, and for a
      server that needs another ``STEPOUT_S3_PROFILE``.
    - What to do: Change what the message names: an argument, a variable of the task definition, an extra of the
      installation.
    """

    error_name = "Stepout.Configuration"


class OtherProcessError(StepoutError, RuntimeError):
    """Something belongs to another process, and was used in one that was forked off it, or was to be pickled.

    - Raised by: Every put and ``task.result`` in a process that was forked off the task's process (``multiprocessing``,
      a pool, the workers of a data loader); pickling or copying a task or a manager; a client that was passed in and is
      used after a fork.
    - What to do: Return the data to the task's process and put it there. Or write it in the other process through an
      ``ArtifactManager`` of its own, return ``pointer.url``, and call ``task.artifacts.adopt`` with that URL. Make a
      client in each process.
    """

    error_name = "Stepout.OtherProcess"


class NotAllowedError(StepoutError, PermissionError):
    """A document points outside the caller's allow-list, or to a file outside the target folder; nothing was read.

    - Raised by: ``resolve_output`` and its relatives, ``files``, ``download``: each step that follows what a document
      says.
    - What to do: Find out who wrote the document. If you trust the place, add it to ``allow=`` or ``STEPOUT_ALLOW``.
    """

    error_name = "Stepout.NotAllowed"


# The store ---------------------------------------------------------------------------------------------------------


class StoreError(StepoutError):
    """S3 refused or failed, in a way for which there is no class of its own.

    - Raised by: Puts and reads. For example: an archived object that must be restored first, or an answer that stepout
      does not know.
    - What to do: Read the message: it has the operation, the object, and what S3 answered.
    """

    error_name = "Stepout.Store"


class ArtifactNotFoundError(StoreError, FileNotFoundError):
    """There is no such object, no such version of it, or no such bucket.

    - Raised by: Reads, ``adopt``, ``resolve_output`` with a URL; puts, if the bucket does not exist; ``Artifact.file``,
      if a directory has no such file.
    - What to do: Check the bucket's name, the endpoint and the region. Look for a lifecycle rule or a person that
      deleted the object. Run the task that wrote it again.
    """

    error_name = "Stepout.ArtifactNotFound"


class ArtifactExpiredError(ArtifactNotFoundError):
    """The object is gone, and its pointer said that it would be by now.

    - Raised by: Reads of an artifact whose pointer has an ``expiresAt`` in the past.
    - What to do: Run the task that wrote it again, and keep artifacts longer than consumers need them (``keep=``, the
      lifecycle rule).
    """

    error_name = "Stepout.ArtifactExpired"


class ArtifactExistsError(StoreError, FileExistsError):
    """Something else is there already, and the write was not to replace it.

    - Raised by: A put of a name that this manager wrote before; a put to a key that holds other content, which happens
      with ``layout="fixed"``.
    - What to do: Use each name once. Use the default layout, in which no two processes share a key. Or say
      ``mode="overwrite"``, if the later write is to win.
    """

    error_name = "Stepout.ArtifactExists"


class AccessDeniedError(StoreError, PermissionError):
    """The caller may not do this, or S3 does not say whether the object exists.

    - Raised by: Puts and reads: the role has no permission, the credentials are invalid or have expired, or KMS refused
      the key.
    - What to do: Grant what the message names; ``stepout iam`` prints the policies. Without ``s3:ListBucket`` S3
      answers "denied" for an object that is missing.
    """

    error_name = "Stepout.AccessDenied"


class ArtifactChangedError(StoreError):
    """The object is no longer the one that was written, or a source changed while it was read.

    - Raised by: Reads, if the object was replaced since the pointer was made; ``put_file`` and ``put_directory``, if
      the file was written to during the put.
    - What to do: Find out what writes to the same key or file. Switch on the bucket's versions: a pointer then names
      one version. Run the task that wrote the object again.
    """

    error_name = "Stepout.ArtifactChanged"


class ArtifactTooLargeError(StoreError, ValueError):
    """The object, or what it unfolds into in memory, is larger than the caller's limit.

    - Raised by: ``read_bytes``, ``read_text``, ``read_json``, ``read_image`` and ``read_table``: before the download
      where the size is known, else before the bytes are decoded.
    - What to do: Use ``download`` or ``open``, which need little memory. Read fewer columns. Or pass a higher
      ``max_size=``, if the machine has the memory.
    """

    error_name = "Stepout.ArtifactTooLarge"


class ReadBudgetError(ArtifactTooLargeError):
    """A document leads to more requests, entries or bytes than the caller's budget; no more was fetched.

    - Raised by: ``resolve_output`` and its relatives, ``gather``, ``files``, ``download``: what follows manifests,
      listings and result files.
    - What to do: Check that the document is yours. Then pass a larger ``budget=ReadBudget(…)``.
    """

    error_name = "Stepout.ReadBudget"


class StoreUnavailableError(StoreError):
    """S3 could not be reached, or went on failing after every retry.

    - Raised by: Puts and reads: no route to the endpoint, a timeout, throttling, errors of the server. Also a task
      whose commit record could not be written.
    - What to do: Let the state machine try again: ``Retry`` on ``Stepout.StoreUnavailable``. If it goes on, check the
      route (NAT, VPC endpoint), the endpoint's URL and the request rate.
    """

    error_name = "Stepout.StoreUnavailable"
    retryable = True


class IntegrityError(StepoutError):
    """The bytes are not the bytes that were written.

    - Raised by: Nothing itself. ``except IntegrityError`` catches ``SizeMismatchError`` and ``ChecksumMismatchError``.
    - What to do: As for the subclasses.
    """

    error_name = "Stepout.Integrity"


class SizeMismatchError(IntegrityError):
    """The object has another size than its pointer says.

    - Raised by: Reads, ``adopt``, and the end of an upload.
    - What to do: Find out what replaced the object, since S3 keeps no half of one. Run the task that wrote it again.
    """

    error_name = "Stepout.SizeMismatch"


class ChecksumMismatchError(IntegrityError):
    """The bytes have another checksum than the pointer says.

    - Raised by: Whole reads, ``verify``, reads by block of ``open`` and ``read_table``; puts, if the bytes that arrived
      are not those that were sent.
    - What to do: Read once more: the bytes may have been damaged on their way. If it stays, the object was replaced:
      run the task that wrote it again.
    """

    error_name = "Stepout.ChecksumMismatch"


class UndecodableError(StepoutError, ValueError):
    """The bytes are those that were written, but they are no Parquet or no image that can be decoded.

    - Raised by: ``read_table``, ``dataset``, ``gather_table`` and ``read_image``. JSON and text that cannot be decoded
      raise ``InvalidDocumentError``.
    - What to do: Mend the program that wrote the artifact. Check its media type, and that the reader's pyarrow or
      Pillow knows the format.
    """

    error_name = "Stepout.Undecodable"


# The task ----------------------------------------------------------------------------------------------------------


class TaskError(StepoutError):
    """The task's outcome could not be reported as asked.

    - Raised by: A target that could not deliver; a task that is entered twice.
    - What to do: Read the message. Make a new task for each token.
    """

    error_name = "Stepout.Task"


class TaskClosedError(TaskError):
    """Nobody waits for this task any more: it timed out, was stopped, or has been reported already.

    - Raised by: Entering a task, if the token is closed; ``task.check``, and the block itself, when a heartbeat finds
      out; a report; in pull mode the report of a task of which another attempt has succeeded first.
    - What to do: Let the process end: exit code 4. If it happens to jobs that should have succeeded, raise the state's
      ``TimeoutSeconds`` and ``HeartbeatSeconds``.
    """

    error_name = "Stepout.TaskClosed"


class InvalidTokenError(TaskError):
    """Step Functions does not know this task token, or it was damaged on its way.

    - Raised by: ``open_task``, for a token that is empty, too long or holds white space; a report.
    - What to do: Check how the state passes the token: ``$$.Task.Token``, whole, and to the same account and region.
    """

    error_name = "Stepout.InvalidToken"


class OutputTooLargeError(TaskError, ValueError):
    """The output document is larger than its budget, or than what the target takes.

    - Raised by: A report with ``spill="never"``, or a document that cannot be made to fit.
    - What to do: Leave ``spill`` at ``"auto"``, or put what is large into artifacts instead of ``task.result``.
    """

    error_name = "Stepout.OutputTooLarge"


class OutcomeUndeliveredError(TaskError):
    """The work is done, but no target took the outcome; the message says where the document was kept.

    - Raised by: Leaving the block of a task: exit code 3.
    - What to do: Mend the route or the permission that the message names. While the state waits, the document can be
      delivered by hand; otherwise run the task again.
    """

    error_name = "Stepout.OutcomeUndelivered"


class CommandFailedError(StepoutError):
    """The command of ``stepout run`` failed.

    - Raised by: ``stepout run`` and ``stepout worker``, as the name of the failure that is reported.
    - What to do: Read the cause: it has the exit code and the end of what the command printed. Use ``--retryable`` and
      ``--permanent`` to report some exit codes under other names.

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

    - Raised by: ``stepout run`` and ``stepout worker``, as the name of the failure that is reported.
    - What to do: Compare the paths of ``--output`` and ``--dir`` with what the command writes.

    Attributes:
        cause_members: What the failure's cause holds beside the message.
    """

    error_name = "Stepout.OutputMissing"

    def __init__(self, message: str, *, members: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.cause_members: Mapping[str, object] = dict(members or {})


class TaskFailedError(TaskError):
    """In pull mode, and in a fan-in: the task whose output was asked for has failed, and said why.

    - Raised by: ``resolve_output`` and its relatives; ``gather`` gives it as a child's ``error``.
    - What to do: Look at ``error`` and ``cause``: they say what the task said. Mend that task.

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

    - Raised by: ``resolve_all`` with ``count=``.
    - What to do: Look at ``missing`` and ``failures``. Run those children again, or go on with ``resolved``.

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
    """For jobs to raise: trying this task again cannot help.

    - Raised by: Your job; ``stepout run``, for exit codes that ``--permanent`` names.
    - What to do: Put a ``Retry`` with ``"MaxAttempts": 0`` on ``Stepout.Permanent`` before one that takes every error.
    """

    error_name = "Stepout.Permanent"
    longest_message = None


class RetryableError(StepoutError):
    """For jobs to raise: trying this task again may help.

    - Raised by: Your job; ``stepout run``, for exit codes that ``--retryable`` names.
    - What to do: Put a ``Retry`` on ``Stepout.Retryable``.
    """

    error_name = "Stepout.Retryable"
    retryable = True
    longest_message = None


class TaskInterrupted(BaseException):
    """A signal asked the task to stop.

    A ``BaseException``, like ``KeyboardInterrupt``: jobs are full of ``except Exception``.

    - Raised by: The block of a task on SIGTERM or SIGINT; ``task.check``.
    - What to do: Let it leave the block: uploads are aborted, and the failure is reported. Put a ``Retry`` on
      ``Stepout.Interrupted``: the container was stopped or replaced.

    Attributes:
        error_name: The name that Step Functions sees.
        signum: The signal's number.
    """

    error_name: ClassVar[str] = "Stepout.Interrupted"

    def __init__(self, message: str = "the task was asked to stop", *, signum: int = 15) -> None:
        super().__init__(message)
        self.signum = signum
