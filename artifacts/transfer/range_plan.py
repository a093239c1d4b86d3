"""How the rest of an object is fetched in ranges: over how many connections, and how much each asks for. Pure.

S3 says of itself that one connection brings some 85 to 90 MB/s, that several should be used, and that its first byte
takes 100 to 200 milliseconds (https://docs.aws.amazon.com/AmazonS3/latest/userguide/
optimizing-performance-design-patterns.html). By Little's law what is on its way is the rate times the time that a
request takes: where the memory for it is given, many small ranges bring more than few large ones.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from stepout.artifacts.transfer.plan import MOST_SENDERS, USUAL_RATE, TransferSettings, most_senders
from stepout.artifacts.transfer.stages import BLOCK, SLOTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.artifacts.process.servers import ServerState

FAR_SECONDS: Final = 0.02
"""Above what a server nearby takes for an answer. Behind a wide network one connection never brings all there is."""

ENOUGH: Final = 250e6
"""Bytes per second: a connection that brings so much is left alone. Several cost more than they bring."""

WANTED: Final = 1.2e9
"""Bytes per second: somewhat less than what one core hashes."""

USUAL_LATENCY: Final = 0.03
"""Seconds, of a server that is far away, where nothing is known of it yet."""

BESIDE: Final = SLOTS * BLOCK
"""Of a transfer's memory, what holds no ranges: blocks of the connection that goes first, and what threads need."""

SPARE: Final = 2
"""Ranges beyond those on their way for which there is memory: two may be asked for again."""

AHEAD: Final = 4
"""Blocks that are handed out in memory at a time, of what is written to a file as it comes."""

_FIRST_LINE: Final = 1.5e9
_LEAST_FIRST: Final = 4
_MOST_FIRST: Final = 16
"""A server nearby is tried with as many connections as bring ``_FIRST_LINE`` if each brings what the first one did."""

_SLOWED: Final = 4
"""The most connections to a server that has asked for fewer requests."""

_LARGEST: Final = 8 * BLOCK
"""The largest range: a short object comes in one wave, since a second one would wait for its answers again."""

_RANGE_SECONDS: Final = 0.1
"""For so long one range should keep its connection busy."""

_REQUEST_SECONDS: Final = 0.005
"""Of this machine's time, for one more connection and what its requests cost in threads that take turns."""

_GAIN: Final = 1.3


class RangePlan(NamedTuple):
    """How to fetch the rest of an object.

    Attributes:
        connections: How many ranges at once; 1: not in ranges.
        part: What one request asks for, in bytes: whole blocks.
        to_file: Whether bytes leave memory as they come, whatever their order: then a connection takes one block.
    """

    connections: int
    part: int
    to_file: bool = False

    @property
    def memory(self) -> int:
        """What it takes, in bytes."""
        if self.to_file:
            return (self.connections + SPARE + AHEAD) * BLOCK
        return (self.connections + SPARE) * self.part

    def within(self, left: int, connections: int, memory: int) -> RangePlan:
        """Return what becomes of it where so many connections and so much memory are granted, of ``left`` bytes."""
        if connections >= self.connections and memory >= self.memory:
            return self
        return _planned(left, connections, memory, to_file=self.to_file)


