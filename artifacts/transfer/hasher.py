"""SHA-256 in a thread of its own, beside the sending: it is the dearest step, so nothing else may wait for it."""

from __future__ import annotations

import hashlib
import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.artifacts.transfer.buffer_pool import Buffer

_POLL_SECONDS = 1.0
_END = (memoryview(b""), None)


class Hasher:
    """Hashes views in the order in which they come; its thread starts with the first one."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[memoryview, Buffer | None]] = queue.SimpleQueue()
        self._digest = hashlib.sha256()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._done = threading.Event()

    def add(self, view: memoryview, block: Buffer | None = None) -> None:
        """Queue the next bytes; ``block`` is released once they are hashed."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="stepout-hash", daemon=True)
            self._thread.start()
        self._queue.put((view, block))

    def result(self, check: Callable[[], None]) -> str:
        """Wait for everything queued and return the SHA-256 in hex; ``check`` raises once waiting is pointless."""
        if self._thread is not None:
            self._queue.put(_END)
            while not self._done.wait(_POLL_SECONDS):
                check()
        return self._digest.hexdigest()

    def stop(self) -> None:
        """End the thread soon; what is queued is released unhashed."""
        self._stopped.set()
        if self._thread is not None:
            self._queue.put(_END)

    def _run(self) -> None:
        while (item := self._queue.get()) is not _END:
            view, block = item
            if not self._stopped.is_set():
                self._digest.update(view)
            if block is not None:
                block.release()
        self._done.set()
