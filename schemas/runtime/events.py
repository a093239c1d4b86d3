"""What a process does with artifacts and outcomes, told to whoever listens. Prints, sends and imports nothing.

``Events`` holds the listeners of one task, one artifact manager, or one ``resolve…`` call. What is done runs as an
``Operation`` of it, and each listener gets an ``Event`` when the operation has ended. The operation that is under way
is a context variable, so that a retry, or a request for bytes, far below can be counted without handing the events down
through every room. It is a value of the thread (and of the coroutine) that set it: a forked process begins with a copy.

With no listener an operation is never made: a caller asks ``listening`` first, or gets a context that does nothing.
"""

from __future__ import annotations

import contextlib
import time
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from stepout.schemas.errors import ConfigurationError, StepoutError
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from types import TracebackType

    from stepout.schemas.identity import RunIdentity
    from stepout.schemas.runtime.event import Event, EventKind, EventListener

_log = logger("stepout.observe")

Call = TypeVar("Call", bound="Callable[..., Any]")


class Operation:
    """One thing under way. In a ``with`` block it is the current one of its thread, and ends with the block.

    Args:
        events: Whom it is told.
        kind: As for ``Event``.
        operation: As for ``Event``.
        known: Further attributes of the event, those that are known when it begins.
    """

    def __init__(self, events: Events, kind: EventKind, operation: str, **known: Any) -> None:
        self.events, self.kind = events, kind
        self._members: dict[str, Any] = {"operation": operation, **known}
        # Added to by several threads, without a lock: a forked process could find it held by a thread that it lacks.
        self._moved: list[int] = []
        self._retried: list[str] = []
        self._open = [True]
        self._began, self._start = time.time(), time.perf_counter()
        self._begun: dict[int, tuple[EventListener, Callable[[Event], object]]] = {}
        self._before: Any = None

    def add_bytes(self, count: int) -> None:
        """Count bytes that were written or asked for; from any thread."""
        self._moved.append(count)

    def add_retry(self, error: str) -> None:
        """Count a request that is sent again; from any thread."""
        self._retried.append(error)

    def describe(self, **known: Any) -> None:
        """Set attributes of the event that were not known when it began."""
        self._members.update(known)

    def known(self, name: str) -> Any:
        """Return an attribute of the event, as far as it is known."""
        return self._members.get(name)

    def event(self) -> Event:
        """Return what is known now."""
        from stepout.schemas.runtime.event import Event

        moved = sum(self._moved) if self._moved else None
        members = {"run": self.events.run, "bytes": moved, **self._members}
        return Event(kind=self.kind, began=self._began, retries=len(self._retried), **members)

    def __enter__(self) -> Self:
        self._begun = {id(each): (each, _begun(each, self.event())) for each in self.events.listeners}
        self._before = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ValueError):  # entered in another context, as a generator's block may be
            _current.reset(self._before)
        self.end(error)

    def end(self, error: BaseException | None = None) -> None:
        """Tell the listeners that it has ended. Only the first call does; one without a ``with`` block needs it."""
        try:
            self._open.pop()
        except IndexError:
            return
        self._members.setdefault("outcome", "ok" if error is None else "failed")
        if error is not None:
            self._members.setdefault("error", error_of_event(error))
        self._members["seconds"] = time.perf_counter() - self._start
        told = self.event()
        for _, tell in self._begun.values():
            _tell(tell, told)
        for listener in self.events.listeners:  # also those that were added meanwhile
            if id(listener) not in self._begun:
                _tell(listener, told)


_current: Final[ContextVar[Operation | None]] = ContextVar("stepout_operation", default=None)


