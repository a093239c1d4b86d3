"""How a pool of buffers grows: with its parts, and with the connections that an upload learns to need.

A stream begins with what a few connections need, since it may be short. It asks for more as it goes on, and when it has
learned that the server is far away, or that each connection brings little; a file asks for all at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepout.artifacts.transfer.plan import memory_wanted, pool_size

if TYPE_CHECKING:
    from stepout.artifacts.process.budget import Grant
    from stepout.artifacts.transfer.buffer_pool import BufferPool
    from stepout.artifacts.transfer.plan import TransferSettings


def extend(pool: BufferPool, grant: Grant, needed: int = 0) -> None:
    """Let a pool have what is granted, and at least so many bytes."""
    if needed > grant.memory:
        grant.raise_to(needed, grant.connections, least=needed)
    pool.extend(pool_size(grant.memory))
    pool.widen()


class PoolGrowth:
    """Follows how many parts of one upload may be on their way at once.

    Args:
        total: The body's size; ``None``: it is unknown.
    """

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._senders = 0

    def follow(self, pool: BufferPool, grant: Grant, settings: TransferSettings, senders: int, part_size: int) -> None:
        """Ask for what ``senders`` need, as far as it is free; asked before every buffer, so it is quick.

        Args:
            pool: The upload's.
            grant: What the pool's memory is granted by.
            settings: How much the upload may use at most.
            senders: How many parts may be on their way at once.
            part_size: Of the parts to come.
        """
        if senders <= self._senders:
            return
        self._senders = senders
        wanted = memory_wanted(self._total, settings, senders=senders, part_size=part_size)
        if wanted > grant.memory:
            grant.raise_to(wanted, grant.connections)
            extend(pool, grant)
