"""Reap orphans: processes whose parents have ended are handed to a container's first process (PID 1) to wait for.

Children of our own process group are somebody else's: a client that asks a program for credentials waits for it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container

_FOREIGN_TRIES: Final = 250
_PAUSE: Final = 0.02


def reap_orphans(own: Container[int]) -> int:
    """Reap the orphans that have ended, without waiting for others.

    Args:
        own: Children that somebody else waits for.

    Returns:
        How many there were.
    """
    reaped = 0
    if sys.platform == "linux":
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            # WNOWAIT: it is only looked at, and stays for whoever waits for it.
            while (seen := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if seen.si_pid in own or os.getpgid(seen.si_pid) == os.getpgrp():
                    break
                os.waitpid(seen.si_pid, 0)
                reaped += 1
    return reaped


def reap_orphans_until(child: int | None) -> None:
    """Reap orphans until a child has ended, which is left to its own waiter; without one, while there are children."""
    if sys.platform == "win32":
        return
    own, tries = os.getpgrp(), 0
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid == child:
            return
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            # The kernel shows the same one again until somebody reaps it; one that nobody does must not hide the rest.
            if os.getpgid(found.si_pid) == own and tries < _FOREIGN_TRIES:
                tries += 1
                time.sleep(_PAUSE)
                continue
            os.waitpid(found.si_pid, os.WNOHANG)
        tries = 0
