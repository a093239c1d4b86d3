"""How many connections to one server may be open at once, where something between allows fewer than are wanted.

A proxy that lets four connections through refuses the fifth, takes it and never answers, or leaves it in its backlog. A
transfer with thirty-two senders would then have twenty-eight that fail, or wait for a minute, over and over. Here the
first failures say how many there may be. Whoever wants one more waits until another request has ended, as it would
behind a queue; more are tried now and then.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

GROWS_AFTER: Final = 30.0
"""Seconds until half as many connections more are tried: twice as long each time that it was too many, and a quarter
each time that it was not. One second where all connections were lost, as when a server is restarted."""

_LONGEST: Final = 600.0
_SHORTEST: Final = 1.0

LONGEST_WAIT: Final = 60.0
"""Seconds. Who has waited so long for another request to end goes on: that one may be its own."""

_TICK: Final = 0.1


class _Place:
    """Of a connection that is on its way."""


class ConnectionLimit:
    """Of one pool of connections; for any thread.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Reentrant: connections are also closed by the garbage collector, in the middle of anything.
        self._changed = threading.Condition(threading.RLock())
        self._limit: int | None = None
        self._since, self._grows_after = 0.0, GROWS_AFTER
        self._rest, self._has_grown = GROWS_AFTER, False
        # Weak too, one for each call of ``take``: a handler's exception may come before anything could be undone.
        self._taking: weakref.WeakSet[Any] = weakref.WeakSet()
        # Weak, as a body that nobody reads to its end takes its connection along.
        self._busy: weakref.WeakSet[Any] = weakref.WeakSet()
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()
        self._proved: weakref.WeakSet[Any] = weakref.WeakSet()
        self._answered_at = float("-inf")

    @property
    def limit(self) -> int | None:
        """How many requests may be under way at once; ``None`` as long as nothing says that there is a limit."""
        return self._limit

    def take(self, give: Callable[[], Any], look: Callable[[], None] | None = None) -> Any:
        """Wait until one connection more may be used, and return it.

        Args:
            give: Returns a connection, an idle one or one that is yet to be opened.
            look: Called now and then; raises to end the wait.
        """
        with self._changed:
            began = self._clock()
            while self._is_full() and self._clock() - began < LONGEST_WAIT:
                self._changed.wait(_TICK)
                if look is not None:
                    look()
            place = _Place()
            self._taking.add(place)
        try:
            connection = give()
        except BaseException:
            self._taking.discard(place)
            raise
        with self._changed:
            self._taking.discard(place)
            self._busy.add(connection)
        return connection

    def back(self, connection: Any) -> None:
        """Take note that a connection is used by nobody now."""
        with self._changed:
            self._busy.discard(connection)
            self._changed.notify()

    def opened(self, connection: Any) -> None:
        """Take note of a connection that was opened."""
        with self._changed:
            self._open.add(connection)

    def answered(self, connection: Any) -> None:
        """Take note of an answer."""
        with self._changed:
            self._answered_at = self._clock()
            if connection in self._open:  # it may have been the last answer there
                self._proved.add(connection)
                if self._limit is not None:
                    self._limit = max(self._limit, len(self._proved))

    def closed(self, connection: Any) -> None:
        """Take note that a connection is no more."""
        with self._changed:
            for each in (self._open, self._proved, self._busy):
                each.discard(connection)
            if self._limit is not None and not self._open:
                # None is left, as when a server is restarted: while they broke one by one, each refusal was taken for
                # a limit. More are tried as soon as the first ones bring answers.
                self._grows_after = _SHORTEST
            self._changed.notify()

    def has_proved(self, connection: Any) -> bool:
        """Say whether a connection has brought an answer."""
        return connection in self._proved

    def refused(self) -> None:
        """Take note of a connection that could not be opened: no more than there are that bring answers."""
        with self._changed:
            self._set(len(self._proved) or len(self._open))

    def unanswered(self, connection: Any, since: float | None = None) -> bool:
        """Take note of a connection that never brought an answer, and say whether it is one too many.

        Args:
            connection: It has waited for its first answer, or was closed before that.
            since: What the clock said when its wait began: if nobody was answered since, it says nothing about a limit.
        """
        with self._changed:
            others = len(self._proved - {connection})
            late = since is not None and self._answered_at <= since
            if connection in self._proved or not others or late:
                return False
            self._set(others)
            return True

    def _is_full(self) -> bool:
        if self._limit is None:
            return False
        if self._clock() - self._since > self._grows_after:
            self._limit, self._since = self._limit + max(1, self._limit // 2), self._clock()
            self._grows_after, self._has_grown = max(self._grows_after / 4, _SHORTEST), True
        return len(self._busy) + len(self._taking) >= self._limit

    def _set(self, count: int) -> None:
        if not count:  # where none works, it is not for their number
            return
        if self._has_grown:
            self._rest, self._has_grown = min(2 * self._rest, _LONGEST), False
        self._limit, self._since, self._grows_after = count, self._clock(), self._rest
