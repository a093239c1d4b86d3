"""Picks the exception to report from an exception group. Pure.

``asyncio.TaskGroup``, trio and anyio wrap even a single failure in a group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepout.schemas.errors import TaskInterrupted

if TYPE_CHECKING:
    from collections.abc import Callable


def leaves_of(exception: BaseException) -> list[BaseException]:
    """Return the exceptions of a group and of the groups in it, in order; for any other exception, only itself.

    Cancellations beside other failures are left out, because those failures caused them.
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
    """Return the exception that asked the task to stop: the exception itself or one in its group.

    A ``TaskInterrupted`` comes before a ``KeyboardInterrupt``; ``None`` if the exception is neither and holds neither.

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
    """Return the exception whose name and message are reported: the first of a group whose members agree on their name.

    Args:
        exception: Any exception.
        name_of: Returns the name of an exception that is not a group.

    Returns:
        If the group holds the exception that asked the task to stop, that one. The exception itself if it is not a
        group, if the members disagree, or if the job defined the group's class and so named the group itself.
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
