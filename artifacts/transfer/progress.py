"""How far a transfer is: counted over its threads, told to a callback, or drawn as a bar on a terminal."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, Literal, TextIO

from stepout.schemas.errors import ConfigurationError
from stepout.schemas.text.foreign_text import logger, shown

Progress = Callable[[str, int, int | None], None]
"""Called with an artifact's name, the bytes done, and the bytes in all (``None`` while they are unknown)."""

ProgressReport = Callable[[int, int | None], None]
"""The same for one transfer, whose name is known."""

ProgressSetting = Progress | Literal["auto"] | bool | None

_log = logger("stepout.artifacts.progress")
_WIDTH: Final = 24
_INTERVAL: Final = 0.1
_LONG: Final = 1.0
_UNIT: Final = 1024
_LONGEST_NAME: Final = 80
_SHORTEST_NAME: Final = 8


def progress_from(setting: ProgressSetting, *, stream: TextIO | None = None, least: int = 0) -> Progress | None:
    """Return the callback that a setting asks for.

    Args:
        setting: A callback; ``"auto"`` or ``True`` for a bar, if standard error is a terminal; ``None`` or ``False``.
        stream: In place of standard error.
        least: As for ``TerminalBar``.

    Raises:
        ConfigurationError: It is something else.
    """
    if setting is None or setting is False:
        return None
    if setting is True or setting == "auto":
        terminal = stream or sys.stderr
        return TerminalBar(terminal, least=least) if _is_terminal(terminal) else None
    if not callable(setting):
        msg = f"progress is of type {type(setting).__name__}: expected a callable (name, done, total), 'auto' or None"
        raise ConfigurationError(msg)
    return setting


def _is_terminal(stream: TextIO | None) -> bool:
    # A closed stream has no answer, and a dumb terminal cannot take a line back.
    return stream is not None and not stream.closed and stream.isatty() and os.environ.get("TERM") != "dumb"


def for_artifact(progress: Progress | None, name: str) -> ProgressReport | None:
    """Bind a callback to one artifact; an error in it is logged once, and never fails the transfer."""
    if progress is None:
        return None
    broken = threading.Event()

    def report(done: int, total: int | None) -> None:
        if broken.is_set():
            return
        try:
            progress(name, done, total)
        except Exception:  # noqa: BLE001 - a user's callback may raise anything
            broken.set()
            _log.exception("the progress callback failed for artifact %s and is not called again for it", name)

    return report


def counted(setting: ProgressSetting, name: str, total: int) -> Callable[[int], None]:
    """Return the counter of one read's bytes.

    Args:
        setting: As for ``progress_from``.
        name: What the read is called.
        total: Bytes in all.
    """
    report = for_artifact(progress_from(setting), name)
    if report is None:
        return lambda _size: None
    progress = TransferProgress(report)
    progress.begin(total)
    return progress.sent


class TransferProgress:
    """Adds up what the threads of one transfer send.

    Args:
        report: Called with the bytes sent so far and the total, ``None`` where that is unknown; one call at a time.
    """

    def __init__(self, report: ProgressReport) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._done = 0
        self._total: int | None = None

    def begin(self, total: int | None) -> None:
        """Start counting from nothing."""
        with self._lock:
            self._done, self._total = 0, total

    def sent(self, size: int) -> None:
        """Count ``size`` more bytes."""
        with self._lock:
            self._done += size
            self._report(self._done, self._total)


class PartsAtOnce:
    """Reports transfers that overlap, such as those of a dataset's or a directory's files, as one.

    Args:
        report: Hears of all of them together; ``None``: nobody wants to know.
        total: Bytes in all; ``None`` while they are unknown.
    """

    def __init__(self, report: ProgressReport | None, total: int | None = None) -> None:
        self._together = None if report is None else TransferProgress(report)
        if self._together is not None:
            self._together.begin(total)

    def another(self) -> ProgressReport | None:
        """Return the callback that one more transfer reports to."""
        together, before = self._together, 0
        if together is None:
            return None

        def record(done: int, _total: int | None) -> None:
            nonlocal before
            together.sent(done - before)
            before = done

        return record


class TerminalBar:
    """One line on a terminal, redrawn at most ten times a second and never wider than the terminal.

    Args:
        stream: The terminal.
        clock: Seconds, monotonic.
        least: Bytes; of a smaller transfer nothing is drawn unless it has taken a second.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic, *, least: int = 0) -> None:
        self._stream = stream
        self._clock = clock
        self._least = least
        self._lock = threading.Lock()
        self._drawn = -_INTERVAL
        self._latest: tuple[str, float] | None = None
        self._line = ""
        self._open = False

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Draw; a transfer that is complete ends its line."""
        finished = total is not None and done >= total
        with self._lock:
            now = self._clock()
            if self._latest is None or self._latest[0] != name:
                self._latest = name, now
            if max(done, total or 0) < self._least and now - self._latest[1] < _LONG:
                return
            self._line = _line(name, done, total, self._width())
            if not finished and now - self._drawn < _INTERVAL:
                self._open = True
                return
            self._drawn = now
            self._draw("\n" * finished)
            self._open = not finished

    def close(self) -> None:
        """End a line that is still open, as it is after a failure or a stream of unknown length; idempotent."""
        with self._lock:
            if self._open:
                self._draw("\n")
            self._open = False

    def _draw(self, end: str) -> None:
        self._stream.write(f"\r\x1b[K{self._line}{end}")
        self._stream.flush()

    def _width(self) -> int | None:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or None
        except (OSError, ValueError):  # no terminal that could say so
            return None


def _line(name: str, done: int, total: int | None, width: int | None = None) -> str:
    if total is None:
        told, bar = _size(done), ""
    else:
        share = 1.0 if total == 0 else min(done / total, 1.0)
        filled = round(share * _WIDTH)
        told = f"{share:4.0%}  {_size(done)} of {_size(total)}"
        bar = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] "
    room = _LONGEST_NAME if width is None else width - len(told) - 3  # A line that wraps is not redrawn but repeated.
    if room < _SHORTEST_NAME + len(bar):
        bar = ""
    name = shown(name, max(_SHORTEST_NAME, min(_LONGEST_NAME, room - (len(bar) if width is not None else 0))))
    line = f"{name}  {bar}{told}"
    return line if width is None else line[: width - 1]


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < _UNIT:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _UNIT
    return f"{count:.1f} GiB"
