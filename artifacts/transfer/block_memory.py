"""The memory of what is fetched in ranges: blocks, counted as they are promised, touched as they are used."""

from __future__ import annotations

import mmap
import sys

from stepout.artifacts.transfer.stages import BLOCK


class BlockMemory:
    """The memory of a fetch: blocks that are touched as they are needed, the last one that came back first.

    Attributes:
        free: How many are neither promised to a request nor hold bytes; below 0 where a range that the reader waits for
            was given more than there is.

    Args:
        memory: Bytes in all.
    """

    def __init__(self, memory: int) -> None:
        self.free = memory // BLOCK
        self._untouched = self.free
        self._spare: list[memoryview] = []
        # An anonymous map: its pages count once they are touched. Without advice for huge pages: on virtual machines
        # their first touch was measured at twice the price, and most blocks of a short object are touched once.
        size = max(self.free, 1) * BLOCK
        if sys.platform == "win32":
            self._region = mmap.mmap(-1, size)
        else:
            self._region = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._view = memoryview(self._region)

    def take(self) -> memoryview:
        """Return a block that was promised."""
        if self._spare:
            return self._spare.pop()
        if self._untouched:
            self._untouched -= 1
            return self._view[self._untouched * BLOCK : (self._untouched + 1) * BLOCK]
        return memoryview(bytearray(BLOCK))

    def put(self, block: memoryview, *, freed: int) -> None:
        """Take a block back; ``freed`` 1: it may be promised anew, 0: it was counted as free already."""
        self._spare.append(block)
        self.free += freed
