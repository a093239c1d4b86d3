"""Uncaught exceptions of a task: prints them without secrets, and ends the process with the right exit code."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Final

from stepout.callbacks.delivery.failure import told_of
from stepout.callbacks.delivery.redaction import Redactor
from stepout.schemas.errors import OutcomeUndeliveredError, TaskClosedError
from stepout.schemas.text.foreign_text import shown

Show = Callable[[str, str], object]
"""Takes what happened, in words, and a traceback without secrets."""

_Hook = Callable[[type[BaseException], BaseException, TracebackType | None], object]

_CODES: Final = ((OutcomeUndeliveredError, 3), (TaskClosedError, 4))


def exit_code_of(exception: BaseException) -> int:
    """Return the exit code for a process that an exception ends.

    3 for an undelivered outcome, 4 if nobody waits, 1 for any other exception; a group counts as its members do.

    Example:
        >>> exit_code_of(TaskClosedError("nobody waits"))
        4
    """
    told = told_of(exception)
    return next((code for kind, code in _CODES if isinstance(told, kind)), 1)


class UncaughtHook:
    """A ``sys.excepthook`` that prints the traceback without secrets, and ends the process with our exit codes.

    Uncaught exceptions in threads and in destructors are printed without secrets, too.

    If an exception leaves the block, the hook stays, because it is needed then, until a later task ends well.

    Args:
        before: The hook that was set before.
    """

    def __init__(self, before: _Hook) -> None:
        self.show: Show = _printed
        self._before = before
        self._before_in_thread = threading.excepthook
        self._before_unraisable = sys.unraisablehook
        self._redactor = Redactor()
        self._open = 0

    def __call__(self, kind: type[BaseException], exception: BaseException, trace: TracebackType | None) -> None:
        """Print the traceback, then end the process if the exception has an exit code of ours.

        Raises:
            SystemExit: With code 3 or 4; the interpreter honours it here.
        """
        if self._before is sys.__excepthook__ or self._leaks(exception):
            text = "".join(traceback.format_exception(kind, exception, trace))
            self.show("", self._shown(text))
        else:
            self._before(kind, exception, trace)
        if (code := exit_code_of(exception)) != 1:
            raise SystemExit(code)

    def in_thread(self, found: threading.ExceptHookArgs) -> None:
        """Replace ``threading.excepthook``: print exceptions that hold a secret; the former hook prints the others."""
        name = found.thread.name if found.thread is not None else "that has ended"
        if not self._printed(f"Exception in thread {name}:", found.exc_value):
            self._before_in_thread(found)

    def unraisable(self, found: sys.UnraisableHookArgs) -> None:
        """Replace ``sys.unraisablehook``, in the same way."""
        if not self._printed(found.err_msg or "Exception ignored:", found.exc_value):
            self._before_unraisable(found)

    def install(self) -> None:
        """Take the place of the three hooks."""
        sys.excepthook = self
        threading.excepthook = self.in_thread
        sys.unraisablehook = self.unraisable

    def opened(self, redactor: Redactor) -> None:
        """A task was entered."""
        self._open += 1
        self._redactor |= redactor

    def closed(self, *, well: bool) -> None:
        """A task was left; take the hook away again after the last one that ended well."""
        self._open -= 1
        if not well or self._open:
            return
        if sys.excepthook is self:
            sys.excepthook = self._before
        if threading.excepthook == self.in_thread:
            threading.excepthook = self._before_in_thread
        if sys.unraisablehook == self.unraisable:
            sys.unraisablehook = self._before_unraisable

    def _printed(self, heading: str, exception: BaseException | None) -> bool:
        """Print an exception that holds a secret; return whether it does."""
        if exception is None or not self._leaks(exception):
            return False
        self.show(heading, self._shown("".join(traceback.format_exception(exception))))
        return True

    def _shown(self, text: str) -> str:
        return shown(self._redactor.text(text), None, lines=True)

    def _leaks(self, exception: BaseException) -> bool:
        text = "".join(traceback.format_exception(exception))
        return self._redactor.text(text) != text


def _printed(heading: str, text: str) -> None:
    begin = f"{heading}\n" if heading else ""
    print(f"{begin}{text}", end="", file=sys.stderr, flush=True)  # noqa: T201 - the interpreter's part


def watch_uncaught(redactor: Redactor, show: Show | None = None) -> UncaughtHook:
    """Install the hook, or add to the one that is there.

    Args:
        redactor: Knows the task's secrets.
        show: Where tracebacks go; ``None``: to standard error.

    Returns:
        The hook; call its ``closed`` when the task is left.
    """
    current = sys.excepthook
    hook = current if isinstance(current, UncaughtHook) else UncaughtHook(current)
    if hook is not current:
        hook.install()
    if show is not None:
        hook.show = show
    hook.opened(redactor)
    return hook
