"""A pool of reused buffers: it bounds a transfer's memory for an artifact of any size."""

from __future__ import annotations

import contextlib
import mmap
import sys
import threading
from typing import TYPE_CHECKING

from stepout.artifacts.transfer.plan import BLOCK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable

_POLL_SECONDS = 1.0
"""Waits are cut into seconds, so that Ctrl-C is seen where a lock cannot be interrupted (Windows)."""


class Buffer:
    """One block of the pool's memory, filled from its start: ``memory[:size]`` is filled, the rest is free."""

    __slots__ = ("memory", "size")

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory
        self.size = 0

    def fill(self, data: memoryview) -> int:
        """Copy as much of ``data`` as fits and return how much that was."""
        count = min(len(data), len(self.memory) - self.size)
        self.memory[self.size : self.size + count] = data[:count]
        self.size += count
        return count


class BufferPool:
    """Hands out buffers and takes them back; where none is free, taking one waits.

    Args:
        memory: Bytes in all; touched only as far as they are used.
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._condition = threading.Condition()
        self._regions: list[mmap.mmap] = []
        self._free: list[Buffer] = []
        self._failure: BaseException | None = None

    def take(self) -> Buffer | None:
        """Return an empty buffer; ``None`` if none came free for a second, or after ``wake``.

        Whoever gets ``None`` looks whether going on still makes sense, and asks again. After ``fail`` it raises.
        """
        with self._condition:
            if self._failure is not None:
                raise self._failure
            if not self._regions:
                self._map(self._memory)
            if not self._free:
                self._condition.wait(_POLL_SECONDS)
            # The last one that came back is the next to go: its pages are in memory, and perhaps in the cache.
            buffer = self._free.pop() if self._free else None
        if buffer is not None:
            buffer.size = 0
        return buffer

    def give_back(self, buffers: Iterable[Buffer]) -> None:
        """Take buffers back; the callers must not use them any more."""
        with self._condition:
            self._free.extend(buffers)
            self._condition.notify()  # one thread fills at a time

    def wake(self) -> None:
        """Wake the waiting threads, so that they check again why they wait."""
        with self._condition:
            self._condition.notify_all()

    def fail(self, error: BaseException) -> None:
        """End a pool that several uploads share: one failed, and its buffers may never come back."""
        with self._condition:
            self._failure = self._failure or error
            self._condition.notify_all()

    def extend(self, memory: int) -> None:
        """Let the pool have ``memory`` bytes in all, if that is more than it has."""
        with self._condition:
            more = memory - self._memory
            if more < BLOCK_SIZE:
                return
            if self._regions:
                self._map(more)
            self._memory = memory
            self._condition.notify_all()

    def widen(self) -> None:
        """Say that most of the pool will be used: in huge pages it is touched in tens of steps, not thousands."""
        if sys.platform == "linux" and hasattr(mmap, "MADV_HUGEPAGE"):
            for region in self._regions:
                with contextlib.suppress(OSError):  # advice only; kernels without huge pages refuse it
                    region.madvise(mmap.MADV_HUGEPAGE)

    def _map(self, memory: int) -> None:
        # An anonymous map, not a bytearray: pages count only once touched, and all of them go back at the end.
        if sys.platform == "win32":
            region = mmap.mmap(-1, memory)
        else:  # private: Linux gives no huge pages to shared ones, unless it is told to
            region = mmap.mmap(-1, memory, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._regions.append(region)
        view = memoryview(region)
        starts = range(0, memory // BLOCK_SIZE * BLOCK_SIZE, BLOCK_SIZE)
        # At the front: what has been touched already goes first.
        self._free[:0] = [Buffer(view[start : start + BLOCK_SIZE]) for start in reversed(starts)]
