"""The inline result of a task. Each member is checked when it is set, so the traceback shows the line that set it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas import invalid_document, json_problems
from stepout.schemas.text.json_value import plain_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Self

    from stepout.schemas.runtime.process import Home

RESULT: Final = "$.result"
"""Where the result is in the output document."""


class TaskResult(dict[str, Any]):
    """A ``dict`` that takes only values that JSON can hold; tuples become lists, and numpy's scalars numbers.

    It keeps lists and dicts as the same objects, not as copies, so later changes in them count; the task checks them
    again at its end.

    Args:
        members: The first members.
        home: The task's process. In a process forked off it, every change raises ``OtherProcessError``.

    Raises:
        InvalidDocumentError: A member is not JSON, is named by something other than text, or is too large a number;
            ``problems`` names each. Nothing was set. The same holds for every way to set members.

    >>> result = TaskResult()
    >>> result.update(rows=3, shape=(3, 4))
    >>> result
    {'rows': 3, 'shape': (3, 4)}
    """

    def __init__(self, members: Mapping[str, Any] | None = None, *, home: Home | None = None) -> None:
        super().__init__()
        self._home = home
        if members:
            self.update(members)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)  # data, like any other dictionary's

    def check_process(self) -> None:
        """Raise in a process that was forked off the task's process: the task would never see a change made there.

        Raises:
            OtherProcessError: This process was forked off the task's.
        """
        if self._home is not None:
            self._home.check("task.result", "task")

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __ior__(self, other: Any) -> Self:  # type: ignore[override, misc] # dict's own has overloads for what update takes
        self.update(other)
        return self

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return a member, set to ``default`` if it is absent."""
        if name not in self:
            self[name] = default
        return self[name]

    def update(self, *others: Mapping[str, Any] | Iterable[tuple[str, Any]], **members: Any) -> None:  # type: ignore[override] # dict's own has overloads for the same
        """Set members, all or none."""
        found = dict(*others, **members)
        if problems := json_problems(found, RESULT, convertible=True):
            raise invalid_document("the task's result", problems, "Nothing was set.")
        super().update({name: _scalar(value) for name, value in found.items()})


def _scalar(value: Any) -> Any:
    return value if isinstance(value, (dict, list, tuple)) else plain_copy(value)


def _here_only(change: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(change)
    def checked(self: TaskResult, *args: Any, **named: Any) -> Any:
        self.check_process()
        return change(self, *args, **named)

    return checked


# ``__setitem__`` and ``__ior__`` go through ``update``.
for _name in ("__delitem__", "clear", "pop", "popitem", "setdefault", "update"):
    setattr(TaskResult, _name, _here_only(getattr(TaskResult, _name)))
