"""One connection, or several: how a large object is received, in order, as fast as its server lets it.

On one connection bytes come in order, need no buffers but the taker's, and cost the least; where a connection
carries as much as can be hashed (a local store), more of them only cost. Elsewhere the object is fetched in ranges,
side by side (``range_fetch``), each held to one version:

- From the first byte on, where this process knows the server as far away, or its connections as slow.
- As soon as the first answer takes longer than one from nearby, where nothing is known: the object's size and version
  stand in its pointer, so nothing has to be learned first. The one request goes on and brings the beginning: of a large
  object it has asked for no more, so that nothing on its way is thrown away. Nearby a second one asks for the rest.
- As soon as the one connection turns out to be slow, in steps (``RampUp``); or when it stops in the middle.

Whoever calls waits, and looks after the threads that receive: so a request that hangs holds up nobody else.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from stepout.artifacts.store import RequestCancelledError
from stepout.artifacts.transfer.range_fetch import Arrival, RangeFetch
from stepout.artifacts.transfer.range_plan import ENOUGH, FAR_SECONDS, RampUp, RangePlan, begins_in_ranges, plan_for
from stepout.artifacts.transfer.stages import BLOCK
from stepout.schemas.errors import StoreError, StoreUnavailableError
from stepout.schemas.runtime.events import carried

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.artifacts.store import Cancellation
    from stepout.artifacts.transfer.ranged_object import RangedObject
    from stepout.artifacts.transfer.stages import RandomAccess

_POLL_SECONDS: Final = 1.0
"""Waits are cut into seconds, so that Ctrl-C is seen where a lock cannot be interrupted (Windows)."""

_LOOK_SECONDS: Final = 0.1
_SOON_SECONDS: Final = 0.005
_STOPPED_SECONDS: Final = 0.25
_STOPPED_BLOCKS: Final = 8
"""One connection has stopped when it brings nothing for as long as it has needed for so many blocks."""

_LARGE: Final = 32 * BLOCK
_BEGINNING: Final = 8 * BLOCK
"""What is asked for first of a large object: it costs one answer more nearby, and is one range of many elsewhere."""

_SHORT: Final = BLOCK // 4
_SHORT_READS: Final = 8
"""So many reads of the beginning are so short, since it is judged by them: at 25 MB/s a block takes 40 ms."""

_JUDGED_SECONDS: Final = 0.02
"""What a connection brings is judged by so much waiting for it: less is chance."""


class Taker(Protocol):
    """Takes an object's bytes in order."""

    @property
    def in_place(self) -> bool:
        """Whether what is lent is where the bytes stay: then nobody else may write there any more."""
        ...

    def lend(self) -> memoryview:
        """Return where to read the next block into; it is added next, or lent again."""
        ...

    def add(self, view: memoryview) -> None:
        """Take the next bytes: in what was lent, or elsewhere, and then valid until this returns."""
        ...

    def pass_on(self, view: memoryview, release: Callable[[], None]) -> None:
        """Take the next bytes, which stay as they are until ``release`` is called."""
        ...


@runtime_checkable
class FileTaker(Taker, Protocol):
    """Takes them into a file, where they may be put before it is their turn."""

    @property
    def file(self) -> RandomAccess | None:
        """The file; ``None``: there is none after all, and they are held in memory until it is their turn."""
        ...

    def pass_written(self, at: int, size: int) -> None:
        """Take the next bytes, no more than a block, which are in the file already, from byte ``at`` on."""
        ...


def receive(ranged: RangedObject, taker: Taker, *, clock: Callable[[], float] = time.perf_counter) -> None:
    """Receive all of an object, in order.

    Args:
        ranged: The object.
        taker: What its bytes are given to, in several threads, one at a time.
        clock: Seconds.

    Raises:
        StoreError: As for ``blocks`` of the object.
    """
    reception = _Reception(ranged, taker, clock)
    try:
        reception.run()
    finally:
        reception.end()


