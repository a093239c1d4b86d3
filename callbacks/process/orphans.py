"""Reaps orphans: a container's first process (PID 1) inherits processes whose parents have ended, and must reap them.

It leaves children in our own process group alone, because other code waits for them: for instance, a boto3 client that
runs a program to get credentials.
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
        own: The ids of children that other code waits for.

    Returns:
        How many were reaped.
    """
    reaped = 0
    if sys.platform == "linux":
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            # WNOWAIT only looks: the process stays unreaped for the code that waits for it.
            while (seen := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if seen.si_pid in own or os.getpgid(seen.si_pid) == os.getpgrp():
                    break
                os.waitpid(seen.si_pid, 0)
                reaped += 1
    return reaped


def reap_orphans_until(child: int | None) -> None:
    """Reap orphans until ``child`` has ended, which stays unreaped; with ``None``, as long as there are children."""
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
            # The kernel shows the same process until it is reaped. A process that other code should reap but does not
            # must not hide the others, so after some tries it is reaped here.
            if os.getpgid(found.si_pid) == own and tries < _FOREIGN_TRIES:
                tries += 1
                time.sleep(_PAUSE)
                continue
            os.waitpid(found.si_pid, os.WNOHANG)
        tries = 0
