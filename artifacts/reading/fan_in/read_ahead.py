"""Several things that are read one after the other, each begun before its turn, in bounded memory."""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from stepout.schemas.errors import OtherProcessError
from stepout.schemas.runtime.process import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Item = TypeVar("Item")
Source = TypeVar("Source")

_DEPTH: Final = 4
"""Blocks that wait to be taken, of each reader."""

_POLL_SECONDS: Final = 0.5
"""Waits are cut, so that a reader whose taker has left ends, and Ctrl-C is seen."""


class ReadAhead(Generic[Item]):
    """Runs an iterator in a thread of its own, a few items ahead of whoever takes them.

    The thread is a daemon: a server that stalls keeps no process from ending.

    Args:
        items: What is iterated over; its exceptions are raised where the items are taken.
    """

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self._home = Home()
        self._queue: queue.Queue[tuple[Item] | BaseException | None] = queue.Queue(_DEPTH)
        self._left = False
        threading.Thread(target=self._run, name="stepout-ahead", daemon=True).start()

    def __iter__(self) -> Iterator[Item]:
        while True:
            try:
                taken = self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if not self._home.here:
                    msg = "what is read ahead belongs to the process that this one was forked off, with its threads"
                    raise OtherProcessError(f"{msg}: begin it in this process") from None
                continue
            if taken is None:
                return
            if isinstance(taken, BaseException):
                raise taken
            yield taken[0]

    def leave(self) -> None:
        """Take nothing more: the thread ends with what it is at."""
        self._left = True

    def _run(self) -> None:
        try:
            for each in self._items:
                if not self._put((each,)):
                    return
        except BaseException as error:  # noqa: BLE001 - raised where the items are taken
            self._put(error)
        else:
            self._put(None)

    def _put(self, item: tuple[Item] | BaseException | None) -> bool:
        while not self._left:
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False


def begun_ahead(
    sources: Iterable[Source],
    begin: Callable[[Source], Iterator[Item]],
    *,
    weigh: Callable[[Source], int],
    memory: int,
    most: int,
) -> Iterator[tuple[Source, ReadAhead[Item]]]:
    """Yield each source with what it is read by, in order; the next ones have begun by then.

    Args:
        sources: What is read.
        begin: Returns the items of one; iterated over in a thread.
        weigh: The bytes that one holds while it waits.
        memory: How many may be held by all that have begun; one always may.
        most: How many may have begun.
    """
    waiting: deque[tuple[Source, int, ReadAhead[Item]]] = deque()
    rest, held = iter(sources), 0
    try:
        while True:
            while len(waiting) < most and (held < memory or not waiting):
                try:
                    source = next(rest)
                except StopIteration:
                    break
                waiting.append((source, weigh(source), ReadAhead(begin(source))))
                held += waiting[-1][1]
            if not waiting:
                return
            source, weight, reader = waiting[0]
            yield source, reader
            reader.leave()
            waiting.popleft()
            held -= weight
    finally:
        for _, _, reader in waiting:
            reader.leave()
