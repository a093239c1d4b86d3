"""What listeners are told of reads: each whole read, table, download and comparison, and each request outside those."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from stepout.schemas.runtime.events import current_operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.artifacts.reading.access import Access
    from stepout.schemas.pointer import Pointer

P = ParamSpec("P")
R = TypeVar("R")


class NamedObject(Protocol):
    """One object that is read."""

    @property
    def access(self) -> Access:
        """How to read it."""
        ...

    @property
    def pointer(self) -> Pointer:
        """What to read."""
        ...

    @property
    def name(self) -> str | None:
        """Its name in the output; ``None`` outside one."""
        ...


N = TypeVar("N", bound=NamedObject)


def is_read(operation: str) -> Callable[[Callable[Concatenate[N, P], R]], Callable[Concatenate[N, P], R]]:
    """Decorate a function that reads an object: listeners are told of each call; one within another is part of that.

    Args:
        operation: What it is called in the event.
    """

    def decorated(function: Callable[Concatenate[N, P], R]) -> Callable[Concatenate[N, P], R]:
        @functools.wraps(function)
        def told(found: N, /, *args: P.args, **kwargs: P.kwargs) -> R:
            access = found.access
            if not access.events.listening:
                return function(found, *args, **kwargs)
            place = _place(access, found.pointer)
            with access.events.operation("read", operation, artifact=found.name, **place):
                return function(found, *args, **kwargs)

        return told

    return decorated


def count_request(access: Access, pointer: Pointer, start: int, stop: int | None) -> None:
    """Count the bytes that a request asked for: to the read that it is part of, or as one of its own.

    Engines and open files read in threads, and at times, of their own.

    Args:
        access: How the object is read.
        pointer: The object.
        start: The first byte.
        stop: One behind the last; ``None``: the object's end.
    """
    size = max(0, (pointer.size if stop is None else stop) - start)
    operation = current_operation("read")
    if operation is not None:
        operation.add_bytes(size)
    else:
        access.events.tell("read", "range", bytes=size, **_place(access, pointer))


def _place(access: Access, pointer: Pointer) -> dict[str, Any]:
    return {"bucket": pointer.bucket, "key": pointer.key, "traceparent": access.traceparent}
