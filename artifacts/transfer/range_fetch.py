"""Ranges of one object, fetched side by side into a pool of blocks, and handed out in order.

A range that takes far longer than its siblings is asked for a second time, from where it stands (``tails``). Each
request fills blocks of its own, from its start to its end, and a block is handed out when it is full: of two requests
for one range the faster gives each block, and what the other still writes goes into blocks that nobody else has seen.

What comes before its turn is held in memory, or written to where it belongs if it is for a file: then a connection
takes one block, however long its range is, and whoever reads in order finds the rest in the page cache.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import closing
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

from stepout.artifacts.process.budget import process_budget
from stepout.artifacts.transfer.block_memory import BlockMemory
from stepout.artifacts.transfer.range_plan import AHEAD, cuts
from stepout.artifacts.transfer.range_requests import WRITTEN, RangeReceiver, RangeRequest, WantedRange, blocks_of
from stepout.artifacts.transfer.stages import BLOCK
from stepout.artifacts.transfer.tails import Due, Tails
from stepout.schemas.errors import StoreUnavailableError
from stepout.schemas.runtime.events import carried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stepout.artifacts.transfer.range_plan import RangePlan
    from stepout.artifacts.transfer.ranged_object import RangedObject
    from stepout.artifacts.transfer.stages import RandomAccess
    from stepout.artifacts.transfer.tails import Asked

_HELPERS: Final = 2
"""Threads beyond the plan's, for ranges that are asked for again while all others are busy; none where settings say."""

_STRIKES: Final = 2
"""After so many requests in a row that were never answered a thread ends: the server may grant fewer connections."""

_STILL_SECONDS: Final = 0.25
"""When nothing has come for so long, over no connection, all that are left may be held by something in between."""

_LONG_STILL_SECONDS: Final = 1.0
"""The same for what was asked for twice already, where enough was, and before the first bytes have come."""

_COMPARED: Final = 8
_SLOW: Final = 1 / 3
"""A connection that brings less than this share of what its siblings do is closed, so that another one is opened."""


class Arrival(NamedTuple):
    """Bytes that have come, from byte ``at`` on.

    A view is valid until ``release`` is called, which has to be once they are not needed any more; ``None``: they are
    in the file.
    """

    at: int
    size: int
    view: memoryview | None
    release: Callable[[], None]


_TAKEN: Final = 4 * AHEAD
"""No more blocks are handed out at a time: whoever reads them back looks after the requests as well."""


class _Lost(Exception):  # noqa: N818 - no error: it ends a request that is not needed any more
    """The bytes are there already, or are not wanted."""


