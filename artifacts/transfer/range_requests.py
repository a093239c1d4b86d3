"""What is noted of each range that is fetched, of the requests for it, and of the threads that make them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from stepout.artifacts.transfer.stages import BLOCK

if TYPE_CHECKING:
    from stepout.artifacts.store import Cancellation
    from stepout.artifacts.transfer.tails import Asked

WRITTEN: Final = memoryview(b"")
"""Stands for a block that is in the file."""


class WantedRange:
    """A stretch of the object that one request asks for, or two.

    Attributes:
        start: Its first byte.
        stop: One behind the last.
        blocks: Those that have come, in order; ``None`` for those that were handed out, ``WRITTEN`` in the file.
        writing: Held while a block is written to the file: of two requests for one range each waits for the other.
        handed: How many were.
        over: Whether nothing more of it is wanted.
        again: From which byte it was asked for a second time, if it was.
        queued: When it was last given to whoever may take it again.
    """

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop
        self.blocks: list[memoryview | None] = []
        self.handed = 0
        self.requests: list[RangeRequest] = []
        self.writing = threading.Lock()
        self.over = False
        self.again: int | None = None
        self.queued = 0.0

    @property
    def position(self) -> int:
        """The first byte that has not come."""
        return min(self.start + len(self.blocks) * BLOCK, self.stop)

    @property
    def whole(self) -> bool:
        """Whether all of it has come."""
        return self.position == self.stop


class RangeReceiver:
    """What is known of one thread.

    Attributes:
        proven: Whether its last request brought what it should, and the one under way is not late. Who is not proven
            may hold a connection that is never served.
        idle: Whether it waits for something to do.
        unanswered: How many of its last requests have ended without an answer.
    """

    def __init__(self) -> None:
        self.proven = self.idle = False
        self.unanswered = 0


class RangeRequest:
    """One request for what is left of a range; its thread alone writes into ``block``."""

    def __init__(
        self, wanted: WantedRange, worker: RangeReceiver, asked: Asked[WantedRange], began: float, *, blocks: int
    ) -> None:
        self.range, self.worker, self.asked, self.began, self.reserved = wanted, worker, asked, began, blocks
        self.start = self.position = wanted.position
        self.block: memoryview | None = None
        self.answered: float | None = None
        self.lost = False
        self.cancellation: Cancellation | None = None

    @property
    def space(self) -> slice:
        """Where in its block the next bytes go."""
        at = (self.position - self.range.start) % BLOCK
        return slice(at, min(at + self.range.stop - self.position, BLOCK))


def blocks_of(size: int) -> int:
    """Return how many blocks hold so many bytes."""
    return -(-size // BLOCK)
