"""A ring of reused blocks: what bounds a transfer's memory, whatever the size of the artifact."""

from __future__ import annotations

import contextlib
import mmap
import sys
import threading
from typing import TYPE_CHECKING

from stepout.artifacts.transfer.plan import BLOCK_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_SECONDS = 1.0
"""Waits are cut into seconds, so that Ctrl-C is seen where a lock cannot be interrupted (Windows)."""


class Buffer:
    """A slice of the ring, filled from its start; it returns to the ring once everybody has let go of it."""

    __slots__ = ("_ring", "holders", "memory", "size")

    def __init__(self, ring: BufferPool, memory: memoryview) -> None:
        self._ring = ring
        self.memory = memory
        self.size = 0
        self.holders = 0

    @property
    def room(self) -> memoryview:
        """The part that is still empty."""
        return self.memory[self.size :]

    @property
    def view(self) -> memoryview:
        """The part that is filled."""
        return self.memory[: self.size]

    def fill(self, data: memoryview) -> int:
        """Copy as much of ``data`` as fits and return how much that was."""
        count = min(len(data), len(self.memory) - self.size)
        self.memory[self.size : self.size + count] = data[:count]
        self.size += count
        return count

    def release(self) -> None:
        """Let go of the block; the last holder returns it to the ring."""
        self._ring.put_back(self)


class BufferPool:
    """Hands out blocks and takes them back; where none is free, taking one waits.

    Args:
        memory: Bytes in all; touched only as far as they are used.
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._condition = threading.Condition()
        self._region: mmap.mmap | None = None
        self._free: list[Buffer] = []

    def take(self, check: Callable[[], None]) -> Buffer:
        """Return an empty block, waiting for one; ``check`` raises once waiting is pointless."""
        with self._condition:
            if self._region is None:
                self._map()
            while not self._free:
                check()
                self._condition.wait(_POLL_SECONDS)
            check()
            block = self._free.pop()
        block.size, block.holders = 0, 1
        return block

    def put_back(self, block: Buffer) -> None:
        """Drop one hold on ``block``; see ``Buffer.release``."""
        with self._condition:
            block.holders -= 1
            if block.holders == 0:
                self._free.append(block)
                self._condition.notify()

    def hold(self, block: Buffer, holders: int) -> None:
        """Say how many will release ``block``."""
        with self._condition:
            block.holders = holders

    def wake(self) -> None:
        """Let everybody who waits look again at why."""
        with self._condition:
            self._condition.notify_all()

    def widen(self) -> None:
        """Say that most of the ring will be used: in huge pages it is touched in tens of steps, not thousands."""
        if self._region is not None and sys.platform == "linux" and hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # advice only; kernels without huge pages refuse it
                self._region.madvise(mmap.MADV_HUGEPAGE)

    def _map(self) -> None:
        # An anonymous map, not a bytearray: pages count only once touched, and all of them go back at the end.
        if sys.platform == "win32":
            region = mmap.mmap(-1, self._memory)
        else:  # private: Linux gives no huge pages to shared ones, unless it is told to
            region = mmap.mmap(-1, self._memory, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._region, view = region, memoryview(region)
        starts = range(0, self._memory // BLOCK_SIZE * BLOCK_SIZE, BLOCK_SIZE)
        self._free = [Buffer(self, view[start : start + BLOCK_SIZE]) for start in reversed(starts)]
