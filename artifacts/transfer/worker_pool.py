"""A few threads that work through many small things, taken lazily and held in bounded memory.

How many, and when trying the rest is pointless, is the same for those that write and those that read.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

from stepout.artifacts.process.budget import process_budget
from stepout.artifacts.process.memory_granted import granted_memory, transfer_share
from stepout.artifacts.process.servers import idle_seconds
from stepout.schemas.errors import ConfigurationError, OtherProcessError, StepoutError
from stepout.schemas.runtime.events import carried
from stepout.schemas.runtime.process import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

Item = TypeVar("Item")
Result = TypeVar("Result")

CONNECTIONS: Final = 16
"""Requests in flight at once: with 20 ms of latency, 800 objects a second."""

_MOST_MEMORY: Final = 64 << 20
"""Bytes under way at once, at most: more than so many small things fill."""

_MOST_CONNECTIONS: Final = 256
_GIVE_UP: Final = 32

_FEW = 8
_SLOW_SECONDS = 0.01
"""Where a request takes less, more threads than a few only wait for Python's lock."""

_FIRST = 2
"""So many are acted on by one thread, unless they are slow: what they teach (a client's first request, the routes for
small ones), several threads would each work out for themselves, at ten times the cost of a small request."""

_STILL_SECONDS = 0.05
"""Where nothing has ended for so long, requests are slow, or hang: all threads are needed."""

_POLL_SECONDS = 1.0
"""Waits are cut into seconds, so that Ctrl-C is seen where a lock cannot be interrupted (Windows)."""


def usual_memory() -> int:
    """Return how many bytes may be under way at once: what one transfer may use, 64 MiB at most."""
    return min(transfer_share(granted_memory()), _MOST_MEMORY)


def check_connections(connections: object) -> int:
    """Return how many connections to use; ``None`` stands for the usual number.

    Raises:
        ConfigurationError: It is not a whole number from 1 to 256.
    """
    if connections is None:
        return CONNECTIONS
    if isinstance(connections, int) and not isinstance(connections, bool) and 1 <= connections <= _MOST_CONNECTIONS:
        return connections
    raise ConfigurationError(f"connections is {connections!r}: expected 1 to {_MOST_CONNECTIONS}")


class FailureLimit:
    """Says when trying the rest is pointless: what is wrong is the same for all, or nobody answers.

    Args:
        same_for_all: Whether every other try would fail with such an error, too.
    """

    def __init__(self, same_for_all: Callable[[Exception], bool]) -> None:
        self._same_for_all = same_for_all
        self._silent = 0

    def spent(self, error: Exception | None) -> bool:
        """Take note of one try, and return whether it should be the last."""
        if error is None:
            self._silent = 0
            return False
        if isinstance(error, StepoutError) and error.retryable:
            self._silent += 1
            return self._silent >= _GIVE_UP
        return self._same_for_all(error)


def fault_of_client(error: Exception) -> bool:
    """Return whether the client, and not one object, is at fault: its settings or its credentials."""
    return isinstance(error, ConfigurationError) and type(error.__cause__).__module__.startswith("botocore")


@dataclass(slots=True)
class Done(Generic[Item, Result]):
    """One thing that was tried: ``result``, or ``error`` if that is not ``None``."""

    item: Item
    result: Result | None
    error: Exception | None


def work_through(  # noqa: PLR0913 - keyword-only, each with its own meaning
    items: Iterable[Item],
    act: Callable[[Item], Result],
    *,
    threads: int,
    weigh: Callable[[Item], int],
    memory: int | None = None,
    room: Callable[[], bool] = lambda: True,
) -> Generator[Done[Item, Result], None, None]:
    """Act on every item in several threads, and yield what came of each.

    Items are taken in the caller's thread, no more than four times as many as there are threads, and no further one
    while those that were taken weigh ``memory`` or more. Closing the iterator, or an exception in the caller, ends it:
    what is under way is not waited for, nothing else is begun. Until it ends, it holds what the process's budget has
    granted of ``threads`` and ``memory``.

    Args:
        items: What to act on.
        act: Called in a thread; its exceptions are caught, but for those that are no ``Exception``.
        threads: How many; no more are started than there are items.
        weigh: The bytes that an item and its result hold until they have been yielded.
        memory: How many of them may be held; ``None``: ``usual_memory()``.
        room: Whether the caller has room for one more result; asked before each item is taken.

    Yields:
        In the order in which they end.

    Raises:
        BaseException: What ``act`` raised that is no ``Exception``, such as ``SystemExit``.
    """
    grant = process_budget().grant(usual_memory() if memory is None else memory, threads)
    threads, memory = grant.connections, grant.memory
    workers: _WorkerPool[Item, Result] = _WorkerPool(act, threads)
    source = iter(items)
    held: dict[int, int] = {}
    total, number, exhausted = 0, 0, False
    try:
        while held or not exhausted:
            while not exhausted and len(held) < 4 * threads and (not held or (total < memory and room())):
                try:
                    item = next(source)
                except StopIteration:
                    exhausted = True
                    break
                held[number] = weigh(item)
                total += held[number]
                workers.begin(number, item)
                number += 1
            for ended, done in workers.ended() if held else ():
                total -= held.pop(ended)
                yield done
    finally:
        workers.dismiss()
        grant.release()