class Events:
    """Tells listeners what is done. Listeners may be added and removed at any time, from any thread.

    Args:
        listeners: Whom to tell.
        late: Returns one more listener, or ``None``: asked each time, for what the program may yet import.

    >>> events = Events()
    >>> events.add(lambda event: print(event.kind, event.artifact, event.bytes))
    >>> with events.operation("put", "put", artifact="mask") as told:
    ...     told.add_bytes(3)
    put mask 3
    """

    def __init__(
        self, listeners: Iterable[EventListener] = (), *, late: Callable[[], EventListener | None] | None = None
    ) -> None:
        self._own: tuple[EventListener, ...] = ()
        self._late = late
        self.run: RunIdentity | None = None
        """Which run of which state does it all, as far as is known."""
        for listener in listeners:
            self.add(listener)

    def __repr__(self) -> str:
        return f"Events({len(self._own)} listeners)"

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without listeners: another process has its own."""
        return Events, ()

    def __call__(self, event: Event, /) -> None:
        """Pass on an event of other ``Events`` to the listeners that were added here; so it is a listener, too."""
        for listener in self._own:
            _tell(listener, event)

    def add(self, listener: EventListener) -> None:
        """Tell this listener from now on; one that is there already stays there once.

        Raises:
            ConfigurationError: It cannot be called.
        """
        if not callable(listener):
            raise ConfigurationError(f"a {type(listener).__name__} is no listener: it must take an event when called")
        if listener not in self._own:
            self._own = (*self._own, listener)  # a new tuple: another thread may be telling those of the old one

    def remove(self, listener: EventListener) -> None:
        """Tell this listener no more; one that is not there is no error."""
        self._own = tuple(each for each in self._own if each != listener)

    @property
    def nothing(self) -> AbstractContextManager[None, None]:
        """A context that does nothing, where nobody listens."""
        return _NOTHING

    @property
    def listening(self) -> bool:
        """Whether anybody would be told."""
        return bool(self._own) or (self._late is not None and self._late() is not None)

    @property
    def listeners(self) -> tuple[EventListener, ...]:
        """Who is told now."""
        late = None if self._late is None else self._late()
        return self._own if late is None else (late, *self._own)

    def operation(
        self, kind: EventKind, operation: str, **known: Any
    ) -> AbstractContextManager[Operation | None, None]:
        """Return the operation to do something in; one that does nothing, and gives ``None``, if nobody listens.

        Within an operation of the same kind and the same listeners it is a part of that: only the outer one is told.

        Args:
            kind: As for ``Event``.
            operation: As for ``Event``.
            known: Further attributes of the event.
        """
        if not self.listening:
            return self.nothing
        current = _current.get()
        if current is not None and current.kind == kind and current.events is self:
            return contextlib.nullcontext(current)
        return Operation(self, kind, operation, **known)

    def tell(self, kind: EventKind, operation: str, **known: Any) -> None:
        """Tell of something that is over at once."""
        if self.listening:
            Operation(self, kind, operation, **known).end()


_NOTHING: Final[AbstractContextManager[None, None]] = contextlib.nullcontext()


def current_operation(kind: EventKind | None = None) -> Operation | None:
    """Return the operation that this thread is in; ``None`` if there is none, or none of this kind."""
    current = _current.get()
    return current if current is not None and kind in (None, current.kind) else None


def tell_retry(error: str) -> None:
    """Say that a request is about to be sent again.

    Args:
        error: The name of what it met: no text of a service's.
    """
    current = _current.get()
    if current is not None:
        current.add_retry(error)
        known = {name: value for name in ("artifact", "bucket", "key") if (value := current.known(name)) is not None}
        current.events.tell("retry", current.kind, error=error, outcome="failed", **known)


def carried(function: Call) -> Call:
    """Return a thread's function that runs in the operation of the thread which asks; itself where there is none."""
    if _current.get() is None:
        return function
    return partial(copy_context().run, function)  # type: ignore[return-value] # called as the function is


def error_of_event(error: BaseException) -> str:
    """Return the name of an error, which says nothing of its message: that may quote anything."""
    return error.error_name if isinstance(error, StepoutError) else type(error).__name__


def _begun(listener: EventListener, event: Event) -> Callable[[Event], object]:
    from stepout.schemas.runtime.event import BeginningListener

    if isinstance(listener, BeginningListener):
        try:
            return listener.begin(event) or listener
        except Exception as error:  # noqa: BLE001 - whoever watches must not harm the work
            _failed(listener, error)
    return listener


def _tell(listener: Callable[[Event], object], event: Event) -> None:
    try:
        listener(event)
    except Exception as error:  # noqa: BLE001 - whoever watches must not harm the work
        _failed(listener, error)


def _failed(listener: object, error: Exception) -> None:
    # Not its text, which may quote anything.
    _log.warning("a listener of events (%s) raised %s; the work goes on", type(listener).__name__, type(error).__name__)