class RangeFetch:
    """Fetches an object from some byte on, in ranges.

    Its threads are daemons and are never waited for: a server that stalls does not keep the process alive. A thread
    that is refused a connection leaves its range to the others and ends; only the last one's error ends all.

    Every method is called with ``lock`` held.

    Args:
        ranged: The object; its version is known, so that all ranges are of it.
        start: Where to begin.
        plan: How many at once, at most, and how large: the process's budget grants the connections and the memory.
        lock: Guards everything here.
        clock: Seconds, monotonic.
        threads: How many of the plan's connections to begin with; ``None``: all.
        file: Where bytes go that come before their turn, if the plan is to a file; else they are held in memory.
        beside: Whether another connection reads the same object until ``beside_came``.

    Attributes:
        plan: What became of the plan with what was granted.
        received: Bytes that have come so far, each counted once.
        tails: Which requests are late.
        error: What ended it; ``None`` while nothing has.
        beside_is_late: Whether the connection that reads meanwhile (``watch_beside``) takes far longer than the others.
        arrived: Notified when the next bytes in order may be there, and when it ends.
    """

    def __init__(  # noqa: PLR0913 - each with its own meaning
        self,
        ranged: RangedObject,
        start: int,
        plan: RangePlan,
        *,
        lock: threading.Lock,
        arrived: threading.Condition,
        clock: Callable[[], float],
        threads: int | None = None,
        file: RandomAccess | None = None,
        beside: bool = False,
    ) -> None:
        self._ranged, self._clock, self._lock = ranged, clock, lock
        self._file = file if plan.to_file else None
        self._grant = process_budget().grant(plan.memory, plan.connections)
        self.plan = plan.within(ranged.size - start, self._grant.connections, self._grant.memory)
        connections = self.plan.connections
        self.arrived, self._work_left = arrived, threading.Condition(lock)
        self._blocks = BlockMemory(
            self.plan.memory if file else min(self.plan.memory, ranged.size - start + self.plan.part)
        )
        self._cuts = cuts(start, ranged.size, self.plan)
        self._next = next(self._cuts, None)
        self._ranges: deque[WantedRange] = deque()
        self._again: deque[WantedRange] = deque()
        self.tails: Tails[WantedRange] = Tails(ranged.size, latency=ranged.server.latency or 0.0)
        self.received = self._threads = self._begun = self._wanted = 0
        self._is_beside = beside
        self._allowed = None if ranged.settings is None else ranged.settings.connections
        self._came = clock()
        self._ahead = 0
        self.error: BaseException | None = None
        self._ended = False
        self._workers: set[RangeReceiver] = set()
        self._rates: deque[float] = deque(maxlen=64)
        self._beside: tuple[WantedRange, Asked[WantedRange]] | None = None
        self.beside_is_late = False
        self.grow(connections if threads is None else min(threads, connections))

    # For whoever receives ----------------------------------------------------------------------------------------

    def grow(self, threads: int) -> None:
        """Have so many threads in all, if that is more than there have been and not more than was planned."""
        self._wanted = max(self._wanted, min(threads, self.plan.connections))
        most = self._allowed - self._is_beside if self._allowed is not None else self._wanted
        for _ in range(min(self._wanted, most) - self._begun):
            self._start_thread()

    def has(self, position: int) -> bool:
        """Say whether the byte at ``position`` has come."""
        return any(each.start <= position < each.position for each in self._ranges)

    def take(self, position: int) -> list[Arrival]:
        """Return everything that has come from ``position`` on without a gap, in order; what lies before is dropped."""
        found: list[Arrival] = []
        while self._ranges:
            first = self._ranges[0]
            while first.handed < len(first.blocks) and first.start + first.handed * BLOCK <= position:
                at = first.start + first.handed * BLOCK
                block, first.blocks[first.handed] = first.blocks[first.handed], None
                assert block is not None  # noqa: S101 - each is handed out once
                first.handed += 1
                stop = min(at + BLOCK, first.stop)
                if stop > position:
                    view = None if block is WRITTEN else block[position - at : stop - at]
                    found.append(Arrival(position, stop - position, view, partial(self._release, block)))
                    position = stop
                elif block is not WRITTEN:
                    self._free(block)
                if len(found) == _TAKEN:
                    return found
            if position < first.stop:
                break
            self._ranges.popleft()
            self._drop(first)
            self._work_left.notify_all()  # there may be room now for the next one
        return found

    def watch_beside(self, start: int, stop: int, began: float) -> None:
        """Hold the connection that reads from ``start`` to ``stop`` meanwhile to what the others need for as much."""
        wanted = WantedRange(start, stop)
        self._beside = wanted, self.tails.began(wanted, stop - start, began)

    def beside_came(self) -> None:
        """Take note that it has come so far, or has ended."""
        if self._beside is not None:
            self.tails.ended(self._beside[1], self._clock())
            self._beside, self.beside_is_late = None, False
        self._is_beside = False
        self.grow(0)

    def rescue(self, position: int) -> None:
        """Fetch what lies between ``position`` and the first range as well, before anything else."""
        first = self._ranges[0].start if self._ranges else self._next[0] if self._next else self._ranged.size
        if position < first:
            self._ranges.appendleft(WantedRange(position, first))
            self._again.appendleft(self._ranges[0])
            self._work_left.notify_all()

    def look_for_late(self, now: float) -> float | None:
        """Have what is late asked for again, and return when to look the next time, if nothing happens before."""
        due = self.tails.due(now, needed=self._is_needed, slowed=self._ranged.server.slowed) or self._stands_still()
        if due is not None and due.at <= now:
            self._ask_again(due.key, now)
            return now
        if not self._again:
            return None if due is None else due.at
        # Somebody has to take it: a connection that works, or after a while any.
        if now - self._again[0].queued > _STILL_SECONDS:
            self._work_left.notify_all()
            most = self.plan.connections + _HELPERS
            if self._allowed is None and not any(each.idle for each in self._workers) and self._threads < most:
                self._start_thread()
        return now + _STILL_SECONDS

    def _ask_again(self, late: WantedRange, now: float) -> None:
        self.tails.repeats(late)
        if self._beside is not None and late is self._beside[0]:
            self.beside_is_late = True
            return
        self.tails.extra -= late.position - late.start  # only the rest is asked for
        late.again, late.queued = late.position, now
        for each in late.requests:
            each.worker.proven = False
        self._again.append(late)
        self._work_left.notify_all()

    def _stands_still(self) -> Due[WantedRange] | None:
        """Return what the reader needs next, and when it is to be asked for again if nothing comes at all until then.

        Where most requests are late, or enough was asked for twice, ``Tails`` lets nothing be asked for again. But a
        proxy may grant a few connections and hold all others: then those that work have nothing left to do, while what
        is next never comes. What has not come has not come twice either.
        """
        first = self._ranges[0] if self._ranges else None
        if self._beside is not None and not self.beside_is_late:
            first, since = self._beside[0], self._beside[1].at
        elif first is None or not first.requests or first in self._again:
            return None
        else:
            since = first.requests[-1].began
        if self._ranged.server.slowed:
            return None
        frugal = first.again is None and self.tails.extra + first.stop - first.position <= self.tails.allowance
        # Before the first bytes nobody knows how far away the server is.
        short = frugal and self.received
        latency = self._ranged.server.latency or 0.0
        return Due(first, max(self._came, since) + 2 * latency + (_STILL_SECONDS if short else _LONG_STILL_SECONDS))

    def end(self) -> None:
        """Let the threads go, and end their requests; a second time does nothing."""
        self._ended = True
        self._work_left.notify_all()
        self._grant.release()
        _cancel([each for wanted in self._ranges for each in wanted.requests])

    # In the threads ----------------------------------------------------------------------------------------------

    def _start_thread(self) -> None:
        self._begun += 1
        self._threads += 1
        threading.Thread(target=carried(self._work), name="stepout-read", daemon=True).start()

    def _work(self) -> None:
        worker = RangeReceiver()
        with self._lock:
            self._workers.add(worker)
        while (request := self._next_request(worker)) is not None:
            error: BaseException | None = None
            try:
                self._receive(request)
            except BaseException as raised:  # noqa: BLE001 - raised where the range is waited for
                error = raised
            if not self._goes_on(request, error):
                return

    def _next_request(self, worker: RangeReceiver) -> RangeRequest | None:
        with self._lock:
            while not self._ended:
                wanted = self._next_range(worker)
                if wanted is not None:
                    now = self._clock()
                    asked = self.tails.began(wanted, wanted.stop - wanted.position, now)
                    blocks = blocks_of(wanted.stop - wanted.position) if self._file is None else 1
                    request = RangeRequest(wanted, worker, asked, now, blocks=blocks)
                    wanted.requests.append(request)
                    self._blocks.free -= request.reserved
                    return request
                worker.idle = True
                if worker.proven:
                    self.arrived.notify()  # it may have reason to look for what is late
                self._work_left.wait()
                worker.idle = False
            return None

    def _any_proven(self) -> bool:
        return any(each.proven for each in self._workers)

    def _next_range(self, worker: RangeReceiver) -> WantedRange | None:
        # What was late once goes to a connection that works, where there is one.
        while self._again and (
            worker.proven or not self._any_proven() or self._clock() - self._again[0].queued > _STILL_SECONDS
        ):
            wanted = self._again.popleft()
            if not wanted.over:
                return wanted
        if self._next is None:
            return None
        start, stop = self._next
        # One range's memory is kept back for what is asked for again; but never so that nothing comes at all.
        held = self._file is None and self._ranges
        if held and self._blocks.free < blocks_of(stop - start) + self.plan.part // BLOCK:
            return None
        self._next = next(self._cuts, None)
        self._ranges.append(WantedRange(start, stop))
        return self._ranges[-1]

    def _receive(self, request: RangeRequest) -> None:
        with self._ranged.cancellable() as cancellation:
            with self._lock:  # whoever ends it either finds this, or has ended it by now
                request.cancellation = cancellation
                if request.lost or self._ended:
                    return

            def lend() -> memoryview:
                if request.lost:
                    raise _Lost
                if request.answered is None:
                    request.answered = self._clock()
                return self._block_of(request)[request.space]

            with closing(self._ranged.blocks(request.start, request.range.stop, lend=lend)) as blocks:
                for view in blocks:
                    if not self._took(request, view, lend):
                        return

    def _block_of(self, request: RangeRequest) -> memoryview:
        if request.block is None:
            with self._lock:
                request.block = self._blocks.take()
        return request.block

    def _took(self, request: RangeRequest, view: memoryview, lend: Callable[[], memoryview]) -> bool:
        """Take note of bytes that have come, and say whether more are wanted on this connection."""
        while view:
            space = lend()
            size = min(len(view), len(space))
            if view.obj is not space.obj:  # of a store that has them in memory
                space[:size] = view[:size]
            view = view[size:]
            request.position += size
            if size == len(space) and not self._filled(request):
                return False
        return True

    def _filled(self, request: RangeRequest) -> bool:
        """Take note of a block that has come, and say whether more is wanted on this connection."""
        if self._file is None or request.block is None:
            return self._noted(request, written=False)
        wanted = request.range
        with wanted.writing:
            with self._lock:
                new = wanted.position < request.position and not (request.lost or self._ended)
                first = bool(self._ranges) and wanted is self._ranges[0]
                written = new and not (first and self._ahead < AHEAD)
            if written:
                size = (request.position - wanted.start - 1) % BLOCK + 1
                self._file.write_at(request.block[:size], request.position - size)
            return self._noted(request, written=written)

    def _noted(self, request: RangeRequest, *, written: bool) -> bool:
        wanted, late = request.range, []
        with self._lock:
            if request.lost or self._ended:
                return False
            if wanted.position < request.position:  # else the other request was faster: the block is filled anew
                self._append(request, written=written)
                self._came = self._clock()
                self.received += (request.position - wanted.start - 1) % BLOCK + 1
                if self._ranges and wanted is self._ranges[0]:
                    self.arrived.notify()
            if not wanted.whole:
                return True
            slow = self._is_slow(request)
            late = self._completed(request)
        _cancel(late)
        return not slow

    def _append(self, request: RangeRequest, *, written: bool) -> None:
        if written:  # its connection goes on with the same block
            request.range.blocks.append(WRITTEN)
            return
        request.range.blocks.append(request.block)
        request.block = None
        if self._file is None:
            request.reserved -= 1
        else:
            self._ahead += 1
            self._blocks.free -= 1

    def _completed(self, winner: RangeRequest) -> list[RangeRequest]:
        """Take note that a range is whole, and return the requests for it that have lost."""
        wanted = winner.range
        if wanted.over:
            return []
        self.tails.ended(winner.asked, self._clock())
        if wanted.again is not None:  # it counts what has come twice, not what was asked for
            twice = sum(max(each.position - max(each.start, wanted.again), 0) for each in wanted.requests)
            self.tails.extra += twice - 2 * (wanted.stop - wanted.again)
        wanted.over = True
        losers = [each for each in wanted.requests if each is not winner]
        for each in losers:
            each.lost = True
        return losers

    def _is_slow(self, request: RangeRequest) -> bool:
        """Say whether the connection is so much slower than its siblings that another one should be opened."""
        began = request.began if request.answered is None else request.answered
        rate = (request.position - request.start) / max(self._clock() - began, 1e-9)
        usual = median(self._rates) if len(self._rates) >= _COMPARED else 0.0
        self._rates.append(rate)
        return self._next is not None and rate < usual * _SLOW

    def _goes_on(self, request: RangeRequest, error: BaseException | None) -> bool:
        """Take note that a request has ended, and say whether its thread is to take another one."""
        wanted, worker = request.range, request.worker
        with self._lock:
            worker.unanswered = worker.unanswered + 1 if request.answered is None else 0
            worker.proven = not request.lost and error is None
            wanted.requests.remove(request)
            self._blocks.free += request.reserved
            if request.block is not None:
                self._blocks.put(request.block, freed=0)
            if self._ended:
                return False
            if wanted.over or request.lost:
                leaves = worker.unanswered >= _STRIKES
            else:
                self.tails.gave_up(request.asked)
                leaves = self._failed(wanted, error)
            leaves = leaves and self._threads > 1
            self._threads -= leaves
            if leaves:
                self._workers.discard(worker)
            if self._again:
                self._work_left.notify_all()
            else:
                self._work_left.notify()
            return not leaves and self.error is None

    def _failed(self, wanted: WantedRange, error: BaseException | None) -> bool:
        """Take note that a request has brought less than its range; say whether its thread had better leave."""
        if isinstance(error, StoreUnavailableError) and (self._threads > 1 or wanted.requests):
            if not wanted.requests:
                self._again.appendleft(wanted)
            return True
        self.error = error
        self.arrived.notify()
        return False

    def _is_needed(self, wanted: WantedRange) -> bool:
        """Say whether the reader waits for a range, now or soon: it is the next one, or no further one will begin."""
        nothing_left = self._next is None and not self._again
        return nothing_left or wanted is self._ranges[0] or (self._beside is not None and wanted is self._beside[0])

    def _drop(self, stale: WantedRange) -> None:
        """Give up a range that has come in another way, unless it is whole."""
        if not stale.over:
            stale.over = True
            for each in stale.requests:
                self.tails.gave_up(each.asked)
                each.lost = True
            _cancel(stale.requests)

    def _release(self, block: memoryview) -> None:
        with self._lock:
            self._free(block)
            self._work_left.notify()

    def _free(self, block: memoryview) -> None:
        self._blocks.put(block, freed=1)
        self._ahead -= self._file is not None


def _cancel(requests: Iterable[RangeRequest]) -> None:
    for each in requests:
        if each.cancellation is not None:
            each.cancellation.cancel()
