"""What a server of the benchmarks asks of the system."""

from __future__ import annotations

import contextlib
import os

__all__ = ["before_clients"]

AHEAD = 5


def before_clients() -> None:
    """Come before the clients, where that is allowed: no server and no network is slow because its client is busy.

    On a machine that others use, ``nice -n -15 python -m benchmarks`` brings the clients before those.
    """
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) - AHEAD)
