"""SHA-256 of all bytes in order, in a thread of its own: it is the dearest step, so nothing else may wait for it."""

from __future__ import annotations

import hashlib
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from stepout.artifacts.transfer.part_requests import PendingPart

if TYPE_CHECKING:
    from collections.abc import Callable


class RunningDigest:
    """Hashes views as they come, and says when the last view of a part has passed.

    It has a queue of its own: on a lock that others use it would be woken for everything that they do. The thread is a
    daemon, begins with the first view, and ends with ``end``.

    Args:
        passed: Called from its thread with each part, once all its views were hashed or passed over.
        wanted: Whether the digest is still of use; views are only passed over once it is not.
    """

    def __init__(self, passed: Callable[[PendingPart], object], wanted: Callable[[], bool]) -> None:
        self._passed, self._wanted = passed, wanted
        self._queue: SimpleQueue[memoryview | PendingPart | None] = SimpleQueue()
        self._digest = hashlib.sha256()
        self._started = False

    def add(self, item: memoryview | PendingPart) -> None:
        """Queue the next bytes; or a part, behind the last of its views."""
        if not self._started:
            self._started = True
            threading.Thread(target=self._run, name="stepout-hash", daemon=True).start()
        self._queue.put(item)

    def end(self) -> None:
        """Let the thread end, once it has come so far."""
        self._queue.put(None)
        if not self._started:
            self._run()

    def hexdigest(self) -> str:
        """Return the digest; right once every part has passed."""
        return self._digest.hexdigest()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, PendingPart):
                self._passed(item)
            elif self._wanted():
                self._digest.update(item)
        # They lead back to the upload: in a circle its buffers would stay until the garbage collector comes by.
        self._passed, self._wanted = lambda _: None, lambda: False
