"""The default limit of reads into memory, a quarter of the memory that the process was granted; and what text takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stepout.artifacts.process.memory_granted import granted_memory

if TYPE_CHECKING:
    from stepout.artifacts.process.memory_granted import GrantedMemory

MOST: Final = 1 << 30
"""Bytes: the limit if the amount of memory is unknown, and the highest limit."""

_SHARE: Final = 4
_BEYOND_16_BITS: Final = re.compile(rb"[\xf0-\xff]")
_BEYOND_8_BITS: Final = re.compile(rb"[\xc4-\xff]")


def limit_of(granted: GrantedMemory) -> int:
    """Return the limit, in bytes, for what was granted.

    >>> from stepout.artifacts.process.memory_granted import GrantedMemory
    >>> [limit_of(GrantedMemory(size, "cgroup")) >> 20 for size in (512 << 20, 64 << 30, None)]
    [128, 1024, 1024]
    """
    return MOST if granted.size is None else min(granted.size // _SHARE, MOST)


def read_limit() -> int:
    """Return the limit of a read into memory, in bytes; see ``container_memory.find_memory`` for what is asked."""
    return limit_of(granted_memory())


def text_memory(data: bytes, encoding: str) -> int:
    """Return what text takes: Python keeps as many bytes for each character as the widest of them needs."""
    if data.isascii():
        return len(data)
    if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        return 2 * len(data)
    return len(data) * (4 if _BEYOND_16_BITS.search(data) else 2 if _BEYOND_8_BITS.search(data) else 1)