class _Reception:
    """One object being received: by one connection, in ranges, or by both until the ranges go on.

    The one connection hands its bytes on by itself. Once the next byte has come in a range, the ranges go on, and it is
    closed.
    """

    def __init__(self, ranged: RangedObject, taker: Taker, clock: Callable[[], float]) -> None:
        self._ranged, self._taker, self._clock = ranged, taker, clock
        self._file_taker = taker if isinstance(taker, FileTaker) and taker.file is not None else None
        self._file = self._file_taker.file if self._file_taker is not None else None
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._position = 0
        self._error: BaseException | None = None
        self._fetch: RangeFetch | None = None
        self._ramp: RampUp | None = None
        self._no_ranges = False
        self._stream: _Stream | None = None

    @property
    def parts(self) -> tuple[RangedObject, Taker, Callable[[], float]]:
        """What it is made of, for the one connection."""
        return self._ranged, self._taker, self._clock

    def run(self) -> None:
        """Receive it, and return when everything has been given to the taker."""
        known = begins_in_ranges(self._ranged.server) and self._ranged.version_known
        with self._lock:
            plan = self._plan() if known else None
            if plan is None:
                self._start_stream()
            else:
                self._fetch_from(0, plan)
        while True:
            with self._lock:
                if self._error is not None:
                    raise self._error
                arrivals = self._look()
                position = self._position
                # The one connection's thread may still hold a view of the last bytes.
                done = position == self._ranged.size and self._stream is None
            for each in arrivals:
                self._hand_on(each)
            if done:
                return

    def end(self) -> None:
        """Let all threads go; what they are reading is given up."""
        with self._lock:
            if self._stream is not None:
                self._close(self._stream)
            if self._fetch is not None:
                self._fetch.end()

    def _hand_on(self, arrival: Arrival) -> None:
        if arrival.view is not None:
            self._taker.pass_on(arrival.view, arrival.release)
        elif self._file_taker is not None:
            self._file_taker.pass_written(arrival.at, arrival.size)

    def _look(self) -> list[Arrival]:
        """Look after everything once, or wait; return what has come in ranges and is next."""
        now = self._clock()
        if self._fetch is not None and self._fetch.error is not None:
            self._give_up_ranges(self._fetch)
        fetch, stream = self._fetch, self._stream
        due = now + _POLL_SECONDS
        if stream is not None:
            due = self._look_at_stream(stream, now)
            if self._stream is None or self._fetch is not fetch:
                return []
        elif fetch is not None:
            arrivals = fetch.take(self._position)
            if arrivals:
                self._position += sum(each.size for each in arrivals)
                return arrivals
        if fetch is not None:
            if self._ramp is not None:
                fetch.grow(self._ramp.saw(fetch.received, now))
            late = fetch.look_for_late(now)
            due = due if late is None else min(due, late)
            if fetch.beside_is_late:
                fetch.rescue(self._position)
        if self._position < self._ranged.size or self._stream is not None:
            self._changed.wait(max(min(due - now, _POLL_SECONDS), 0))
        return []

    # The one connection -------------------------------------------------------------------------------------------

    def _start_stream(self) -> None:
        size = self._ranged.size
        settings = self._ranged.settings
        alone = self._no_ranges or (settings is not None and settings.connections == 1)
        first = not (self._position or alone) and size > _LARGE
        self._stream = _Stream(self, self._position, _BEGINNING if first else size)
        self._stream.start()

    def _close(self, stream: _Stream) -> None:
        """Take the next bytes from ranges: what the one connection still brings is not wanted."""
        self._stream = None
        stream.cancel()
        if self._fetch is not None:
            self._fetch.beside_came()

    def _look_at_stream(self, stream: _Stream, now: float) -> float:
        """Look whether the one connection needs help, and return when to look the next time."""
        if self._fetch is not None:
            self._take_over(self._fetch, stream)
        elif stream.answered is None and stream.waited(now) < FAR_SECONDS:
            return now + max(FAR_SECONDS - stream.waited(now), _SOON_SECONDS)
        elif self._ranged.version_known and not self._no_ranges:
            self._help(stream, now)
        return now + (_LOOK_SECONDS if self._fetch is None else _POLL_SECONDS)

    def _take_over(self, fetch: RangeFetch, stream: _Stream) -> None:
        """Go on with the ranges if the one connection waits for what they have; between two blocks it sees that."""
        if not stream.gives and fetch.has(self._position):
            if self._taker.in_place:
                stream.cancel()  # as long as it is there it may write
            else:
                self._close(stream)

    def _help(self, stream: _Stream, now: float) -> None:
        """Fetch in ranges what the one connection does not bring, if it is far away, slow, or has stopped."""
        if stream.answered is None or stream.is_far:
            self._fetch_beside(stream, self._plan(), stream.began)
        elif stream.slow_rate is not None:
            fetch = self._fetch_beside(stream, self._plan(rate=stream.slow_rate), now, threads=0)
            if fetch is not None:
                self._ramp = RampUp(fetch.plan.connections, stream.slow_rate, now)
        elif stream.has_stopped(now):
            plan = self._plan(least=1)
            if plan is not None:
                self._fetch_from(self._position, plan)

    def _fetch_beside(
        self, stream: _Stream, plan: RangePlan | None, began: float, threads: int | None = None
    ) -> RangeFetch | None:
        """Fetch what follows what the one connection brings meanwhile: all that it has asked for, or one range.

        Returns:
            ``None``: that is not worth it.
        """
        part = 0 if plan is None else plan.part
        start = min(self._position + part, self._ranged.size) if stream.asks_for_all else stream.stop
        if plan is None or start == self._ranged.size:
            self._no_ranges = True
            return None
        fetch = self._fetch_from(start, plan, threads)
        fetch.watch_beside(self._position, start, began)
        return fetch

    def wake(self) -> None:
        """Have everything looked after now."""
        with self._lock:
            self._changed.notify()

    def gives(self, stream: _Stream) -> bool:
        """Say whether the one connection may hand its bytes on; it then tells by ``gave`` that it has."""
        with self._lock:
            stream.gives = stream is self._stream
            return stream.gives

    def gave(self, stream: _Stream, size: int) -> bool:
        """Take note of bytes that were handed on, and say whether more are wanted."""
        with self._lock:
            stream.gives = False
            self._position += size
            fetch = self._fetch
            ended = self._position == stream.stop  # then it ends by itself, and its connection is kept
            if fetch is not None and stream is self._stream and not ended and fetch.has(self._position):
                self._stream = None
                fetch.beside_came()
            if self._stream is None or stream.slow_rate is not None:
                self._changed.notify()
            return stream is self._stream

    def stream_ended(self, stream: _Stream, error: BaseException | None) -> None:
        """Take note that the one connection brings no more."""
        with self._lock:
            if stream is not self._stream:
                return
            self._stream = None
            if self._fetch is not None:
                self._fetch.beside_came()
            if error is not None:
                if self._fetch is not None and isinstance(error, StoreUnavailableError | RequestCancelledError):
                    self._fetch.rescue(self._position)
                elif isinstance(error, RequestCancelledError):  # for ranges, which have failed since
                    self._start_stream()
                elif type(error) is StoreError and not (self._position or stream.asks_for_all):
                    self._no_ranges = True  # the server knows none
                    self._start_stream()
                else:
                    self._error = error
            elif self._fetch is None and self._position < self._ranged.size:
                self._start_stream()  # for the rest
            self._changed.notify()

    def _plan(self, *, rate: float | None = None, least: int = 2) -> RangePlan | None:
        ranged = self._ranged
        left, settings, to_file = ranged.size - self._position, ranged.settings, self._file is not None
        return plan_for(
            left, ranged.server, pooled=ranged.pooled, rate=rate, least=least, to_file=to_file, settings=settings
        )

    # Ranges -------------------------------------------------------------------------------------------------------

    def _fetch_from(self, start: int, plan: RangePlan, threads: int | None = None) -> RangeFetch:
        self._fetch = RangeFetch(
            self._ranged,
            start,
            plan,
            lock=self._lock,
            arrived=self._changed,
            clock=self._clock,
            threads=threads,
            file=self._file,
            beside=self._stream is not None,
        )
        return self._fetch

    def _give_up_ranges(self, fetch: RangeFetch) -> None:
        """Go on with the one connection alone, or with a new one where the server knows no ranges; else raise."""
        error = fetch.error
        fetch.end()
        if self._stream is None and (type(error) is not StoreError or self._position):
            assert error is not None  # noqa: S101 - that is why
            raise error
        self._fetch, self._ramp, self._no_ranges = None, None, True
        if self._stream is None:
            self._start_stream()


