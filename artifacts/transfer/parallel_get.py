"""One connection, or several: what a connection brings is measured first, and decides.

On one connection bytes come in order, need no buffers but the pipeline's, and cost the least; where a connection
carries as much as can be hashed (a local store), more of them only cost. S3 says of itself that one connection brings
some 85 to 90 MB/s, and that several should be used (https://docs.aws.amazon.com/AmazonS3/latest/userguide/
optimizing-performance-design-patterns.html). So after the first blocks of a large object the rest may be fetched in
ranges, side by side, each held to the same version as the first answer.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import closing
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol

from stepout.artifacts.process_budget import process_budget
from stepout.artifacts.transfer.stages import BLOCK
from stepout.schemas.errors import StepoutError, StoreUnavailableError
from stepout.schemas.runtime.events import carried

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from concurrent.futures import Future

PART: Final = 4 << 20
"""What one request asks for, in bytes: several times what a usual connection brings while a request is on its way."""

_SPARE: Final = 3
"""Buffers beyond those that are being filled: a connection need not wait until its last range has been taken."""

MOST: Final = 10
"""The most connections: with their buffers a download stays below 64 MiB, and boto3's clients keep as many open."""

_POLL_SECONDS: Final = 1.0
_SKIPPED: Final = 2 * BLOCK  # a connection begins slowly
_MEASURED: Final = 16 * BLOCK
_SURE: Final = 4 * BLOCK
_SURE_SECONDS: Final = 0.05
_ENOUGH: Final = 150e6
_WANTED: Final = 800e6


