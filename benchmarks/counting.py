"""Counts in memory that all serving processes of a server share."""

from __future__ import annotations

import mmap
import struct
import threading

__all__ = ["Counters"]


class Counters:
    """Named counts; each process writes its own row, and anybody sums up.

    Args:
        names: What is counted.
        processes: How many rows there are.
    """

    def __init__(self, names: tuple[str, ...], processes: int) -> None:
        self._names = names
        self._width = 8 * len(names)
        self._memory = mmap.mmap(-1, self._width * processes)
        self._processes = processes
        self._lock = threading.Lock()
        self.row = 0

    def add(self, name: str, amount: int = 1) -> None:
        """Count."""
        at = self.row * self._width + 8 * self._names.index(name)
        with self._lock:
            (value,) = struct.unpack_from("<q", self._memory, at)
            struct.pack_into("<q", self._memory, at, value + amount)

    def total(self) -> dict[str, int]:
        """Sum up over all processes."""
        layout = f"<{len(self._names)}q"
        rows = [struct.unpack_from(layout, self._memory, row * self._width) for row in range(self._processes)]
        return dict(zip(self._names, map(sum, zip(*rows, strict=True)), strict=True))
