"""The task decorator: each call of the function is one task's block."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class TakesResult(Protocol):
    """A task, as the decorated function's wrapper sees it."""

    @property
    def result(self) -> dict[str, Any]:
        """Takes what the function returns."""
        ...


def as_task(
    function: Callable[..., Any], open_task: Callable[[], AbstractContextManager[TakesResult]], *, passes_task: bool
) -> Callable[..., Any]:
    """Make each call of a function the block of a task; a mapping that it returns is merged into the task's result.

    Args:
        function: May be a coroutine function.
        open_task: Returns the task of one call.
        passes_task: Whether the task is the function's first argument.

    Returns:
        The function, without its first argument if that is the task.

    Raises:
        ConfigurationError: It is a generator function, whose body would run after the task was reported.
    """
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise _comes_later(function)

    def given(task: TakesResult, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (task, *args) if passes_task else args

    def done(task: TakesResult, value: Any) -> Any:
        if inspect.isawaitable(value) or inspect.isgenerator(value) or inspect.isasyncgen(value):
            raise _comes_later(function)
        if isinstance(value, Mapping):
            task.result.update(value)
        return value

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with open_task() as task:
                return done(task, await function(*given(task, args), **kwargs))

        return awaited

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        with open_task() as task:
            return done(task, function(*given(task, args), **kwargs))

    return called


def _comes_later(function: Callable[..., Any]) -> ConfigurationError:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return ConfigurationError(
        f"{name} returns a generator or an awaitable: its work would be done after the task was reported. A task is a "
        "function that has done its work when it returns, or one defined with async def"
    )
