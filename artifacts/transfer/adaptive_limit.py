"""How many parts of an upload may be on their way at once, as the upload learns what the server and the way to it do.

It begins with what the process knew of the server, follows what parts show, and falls where connections get nothing:
behind a proxy that grants four, the others are refused or never answered, while those four work.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from stepout.artifacts.transfer.plan import (
    MIN_PART_SIZE,
    is_far,
    sender_count,
    sender_limits,
    single_request_limit,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.artifacts.servers import ServerState
    from stepout.artifacts.transfer.plan import SenderLimits, TransferSettings

_SURE: Final = 4
"""So many parts have to arrive before their rate says anything."""

_RAISES: Final = 2
"""Times the limit: after so many answers a limit that fell rises by one, since what refused may have passed."""


def learned_limits(
    total: int | None, settings: TransferSettings, most: int, equal: bool, server: ServerState
) -> SenderLimits:
    """Return ``sender_limits`` for what is known of the server by now."""
    cores, latency, rate = os.cpu_count() or 1, server.latency, server.upload_rate
    return sender_limits(total, settings, cores=cores, most=most, equal=equal, latency=latency, rate=rate)


def learned_single_limit(settings: TransferSettings, most: int, server: ServerState) -> int:
    """Return up to which size, in bytes, a body goes out faster as one request, as far as the server is known.

    Args:
        settings: Of the transfer.
        most: The connections that there are.
        server: What is known of it.
    """
    latency, rate = server.latency, server.upload_rate
    far = latency is not None and is_far(latency)
    cores = os.cpu_count() or 1
    count = sender_count(MIN_PART_SIZE, settings, cores=cores, far=far, latency=latency, rate=rate)
    return single_request_limit(latency, rate, min(count, most), settings)


class AdaptiveLimit:
    """The limit of one upload's senders, guarded by the lock of whoever uses it.

    Attributes:
        far: Whether the server is far away; ``None`` while nothing tells.

    Args:
        plan: Says from what is known of the server how many there may be.
        server: What is known of it.
    """

    def __init__(self, plan: Callable[[ServerState], SenderLimits], server: ServerState) -> None:
        self._plan, self._server = plan, server
        self.far = None if server.latency is None else is_far(server.latency)
        self._limits = plan(server)
        self._wanted = self._limits.first
        self._granted = max(self._limits)
        self._answers = self._since_refused = 0

    @property
    def now(self) -> int:
        """The limit of now; at least one."""
        return max(1, min(self._wanted, self._granted))

    def still_waits(self) -> None:
        """Take note that the first answer takes long: the server may be far away."""
        self._wanted = max(self._wanted, self._limits.far)

    def answers(self, far: bool) -> None:
        """Take note of the first answer."""
        self.far = far
        self._limits = self._plan(self._server)
        self._wanted = self._limits.far if far else self._limits.near
        self._granted = max(self._granted, self._wanted)

    def part_arrived(self) -> None:
        """Take note that a part has arrived: what connections carry may ask for more of them."""
        self._answers += 1
        self._since_refused += 1
        if self._answers >= _SURE and self.far is not None:
            limits = self._plan(self._server)
            fell = self._granted < self._wanted
            self._wanted = max(self._wanted, limits.far if self.far else limits.near)
            if not fell:
                self._granted = max(self._granted, self._wanted)
            elif self._since_refused >= _RAISES * self._granted:
                self._granted, self._since_refused = self._granted + 1, 0

    def refused(self, senders: int) -> None:
        """Take note that of so many senders one gets nothing through, while others do."""
        self._granted = max(1, min(self._granted, senders - 1))
        self._since_refused = 0
