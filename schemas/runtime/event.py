"""An event: one thing that was done, as listeners get it; and what a listener is. Imported once somebody listens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.schemas.identity import RunIdentity

EventKind = Literal["task", "put", "resolve", "read", "report", "heartbeat", "retry"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One thing that was done, or has just begun. It never holds a task token, or a value of a payload.

    Attributes:
        kind: ``"task"``, ``"put"``, ``"resolve"``, ``"read"``, ``"report"``, ``"heartbeat"`` or ``"retry"``.
        operation: What exactly: of a put ``"put"``, ``"adopt"``, ``"nested"`` (what the command of ``stepout run``
            wrote) or ``"document"`` (a record, or what was spilled); of a read the method, such as ``"read_table"``, or
            ``"range"`` for one request of a lazy reader; of a report ``"success"`` or ``"failure"``; of a retry the
            kind of what is tried again.
        artifact: The artifact's name; ``None`` where there is none.
        bucket: The bucket.
        key: The object's key.
        bytes: Bytes that were written, or asked for; of a directory or a dataset those of all files; ``None`` if
            nothing was moved.
        artifacts: Of a resolve: how many artifacts the output has.
        began: When it began, in seconds since 1970.
        seconds: How long it took; ``None``: it has just begun.
        outcome: ``"ok"`` or ``"failed"``; of a task ``"success"``, ``"failure"``, ``"interrupted"``, ``"cancelled"``
            (nobody waits), ``"undelivered"`` or ``"unreported"``; ``None``: it has just begun.
        error: The error's stable name, such as ``"Stepout.ArtifactNotFound"``, or its class; ``None`` without one.
        retries: How many requests were sent again meanwhile.
        run: Which run of which state does it, as far as is known.
        traceparent: Of a read and a resolve: the trace that the document says it was made in, as W3C's Trace Context
            writes it.
    """

    kind: EventKind
    operation: str
    artifact: str | None = None
    bucket: str | None = None
    key: str | None = None
    bytes: int | None = None
    artifacts: int | None = None
    began: float = 0.0
    seconds: float | None = None
    outcome: str | None = None
    error: str | None = None
    retries: int = 0
    run: RunIdentity | None = None
    traceparent: str | None = None


class EventListener(Protocol):
    """Is told of each thing that has ended; any function of one argument will do.

    It is called in the thread that did it, before that goes on, and from several threads at once. An exception of it is
    logged, by the name of its class, and changes nothing.
    """

    def __call__(self, event: Event, /) -> object:
        """Take an event that has ended."""
        ...


@runtime_checkable
class BeginningListener(Protocol):
    """A listener that also wants to know when something begins, as one that makes spans does."""

    def begin(self, event: Event, /) -> Callable[[Event], object] | None:
        """Take an event that has just begun, in the thread that will end it.

        Returns:
            What to call with the event when it has ended, in place of the listener itself; ``None``: the listener.
        """
        ...
