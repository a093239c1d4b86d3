"""The model of the network, without sockets and without a clock of its own.

A connection is two lanes, up and down. On each lane

- bytes that follow a change of direction arrive half a round trip after they were sent; those that follow them keep
  their distance. The first bytes of a connection wait for one round trip more, which is TCP's handshake;
- the lane carries ``rate`` bytes a second, whatever the other lanes do. A slice of bytes arrives when its last byte
  would;
- a share of the requests *stalls* once: nothing arrives for ``stall_seconds``, half of them before the answer, the
  others within the first MiB of the body. A body that ends sooner does not stall;
- a share of the requests is *cut* once, within the first MiB of the body: both ends see a reset.

Which request meets what depends on the seed, the number of the connection and the number of the request in it, so that
runs repeat. Not modelled: slow start, loss, a line that connections share, and ``connect()`` itself, which returns at
once.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["Conditions", "LaneClock", "Mishap", "mishap_of"]

MIB = 1 << 20
WITHIN = MIB
"""Faults within a body begin after at most that many bytes."""
SLICE_SECONDS = 0.004
CREDIT_SECONDS = 0.02
LEAST_SLICE, MOST_SLICE = 16 << 10, MIB // 4
METHODS = (b"GET ", b"PUT ", b"POST ", b"HEAD ", b"DELETE ")
BODY_UP = (b"PUT ", b"POST ")
PEEKED = 8
"""Bytes of a head that tell a method."""

Kind = Literal["stall", "cut"]
Place = Literal["answer", "up", "down"]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a network is like.

    Attributes:
        latency: Seconds of a round trip.
        rate: Bytes per second that one connection carries each way; 0: as many as the machine can.
        stalls: The share of requests that stall once.
        stall_seconds: How long they do.
        cuts: The share of requests whose connection is reset within the body.
        idle: Seconds after which a connection that carries nothing is closed; 0: never.
        connections: How many are open at most; one more is closed as soon as it is made. 0: any number.
        seed: Which requests meet what, until the proxy is told another one.
        stalled_connection: The first request of this connection stalls before its answer, whatever the share.
    """

    latency: float = 0
    rate: float = 0
    stalls: float = 0
    stall_seconds: float = 2
    cuts: float = 0
    idle: float = 0
    connections: int = 0
    seed: int = 1
    stalled_connection: int = 0

    def arguments(self) -> list[str]:
        """Return it as the proxy's command line has it."""
        return [text for name, value in asdict(self).items() for text in (f"--{name.replace('_', '-')}", str(value))]

    def slice_bytes(self) -> int:
        """Return how many bytes travel together: few milliseconds' worth."""
        return min(max(int(self.rate * SLICE_SECONDS), LEAST_SLICE), MOST_SLICE) if self.rate else MOST_SLICE


@dataclass(frozen=True)
class Mishap:
    """What one request meets: a stall or a cut, on a lane after so many bytes, or before the answer."""

    kind: Kind
    place: Place
    after: int = 0


def mishap_of(conditions: Conditions, seed: int, connection: int, request: int, head: bytes) -> Mishap | None:
    """Decide what a request meets.

    Args:
        conditions: The shares of stalls and cuts.
        seed: Which requests are hit.
        connection: Its number, from 1, in the order in which connections were made since the seed was set.
        request: Its number in the connection, from 1.
        head: The request's first bytes: the body goes up or down. Those of TLS tell nothing; the answer is taken
            for the body.
    """
    if (connection, request) == (conditions.stalled_connection, 1):
        return Mishap("stall", "answer")
    dice = random.Random(f"{seed}:{connection}:{request}")  # noqa: S311 - repeatable, no secret
    drawn, half, after = dice.random(), dice.random() < 0.5, dice.randrange(WITHIN)
    place: Place = "up" if head.startswith(BODY_UP) else "down"
    if drawn < conditions.stalls:
        return Mishap("stall", "answer") if half else Mishap("stall", place, after)
    return Mishap("cut", place, after) if drawn < conditions.stalls + conditions.cuts else None


class LaneClock:
    """When bytes of one lane arrive.

    Args:
        conditions: Latency and rate.
        opened: When the connection was made, by the caller's clock in seconds.
    """

    def __init__(self, conditions: Conditions, opened: float) -> None:
        self._rate, self._one_way = conditions.rate, conditions.latency / 2
        self._sent_from = opened + conditions.latency
        self._free_at = 0.0

    def turn(self, now: float) -> float:
        """Return when the first bytes after a change of direction may leave the lane."""
        self._free_at = max(self._free_at, max(now, self._sent_from) + self._one_way)
        return self._free_at

    def hold(self, now: float, seconds: float) -> float:
        """Let nothing leave the lane for that long; return until when."""
        self._free_at = max(self._free_at, now) + seconds
        return self._free_at

    def carry(self, now: float, count: int) -> float:
        """Return when the last of so many bytes arrives, which were taken now.

        A machine that is busy takes them late. The lane makes up for as much as ``CREDIT_SECONDS``.
        """
        if self._rate:
            self._free_at = max(self._free_at, now - CREDIT_SECONDS) + count / self._rate
        return self._free_at
