"""The outcome of a block, as a value: a success, a failure, or a request to stop. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepout.callbacks.delivery.exception_groups import interruption_in, leaves_of
from stepout.callbacks.lifecycle.task_state import Stop
from stepout.schemas.errors import InvalidTokenError, TaskClosedError, TaskInterrupted

if TYPE_CHECKING:
    from stepout.callbacks.lifecycle.task_state import TaskState


@dataclass(frozen=True)
class Outcome:
    """The outcome of a block.

    Attributes:
        stop: Why the task was asked to stop, if it was.
        error: The exception that is reported as the failure. A cancelled task reports nothing, and raises it.
            ``None`` means success.
    """

    stop: Stop | None = None
    error: BaseException | None = None


def outcome_of(exception: BaseException | None, state: TaskState, *, ran: bool = True) -> Outcome:
    """Return the outcome of a block.

    Args:
        exception: The exception that left the block, if any.
        state: The task's state. A request to stop outweighs the exception, which it may have caused.
        ran: Whether the block was entered: only then ``sys.exit(0)`` means that its work is done.

    >>> from stepout.callbacks.lifecycle.task_state import TaskState
    >>> outcome_of(None, TaskState()), outcome_of(KeyError("x"), TaskState())
    (Outcome(stop=None, error=None), Outcome(stop=None, error=KeyError('x')))
    """
    if state.stop is Stop.CANCELLED:
        told = isinstance(exception, (TaskClosedError, InvalidTokenError))
        return Outcome(Stop.CANCELLED, exception if told else nobody_waits())
    interruption = interruption_in(exception)
    if isinstance(interruption, TaskInterrupted):
        return Outcome(Stop.INTERRUPTED, interruption)
    if state.stop is Stop.INTERRUPTED:
        return Outcome(Stop.INTERRUPTED, _interrupted(state.signum, exception))
    if exception is None or (ran and _exits_cleanly(exception)):
        return Outcome()
    if interruption is not None:
        return Outcome(error=TaskInterrupted("the task was interrupted from the keyboard", signum=signal.SIGINT))
    return Outcome(error=exception)


def nobody_waits() -> TaskClosedError:
    """Return the error of a cancelled task."""
    return TaskClosedError(
        "nobody waits for this task any more: it timed out, was stopped, or has been reported already. The block was "
        "ended, open uploads were aborted, and nothing was reported"
    )


def _interrupted(signum: int | None, exception: BaseException | None) -> TaskInterrupted:
    number = signum or signal.SIGTERM.value
    interrupted = TaskInterrupted(f"the task was asked to stop by signal {number}", signum=number)
    interrupted.__cause__ = exception
    return interrupted


def _exits_cleanly(exception: BaseException) -> bool:
    return all(isinstance(each, SystemExit) and each.code in (None, 0) for each in leaves_of(exception))
