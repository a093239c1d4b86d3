"""Signals while a task runs: an exception in the main thread, and a watcher thread for when native code delays it.

Python runs a signal's handler only when native code returns, which took 15 seconds in one pyarrow sort and did not
happen within 25 in an upload to a stalled server. C code, however, writes a byte to ``signal.set_wakeup_fd`` at once,
and a thread that reads it can act meanwhile. So:

- the *handler*, in the main thread, raises ``TaskInterrupted``, once, and only inside the block: within the task's own
  ``__enter__`` and ``__exit__`` it leaves the matter to them;
- the *watcher* thread notes the signal, wakes the main thread again if a wait swallowed the signal, and calls
  ``overdue`` if the block has not been left in time.

A job that handles the signal itself, or through an event loop, is not interrupted: it leaves the block in its own way.
The watcher notes the signal all the same. An event loop that closes takes the descriptor away and resets the signal's
handler to the default. The watcher sees this and has the main thread set both again; only the main thread can. To run
code there, the watcher sends it a signal (``SIGURG``), because a signal also ends a wait: a pending call
(``Py_AddPendingCall``) would have to wait for the end of a sleep, even of an hour.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from stepout.callbacks.lifecycle.task_state import Stop
from stepout.callbacks.process.wakeup import HOOK_CODE, POKE, WakeUp, watch_forks
from stepout.schemas.errors import TaskInterrupted

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from stepout.callbacks.lifecycle.completion import Completion

STOPS: Final = (signal.SIGTERM, signal.SIGINT)
"""The signals that ask a task to stop."""

_POKE_EVERY: Final = 0.2
_LOOK_EVERY: Final = 0.05
_PROBE_EVERY: Final = 1.0

_guards: Final[list[SignalGuard]] = []
"""The guards of the tasks whose blocks are running, the innermost last."""


def grace_of(stop_timeout: float) -> float:
    """Return the seconds after a signal in which the main thread may unwind by itself.

    Args:
        stop_timeout: Seconds between SIGTERM and SIGKILL, as in ECS's ``stopTimeout``.

    Returns:
        ``stop_timeout`` less ten seconds, but at least half of it.
    """
    return max(stop_timeout - 10.0, stop_timeout / 2)


class SignalGuard:
    """Handles SIGTERM and SIGINT for one task, from ``install`` to ``remove``; outside the main thread it does nothing.

    Args:
        completion: Holds the task's state, which notes an interruption, and acts on an interruption.
        own: The task's own code: the handler does not raise in frames of this code, nor in what they call.
        stop_timeout: Seconds from SIGTERM to SIGKILL; ``grace_of`` says when the block is overdue.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        completion: Completion,
        *,
        own: frozenset[CodeType],
        stop_timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._completion = completion
        self._state = completion.state
        self._own = own | {SignalGuard._handle.__code__, _on_poke.__code__} | HOOK_CODE
        self._grace = grace_of(stop_timeout)
        self._clock = clock
        self._noted: int | None = None
        self._raised = False
        self._left_to_job = False
        self._closing = False
        self._deadline: float | None = None
        self._next_poke = self._next_probe = 0.0
        self._before: dict[int, Any] = {}
        self._seen: list[Any] = []
        self._outer: SignalGuard | None = None
        self._watcher: threading.Thread | None = None
        self._wake_up: WakeUp | None = None
        self._hearing = threading.Lock()

    @property
    def noted(self) -> int | None:
        """The first signal that arrived while the task's own code ran."""
        return self._noted

    @property
    def heard(self) -> int | None:
        """The first signal of all, noticed by the handler or by the watcher."""
        return self._noted or self._state.now.signum

    def install(self) -> None:
        """Take over both signals and start the watcher; off the main thread, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            return
        wake_up = WakeUp()
        if not wake_up.take():
            return
        # The descriptor before the handlers: what they note must reach the watcher, which starts last and finds it.
        self._wake_up = wake_up
        watch_forks(self)
        for number in STOPS:
            before = signal.getsignal(number)
            # A shell starts background jobs with SIGINT ignored, and means it.
            if not (number == signal.SIGINT and before is signal.SIG_IGN):
                self._before[number] = before
                signal.signal(number, self._handle)
        if POKE is not None and signal.getsignal(POKE) is signal.SIG_DFL:
            signal.signal(POKE, _on_poke)
        self._seen = self._handlers()
        self._outer = next((guard for h in self._before.values() if (guard := _guard_of(h)) is not None), None)
        _guards.append(self)
        self._watcher = threading.Thread(target=self._watch, args=(wake_up,), name="stepout-signals", daemon=True)
        self._watcher.start()
        if self._outer is not None and (signum := self._outer.heard):
            self._wake(signum)  # It arrived while this task was being entered.

    def settle(self, exception: BaseException | None) -> None:
        """Note in the state the signals that have come so far; the main thread calls this as the block is left.

        Args:
            exception: The exception that left the block. If an event loop has taken both the handler and the
                descriptor, this exception may be the only trace of a signal that the loop got.
        """
        if self._watcher is None or self._wake_up is None:
            return
        elsewhere = any(handler != self._handle for handler in self._handlers())
        taken = self._rearm()
        # The watcher may not have read the socket yet: every byte in it by now came before the report.
        self._hear_all(self._wake_up)
        if signum := self._noted or (_stop_behind(exception) if elsewhere and taken else None):
            self._state.interrupt(signum)

    def remove(self) -> None:
        """Stop the watcher and put back every handler and the wake-up descriptor as they were."""
        if self._watcher is None or self._wake_up is None:
            return
        self._closing = True
        self._wake()
        # The watcher first: it must not send its signal once the old handlers are back. The wait has a limit: the
        # watcher may be in the middle of a report to a server that does not answer.
        self._watcher.join(timeout=5)
        for number, before in self._before.items():
            if (current := signal.getsignal(number)) == self._handle or _is_default(number, current):
                signal.signal(number, signal.SIG_DFL if before is None else before)
        _guards.remove(self)
        if POKE is not None and not _guards and signal.getsignal(POKE) is _on_poke:
            signal.signal(POKE, signal.SIG_DFL)
        self._watcher = None
        # The descriptor last, once the old handlers are back: its former owner gets the signals that came until now
        # passed on, and later ones directly.
        self._wake_up.give_back()
        self._wake_up.close()

    # In the main thread ---------------------------------------------------------------------------------------------

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        """Raise in the block, where the state's lock is free: in this thread only the task's own code takes it."""
        if self._in_own_code(frame):
            if self._state.now.stop is None:  # Else the watcher may have sent this signal, to wake this thread.
                self._noted = self._noted or signum
            self._wake(signum)
            return
        stop = self._state.now.stop
        if stop is None and self._state.interrupt(signum):
            stop = Stop.INTERRUPTED
        self._wake(signum)
        # Only once: a second exception would break off the cleanup after the first (ECS and people send signals twice).
        if stop is not None and not self._raised:
            self._raised = True
            raise TaskInterrupted(_why(stop, signum), signum=signum)

    def poked(self, frame: FrameType | None) -> None:
        """Handle the watcher's signal: set the handlers again, and leave the block if the watcher asks for it."""
        if self._closing or self._in_own_code(frame):
            return
        self._rearm()
        stop = self._state.now.stop
        if stop is not None and not self._raised and not self._left_to_job:
            self._raised = True
            signum = self._state.now.signum or signal.SIGTERM
            raise TaskInterrupted(_why(stop, signum), signum=signum)

    def _rearm(self) -> bool:
        """Set again the handlers that a closing event loop has reset, and the descriptor if other code has taken it."""
        for number in self._before:
            if _is_default(number, signal.getsignal(number)):
                signal.signal(number, self._handle)
        self._seen = self._handlers()
        return self._wake_up is not None and self._wake_up.retake()

    def _handlers(self) -> list[Any]:
        return [signal.getsignal(number) for number in self._before]

    def _in_own_code(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code in self._own:
                return True
            frame = frame.f_back
        return False

    # In the watcher -------------------------------------------------------------------------------------------------

    def _watch(self, wake_up: WakeUp) -> None:
        while not self._closing:
            wake_up.wait(_LOOK_EVERY)
            self._hear_all(wake_up)
            self._follow_up()

    def _hear_all(self, wake_up: WakeUp) -> None:
        with self._hearing:  # Whoever takes this lock next finds every byte that was read noted in the state, too.
            for signum in wake_up.read():
                self._hear(signum)

    def _hear(self, signum: int) -> None:
        if signum not in self._before:
            return
        if (handler := signal.getsignal(signum)) != self._handle:
            if _guard_of(handler) is not None:
                return  # The guard of the task inside this one's block notices the signal, too, and acts on it.
            self._left_to_job = True
        self._alarm(signum)

    def _alarm(self, signum: int) -> None:
        # SIGKILL follows the first signal, so later ones move no deadline; a cancelled task has nothing to report.
        if self._deadline is not None or self._state.now.stop is Stop.CANCELLED:
            return
        self._deadline = self._clock() + self._grace
        self._completion.interrupt(signum)
        if self._outer is not None:
            self._outer._inherit(signum)  # noqa: SLF001 - another instance of this class

    def _inherit(self, signum: int) -> None:
        """Note a signal that interrupted the task inside this one's block: what leaves that block ends this one."""
        self._raised = True
        self._alarm(signum)

    def _follow_up(self) -> None:
        if self._closing:
            return
        now = self._clock()
        # Only the innermost task's watcher wakes the main thread: the main thread runs in that task's block, and the
        # exception that leaves the block interrupts the tasks around it.
        stopping, innermost, handlers = self._state.now.stop is not None, _guards[-1:] == [self], self._handlers()
        wanted = (stopping and not self._raised and not self._left_to_job) or handlers != self._seen
        if wanted and innermost and now >= self._next_poke:
            self._next_poke = now + _POKE_EVERY
            self._poke()
        elif innermost and now >= self._next_probe:
            # If other code handles a signal, an event loop may have replaced another one, both with the same handler.
            elsewhere = any(handler != self._handle for handler in handlers)
            self._next_probe = now + (_POKE_EVERY if elsewhere else _PROBE_EVERY)
            self._probe()
        if stopping and self._deadline is not None and now >= self._deadline:
            self._deadline = float("inf")  # Once; and no further signal sets a new one.
            self._completion.overdue(self._state.now.signum or signal.SIGTERM)

    def _poke(self) -> None:
        """Make the main thread run a handler of ours, even during a wait, by a signal whose handler is surely ours."""
        ours = [number for number in self._before if signal.getsignal(number) == self._handle]
        if POKE is not None and signal.getsignal(POKE) is _on_poke:
            ours = [POKE]
        elif self._state.now.stop is None:
            return  # Only SIGTERM itself is left, and would be taken for one.
        if not ours:
            return
        if (kill := getattr(signal, "pthread_kill", None)) is not None:
            main = threading.main_thread().ident
            with contextlib.suppress(ProcessLookupError):
                kill(main, ours[0])
        else:  # Windows: the handler runs when the main thread next executes Python code.
            _thread.interrupt_main(signal.Signals(ours[0]))

    def _probe(self) -> None:
        """Have the main thread check the descriptor when it next runs Python code: this thread cannot see its owner."""
        if POKE is not None and signal.getsignal(POKE) is _on_poke:
            _thread.interrupt_main(POKE)

    def _wake(self, signum: int = 0) -> None:
        """Wake the watcher; the interpreter does that itself unless other code took the descriptor."""
        if self._wake_up is not None:
            self._wake_up.note(signum)

    def forget(self) -> None:
        """In a forked child: drop everything. The child's signals do not concern the task of its parent."""
        for signum, before in self._before.items():
            if signal.getsignal(signum) == self._handle:
                signal.signal(signum, signal.SIG_DFL if before is None or _is_guarded(before) else before)
        if POKE is not None and signal.getsignal(POKE) is _on_poke:
            signal.signal(POKE, signal.SIG_DFL)
        self._watcher = None
        _guards.clear()
        if self._wake_up is not None:
            self._wake_up.abandon()


def _on_poke(_signum: int, frame: FrameType | None) -> None:
    if _guards:
        _guards[-1].poked(frame)


def handlers_of_the_job() -> dict[int, Any]:
    """Return every signal's handler that is neither a default nor a task's, by signal number."""
    found = {number: signal.getsignal(number) for number in signal.valid_signals()}
    return {
        number: handler
        for number, handler in found.items()
        if callable(handler) and not isinstance(handler, signal.Handlers) and not _is_guarded(handler)
    }


def _is_guarded(handler: object) -> bool:
    """Whether a signal's handler is that of a task."""
    return _guard_of(handler) is not None or handler is _on_poke


def _is_default(number: int, handler: object) -> bool:
    """Whether a handler is the default that an event loop sets for this signal as it closes."""
    return handler is signal.SIG_DFL or (number == signal.SIGINT and handler is signal.default_int_handler)


def _guard_of(handler: object) -> SignalGuard | None:
    owner = getattr(handler, "__self__", None)
    return owner if isinstance(owner, SignalGuard) else None


def _stop_behind(exception: BaseException | None) -> int | None:
    """The signal that the exception points to: a cancelled event loop, or the exit code that follows a signal."""
    asyncio = sys.modules.get("asyncio")  # A job that never imported it has no loop, and need not pay for the import.
    if asyncio is not None and isinstance(exception, asyncio.CancelledError):
        return signal.SIGTERM
    code = exception.code if isinstance(exception, SystemExit) else None
    return next((signum for signum in STOPS if code == 128 + signum), None)


def _why(stop: Stop, signum: int) -> str:
    if stop is Stop.CANCELLED:
        return "nobody waits for this task any more"
    return f"the task was asked to stop by {signal.Signals(signum).name}"