def connections_for(left: int, rate: float) -> int:
    """Return how many connections to fetch the rest of an object with.

    Args:
        left: What is still to come, in bytes.
        rate: What the first connection brought, in bytes per second.

    Returns:
        1 where it is fast or little is left, else up to ``MOST``, one for each two parts at most.

    >>> connections_for(1 << 30, 500e6), connections_for(1 << 30, 85e6), connections_for(32 << 20, 85e6)
    (1, 10, 4)
    """
    if rate >= _ENOUGH:
        return 1
    return max(min(MOST, math.ceil(_WANTED / max(rate, 1)), left // (2 * PART)), 1)


class RangedObject(Protocol):
    """An object that can be read in ranges."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    @property
    def version_known(self) -> bool:
        """Whether every further range will be of the same version as the first answer."""
        ...

    def blocks(
        self, start: int = 0, stop: int | None = None, *, lend: Callable[[], memoryview] | None = None
    ) -> Generator[memoryview]:
        """Yield bytes ``start`` to ``stop`` (``None``: the end), in order; ``lend`` as ``Download.blocks`` has it."""
        ...


def views(
    ranged: RangedObject, lend: Callable[[], memoryview], *, clock: Callable[[], float] = time.perf_counter
) -> Generator[memoryview]:
    """Yield all of an object, in order.

    Args:
        ranged: The object.
        lend: Where to read the next block into.
        clock: Seconds.

    Yields:
        Views: where ``lend`` said, valid as long as it lets them be; or elsewhere, valid until the next is asked for.

    Raises:
        StoreError: As for ``blocks`` of the object.
    """
    meter, position = _Meter(lend, clock), 0
    decided, rest = False, None
    try:
        with closing(ranged.blocks(lend=meter.lend)) as blocks:
            for view in meter.timed(blocks):
                # The one connection goes on while the others begin. It is left where their first range starts, and only
                # once that range has come: until then it may be the only one that the server grants.
                if rest is not None and position + len(view) >= rest.start:
                    if rest.works():
                        yield view[: rest.start - position]
                        break
                    rest = None
                position += len(view)
                yield view
                if not decided and meter.knows():
                    decided = True
                    rest = _rest_of(ranged, position, meter.rate())
            else:
                return
        if rest is not None:
            yield from rest.views()
    finally:
        if rest is not None:
            rest.end()


def _rest_of(ranged: RangedObject, position: int, rate: float) -> _ParallelGet | None:
    """Begin to fetch the rest in parallel, if that is faster; the first connection reads one more part."""
    start = position + PART
    connections = connections_for(ranged.size - start, rate)
    # Ranges of an object that is not held to a version could be of two of them.
    return _ParallelGet(ranged, start, connections) if connections > 1 and ranged.version_known else None


class _Meter:
    """Measures the speed of a connection, without the time of waiting for a buffer."""

    def __init__(self, lend: Callable[[], memoryview], clock: Callable[[], float]) -> None:
        self._lend = lend
        self._clock = clock
        self._seconds = 0.0
        self._total = self._counted = 0

    def lend(self) -> memoryview:
        """Lend, with the clock stopped."""
        start = self._clock()
        buffer = self._lend()
        self._seconds -= self._clock() - start
        return buffer

    def timed(self, blocks: Iterator[memoryview]) -> Iterator[memoryview]:
        """Yield the blocks, with the clock running while the next one is waited for."""
        while True:
            start = self._clock()
            view = next(blocks, None)
            self._seconds += self._clock() - start
            if view is None:
                return
            self._total += len(view)
            if self._total <= _SKIPPED:
                self._seconds = 0.0
            else:
                self._counted += len(view)
            yield view

    def knows(self) -> bool:
        """Say whether enough bytes have come to judge the speed; a slow connection needs fewer bytes."""
        return self._total >= _MEASURED or (self._total >= _SURE and self._seconds >= _SURE_SECONDS)

    def rate(self) -> float:
        """Return bytes per second."""
        return self._counted / max(self._seconds, 1e-9)


class _ParallelGet:
    """Fetches the rest of an object in ranges, side by side.

    Its threads are daemons and are never waited for: a server that stalls does not keep the process alive. A thread
    that is refused a connection gives its range to the others and ends; only the last thread's error ends the download.

    Attributes:
        start: Where the rest begins.

    Args:
        ranged: The object; its version is known, so that all ranges are of it.
        position: Where the rest begins.
        connections: How many ranges at once, at most: the process's budget grants them.
    """

    def __init__(self, ranged: RangedObject, position: int, connections: int) -> None:
        from concurrent.futures import Future

        self._grant = process_budget().grant((connections + _SPARE) * PART, connections)
        connections = self._grant.connections
        self._future: type[Future[memoryview]] = Future
        self._ranged, self.start = ranged, position
        self._ended = threading.Event()
        # Where little memory is left there are fewer spare ones.
        self._free = [memoryview(bytearray(PART)) for _ in range(max(self._grant.memory // PART, connections))]
        self._coming: deque[Future[memoryview]] = deque()
        self._starts = iter(range(position, ranged.size, PART))
        self._ranges: SimpleQueue[tuple[int, memoryview, Future[memoryview]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = connections
        self._begin()
        for _ in range(connections):
            threading.Thread(target=carried(self._work), name="stepout-read", daemon=True).start()

    def works(self) -> bool:
        """Wait for the first range; if it fails for any reason, the first connection still works."""
        try:
            _result(self._coming[0])
        except BaseException as error:
            self.end()
            if isinstance(error, StepoutError):
                return False
            raise
        return True

    def views(self) -> Iterator[memoryview]:
        """Yield everything in order; each view is valid until the next is asked for."""
        while self._coming:
            yield (part := _result(self._coming.popleft()))
            self._free.append(memoryview(part.obj))
            self._begin()

    def _begin(self) -> None:
        while self._free and (start := next(self._starts, None)) is not None:
            self._coming.append(self._future())
            self._ranges.put((start, self._free.pop(), self._coming[-1]))

    def end(self) -> None:
        """Let the threads go; what they are reading is given up."""
        self._ended.set()
        self._grant.release()
        for _ in range(self._threads):
            self._ranges.put(None)

    def _work(self) -> None:
        while (item := self._ranges.get()) is not None and not self._ended.is_set():
            start, buffer, future = item
            try:
                future.set_result(_fetch(self._ranged, start, buffer, self._ended))
            except StoreUnavailableError as error:
                if self._leave():
                    self._ranges.put(item)
                    return
                future.set_exception(error)
            except BaseException as error:  # noqa: BLE001 - raised where the range is waited for
                future.set_exception(error)

    def _leave(self) -> bool:
        """Leave the range to the others, if there are any."""
        with self._lock:
            others = self._threads > 1
            self._threads -= others
            return others


def _result(future: Future[memoryview]) -> memoryview:
    """Wait for a range; in steps, so that Ctrl-C is seen where a lock cannot be interrupted (Windows)."""
    while True:
        try:
            return future.result(_POLL_SECONDS)
        except TimeoutError:
            if future.done():
                return future.result()


def _fetch(ranged: RangedObject, start: int, buffer: memoryview, ended: threading.Event) -> memoryview:
    """Read one range into a buffer; stop as soon as the range is not needed any more."""
    part, at = buffer[: ranged.size - start], 0
    with closing(ranged.blocks(start, start + len(part), lend=lambda: part[at : at + BLOCK])) as blocks:
        for view in blocks:
            if ended.is_set():
                break
            if view.obj is not part.obj:
                part[at : at + len(view)] = view
            at += len(view)
    return part
