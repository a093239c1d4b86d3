"""What this process has learned of each server: how far it is, what a connection brings, whether it asks for less.

Every transfer adds what it sees, and the next one plans with it. Values are estimates that may be lost or stale: a plan
that is made from them is never wrong, only slower. So they are read and written without a lock.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from stepout.artifacts.process.pace import CALM_SECONDS, Pace
from stepout.artifacts.store import Located

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.artifacts.store import Store

_WEIGHT: Final = 0.25
"""Of a new sample against all before."""

_COUNTED: Final = 1 << 20
"""Bytes: what is shorter tells of the latency, not of the rate."""


_POLL_SECONDS: Final = 1.0
"""Waits are cut into seconds, so that Ctrl-C is seen where a lock cannot be interrupted (Windows)."""


class ListUses:
    """Which lists of blocks the uploads of this process rely on: artifacts of one content share one, by its key.

    One that an upload has made is removed again if that fails, but not while another upload needs it, nor if one has.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._users: dict[str, int] = {}
        self._made: dict[str, Callable[[], None]] = {}
        self._needed: set[str] = set()
        self._leaving: set[str] = set()

    def join(self, key: str) -> None:
        """Take note of an upload that will store this list, or find it there."""
        with self._changed:
            # However long a removal takes, with its tries: it may reach the server at its end.
            while key in self._leaving:
                self._changed.wait(_POLL_SECONDS)
            self._users[key] = self._users.get(key, 0) + 1

    def made(self, key: str, remove: Callable[[], None]) -> None:
        """Take note that it was not there before, and of how it is removed."""
        with self._changed:
            self._made[key] = remove

    def leave(self, key: str, *, committed: bool) -> None:
        """Take note of such an upload's end; after the last one, if none was committed, the list is removed."""
        with self._changed:
            if committed:
                self._needed.add(key)
            left = self._users[key] = self._users[key] - 1
            if left:
                return
            del self._users[key]
            remove, needed = self._made.pop(key, None), key in self._needed
            self._needed.discard(key)
            if remove is None or needed:
                return
            self._leaving.add(key)
        try:
            remove()
        finally:
            with self._changed:
                self._leaving.discard(key)
                self._changed.notify_all()


class ServerState:
    """What is known of one server.

    Attributes:
        latency: Seconds from a request to the first byte of its answer, near the least that was seen; ``None`` until
            one was.
        upload_rate: Bytes per second that one connection carried up, near the most that was seen; ``None`` until one
            did.
        download_rate: The same down.
        pace: At which requests are sent, once it has asked for fewer.
        lists: Which lists of blocks there uploads rely on.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.latency: float | None = None
        self.upload_rate: float | None = None
        self.download_rate: float | None = None
        self.pace = Pace(clock=clock)
        self.lists = ListUses()

    def saw_latency(self, seconds: float) -> None:
        """Take note of how long an answer took; a busy machine makes it longer, so the estimate falls at once."""
        known = self.latency
        self.latency = seconds if known is None or seconds < known else known + _WEIGHT / 4 * (seconds - known)

    def saw_upload(self, size: int, seconds: float) -> None:
        """Take note of a body that one connection carried up; of the seconds a part was the answer's latency."""
        # Half at most: an estimate of the latency that is too high would leave next to nothing for the body.
        self.upload_rate = _blended(self.upload_rate, size, seconds - min(self.latency or 0.0, seconds / 2))

    def saw_download(self, size: int, seconds: float) -> None:
        """Take note of a body that one connection carried down."""
        self.download_rate = _blended(self.download_rate, size, seconds)

    @property
    def slowed(self) -> bool:
        """Whether it has asked for fewer requests within the last half minute."""
        return self._clock() - self.pace.refused_at < CALM_SECONDS


def idle_seconds() -> float:
    """Return a clock that stands still while the calling thread computes: the difference is what it waited."""
    return time.perf_counter() - time.thread_time()


def _blended(known: float | None, size: int, seconds: float) -> float | None:
    if size < _COUNTED or seconds <= 0:
        return known
    seen = size / seconds
    if known is None:
        return seen
    # Other connections, and a busy machine, make each one slower: that says little of what one can carry.
    return known + (_WEIGHT if seen > known else _WEIGHT / 4) * (seen - known)


def server_key(store: Store) -> tuple[str, str]:
    """Return what tells a store's server from others: S3 counts requests of a bucket, wherever it is reached."""
    return (store.endpoint_url if isinstance(store, Located) else "", store.bucket)
