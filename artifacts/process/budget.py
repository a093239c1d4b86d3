"""One budget of memory and connections a process: what all of its transfers share.

A transfer asks for what it would use alone, and is granted what is free, but at least a floor. So one alone has all
that its settings say, and many side by side have less each, in place of many times as much together. Nobody ever waits
for a grant: a thread that holds one open writer and begins another would wait for itself.

This is the one thing that the parts of a process share without being handed it: the memory that it shares out is
the process's, whoever made the managers and the readers.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from stepout.artifacts.process.memory_granted import granted_memory, process_share, transfer_share
from stepout.artifacts.process.servers import ServerState, server_key
from stepout.schemas.runtime.process import PerProcess
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from types import TracebackType

    from stepout.artifacts.store import Store

_log = logger("stepout.artifacts")

CONNECTIONS: Final = 64
"""Requests in flight at once, in all: two transfers with the most that one takes."""

LEAST_MEMORY: Final = 16 << 20
"""What every transfer is granted, however little is free: the least that one can do with."""

LEAST_CONNECTIONS: Final = 2


class Share(NamedTuple):
    """Memory in bytes, and connections."""

    memory: int
    connections: int


class ProcessBudget:
    """Shares out memory and connections; see ``process_budget``.

    Args:
        memory: Bytes in all; ``None``: a quarter of what the process was granted, from 16 MiB to 1 GiB.
        connections: Requests in flight at once, in all.
    """

    def __init__(self, memory: int | None = None, connections: int = CONNECTIONS) -> None:
        self.whole = Share(process_share(granted_memory()) if memory is None else memory, connections)
        self._lock = threading.Lock()
        self._taken: dict[object, Share] = {}
        self._servers: dict[tuple[str, str], ServerState] = {}

    @property
    def taken(self) -> Share:
        """What is granted at this moment, in all."""
        # A copy, made in one step: others give back meanwhile.
        shares = self._taken.copy().values()
        return Share(sum(share.memory for share in shares), sum(share.connections for share in shares))

    def grant(self, memory: int, connections: int, *, least: int = LEAST_MEMORY) -> Grant:
        """Grant what is free of what is asked for, at once.

        Args:
            memory: Bytes that the transfer would use alone.
            connections: Requests that it would have in flight alone.
            least: Bytes that it cannot do without, if more than the usual floor.

        Returns:
            What is given back by ``release``, by leaving its ``with`` block, or with the last reference to it.
        """
        grant = Grant(self)
        grant.raise_to(memory, connections, least=least)
        return grant

    @property
    def knows_servers(self) -> bool:
        """Whether anything was learned of any server yet."""
        return bool(self._servers)

    def server(self, store: Store) -> ServerState:
        """Return what this process knows of a store's server; the same object for all stores of one bucket there."""
        key = server_key(store)
        return self._servers.get(key) or self._servers.setdefault(key, ServerState())

    def take(self, owner: object, memory: int, connections: int, least: int) -> Share:
        """Take note of what ``owner`` holds from now on, never less than it holds already, and return it."""
        with self._lock:
            held = self._taken.get(owner, Share(0, 0))
            taken = self.taken
            # Who asks for more than there is in all has said so in its settings: alone it gets that.
            free = max(self.whole.memory, memory) - taken.memory + held.memory
            spare = max(self.whole.connections, connections) - taken.connections + held.connections
            share = Share(
                max(held.memory, min(memory, max(free, least, LEAST_MEMORY))),
                max(held.connections, min(connections, max(spare, LEAST_CONNECTIONS))),
            )
            self._taken[owner] = share
            return share

    def give_back(self, owner: object) -> None:
        """Take back what ``owner`` holds.

        One step and no lock: it is also called by handlers of signals and by the garbage collector, which may interrupt
        a thread that holds the lock.
        """
        self._taken.pop(owner, None)


class Grant:
    """What one transfer was granted; made by ``ProcessBudget.grant``."""

    def __init__(self, budget: ProcessBudget) -> None:
        self._budget = budget
        self._owner = object()
        self._share = Share(0, 0)

    def __repr__(self) -> str:
        return f"Grant({self.memory:,} bytes, {self.connections} connections)"

    def __enter__(self) -> Grant:  # noqa: PYI034 - nothing inherits from it
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()

    @property
    def memory(self) -> int:
        """Bytes; never more than were asked for."""
        return self._share.memory

    @property
    def connections(self) -> int:
        """Requests in flight at once; never more than were asked for."""
        return self._share.connections

    def raise_to(self, memory: int, connections: int, *, least: int = LEAST_MEMORY) -> None:
        """Ask for so much in all, with the arguments of ``ProcessBudget.grant``; what is held already stays."""
        self._share = self._budget.take(self._owner, memory, connections, least)

    def release(self) -> None:
        """Give everything back; a second time does nothing."""
        self._budget.give_back(self._owner)


def told_budget() -> ProcessBudget:
    """Make the budget of a process, and say in its log what its transfers may use."""
    budget, granted = ProcessBudget(), granted_memory()
    _log.info(
        "memory: %s (%s); one transfer may use %s, all of the process %s, %d connections",
        "not known" if granted.size is None else _mebibytes(granted.size),
        granted.source,
        _mebibytes(transfer_share(granted)),
        _mebibytes(budget.whole.memory),
        budget.whole.connections,
    )
    return budget


def _mebibytes(size: int) -> str:
    return f"{size >> 20:,} MiB"


_BUDGET: Final = PerProcess(told_budget, name="budget of memory and connections")


def process_budget() -> ProcessBudget:
    """Return this process's budget: made at first use, and anew after a fork."""
    return _BUDGET.current or _BUDGET.get()
