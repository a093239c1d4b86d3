"""Progress of one transfer: what senders report, added up."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logger("stepout.artifacts")


class TransferProgress:
    """Adds up what senders report, and keeps a faulty progress callback from costing the artifact.

    Args:
        progress: Called with the bytes sent so far and the total, ``None`` where that is unknown; one call at a time.
    """

    def __init__(self, progress: Callable[[int, int | None], None] | None) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._done = 0
        self._total: int | None = None

    def begin(self, total: int | None) -> None:
        """Start counting from nothing."""
        with self._lock:
            self._done, self._total = 0, total

    def sent(self, size: int) -> None:
        """Count ``size`` more bytes."""
        if self._progress is None:
            return
        with self._lock:
            self._done += size
            try:
                self._progress(self._done, self._total)
            except Exception:  # noqa: BLE001 - a bug in a progress bar must not cost the artifact
                _log.exception("the progress callback failed; it is not called again")
                self._progress = None