def work_in_order(  # noqa: PLR0913 - keyword-only, each with its own meaning
    items: Iterable[Item],
    act: Callable[[Item], Result],
    *,
    threads: int,
    weigh: Callable[[Item], int],
    window: int,
    memory: int | None = None,
) -> Iterator[Result]:
    """Act on every item in several threads, and yield the results in the order of the items.

    Args:
        items: See ``work_through``, as for ``act``, ``threads`` and ``memory``.
        act: Its first exception ends everything: what is under way is not waited for, nothing else is begun.
        threads: How many.
        weigh: The bytes that an item holds until ``act`` has returned; a result holds none to speak of.
        window: How many results may wait for that of an earlier item, which takes long, before no more is begun.
        memory: How many of them may be held; ``None``: ``usual_memory()``.

    Raises:
        BaseException: What ``act`` raised, from whichever item was the first to fail.
    """
    waiting: dict[int, Result] = {}
    following = 0
    with contextlib.closing(
        work_through(
            enumerate(items),
            lambda item: act(item[1]),
            threads=threads,
            weigh=lambda item: weigh(item[1]),
            memory=memory,
            room=lambda: len(waiting) < window,
        )
    ) as tried:
        for done in tried:
            if done.error is not None:
                raise done.error
            waiting[done.item[0]] = cast("Result", done.result)
            while following in waiting:
                yield waiting.pop(following)
                following += 1


class _WorkerPool(Generic[Item, Result]):
    """Daemon threads, so that one which waits for a dead connection keeps no process from ending.

    The caller is woken when work runs short, not for every result: that would cost more than a small request does.
    """

    def __init__(self, act: Callable[[Item], Result], threads: int) -> None:
        self._act = act
        self._threads = threads
        self._home = Home()
        self._started = 0
        self._slow, self._ended = False, 0
        self._fatal: BaseException | None = None
        self._dismissed = False
        self._jobs: queue.SimpleQueue[tuple[int, Item] | None] = queue.SimpleQueue()
        self._done: deque[tuple[int, Done[Item, Result]]] = deque()
        self._short: queue.SimpleQueue[None] = queue.SimpleQueue()

    def begin(self, number: int, item: Item) -> None:
        self._jobs.put((number, item))
        if self._started < self._wanted:
            self._start()

    @property
    def _wanted(self) -> int:
        """How many threads there should be, as far as there is work for them."""
        if self._slow:
            return self._threads
        return 1 if self._ended < _FIRST else min(_FEW, self._threads)

    def _start(self) -> None:
        self._started += 1
        threading.Thread(target=carried(self._work), name=f"stepout-many-{self._started}", daemon=True).start()

    def ended(self) -> Iterator[tuple[int, Done[Item, Result]]]:
        """Wait until work runs short, then yield everything that has ended."""
        while not self._done or self._jobs.qsize() > self._threads:
            if not self._home.here:
                raise OtherProcessError(
                    "an iterator over many artifacts was begun in the process that this one was forked off, where its "
                    "threads are: begin one in this process"
                )
            before = self._ended
            try:
                self._short.get(timeout=_POLL_SECONDS if self._started == self._threads else _STILL_SECONDS)
            except queue.Empty:
                self._slow = self._slow or self._ended == before
            if self._fatal is not None:
                raise self._fatal
            while self._started < self._wanted and self._jobs.qsize():
                self._start()
        with contextlib.suppress(queue.Empty):
            while True:
                self._short.get_nowait()
        while self._done:
            yield self._done.popleft()

    def dismiss(self) -> None:
        self._dismissed = True
        for _ in range(self._started):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None and not self._dismissed and self._did(*job):
            # A thread that waits must hold nothing: an error leads to the frames of whoever raised it, hence to the
            # iterator, which would never end.
            job = None

    def _did(self, number: int, item: Item) -> bool:
        # The first ones compute a lot, which says nothing of the server; to ask how much takes long itself.
        clock = idle_seconds if self._ended < _FIRST else time.perf_counter
        start = clock()
        done: Done[Item, Result]
        try:
            done = Done(item, self._act(item), None)
        except Exception as error:  # noqa: BLE001 - reported with all others
            done = Done(item, None, error)
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            self._fatal = error
            self._short.put(None)
            return False
        found_slow = not self._slow and clock() - start > _SLOW_SECONDS
        self._slow = self._slow or found_slow
        self._ended += 1  # of two that threads count at once one may be lost: by then there are several threads
        self._done.append((number, done))
        if found_slow or self._ended == _FIRST or self._jobs.qsize() <= self._threads:
            self._short.put(None)
        return True
