"""Space for a file, set aside before it is written: a full disk is found at once, and writing costs less."""

from __future__ import annotations

import errno
import os
import sys
from typing import Final

WORTHWHILE: Final = 64 << 20
"""Smaller files are written before anything is gained, in bytes."""

_REFUSED: Final = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})


def preallocate(file: int, size: int) -> None:
    """Set space aside, where the file system can do it cheaply.

    ``os.posix_fallocate`` is not used: on file systems that cannot (NFS before 4.2, which EFS is), the C library then
    writes into every block of the file, over the network.

    Args:
        file: An open file, empty so far.
        size: How large it will be, in bytes.

    Raises:
        OSError: There is not that much space, or a file may not be that large.
    """
    if size < WORTHWHILE or sys.platform != "linux":
        return
    number = _fallocate(file, size)
    if number in _REFUSED:
        raise OSError(number, os.strerror(number))


def _fallocate(file: int, size: int) -> int:
    """Call Linux's ``fallocate``, which Python does not have; return the error's number, or 0."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    function = getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)
    if function is None:
        return errno.ENOSYS
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while function(file, 0, 0, size):
        number = ctypes.get_errno()
        if number != errno.EINTR:
            return number
    return 0
