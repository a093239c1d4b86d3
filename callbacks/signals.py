"""Signals while a task runs: an exception in the main thread, and a watcher for when native code holds that back.

Python runs a signal's handler only when native code returns, which took 15 seconds in one pyarrow sort and did not
happen within 25 in an upload to a stalled server. C code, however, writes a byte to ``signal.set_wakeup_fd`` at once,
and a thread that reads it can act meanwhile. So:

- the *handler*, in the main thread, raises ``TaskInterrupted``, once, and only inside the block: within the task's own
  ``__enter__`` and ``__exit__`` it leaves the matter to them;
- the *watcher* thread notes the signal, wakes the main thread again if a wait swallowed the signal, and calls
  ``overdue`` if the block has not been left in time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stepout.callbacks.fate import FateCell, Stop
from stepout.schemas.errors import TaskInterrupted

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

__all__ = ["Reactions", "SignalGuard", "grace_of"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_POKE_EVERY: Final = 0.2
_WAKE: Final = b"\0"

_guards: weakref.WeakSet[SignalGuard] = weakref.WeakSet()
_fork_hook = threading.Lock()
_held = threading.local()


def grace_of(stop_timeout: float) -> float:
    """Return the seconds after a signal in which the main thread may unwind by itself.

    Args:
        stop_timeout: Seconds between SIGTERM and SIGKILL, as in ECS's ``stopTimeout``.

    Returns:
        Ten seconds less, or half of it where that leaves less than half.
    """
    return max(stop_timeout - 10.0, stop_timeout / 2)


@dataclass(frozen=True)
class Reactions:
    """What a task does about a signal; all are called from the watcher thread.

    Attributes:
        heard: The first signal was noted (with its number).
        overdue: The main thread has not left the block in time (with the signal's number).
    """

    heard: Callable[[int], None]
    overdue: Callable[[int], None]


class SignalGuard:
    """Handles SIGTERM and SIGINT for one task, from ``install`` to ``remove``; outside the main thread it does nothing.

    Args:
        fate: Where an interruption is noted.
        reactions: What else is done about one.
        own: Code in whose frames, or in what they call, the handler does not raise.
        grace: Seconds from a signal to ``overdue``.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        fate: FateCell,
        reactions: Reactions,
        *,
        own: frozenset[CodeType],
        grace: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fate = fate
        self._reactions = reactions
        self._own = own | {SignalGuard._handle.__code__} | _HOOK_CODE
        self._grace = grace
        self._clock = clock
        self._noted: int | None = None
        self._raised = False
        self._closing = False
        self._deadline: float | None = None
        self._next_poke = 0.0
        self._before: dict[int, Any] = {}
        self._fd_before = -1
        self._outer: SignalGuard | None = None
        self._watcher: threading.Thread | None = None
        self._receiver: socket.socket | None = None
        self._sender: socket.socket | None = None

    @property
    def noted(self) -> int | None:
        """The first signal whose handler found the task's own code at work."""
        return self._noted

    @property
    def heard(self) -> int | None:
        """The first signal of all, wherever it was noticed."""
        return self._noted or self._fate.now.signum

    def install(self) -> None:
        """Take over both signals and start the watcher; off the main thread, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        try:
            self._fd_before = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        except ValueError:  # A subinterpreter: its main thread gets no signals.
            self._close_sockets()
            return
        self._watcher = threading.Thread(target=self._watch, name="stepout-signals", daemon=True)
        self._watcher.start()
        for number in _SIGNALS:
            before = signal.getsignal(number)
            # A shell starts background jobs with SIGINT ignored, and means it.
            if not (number == signal.SIGINT and before is signal.SIG_IGN):
                self._before[number] = before
                signal.signal(number, self._handle)
        _guards.add(self)
        _watch_forks()
        self._outer = next((guard for h in self._before.values() if (guard := _guard_of(h)) is not None), None)
        if self._outer is not None and (signum := self._outer.heard):
            self._wake(signum)  # It arrived while this task was being entered.

    def remove(self) -> None:
        """Stop the watcher and put back every handler and the wake-up descriptor as they were."""
        if self._watcher is None:
            return
        self._closing = True
        self._wake()
        # The watcher first: a wake-up call of its own must not meet the handlers of before.
        self._watcher.join(timeout=5)
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, signal.SIG_DFL if before is None else before)
        if (current := signal.set_wakeup_fd(self._fd_before)) not in (-1, self._fileno()):
            signal.set_wakeup_fd(current)  # Someone else's by now, an event loop's for instance.
        self._watcher = None
        _guards.discard(self)
        self._close_sockets()

    def interrupt_main(self) -> None:
        """From any thread: have the handler run in the main thread, since the task was cancelled."""
        self._wake()

    # In the main thread ---------------------------------------------------------------------------------------------

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        """Raise in the block, where the fate's lock is free: in this thread only the task's own code takes it."""
        if self._in_own_code(frame):
            if self._fate.now.stop is None:  # Else it may be a wake-up call of the watcher's.
                self._noted = self._noted or signum
            self._wake(signum)
            return
        stop = self._fate.now.stop
        if stop is None and self._fate.interrupt(signum):
            stop = Stop.INTERRUPTED
        self._wake(signum)
        if stop is not None and not self._raised:
            self._raised = True
            raise TaskInterrupted(_why(stop, signum), signum=signum)

    def _in_own_code(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code in self._own:
                return True
            frame = frame.f_back
        return False

    # In the watcher -------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        receiver = self._receiver
        while receiver is not None and not self._closing:
            with contextlib.suppress(TimeoutError):
                receiver.settimeout(self._patience())
                data = receiver.recv(4096)
                self._forward(data)
                for signum in data:
                    self._hear(signum)
            self._follow_up()

    def _patience(self) -> float | None:
        """Seconds to the next thing to do, if any."""
        if self._fate.now.stop is None and self._deadline is None:
            return None
        return _POKE_EVERY

    def _hear(self, signum: int) -> None:
        if signum not in self._before or signal.getsignal(signum) != self._handle:
            return  # A wake-up call of our own, or a signal that the job handles itself.
        self._alarm(signum)

    def _alarm(self, signum: int) -> None:
        if self._deadline is not None or self._fate.now.stop is Stop.CANCELLED:
            return
        self._deadline = self._clock() + self._grace
        self._fate.interrupt(signum)
        self._reactions.heard(signum)
        if self._outer is not None:
            self._outer._inherit(signum)  # noqa: SLF001 - another instance of this class

    def _inherit(self, signum: int) -> None:
        """A task inside this one's block was interrupted, and so is this one: by what leaves that block."""
        self._raised = True
        self._alarm(signum)

    def _follow_up(self) -> None:
        if self._closing or self._fate.now.stop is None:
            return
        now = self._clock()
        if not self._raised and now >= self._next_poke:
            self._next_poke = now + _POKE_EVERY
            self._poke()
        if self._deadline is not None and now >= self._deadline:
            self._deadline = float("inf")
            self._reactions.overdue(self._fate.now.signum or signal.SIGTERM)

    def _poke(self) -> None:
        """Make the main thread run the handler, also out of a wait; by a signal whose handler is surely ours."""
        mine = [signum for signum in self._before if signal.getsignal(signum) == self._handle]
        if not mine:
            return
        if (kill := getattr(signal, "pthread_kill", None)) is not None:
            main = threading.main_thread().ident
            with contextlib.suppress(ProcessLookupError):
                kill(main, mine[0])
        else:  # Windows: the handler runs when the main thread next executes Python code.
            import _thread

            _thread.interrupt_main(signal.Signals(mine[0]))

    def _forward(self, data: bytes) -> None:
        """Pass the bytes on to whoever listened before."""
        if self._fd_before != -1:
            with contextlib.suppress(OSError):
                os.write(self._fd_before, data.replace(_WAKE, b""))

    def _wake(self, signum: int = 0) -> None:
        """Write to the watcher's socket, as the interpreter itself does unless someone else took the descriptor."""
        if self._sender is not None:
            with contextlib.suppress(OSError):
                self._sender.send(bytes([signum]))

    def _fileno(self) -> int:
        return self._sender.fileno() if self._sender is not None else -1

    def _close_sockets(self) -> None:
        for end in (self._sender, self._receiver):
            if end is not None:
                end.close()
        self._sender = self._receiver = None

    def forget(self) -> None:
        """In a forked child: it is not this task's process, so its signals are none of the task's business.

        The child shares the socket: a byte that it wrote would interrupt the parent.
        """
        signal.set_wakeup_fd(-1)
        for signum, before in self._before.items():
            if signal.getsignal(signum) == self._handle:
                signal.signal(signum, signal.SIG_DFL if before is None or _guard_of(before) else before)
        self._watcher = None
        self._close_sockets()


def _guard_of(handler: object) -> SignalGuard | None:
    owner = getattr(handler, "__self__", None)
    return owner if isinstance(owner, SignalGuard) else None


def _why(stop: Stop, signum: int) -> str:
    if stop is Stop.CANCELLED:
        return "nobody waits for this task any more"
    return f"the task was asked to stop by {signal.Signals(signum).name}"


def _watch_forks() -> None:
    """Once a process: fork hooks cannot be taken back, so they look at the guards that exist then."""
    register = getattr(os, "register_at_fork", None)
    if register is not None and _fork_hook.acquire(blocking=False):  # Never released: registered for good.
        register(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


def _before_fork() -> None:
    """Hold signals back: one that reached the child before it let go of the socket would be taken for the parent's.

    CPython forgets signals that arrive in the child before its own hooks have run; one that is held back is kept.
    """
    _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS) if _guards else None


def _after_in_parent() -> None:
    if (mask := getattr(_held, "mask", None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_in_child() -> None:
    for guard in list(_guards):
        guard.forget()
    _after_in_parent()


# An exception in a fork hook would be printed and lost.
_HOOK_CODE: Final = frozenset({_before_fork.__code__, _after_in_parent.__code__, _after_in_child.__code__})
