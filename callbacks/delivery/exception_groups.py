"""What stands for an exception group: ``asyncio.TaskGroup``, trio and anyio wrap even a single failure in one. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepout.schemas.errors import TaskInterrupted

if TYPE_CHECKING:
    from collections.abc import Callable


def leaves_of(exception: BaseException) -> list[BaseException]:
    """Return the exceptions of a group and of the groups in it, in order; of any other exception, itself.

    Cancellations beside other failures are left out: they are what those failures caused.
    """
    found: list[BaseException] = []
    waiting = [exception]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(reversed(each.exceptions))
        else:
            found.append(each)
    return [each for each in found if not _is_cancellation(each)] or found


def interruption_in(exception: BaseException | None) -> TaskInterrupted | KeyboardInterrupt | None:
    """Return what asked the task to stop, be it the exception itself or one in a group; a signal before the keyboard.

    >>> interruption_in(BaseExceptionGroup("", [KeyError(), TaskInterrupted(signum=2)]))
    TaskInterrupted('the task was asked to stop')
    """
    found = leaves_of(exception) if exception is not None else []
    for kind in (TaskInterrupted, KeyboardInterrupt):
        for each in found:
            if isinstance(each, kind):
                return each
    return None


def speaker_of(exception: BaseException, name_of: Callable[[BaseException], str]) -> BaseException:
    """Return the exception whose name and message are told: the first of a group whose members agree on their name.

    Args:
        exception: Any.
        name_of: The name of one that is no group.

    Returns:
        What asked the task to stop, if that is in a group; the exception itself if it is no group, if the members
        disagree, or if the group's class was made by the job, which has named it.
    """
    if type(exception) not in (ExceptionGroup, BaseExceptionGroup):
        return exception
    if (interruption := interruption_in(exception)) is not None:
        return interruption
    leaves = leaves_of(exception)
    return leaves[0] if len({name_of(each) for each in leaves}) == 1 else exception


def _is_cancellation(exception: BaseException) -> bool:
    # By name: asyncio and trio are the job's to import. concurrent.futures' own is an Exception, and a failure.
    return type(exception).__name__ in ("CancelledError", "Cancelled") and not isinstance(exception, Exception)
