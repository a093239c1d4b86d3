"""The parts of a worker: the source of its tasks, its options, and its counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_stepfunctions import SFNClient

    from stepout.callbacks.worker.job import Job


@dataclass(kw_only=True)
class TakenTask:
    """A task that was taken from a source.

    Attributes:
        job: The work to do.
        name: A short name, for logs and labels.
        every: Seconds between two calls of the source's ``keep`` for this task.
        ticket: The source's own record of the task; the worker does not read it.
    """

    job: Job
    name: str
    every: float = float("inf")
    ticket: Any = None


class TaskSource(Protocol):
    """Where a worker's tasks come from. All methods but ``check`` and ``take`` are called from several threads.

    Its ``repr`` names it in messages.
    """

    returnable: bool
    """Whether a task can be given back, for another worker."""

    remedy: str
    """A sentence for people: what to do if the worker may not read the source."""

    def check(self) -> None:
        """Check the source before the first task is taken; raise ``ConfigurationError`` if it cannot work."""
        ...

    def take(self, most: int, patience: float) -> Sequence[TakenTask]:
        """Wait at most ``patience`` seconds for at most ``most`` tasks; deal with invalid messages here.

        Raises:
            ConfigurationError: Trying again cannot help. For any other exception, the worker decides by the service's
                answer.
        """
        ...

    def keep(self, taken: TakenTask) -> float:
        """Tell the source that the task still runs; return the seconds until the next call."""
        ...

    def absorb(self, running: TakenTask, again: TakenTask) -> None:
        """Note that a running task was delivered again, so that ``finish`` covers both deliveries."""
        ...

    def finish(self, taken: TakenTask) -> None:
        """Tell the source that the task is settled: it must not deliver the task again."""
        ...

    def give_back(self, taken: TakenTask) -> None:
        """Return the task to the source, so that another worker can take it at once."""
        ...

    def refuse(self, taken: TakenTask) -> None:
        """Tell the source that the task can never be settled, and leave it to the operators."""
        ...


class WorkerOptions(TypedDict, total=False):
    """The keyword arguments of every worker.

    Attributes:
        concurrency: Tasks at a time, each in a process of its own; 1 by default.
        stop_timeout: Seconds from SIGTERM to SIGKILL; ``None``: ``STEPOUT_STOP_TIMEOUT``, else 30.
        idle_exit: Seconds without a task after which ``run`` returns; ``None``: never.
        limit: Tasks after which ``run`` returns; ``None``: any number.
        label: Whether each line that a task prints begins with the task's name; ``None``: if there are several at a
            time.
        fresh_folder: Whether each task runs in an empty folder of its own, which is removed afterwards; no by default.
        environ: Instead of ``os.environ``.
        sfn_client: A boto3 Step Functions client for the worker's own reports.
        clock: Returns seconds, monotonic.
        jitter: Returns a number from 0 up to 1.
    """

    concurrency: int
    stop_timeout: float | None
    idle_exit: float | None
    limit: int | None
    label: bool | None
    fresh_folder: bool
    environ: Mapping[str, str] | None
    sfn_client: SFNClient | None
    clock: Callable[[], float]
    jitter: Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class WorkerCounts:
    """What a worker has done.

    Attributes:
        reported: Tasks whose processes reported, success or failure.
        failed_here: Tasks for which the worker reported a failure, since their processes had not.
        returned: How many times a task was given back unfinished, or not begun.
        kept: Tasks that could not be settled; they come back by themselves.
        signum: The signal that ended the worker, if one did.
    """

    reported: int = 0
    failed_here: int = 0
    returned: int = 0
    kept: int = 0
    signum: int | None = None