def _planned(left: int, connections: int, memory: int, *, to_file: bool) -> RangePlan:
    if not to_file:
        return RangePlan(connections, part_for(left, connections, memory))
    connections = max(min(connections, memory // BLOCK - SPARE - AHEAD), 1)
    return RangePlan(connections, part_for(left, connections), to_file=True)


def connections_for(
    left: int, *, latency: float | None = None, rate: float | None = None, most: int = MOST_SENDERS
) -> int:
    """Return how many connections fetch the rest of an object the fastest.

    Each further one makes the rest shorter, the less so the more there are, and costs a request of this machine's time.

    Args:
        left: What is still to come, in bytes.
        latency: Seconds until an answer begins; ``None``: unknown, as far away.
        rate: What one connection brings, in bytes per second; ``None``: unknown, as far away.
        most: The most.

    Returns:
        1 where one is fast enough or little is left.

    >>> [connections_for(size << 20, rate=80e6, latency=0.03) for size in (2, 8, 32, 128, 1024)]
    [2, 4, 9, 18, 20]
    >>> connections_for(1 << 30, rate=600e6, latency=0.001), connections_for(1 << 30, rate=25e6, latency=0.1)
    (1, 32)
    """
    rate, latency = rate or USUAL_RATE, USUAL_LATENCY if latency is None else latency
    if rate >= ENOUGH and latency < FAR_SECONDS:
        return 1
    worth = math.sqrt(left / (rate * _REQUEST_SECONDS))
    # What is lost to waiting for answers is made up for by more connections.
    needed = WANTED * (latency / _LARGEST + 1 / rate)
    return max(min(most, math.ceil(needed), int(worth), left // BLOCK), 1)


def begins_in_ranges(server: ServerState) -> bool:
    """Say whether this process knows a server as far away, or its connections as slow: then nothing is to be tried."""
    latency, rate = server.latency, server.download_rate
    return latency is not None and (latency >= FAR_SECONDS or (rate is not None and rate < ENOUGH))


def plan_for(  # noqa: PLR0913 - keyword-only, each with its own meaning
    left: int,
    server: ServerState,
    *,
    pooled: int | None = None,
    rate: float | None = None,
    least: int = 2,
    to_file: bool = False,
    settings: TransferSettings | None = None,
) -> RangePlan | None:
    """Return how to fetch the rest of an object in ranges; ``None``: not in ranges.

    Args:
        left: What is still to come, in bytes.
        server: What is known of the server.
        pooled: How many connections the client keeps open; ``None``: unknown.
        rate: What the one connection has brought, in bytes per second; ``None``: nothing yet.
        least: How many connections are worth ranges.
        to_file: See ``RangePlan``.
        settings: How much the transfer may use; their ``part_size`` is for uploads.
    """
    settings = settings or TransferSettings()
    if settings.connections == 1:  # the one that goes first has it
        return None
    most = _SLOWED if server.slowed else most_senders(settings, pooled)
    if rate is not None:  # a connection that was just opened brings more than it will
        rate = min(rate, USUAL_RATE)
    memory = settings.memory - BESIDE
    if not to_file:
        # No more than there is memory for. Where that is little, it bounds ranges and connections alike: many short
        # ranges wait for answers more than they bring, unless each brings little anyway.
        brought = int((rate or server.download_rate or USUAL_RATE) * _RANGE_SECONDS) // BLOCK
        least_part = max(min(math.isqrt(memory // BLOCK) // 2, brought), 1) * BLOCK
        most = max(min(most, memory // least_part - SPARE), 1)
    connections = connections_for(left, latency=server.latency, rate=rate or server.download_rate, most=most)
    if connections < least or left <= 0:
        return None
    return _planned(left, connections, memory, to_file=to_file)


def part_for(left: int, connections: int, memory: int | None = None) -> int:
    """Return what one request should ask for, in bytes: whole blocks, as much as the memory lets all of them have.

    >>> [part_for(size << 20, 16, 256 << 20) >> 20 for size in (16, 100, 128, 4096)]
    [1, 7, 8, 8]
    >>> part_for(1 << 30, 30, 64 << 20) >> 20
    2
    """
    fair = -(-left // connections)
    held = _LARGEST if memory is None else memory // (connections + SPARE)
    return max(min(-(-fair // BLOCK) * BLOCK, held // BLOCK * BLOCK, _LARGEST), BLOCK)


def cuts(start: int, stop: int, plan: RangePlan) -> Iterator[tuple[int, int]]:
    """Yield where each range begins and ends, in order; the last round is shared out, so that all end together.

    >>> mib = 1 << 20
    >>> [(b - a) // mib for a, b in cuts(0, 100 * mib, RangePlan(4, 8 * mib))]
    [8, 8, 8, 8, 8, 8, 8, 8, 8, 7, 7, 7, 7]
    >>> [(b - a) // mib for a, b in cuts(0, 120 * mib, RangePlan(18, 7 * mib))]
    [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 6, 6, 6, 6, 6]
    """
    while stop - start > plan.connections * plan.part:
        yield start, start + plan.part
        start += plan.part
    blocks = -(-(stop - start) // BLOCK)
    # No more ranges than connections: one too many would begin when the others end, and take as long again.
    count = max(1, min(plan.connections, -(-blocks // min(2, plan.part // BLOCK))))
    each, longer = divmod(blocks, count)
    for number in range(count if blocks else 0):
        size = (each + (number < longer)) * BLOCK
        yield start, min(start + size, stop)
        start += size


class RampUp:
    """Adds connections to a server nearby as long as each addition brings more.

    There the line, or this machine, may be what is slow, and not each connection.

    Args:
        most: Connections, at most.
        rate: What the one connection brought, in bytes per second.
        now: The time, in seconds.
    """

    def __init__(self, most: int, rate: float, now: float) -> None:
        self._most, self._before = most, rate
        self.connections = min(max(math.ceil(_FIRST_LINE / rate), _LEAST_FIRST), _MOST_FIRST, most)
        """How many there should be by now."""
        self._since, self._at = now, 0
        self._settled = False

    def saw(self, received: int, now: float) -> int:
        """Take note of what has come in all, in bytes, and return how many connections there should be.

        Args:
            received: Bytes that have come over all of them since the beginning.
            now: The time.
        """
        if self.connections >= self._most:
            return self.connections
        if not self._settled:  # the newest ones have their first answers
            if received - self._at >= self.connections * BLOCK:
                self._settled, self._since, self._at = True, now, received
            return self.connections
        if received - self._at < self.connections * BLOCK or now <= self._since:
            return self.connections
        rate = (received - self._at) / (now - self._since)
        if rate < self._before * _GAIN:
            self._most = self.connections  # no more of them
            return self.connections
        self._before, self._since, self._at, self._settled = rate, now, received, False
        self.connections = min(2 * self.connections, self._most)
        return self.connections
