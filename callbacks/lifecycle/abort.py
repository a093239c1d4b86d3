"""Aborting open uploads from a thread of its own: it talks to a server that may not answer."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from stepout.callbacks.protocols import Artifacts

_log = logger("stepout.callbacks.task")


class Aborter:
    """Aborts the uploads of an artifact manager once, however often it is asked to."""

    def __init__(self) -> None:
        self.artifacts: Artifacts | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, unless it has begun; from any thread but a signal handler."""
        with self._lock:
            if self._thread is None and self.artifacts is not None:
                thread = threading.Thread(target=self._run, name="stepout-abort", daemon=True)
                with contextlib.suppress(RuntimeError):  # No thread to be had: tried again by whoever asks next.
                    thread.start()
                    self._thread = thread

    def finish(self, seconds: float) -> None:
        """Begin, unless it has begun, and wait so long for it to end."""
        self.start()
        if self._thread is not None:
            self._thread.join(timeout=seconds)

    def _run(self) -> None:
        try:
            if self.artifacts is not None:
                self.artifacts.abort()
        except Exception as error:  # noqa: BLE001 - the outcome must be reported all the same
            _log.warning("open uploads could not be aborted: %s", error)