class _Stream:
    """The one connection, which reads from some byte to another one in a thread of its own.

    Attributes:
        stop: One behind the last.
        began: When.
        answered: When its answer came; ``None`` until then.
        is_far: Whether it took longer than one from nearby.
        gives: Whether it is handing bytes on.
        slow_rate: What it brings, in bytes per second, once that is known to be less than enough.
    """

    def __init__(self, reception: _Reception, start: int, stop: int) -> None:
        self._reception, self._start, self.stop = reception, start, stop
        self._ranged, self._taker, self._clock = reception.parts
        self.began, self._cpu = self._clock(), time.process_time()
        self.answered: float | None = None
        self.is_far = False
        self.gives = False
        self.slow_rate: float | None = None
        self._waits_since: float | None = None
        # A connection begins slowly.
        self._judged, self._judged_seconds = -BLOCK if self.asks_for_all else -_SHORT, 0.0
        self._blocks, self._seconds = 0, 0.0
        self._cancelled = False
        self._cancellation: Cancellation | None = None

    @property
    def asks_for_all(self) -> bool:
        """Whether it has asked for everything up to the object's end."""
        return self.stop == self._ranged.size

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=carried(self._run), name="stepout-read", daemon=True).start()

    def cancel(self) -> None:
        """End it, wherever it is."""
        self._cancelled = True
        if self._cancellation is not None:
            self._cancellation.cancel()

    def waited(self, now: float) -> float:
        """Return for how long it has waited for its answer, without the time that this process has worked."""
        return now - self.began - (time.process_time() - self._cpu)

    def has_stopped(self, now: float) -> bool:
        """Say whether it waits for bytes much longer than it has before."""
        since, usual = self._waits_since, self._seconds / max(self._blocks, 1)
        return since is not None and now - since > max(_STOPPED_SECONDS, _STOPPED_BLOCKS * usual)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            with self._ranged.cancellable() as self._cancellation:
                if not self._cancelled:
                    self._read()
        except BaseException as raised:  # noqa: BLE001 - raised in the thread that waits for it
            error = raised
        self._reception.stream_ended(self, error)

    def _read(self) -> None:
        stop = None if self.asks_for_all else self.stop
        with closing(self._ranged.blocks(self._start, stop, lend=self._lend)) as blocks:
            for view in blocks:
                self._measure(len(view))
                if not self._reception.gives(self):
                    return
                self._taker.add(view)
                if not self._reception.gave(self, len(view)):
                    return
                self._waits_since = self._clock()

    def _lend(self) -> memoryview:
        if self.answered is None:
            self._see_answer(self._clock())
        self._waits_since = None  # for a buffer it may wait as well
        buffer = self._taker.lend()
        self._waits_since = self._clock()
        return buffer if self.asks_for_all or self._blocks >= _SHORT_READS else buffer[:_SHORT]

    def _see_answer(self, now: float) -> None:
        self.is_far = self.waited(now) >= FAR_SECONDS
        self.answered = now
        if self.is_far:  # from now on the version is known, if it was not
            self._reception.wake()

    def _measure(self, size: int) -> None:
        now = self._clock()
        if self.answered is None:
            self._see_answer(now)
        seconds = now - (self._waits_since or now)
        self._waits_since = None
        self._blocks, self._seconds = self._blocks + 1, self._seconds + seconds
        self._judged += size
        if self._judged <= 0:
            return
        self._judged_seconds += seconds
        if self._judged_seconds >= _JUDGED_SECONDS:
            rate = self._judged / self._judged_seconds
            if rate < ENOUGH:
                self.slow_rate = rate
            self._judged, self._judged_seconds = 0, 0.0
