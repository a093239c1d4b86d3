"""How many parts of an upload may be on their way at once, as the upload learns what the server and the way to it do.

It begins with what the process knew of the server, or with many where it knew nothing; it rises with what parts show,
and falls to few where they show that the server is near and its connections are fast. It also falls where connections
get nothing: behind a proxy that grants four, the others are refused or never answered, while those four work.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from stepout.artifacts.transfer.plan import (
    MIN_PART_SIZE,
    is_near_and_fast,
    memory_wanted,
    part_size_for,
    sender_count,
    sender_limit,
    single_request_limit,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.artifacts.process.servers import ServerState
    from stepout.artifacts.transfer.plan import TransferSettings

_SURE: Final = 4
"""So many parts have to arrive before their rate says anything."""

_RAISES: Final = 2
"""Times the limit: after so many answers a limit that fell rises by one, since what refused may have passed."""


def learned_limit(total: int | None, settings: TransferSettings, most: int, equal: bool, server: ServerState) -> int:
    """Return ``sender_limit`` for what is known of the server by now."""
    cores, latency, rate = os.cpu_count() or 1, server.latency, server.upload_rate
    return sender_limit(total, settings, cores=cores, most=most, equal=equal, latency=latency, rate=rate)


def learned_memory(total: int | None, settings: TransferSettings, most: int, equal: bool, server: ServerState) -> int:
    """Return how much memory an upload asks for when it begins, in bytes.

    Of a body whose size is known that is what the parts take that may be on their way at once: they are cut for what is
    granted. A stream may be short, so it begins with what few parts take.

    Args:
        total: The body's size; ``None``: it is unknown.
        settings: Of the transfer.
        most: The connections that there are.
        equal: Whether the parts have one size, however many are on their way.
        server: What is known of it.
    """
    if total is None:
        return memory_wanted(total, settings, senders=1)
    senders = learned_limit(total, settings, most, equal, server)
    part = part_size_for(total, settings, senders=None if equal else senders)
    return memory_wanted(total, settings, senders=senders, part_size=part)


def learned_single_limit(settings: TransferSettings, most: int, server: ServerState) -> int:
    """Return up to which size, in bytes, a body goes out faster as one request, as far as the server is known.

    Args:
        settings: Of the transfer.
        most: The connections that there are.
        server: What is known of it.
    """
    latency, rate = server.latency, server.upload_rate
    cores = os.cpu_count() or 1
    count = sender_count(MIN_PART_SIZE, settings, cores=cores, latency=latency, rate=rate)
    return single_request_limit(latency, rate, min(count, most), settings)


class AdaptiveLimit:
    """The limit of one upload's senders, guarded by the lock of whoever uses it.

    Args:
        plan: Says from what is known of the server how many there may be.
        server: What is known of it.
    """

    def __init__(self, plan: Callable[[ServerState], int], server: ServerState) -> None:
        self._plan, self._server = plan, server
        self._wanted = self._granted = plan(server)
        self._answers = self._since_refused = 0
        self._few = False

    @property
    def now(self) -> int:
        """The limit of now; at least one."""
        return max(1, min(self._wanted, self._granted))

    def began(self) -> None:
        """Take note that the server has answered for the first time: a far one may get more."""
        self._want(self._plan(self._server))

    def part_arrived(self) -> None:
        """Take note that a part has arrived: what connections carry may ask for more of them."""
        self._answers += 1
        self._since_refused += 1
        if self._answers >= _SURE and not self._few:
            wanted = self._plan(self._server)
            # For good: fewer connections, with larger parts, show less of what one alone would carry.
            self._few = wanted < self._wanted and is_near_and_fast(self._server.latency, self._server.upload_rate)
            if self._few:
                self._wanted, self._granted = wanted, min(wanted, self._granted)
            else:
                self._want(wanted)
        if self._granted < self._wanted and self._since_refused >= _RAISES * self._granted:
            self._granted, self._since_refused = self._granted + 1, 0

    def refused(self, senders: int) -> None:
        """Take note that of so many senders one gets nothing through, while others do."""
        self._granted = max(1, min(self._granted, senders - 1))
        self._since_refused = 0

    def _want(self, wanted: int) -> None:
        fell = self._granted < self._wanted
        self._wanted = max(self._wanted, wanted)
        if not fell:
            self._granted = self._wanted
