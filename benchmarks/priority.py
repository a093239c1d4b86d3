"""What a server of the benchmarks asks of the system."""

from __future__ import annotations

import contextlib
import os

__all__ = ["before_clients"]

PRIORITY = -10


def before_clients() -> None:
    """Come before the clients, where that is allowed: no server and no network is slow because its client is busy."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
