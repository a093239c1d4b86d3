"""Blocks, lists and footers that were verified, kept for reads that want them or another part of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from stepout.artifacts.read_limit import read_limit
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Hashable

_SHARE: Final = 2  # of the limit of a read, which is a quarter of the memory granted
_MOST: Final = 64 << 20
ENTRY: Final = 1 << 10
"""What a key and its place take, in bytes: a process that opens a million objects keeps a short list of each."""


class BlockCache:
    """Verified bytes by what they are of; the least recently used go first. Threads may share it.

    Args:
        capacity: The most bytes that it keeps, keys included.

    Attributes:
        size: How many bytes it keeps, keys included.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self.size = 0

    def get(self, key: Hashable) -> bytes | None:
        """Return what was put under ``key``, if it is still kept."""
        with self._lock:
            data = self._kept.get(key)
            if data is not None:
                self._kept.move_to_end(key)
            return data

    def put(self, key: Hashable, data: bytes) -> None:
        """Keep ``data``, unless it is larger than everything that may be kept."""
        if len(data) + ENTRY > self._capacity:
            return
        with self._lock:
            if key in self._kept:
                self.size -= len(self._kept.pop(key)) + ENTRY
            self._kept[key] = data
            self.size += len(data) + ENTRY
            while self.size > self._capacity:
                self.size -= len(self._kept.popitem(last=False)[1]) + ENTRY


BLOCKS: Final = PerProcess(lambda: BlockCache(min(read_limit() // _SHARE, _MOST)), name="cache of blocks")
"""The process's one cache: made at first use, an eighth of the memory granted and at most 64 MiB, anew after a fork.

It is the one singleton of this room: whoever opens an object again, through another artifact or file system, is to find
what was verified. What is kept is found by the digest of the object *and* its place and version, never by one alone: a
forged pointer with another object's digest could plant its own bytes under it.
"""
