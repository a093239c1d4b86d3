"""Keep other processes of the same user from reading this one's memory and environment, where the kernel can."""

from __future__ import annotations

import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def harden() -> bool:
    """Make this process undumpable, on Linux: ``/proc/PID/environ`` and ``/proc/PID/mem`` are then closed to others.

    If a process is started with a token, the kernel shows the token in ``/proc/PID/environ`` even after it was removed
    from ``os.environ``. The kernel lets only processes with ``CAP_SYS_PTRACE`` (in newer kernels also ``CAP_PERFMON``
    or ``CAP_SYS_ADMIN``) read these files of an undumpable process; containers do not have these capabilities by
    default: prctl(2), ptrace(2). Programs that this process starts are not affected.

    Returns:
        Whether it was done.
    """
    if sys.platform != "linux":
        return False
    try:
        import ctypes

        return int(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)) == 0
    except (ImportError, OSError, AttributeError):
        return False
