"""Passes this process's signals on to a child process while a block runs, each as often as it comes."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

from stepout.callbacks.process.wakeup import WakeUp, watch_forks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

FORWARDED: Final = tuple(
    number
    for name in ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if (number := getattr(signal, name, None)) is not None
)
"""The signals passed on to the command besides ``STOPS``; a task handles ``STOPS`` first."""


class _Forwarding:
    """Reads signals from the wake-up descriptor, in a thread of its own, and passes each on as often as it came."""

    def __init__(self, send: Callable[[int], object]) -> None:
        self._send = send
        self._wake_up = WakeUp()
        self._closing = False
        self._numbers: frozenset[int] = frozenset()
        self._thread = threading.Thread(target=self._run, name="stepout-forward", daemon=True)

    def begin(self, numbers: Iterable[int]) -> None:
        self._numbers = frozenset(numbers)
        if self._wake_up.take():
            watch_forks(self)
            self._thread.start()

    def end(self) -> None:
        if self._thread.ident is not None:
            self._closing = True
            self._wake_up.note()
            self._thread.join()
            self._pass_on(self._wake_up.give_back())
            self._wake_up.close()

    def forget(self) -> None:
        """In a forked child: its signals are not the command's."""
        self._wake_up.abandon()

    def _run(self) -> None:
        while not self._closing:
            self._wake_up.wait(None)
            self._pass_on(self._wake_up.read())

    def _pass_on(self, came: Iterable[int]) -> None:
        for signum in came:
            if signum in self._numbers:
                self._send(signum)


@contextlib.contextmanager
def _handled(numbers: Iterable[int], handle: Callable[[int, Any], object]) -> Iterator[list[int]]:
    """Handle these signals while the block runs; an ignored signal stays ignored."""
    before: dict[int, Any] = {}
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores a signal on purpose.
            before[number] = signal.signal(number, handle)
    try:
        yield list(before)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def forwarding(
    send: Callable[[int], object], numbers: Iterable[int] = FORWARDED, *, also: Iterable[int] = ()
) -> Iterator[None]:
    """Pass these signals on while the block runs, each as often as it comes; by default those that do not end a task.

    A handler in Python is not enough: it runs once for two signals that come while the main thread is busy, and if a
    wait begins in the moment of the signal, it runs only after the wait.

    Args:
        send: Called with a signal's number, in a thread of its own; at the latest when the block is left.
        numbers: The signals; an ignored one stays ignored.
        also: Further signals, whose present handlers stay.
    """
    passing = _Forwarding(send)
    with _handled(numbers, lambda *_: None) as handled:
        passing.begin([*handled, *also])
        try:
            yield
        finally:
            passing.end()


@contextlib.contextmanager
def noting(came: list[int], numbers: Iterable[int]) -> Iterator[None]:
    """Note these signals while the block runs, unless other code sets a handler meanwhile.

    Args:
        came: The list to which the main thread adds each signal's number.
        numbers: The signals; an ignored one stays ignored.
    """
    with _handled(numbers, lambda number, _frame: came.append(number)):
        yield
