"""The wake-up descriptor: the interpreter writes a byte to it for each signal, even if the main thread is busy.

Python runs a signal's handler when the main thread next executes Python code: after a native call, or after a wait that
began in the moment of the signal. It runs the handler once for two signals of a kind that came meanwhile. The
interpreter's own handler in C, however, writes the signal's number to the descriptor of ``signal.set_wakeup_fd`` each
time. A process has only one such descriptor, so code that takes it must pass the bytes on to the former owner.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import weakref
from typing import Any, Final, Protocol

_NOTE: Final = 0x80
"""A byte of our own in the socket; no signal has so high a number."""
_CHUNK: Final = 4096

POKE: Final = getattr(signal, "SIGURG", None)
"""The signal that wakes the main thread. Its default is to be ignored, so a late one does no harm."""


class WakeUp:
    """The process's wake-up descriptor, from ``take`` to ``give_back``; call these and ``retake`` in the main thread.

    The former owner still gets every signal. So does other code that takes the descriptor meanwhile and loses it to
    ``retake``: an event loop, for instance, goes on working.
    """

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._lock = threading.Lock()
        self._before = -1
        self._identity: tuple[int, int] | None = None
        self._later = -1
        # Copies: an owner may close its descriptor at any time, and its number may then belong to another file.
        self._copies: dict[int, int] = {}

    def take(self) -> bool:
        """Take the descriptor; return whether this interpreter gets signals at all (a subinterpreter does not)."""
        try:
            self._before = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        except ValueError:
            self.close()
            return False
        self._identity = _identity(self._before)
        self._listen_for(self._before)
        return True

    def retake(self) -> bool:
        """Take the descriptor again if other code has taken or reset it; return whether that was so."""
        found = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        if found == self._sender.fileno():
            return False
        if self._later != -1:  # The descriptor was reset, or belongs to the next loop: the earlier loop has closed.
            self._drop(self._later)
            self._later = -1
        if found not in (-1, self._before):
            self._later = found
            self._listen_for(found)
        return True

    def give_back(self) -> list[int]:
        """Give the descriptor back to its last other owner; return the signals until now, which it also gets."""
        found = signal.set_wakeup_fd(-1)
        if found == self._sender.fileno() and self._later != -1:
            found = self._later
        elif found in (-1, self._sender.fileno()):
            found = self._before if _identity(self._before) == self._identity else -1
        with contextlib.suppress(ValueError, OSError):
            signal.set_wakeup_fd(found)
        return self.read()

    def wait(self, seconds: float | None) -> None:
        """Wait until there is something to read, at most ``seconds``; ``None``: without a limit."""
        if (poll := getattr(select, "poll", None)) is None:  # Windows.
            select.select([self._receiver], [], [], seconds)
            return
        waiting = poll()
        waiting.register(self._receiver, select.POLLIN)
        waiting.poll(None if seconds is None else seconds * 1000)

    def read(self) -> list[int]:
        """Return the numbers of the signals that came, in order, each as often as it came; do not wait."""
        data = b""
        with self._lock:
            with contextlib.suppress(OSError):
                data = self._receiver.recv(_CHUNK)
            if came := bytes(each for each in data if each not in (0, POKE) and not each & _NOTE):
                for copy in self._copies.values():
                    with contextlib.suppress(OSError):
                        os.write(copy, came)
        return [each & ~_NOTE for each in data]

    def note(self, signum: int = 0) -> None:
        """Wake the reader, which alone reads this number; may be called from a signal's handler."""
        with contextlib.suppress(OSError):
            self._sender.send(bytes([_NOTE | signum]))

    def close(self) -> None:
        """Close everything, after ``give_back``."""
        with self._lock:
            self._close()

    def abandon(self) -> None:
        """In a forked child: drop the parent's descriptors, without the lock, which a thread of the parent may hold."""
        signal.set_wakeup_fd(-1)
        self._close()

    def _close(self) -> None:
        while self._copies:
            os.close(self._copies.popitem()[1])
        self._sender.close()
        self._receiver.close()

    def _listen_for(self, number: int) -> None:
        if number != -1:
            with contextlib.suppress(OSError), self._lock:
                self._copies[number] = os.dup(number)

    def _drop(self, number: int) -> None:
        with self._lock, contextlib.suppress(OSError):
            if (copy := self._copies.pop(number, None)) is not None:
                os.close(copy)


def _identity(number: int) -> tuple[int, int] | None:
    """Return the device and inode of an open descriptor's file; ``None`` if it is closed."""
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class ForkedAway(Protocol):
    """Listens to the parent process's signals, and must stop in a forked child."""

    def forget(self) -> None:
        """In the child: drop everything that belongs to the parent."""


FORKS: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
"""The listeners that a forked child drops: the parent would take the child's byte in the shared socket for its own."""

_hooked: Final = threading.Lock()
_held: Final = threading.local()
_HELD_BACK: Final = tuple(
    number
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if (number := getattr(signal, name, None)) is not None
)


def watch_forks(listener: ForkedAway) -> None:
    """Have ``forget`` called in forked children. A fork hook stays for good, so it asks the live listeners."""
    FORKS.add(listener)
    register = getattr(os, "register_at_fork", None)
    if register is not None and _hooked.acquire(blocking=False):  # Never released: registered for good.
        register(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


def _before_fork() -> None:
    """Block signals until the child has dropped the socket: an earlier one would seem to be the parent's.

    CPython forgets signals that arrive in the child before its own hooks have run; one that is held back is kept.
    """
    _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK) if FORKS else None


def _after_in_parent() -> None:
    if (mask := getattr(_held, "mask", None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_in_child() -> None:
    for listener in list(FORKS):
        listener.forget()
    _after_in_parent()


# An exception in a fork hook would be printed and lost.
HOOK_CODE: Final = frozenset({_before_fork.__code__, _after_in_parent.__code__, _after_in_child.__code__})
