"""What all serving processes of a server share, in memory: counts, and a limit of requests."""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import struct
import threading
import time

__all__ = ["Counters", "Limit"]


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


class Limit:
    """So many requests a second, of all serving processes together; what is unused adds up for a tenth of a second.

    Args:
        rate: Requests a second; 0: no limit.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = max(rate / 10, 1.0)
        self._memory = mmap.mmap(-1, 16)  # tokens, and when they were counted
        self._lock = multiprocessing.get_context("fork").Lock() if rate else contextlib.nullcontext()
        struct.pack_into("<dd", self._memory, 0, self._most, time.monotonic())

    def takes(self) -> bool:
        """Say whether one more request is taken now."""
        if not self._rate:
            return True
        with self._lock:
            now = time.monotonic()
            tokens, then = struct.unpack_from("<dd", self._memory)
            tokens = min(tokens + (now - then) * self._rate, self._most)
            taken = bool(tokens >= 1)
            struct.pack_into("<dd", self._memory, 0, tokens - taken, now)
        return taken
