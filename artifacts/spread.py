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
from typing import TYPE_CHECKING, Final

from stepout.artifacts.pipeline import BLOCK
from stepout.schemas.errors import StepoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from concurrent.futures import Future

    from stepout.artifacts.reading import Source

__all__ = ["MOST", "PART", "connections_for", "views"]

PART: Final = 8 << 20
"""What one request asks for, in bytes: a tenth of a second of a usual connection, so that latency hardly counts."""

MOST: Final = 6
"""The most connections: with their buffers, a download stays below 64 MiB."""

_SKIPPED: Final = 4 * BLOCK  # a connection begins slowly
_MEASURED: Final = 16 * BLOCK
_ENOUGH: Final = 150e6
_WANTED: Final = 600e6


def connections_for(left: int, rate: float) -> int:
    """Return how many connections to fetch the rest of an object with.

    Args:
        left: What is still to come, in bytes.
        rate: What the first connection brought, in bytes per second.

    Returns:
        1 where it is fast or little is left, else up to ``MOST``, one for each two parts at most.

    >>> connections_for(1 << 30, 500e6), connections_for(1 << 30, 85e6), connections_for(32 << 20, 85e6)
    (1, 6, 2)
    """
    if rate >= _ENOUGH:
        return 1
    return max(min(MOST, math.ceil(_WANTED / max(rate, 1)), left // (2 * PART)), 1)


def views(
    source: Source, lend: Callable[[], memoryview], *, clock: Callable[[], float] = time.perf_counter
) -> Generator[memoryview]:
    """Yield all of an object, in order.

    Args:
        source: The object.
        lend: Where to read the next block into.
        clock: Seconds.

    Yields:
        Views: where ``lend`` said, valid as long as it lets them be; or elsewhere, valid until the next is asked for.

    Raises:
        StoreError: As for ``Source.get``.
    """
    meter, position = _Meter(lend, clock), 0
    with closing(source.blocks(lend=meter.lend)) as blocks:
        for view in meter.timed(blocks):
            measured = position < _MEASURED <= position + len(view)
            position += len(view)
            yield view
            if measured:
                connections = connections_for(source.pointer.size - position, meter.rate())
                if connections > 1 and _has_ranges(source, position):
                    break
        else:
            return
    yield from _side_by_side(source, position, connections)


class _Meter:
    """Measures what a connection brings: the time in which a buffer was waited for is not its own."""

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

    def rate(self) -> float:
        """Return bytes per second."""
        return self._counted / max(self._seconds, 1e-9)


def _has_ranges(source: Source, position: int) -> bool:
    """Tell whether ranges may be asked for: of a version that is pinned, from a server that knows them."""
    if not source.pinned:
        return False
    try:
        with source.get(position, position + 1) as body:
            return sum(map(len, body.blocks())) == 1
    except StepoutError:
        return False  # whatever it is, the connection that is there still works


def _side_by_side(source: Source, position: int, connections: int) -> Iterator[memoryview]:
    from concurrent.futures import ThreadPoolExecutor

    ended = threading.Event()
    free = [memoryview(bytearray(PART)) for _ in range(connections)]
    coming: deque[Future[memoryview]] = deque()
    pool = ThreadPoolExecutor(connections, thread_name_prefix="stepout-read")
    try:
        for start in range(position, source.pointer.size, PART):
            if not free:
                yield (part := coming.popleft().result())
                free.append(memoryview(part.obj))
            coming.append(pool.submit(_fetch, source, start, free.pop(), ended))
        while coming:
            yield coming.popleft().result()
    finally:
        ended.set()
        pool.shutdown(cancel_futures=True)


def _fetch(source: Source, start: int, buffer: memoryview, ended: threading.Event) -> memoryview:
    """Read one range into a buffer; given up as soon as nobody wants it any more."""
    part, at = buffer[: source.pointer.size - start], 0
    with closing(source.blocks(start, start + len(part), lend=lambda: part[at : at + BLOCK])) as blocks:
        for view in blocks:
            if ended.is_set():
                break
            if view.obj is not part.obj:
                part[at : at + len(view)] = view
            at += len(view)
    return part
