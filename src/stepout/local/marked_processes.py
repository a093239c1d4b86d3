"""Find the processes of one local AWS, also those that left their groups (daemons), and end them.

They are found by ``MARKER`` in their environment, where ``/proc`` shows it.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from stepout.callbacks.process.process_group import KILL

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKER = "STEPOUT_LOCAL_ID"
"""The environment variable that marks every process of one local AWS."""

_POLL_SECONDS = 0.02
_KILLED_WITHIN_SECONDS = 10.0


def marked(mark: str) -> Iterator[int]:
    """Yield the ids of other processes that carry ``mark``, or a mark below it; none where there is no ``/proc``.

    Args:
        mark: The value of ``MARKER``; ``"a"`` finds ``"a"`` and ``"a/b"``.
    """
    whole, below = f"{MARKER}={mark}".encode(), f"{MARKER}={mark}/".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            variables = (entry / "environ").read_bytes().split(b"\0")
            if int(entry.name) != os.getpid() and any(v == whole or v.startswith(below) for v in variables):
                yield int(entry.name)


def end_marked(mark: str) -> None:
    """Kill the processes that carry ``mark`` and left their groups, until none is left or ten seconds are over."""
    deadline = time.monotonic() + _KILLED_WITHIN_SECONDS
    while (left := list(marked(mark))) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, KILL)
        time.sleep(_POLL_SECONDS)
