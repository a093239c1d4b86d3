"""How far a transfer is: a callback, or a bar on a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Final, Literal, TextIO

from stepout.schemas.errors import ConfigurationError
from stepout.schemas.foreign_text import logger, shown

__all__ = ["Progress", "ProgressSetting", "TerminalBar", "for_artifact", "progress_from"]

Progress = Callable[[str, int, int | None], None]
"""Called with an artifact's name, the bytes done, and the bytes in all (``None`` while they are unknown)."""

ProgressSetting = Progress | Literal["auto"] | bool | None

_log = logger("stepout.artifacts.progress")
_WIDTH: Final = 24
_INTERVAL: Final = 0.1
_UNIT: Final = 1024


def progress_from(setting: ProgressSetting, *, stream: TextIO | None = None) -> Progress | None:
    """Return the callback that a setting asks for.

    Args:
        setting: A callback; ``"auto"`` or ``True`` for a bar, if standard error is a terminal; ``None`` or ``False``.
        stream: In place of standard error.

    Raises:
        ConfigurationError: It is none of these.
    """
    if setting is None or setting is False:
        return None
    if setting is True or setting == "auto":
        target = stream or sys.stderr
        return TerminalBar(target) if target is not None and target.isatty() else None
    if not callable(setting):
        msg = f"progress is of type {type(setting).__name__}: expected a callable (name, done, total), 'auto' or None"
        raise ConfigurationError(msg)
    return setting


def for_artifact(progress: Progress | None, name: str) -> Callable[[int, int | None], None] | None:
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


class TerminalBar:
    """One line on a terminal, redrawn at most ten times a second.

    Args:
        stream: The terminal.
        clock: Seconds, monotonic.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()
        self._drawn = -_INTERVAL

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Draw; a transfer that is complete ends its line."""
        finished = total is not None and done >= total
        with self._lock:
            now = self._clock()
            if not finished and now - self._drawn < _INTERVAL:
                return
            self._drawn = now
            self._stream.write(f"\r\x1b[K{_line(name, done, total)}" + "\n" * finished)
            self._stream.flush()


def _line(name: str, done: int, total: int | None) -> str:
    name = shown(name, 80)
    if total is None:
        return f"{name}  {_size(done)}"
    share = 1.0 if total == 0 else min(done / total, 1.0)
    filled = round(share * _WIDTH)
    return f"{name}  [{'#' * filled}{'.' * (_WIDTH - filled)}] {share:4.0%}  {_size(done)} of {_size(total)}"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < _UNIT:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _UNIT
    return f"{count:.1f} GiB"
