"""Holds the job's own signal handlers back while an outcome is reported.

Such a handler may raise: an alarm that bounds a step, a ``sys.exit``. In the middle of a report that exception would
look like an error of the service, and the fate of the request would be unknown. So a signal waits for the report.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

from stepout.callbacks.lifecycle.signals import STOPS, handlers_of_the_job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class HeldSignals:
    """Notes signals in place of their handlers, from its construction to ``restore``.

    Outside the main thread, where no handler runs, it does nothing. It leaves the handlers of tasks unchanged: inside a
    task's own code those raise nothing.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._came: list[int] = []
        if threading.current_thread() is not threading.main_thread():
            return
        # Complete before the first handler is replaced: ``deliver`` looks every noted signal up here.
        self._handlers = handlers_of_the_job()
        for number in self._handlers:
            with contextlib.suppress(ValueError):  # A subinterpreter.
                signal.signal(number, self._note)

    @property
    def stop(self) -> int | None:
        """The first signal that came and asked to stop."""
        return next((number for number in self._came if number in STOPS), None)

    def restore(self) -> Self:
        """Put the handlers back, except those that were replaced meanwhile."""
        for number, handler in self._handlers.items():
            # An event loop that closed, or another task that was entered, has set a handler meanwhile: that one stays.
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)
        return self

    def deliver(self, *, but: tuple[int, ...] = ()) -> None:
        """Call the handlers of the noted signals; a handler may raise.

        Args:
            but: Signals whose handlers are not called.
        """
        while self._came:
            if (number := self._came.pop(0)) not in but:
                self._handlers[number](number, sys._getframe())  # noqa: SLF001 - what a handler gets

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        self._came.append(signum)


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Hold the job's handlers back while the block runs; then call those whose signals came."""
    held = HeldSignals()
    try:
        yield
    finally:
        held.restore()
    held.deliver()
